"""The house: which rooms import PyTorch, which way dependencies point, and that importing does nothing else."""

import ast
import json
import os
import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import common

ROOT = Path(common.__file__).resolve().parents[1]
WITH_TORCH = ("pytorch", "vision", "detection", "generative")
# A room may import its own floor and those below it.
FLOORS = (
    {"validate", "storage", "progress", "reload", "source", "todo", "verdicts"},
    {"data", "checks", "plots", "results"},
    {"layers", "features", "optim", "checkpoint", "search", "resume", "solver"},
    {"classifiers", "pytorch"},
    {"captions", "vision", "detection", "generative", "notebook"},
)


def room(module):
    """ "common.layers.fast" -> "layers"."""
    return [*module.split("."), ""][1]


def modules():
    names = [info.name for info in pkgutil.walk_packages(common.__path__, "common.")]
    return ["common", *(name for name in names if room(name) not in WITH_TORCH)]


IMPORT_ALL = """
import importlib, json, sys
sys.modules["torch"] = sys.modules["torchvision"] = None  # importing them fails from now on
failed = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""


@pytest.fixture(scope="module", params=["as installed", "numpy"])
def imported(request, tmp_path_factory):
    """Why modules cannot be imported without PyTorch; with the layers as installed, and without their extension."""
    folder = tmp_path_factory.mktemp("empty")
    environment = os.environ | {"WORKBOOK_DATA": str(folder / "data"), "PYTHONPATH": str(ROOT)}
    names = [name for name in modules() if not name.rpartition(".")[2].startswith("__")]
    if request.param == "numpy":
        environment["WORKBOOK_FAST"] = "numpy"
        names = [
            name for name in names if name.rpartition(".")[2] not in ("_convolution", "_pooling", "cython_backend")
        ]
    command = [sys.executable, "-c", IMPORT_ALL, json.dumps(names)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert not list(folder.iterdir()), "an import wrote files"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", modules())
def test_imports_without_torch(name, imported):
    assert name not in imported, imported[name]


def test_the_rooms_with_torch_are_the_only_ones():
    """No module of the other rooms imports torch at its top; oracles and checks do it inside functions."""
    for path in (ROOT / "common").rglob("*.py"):
        if path.relative_to(ROOT / "common").parts[0] not in WITH_TORCH:
            assert not {"torch", "torchvision"} & {name.partition(".")[0] for name in top_imports(path)}, path


def top_imports(path):
    """Names of the modules that a file imports when it is imported itself."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph():
    """{module of common: the modules of common that it imports}."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "common").rglob("*.py")
    }
    return {name: {other for other in top_imports(path) if other in files} for name, path in files.items()}


def test_there_are_no_import_cycles():
    """A package's own __init__ gathers its modules, so edges to it from inside are left out."""
    edges = {name: {other for other in others if not name.startswith(f"{other}.")} for name, others in graph().items()}
    TopologicalSorter(edges).prepare()


def test_dependencies_point_down():
    floor = {name: height for height, rooms in enumerate(FLOORS) for name in rooms}
    for name, others in graph().items():
        if room(name):
            assert room(name) in floor, f"{name} has no floor; add it to FLOORS"
        for other in others - {"common"}:
            assert floor[room(other)] <= floor.get(room(name), 0), f"{name} imports {other}, which stands above it"


def test_peers_do_not_import_peers_for_utilities():
    """Classifiers share validate and model, not each other."""
    for name, others in graph().items():
        if name.startswith("common.classifiers."):
            assert {other for other in others if other.startswith("common.classifiers.")} <= {
                "common.classifiers.model"
            }
