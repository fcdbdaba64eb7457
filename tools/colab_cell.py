# @title Set-up (run me first)
# Carries the code of the Vision Workbook and unpacks it into ./vision_workbook. There is nothing to edit here.
import base64
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time

SHA256 = "{sha256}"
NEEDS = {}  # module: the requirements that bring it
BUILD = {}  # the same for compiling the extension; empty where the notebook does not use it
ARCHIVE = """
{archive}
"""


class Stop(Exception):
    """Ends the set-up with one sentence in place of a traceback, in old versions of IPython too."""

    def _render_traceback_(self):
        return [str(self)]


def missing(module, lines, least=False):
    """Whether the module cannot be imported, or, with least, is older than its requirement says."""
    if importlib.util.find_spec(module) is None:
        return True
    try:
        from packaging.requirements import Requirement

        wanted = [Requirement(line) for line in lines]
        return least and not all(importlib.metadata.version(w.name) in w.specifier for w in wanted)
    except ImportError:  # no packaging, or no metadata: what can be imported has to do
        return False


def install(needs, least=False):
    """Install what is missing; the sentence that says what was done, or why not."""
    names = [module for module, lines in needs.items() if missing(module, lines, least)]
    if not names:
        return "all there"
    print(f"  installing {', '.join(names)} ...", flush=True)
    wanted = [line for name in names for line in needs[name]]
    pip = subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], capture_output=True, text=True)
    importlib.invalidate_caches()
    if pip.returncode:
        raise Stop(f"Could not install {', '.join(wanted)}; pip says:\n{pip.stdout}{pip.stderr}")
    return f"installed {', '.join(names)}"


def home():
    """The folder for code and data: beside the notebook, or this user's temporary one where nothing can be written."""
    folder = pathlib.Path.cwd() / "vision_workbook"
    try:
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        return folder
    except OSError:
        user = os.getuid() if hasattr(os, "getuid") else 0
    folder = pathlib.Path(tempfile.gettempdir()) / f"vision_workbook-{user}"  # found again by the next run
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and (os.name == "nt" or (found.st_uid == user and not found.st_mode & 0o022)):
            tempfile.TemporaryFile(dir=folder).close()
            return folder
    except OSError:
        pass
    return pathlib.Path(tempfile.mkdtemp(prefix="vision_workbook-"))  # it is somebody else's, whose code we do not run


def unpack(folder):
    """Write the code below `folder`, whole or not at all; code that is already there is used as it is."""
    target = folder / f"code-{SHA256[:12]}"
    for draft in folder.glob(".new-*"):
        if time.time() - draft.stat().st_mtime > 600:  # unpacking takes seconds: its process was ended
            shutil.rmtree(draft, ignore_errors=True)
    if (target / "common" / "notebook.py").is_file():
        return target
    try:
        data = base64.b64decode(ARCHIVE)
    except ValueError:  # cut off inside a group of four letters
        data = b""
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise Stop("The code inside this notebook is damaged (wrong checksum): get the file again.")
    new = pathlib.Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:xz") as tar:
            tar.extractall(new, filter="data")
        if target.exists() and not (target / "common" / "notebook.py").is_file():
            shutil.rmtree(target)
        new.rename(target)
    except OSError:
        if not (target / "common" / "notebook.py").is_file():  # otherwise another notebook was faster
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return target


def compiled(folder):
    """Compile the fast layers where that has not succeeded yet; the sentence that says which layers serve."""
    sources = list(folder.glob("common/**/*.pyx"))

    def done():
        found = [{path.suffix for path in source.parent.glob(f"{source.stem}.*")} for source in sources]
        return all({".so", ".pyd"} & suffixes for suffixes in found)

    if done():
        return "compiled"
    print("  compiling the fast layers ...", flush=True)
    started, log = time.time(), folder / "build.log"
    try:
        install(BUILD, least=True)
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        log.write_text(run.stdout + run.stderr)
    except (Stop, OSError) as error:
        log.write_text(str(error))
    importlib.invalidate_caches()
    if done():
        return f"compiled in {time.time() - started:.0f} s"
    return f"NumPy, which is slower (compiling failed, {log} says why; the next run of this cell tries again)"


print("Vision Workbook")
print("  packages:", install(NEEDS))
code = unpack(home())
print("  code:", code)
if BUILD:
    print("  fast layers:", compiled(code))
os.environ["WORKBOOK_SINGLE_FILE"] = "1"
os.environ.setdefault("WORKBOOK_EDITION", "pocket")  # real data, and its longer budgets, only when asked for
os.environ.setdefault("WORKBOOK_DATA", str(code.parent / "datasets"))
sys.path.insert(0, str(code))
from common import notebook  # noqa: E402

notebook.setup()
