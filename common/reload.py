"""After an edit in `common/`, the next cell runs the new code: changed modules are executed again, in place.

IPython's autoreload does the same, but the version on Colab (IPython 7.34) needs a module that Python 3.12 removed.
Functions and classes keep their identity and get new code, so that `from common.x import f` in a notebook and in
other modules follows the edit too. Constants that were imported by name keep their old value.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

PACKAGE = "common"
OF_THE_CLASS = ("__dict__", "__weakref__", "__module__", "__qualname__")  # never taken over from a new version


class Reloader:
    """Knows the files of the loaded modules, and executes those again that have changed."""

    def __init__(self) -> None:
        self.stamps: dict[str, tuple[int, int]] = {}
        self.remember()

    def remember(self, *_: Any) -> None:
        """Note the state of files that are seen for the first time; IPython calls this after each cell."""
        for name, path in _files().items():
            if name not in self.stamps:
                self.stamps[name] = _stamp(path)

    def refresh(self, *_: Any) -> list[str]:
        """Reload what has changed; IPython calls this before each cell. What was done is said on stderr.

        Returns:
            Names of the reloaded modules. One that cannot be reloaded, because of a syntax error for example, keeps the
            code from before the edit.
        """
        files = _files()
        changed = [name for name, path in files.items() if _stamp(path) != self.stamps.get(name, _stamp(path))]
        self.stamps |= {name: _stamp(files[name]) for name in changed}
        errors = _reload(changed)
        if errors:  # once more: a module may need a name that is new in one that came after it
            errors = _reload(list(errors))
        for name in changed:
            short = "/".join(files[name].parts[-name.count(".") - 1 :])
            print(f"{short}: {errors[name]}" if name in errors else f"reloaded {short}", file=sys.stderr)
        if changed:
            _stop_workers()
        return [name for name in changed if name not in errors]


def _files() -> dict[str, Path]:
    """The Python files of the loaded modules of the package."""
    # A copy: another thread may be importing.
    loaded = {name: module for name, module in sys.modules.copy().items() if f"{name}.".startswith(f"{PACKAGE}.")}
    paths = {name: getattr(module, "__file__", None) or "" for name, module in loaded.items()}
    return {name: Path(path) for name, path in paths.items() if path.endswith(".py")}


def _stamp(path: Path) -> tuple[int, int]:
    """Time of the last change and size; (0, 0) while an editor is replacing the file."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def _reload(names: list[str]) -> dict[str, str]:
    """Reload modules; what went wrong, by name."""
    errors = {}
    for name in names:
        try:
            reload_in_place(sys.modules[name])
        except Exception as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            message = error.msg if isinstance(error, SyntaxError) else error
            errors[name] = f"{type(error).__name__}{line}: {message}; the code from before this edit is still in use"
    return errors


def reload_in_place(module: ModuleType) -> None:
    """Execute a module's file again; its functions and classes stay the same objects and get the new code.

    Raises:
        Exception: whatever the file raises, a SyntaxError for example; the module is then as it was.
    """
    names = vars(module)
    old = dict(names)
    code = compile(Path(module.__file__).read_text(encoding="utf-8"), module.__file__, "exec")
    for name in [name for name in names if not name.startswith("__")]:
        del names[name]
    try:
        exec(code, names)
    except BaseException:
        names.clear()
        names.update(old)
        raise
    stays: dict[type, type] = {}  # new version of a class -> the one that stays
    for name, value in old.items():
        if name not in names and isinstance(value, ModuleType):
            names[name] = value  # a submodule: importing it has put it here
        elif name in names:
            new = names[name]
            names[name] = adopt(value, new, module.__name__)
            if isinstance(new, type):
                stays[new] = names[name]
    for name, value in list(names.items()):
        if not name.startswith("__") and not isinstance(value, ModuleType):
            names[name] = point_back(value, stays, module.__name__)


def point_back(value: Any, stays: dict[type, type], module: str) -> Any:
    """value, in which tables, defaults and methods mention the classes that stay instead of their new versions."""
    if isinstance(value, FunctionType) and value.__module__ == module:
        value.__defaults__ = point_back(value.__defaults__, stays, module)
        value.__kwdefaults__ = point_back(value.__kwdefaults__, stays, module)
    elif isinstance(value, type):
        value = stays.get(value, value)
        for method in vars(value).values() if value.__module__ == module else ():
            if isinstance(method, FunctionType):
                point_back(method, stays, module)
    elif type(value) is dict:
        value.update({key: point_back(item, stays, module) for key, item in value.items()})
    elif type(value) is list:
        value[:] = [point_back(item, stays, module) for item in value]
    elif type(value) is tuple:
        value = tuple(point_back(item, stays, module) for item in value)
    return value


def adopt(old: Any, new: Any, module: str) -> Any:
    """old with the code of new, if both are functions or classes of the module; otherwise new."""
    if getattr(old, "__module__", None) != module or getattr(new, "__module__", None) != module:
        return new
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        return _adopt_function(old, new)
    if isinstance(old, type) and isinstance(new, type) and _names_of_bases(old) == _names_of_bases(new):
        return _adopt_class(old, new, module)
    return new


def _names_of_bases(cls: type) -> list[tuple[str, str]]:
    """By name, since a base in the same file has been executed again too."""
    return [(base.__module__, base.__qualname__) for base in cls.__bases__]


def _adopt_function(old: FunctionType, new: FunctionType) -> FunctionType:
    if old.__code__.co_freevars != new.__code__.co_freevars:  # Python cannot change what a function closes over
        return new
    for name, mine, theirs in zip(new.__code__.co_freevars, old.__closure__ or (), new.__closure__ or (), strict=True):
        if name != "__class__":  # which super() needs, and which stays the old class
            mine.cell_contents = theirs.cell_contents
    for name in ("__code__", "__defaults__", "__kwdefaults__", "__doc__", "__annotations__"):
        setattr(old, name, getattr(new, name))
    vars(old).clear()
    vars(old).update(vars(new))
    return old


def _adopt_class(old: type, new: type, module: str) -> type:
    for name in set(vars(old)) - set(vars(new)) - set(OF_THE_CLASS):
        delattr(old, name)
    for name, value in list(vars(new).items()):
        if name not in OF_THE_CLASS:
            _rebind_super(value, old)
            with suppress(AttributeError, TypeError):  # what Python sets itself and protects
                setattr(old, name, adopt(vars(old).get(name), value, module))
    return old


def _rebind_super(value: Any, owner: type) -> None:
    """A method that was compiled in the new version of a class looks for super() from the class that stays."""
    for function in (getattr(value, name, value) for name in ("__func__", "fget", "fset", "fdel")):
        if isinstance(function, FunctionType) and "__class__" in function.__code__.co_freevars:
            function.__closure__[function.__code__.co_freevars.index("__class__")].cell_contents = owner


def _stop_workers() -> None:
    """joblib keeps its worker processes for the next search; they hold the code from before."""
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    executor = getattr(loky, "_executor", None)
    if executor is not None:
        executor.shutdown(wait=False, kill_workers=True)


def install() -> None:
    """Make the running IPython reload before each cell; does nothing outside IPython, or when it is done already."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or getattr(shell, "workbook_reloader", None):
        return
    shell.workbook_reloader = Reloader()
    shell.events.register("pre_run_cell", shell.workbook_reloader.refresh)
    shell.events.register("post_run_cell", shell.workbook_reloader.remember)
