"""`make colab`: one self-contained notebook file for every notebook, ready to upload to Google Colab.

    python -m tools.colab [--source TREE] [--destination FOLDER]

The set-up cell of each file carries an archive: `common/`, and the recorded results that this notebook shows.
Nothing else is needed, not even a repository address.
"""

import argparse
import ast
import base64
import hashlib
import io
import lzma
import mimetypes
import re
import sys
import tarfile
import textwrap
from pathlib import Path

from nbformat import NotebookNode

from tools.generated import generated_tree
from tools.needs import imported_modules, needs, requirements
from tools.notebooks import (
    BUILT,
    ROOT,
    ToolError,
    notebook_paths,
    notebook_text,
    read_notebook,
    setup_index,
    source_files,
    strip_outputs,
)

SCRATCH = re.compile(r"Untitled\d*\.ipynb")  # Jupyter's name for a new notebook
CELL = Path(__file__).with_name("colab_cell.py")


def code_files(root: Path) -> list[str]:
    """The files of the archive: the sources of `common/`, and what builds the extension when there is one."""
    names = [n for n in source_files(root, untracked=True) if n.startswith("common/") and not n.endswith(BUILT)]
    extensions = {n.removesuffix(".pyx") for n in names if n.endswith(".pyx")}
    names = [n for n in names if n.rpartition(".")[0] not in extensions or not n.endswith((".c", ".cpp"))]
    if "common/notebook.py" not in names:
        raise ToolError(f"{root}: no common/notebook.py, so no notebook could be set up")
    if extensions:
        # Without pyproject.toml, whose licence only setuptools 77 and newer can read: older ones build this too.
        names += ["setup.py"]
    return sorted(names)


def result_files(root: Path, path: Path) -> list[str]:
    """What the notebook's box of photographs shows: the recorded results, and the pictures of this notebook alone."""
    pictures = f"results/{path.parent.name}/{path.stem}/"
    names = source_files(root, untracked=True)
    return [name for name in names if name == "results/full.json" or name.startswith(pictures)]


def archive(root: Path, names: list[str]) -> bytes:
    """tar.xz of the files, the same bytes whenever and by whomever it is made."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            data = (root / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def setup_cell(packed: bytes, needed: dict[str, list[str]], build: dict[str, list[str]]) -> str:
    """Source of the set-up cell that carries `packed`."""
    values = {
        'SHA256 = "{sha256}"': f'SHA256 = "{hashlib.sha256(packed).hexdigest()}"',
        "NEEDS = {}": f"NEEDS = {needed!r}",
        "BUILD = {}": f"BUILD = {build!r}",
        "{archive}": textwrap.fill(base64.b64encode(packed).decode(), 110),
    }
    source = CELL.read_text(encoding="utf-8").rstrip("\n")
    for place, value in values.items():
        if source.count(place) != 1:
            raise ToolError(f"{CELL}: {place!r} has to be there exactly once")
        source = source.replace(place, value)
    ast.parse(source)
    return source


def build_needs(nb: NotebookNode, root: Path, path: Path) -> dict[str, list[str]]:
    """What compiles the extension, for a notebook that reaches a package with Cython files; otherwise nothing."""
    packages = {name.rpartition("/")[0].replace("/", ".") for name in code_files(root) if name.endswith(".pyx")}
    if not packages & imported_modules(nb, root, path):
        return {}
    lines = requirements(root)
    return {"Cython": lines.get("cython", ["cython"]), "setuptools": ["setuptools"]}  # any setuptools can build it


def convert(nb: NotebookNode, root: Path, path: Path, packed: bytes) -> NotebookNode:
    """`nb` as a file that stands alone."""
    strip_outputs(nb)
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = plain_links(cell.source, path.parent)
    cell = nb.cells[setup_index(nb, path)]
    cell.source = setup_cell(packed, needs(nb, root, path), build_needs(nb, root, path))
    cell.metadata.update({"cellView": "form", "jupyter": {"source_hidden": True}})
    kept = {k: v for k, v in nb.metadata.items() if k == "accelerator"}
    nb.metadata = NotebookNode(
        kept,
        colab={"name": path.name, "provenance": []},
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    return nb


LINK = re.compile(r"""(?P<image>!?)\[(?P<text>(?:[^][]|\[[^]]*\])*)\]\((?P<target>[^)\s]+)(?:\s+"[^"]*")?\)""")
HTML = re.compile(r"""(?P<tag><(?:a\s[^>]*?href|img\s[^>]*?src)=)(?P<quote>["'])(?P<target>[^"']+)(?P=quote)""")
CODE = re.compile(r"(^```.*?^```[^\n]*$|`[^`\n]+`(?!\]))", re.MULTILINE | re.DOTALL)


def plain_links(markdown: str, folder: Path) -> str:
    """Markdown in which links to files of the repository are plain text and its pictures are embedded.

    Args:
        markdown: source of a cell.
        folder: where the notebook lies; relative targets count from here.
    """

    def link(match: re.Match) -> str:
        if not _is_local(match["target"], folder):
            return match[0]
        return f"![{match['text']}]({_data_uri(match['target'], folder)})" if match["image"] else match["text"]

    def html(match: re.Match) -> str:
        if not _is_local(match["target"], folder):
            return match[0]
        target = _data_uri(match["target"], folder) if match["tag"].startswith("<img") else "#"
        return f"{match['tag']}{match['quote']}{target}{match['quote']}"

    parts = CODE.split(markdown)
    parts[::2] = [HTML.sub(html, LINK.sub(link, part)) for part in parts[::2]]
    return "".join(parts)


def _is_local(target: str, folder: Path) -> bool:
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|#|//", target):
        return False
    return target.startswith(("./", "../", "/")) or (folder / target.partition("#")[0]).exists()


def _data_uri(target: str, folder: Path) -> str:
    path = folder / target
    if not path.is_file():
        raise ToolError(f"{path}: a picture that a notebook in {folder} shows is missing")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def write_all(root: Path, destination: Path) -> dict[str, int]:
    """Write the Colab file of every notebook below `destination`.

    Returns:
        Bytes by path of the file, relative to the destination.
    """
    code, sizes, handed_out = code_files(root), {}, notebook_paths(root, tracked=True)
    with generated_tree(destination, root) as new:
        for path in notebook_paths(root):
            try:
                setup_index(read_notebook(path), path)
            except ToolError as error:
                if path in handed_out and not SCRATCH.fullmatch(path.name):
                    raise
                print(f"left out, a notebook of your own: {error}", file=sys.stderr)
                continue
            packed = archive(root, [*code, *result_files(root, path)])
            target = new / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = notebook_text(convert(read_notebook(path), root, path, packed))
            target.write_text(text, encoding="utf-8", newline="\n")
            sizes[path.relative_to(root).as_posix()] = target.stat().st_size
        if not sizes:
            raise ToolError(f"{root}: no notebook assignment*/*.ipynb")
    return sizes


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.colab", description="Write self-contained Colab notebooks.")
    parser.add_argument("--source", type=Path, default=ROOT, help="tree with the notebooks")
    parser.add_argument("--destination", type=Path, help="folder to write (default: build/colab in the source)")
    options = parser.parse_args(arguments)
    destination = options.destination or options.source / "build" / "colab"
    try:
        sizes = write_all(options.source.resolve(), destination)
    except (ToolError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, size in sizes.items():
        print(f"{destination / name}  {size / 1024:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
