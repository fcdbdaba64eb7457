# @title Set-up (run me first)
# Carries the code of the Vision Workbook and unpacks it into ./vision_workbook. There is nothing to edit here.
# For real data instead of the pocket edition run `from common.data import store; store.fetch("cifar10")` below
# this cell and then everything again.
import base64
import hashlib
import importlib
import importlib.util
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

SHA256 = "{sha256}"
NEEDS = {}  # module: the requirements that bring it
BUILD = {}  # the same for compiling the extension
ARCHIVE = """
{archive}
"""


def install(needs, required=True):
    """Install what cannot be imported, quietly."""
    wanted = [line for module, lines in needs.items() if importlib.util.find_spec(module) is None for line in lines]
    if not wanted:
        return
    pip = subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], capture_output=True, text=True)
    importlib.invalidate_caches()
    if pip.returncode and required:
        raise SystemExit(f"could not install {', '.join(wanted)}; pip says:\n{pip.stdout}{pip.stderr}")


def home():
    """The folder for code and data: beside the notebook, or a temporary one where nothing can be written."""
    folder = pathlib.Path.cwd() / "vision_workbook"
    try:
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="vision_workbook-"))
    return folder


def build(folder):
    """Compile the fast layers; without them the NumPy layers serve, so a failure only costs speed."""
    install(BUILD, required=False)
    setup = ["setup.py"] if (folder / "setup.py").is_file() else ["-c", "import setuptools; setuptools.setup()"]
    command = [sys.executable, *setup, "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    (folder / "build.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        print("The compiled layers could not be built here, the slower NumPy layers are used.")


def unpack(folder):
    """Write the code below `folder`, whole or not at all; code that is already there is used as it is."""
    target = folder / f"code-{SHA256[:12]}"
    if (target / "common" / "notebook.py").is_file():
        return target
    data = base64.b64decode(ARCHIVE)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit("The code inside this notebook is damaged (wrong checksum): get the file again.")
    new = pathlib.Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:xz") as tar:
            tar.extractall(new, filter="data")
        if BUILD:
            build(new)
        if target.exists() and not (target / "common" / "notebook.py").is_file():
            shutil.rmtree(target)
        new.rename(target)
    except OSError:
        if not (target / "common" / "notebook.py").is_file():  # otherwise another notebook was faster
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return target


install(NEEDS)
code = unpack(home())
os.environ.setdefault("WORKBOOK_DATA", str(code.parent / "datasets"))
sys.path.insert(0, str(code))
from common import notebook  # noqa: E402

notebook.setup()
