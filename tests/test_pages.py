"""The HTML pages that `make run` writes: what is on them, where their links lead, and what they leave out."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import execute, pages

README = "| notebook |\n|---|\n| [z](z.ipynb) |\n| [a](a.ipynb) |\n| [m](m.ipynb) |\n"
ORDER = ["z", "a", "m"]


@pytest.fixture
def tree(tmp_path):
    """A repository of three notebooks, whose README sets their order."""
    (tmp_path / "assignment1").mkdir()
    (tmp_path / "assignment1/README.md").write_text(README, encoding="utf-8")
    for name in ORDER:
        nbformat.write(new_notebook(), tmp_path / f"assignment1/{name}.ipynb")
    return tmp_path


def executed(tree, name, *cells, error=""):
    """A run of one of the notebooks, with these cells below its title."""
    title = new_markdown_cell(f"Words.\n\n# The *{name}* & `co`\n\n## 1. First")
    return execute.Execution(tree / f"assignment1/{name}.ipynb", new_notebook(cells=[title, *cells]), 3.4, error)


def ran(source, *out, count=1):
    return new_code_cell(source, execution_count=count, outputs=list(out))


def written(tree, *runs):
    """The pages by name, after they and the index were written."""
    dest = tree / "html"
    for run in runs:
        pages.write_page(run, dest)
        pages.write_index([run], "pocket", dest)
    return {path.stem: path.read_text(encoding="utf-8") for path in dest.rglob("*.html")}


def links(page):
    """(relation, address) of the links of each navigation bar."""
    bars = re.findall(r'<nav class="workbook">.*?</nav>', page)
    return [re.findall(r'class="(\w+)"[^>]*? href="([^"]*)"', bar) for bar in bars]


HOME = ("home", "../index.html")


def link(relation, name):
    return relation, f"../assignment1/{name}.html"


def test_a_page_links_to_its_neighbours_in_reading_order_at_top_and_bottom(tree):
    site = written(tree, *(executed(tree, name) for name in ("m", "z", "a")))
    assert links(site["z"]) == [[HOME, link("next", "a")]] * 2
    assert links(site["a"]) == [[HOME, link("previous", "z"), link("next", "m")]] * 2
    assert links(site["m"]) == [[HOME, link("previous", "a")]] * 2
    assert "The z &amp; co</a>" in site["a"], "a link carries the title of the page it leads to"


def test_a_neighbour_without_a_page_is_passed_over_and_linked_later(tree):
    """`make run NB=...` writes one page at a time."""
    assert links(written(tree, executed(tree, "m"))["m"]) == [[HOME]] * 2
    site = written(tree, executed(tree, "z"))
    assert links(site["z"]) == [[HOME, link("next", "m")]] * 2
    assert links(site["m"]) == [[HOME, link("previous", "z")]] * 2
    assert links(written(tree, executed(tree, "a"))["z"]) == [[HOME, link("next", "a")]] * 2


def test_pages_say_their_title_and_fit_small_windows(tree):
    site = written(tree, executed(tree, "z"))
    assert "<title>The z &amp; co - Vision Workbook</title>" in site["z"]
    assert "<title>Vision Workbook</title>" in site["index"]
    for page in site.values():
        (viewport,) = (tag for tag in re.findall(r"<meta[^>]*>", page) if 'name="viewport"' in tag)
        assert "width=device-width" in viewport
        assert page.count("<title>") == 1


def test_the_index_shows_the_runs_and_links_the_pages_of_earlier_ones(tree):
    check = ran("check()", new_output("stream", text="ok  one is one\n"))
    index = written(tree, executed(tree, "m"), executed(tree, "z", check))["index"]
    assert '<a href="assignment1/z.html">The z &amp; co</a><span class="path">assignment1/z.ipynb</span>' in index
    assert "3 s" in index and "passed" in index and "pocket edition" in index
    assert index.index("Pages of earlier runs") < index.index("assignment1/m.html")


def test_a_failure_stands_on_its_page_and_on_the_index(tree):
    bad = ran(
        "x", new_output("error", ename="ValueError", evalue="no <good>\nat all", traceback=["no <good>", "at all"])
    )
    run = executed(tree, "z", bad, error="ValueError: no <good>\nat all")
    site = written(tree, run)
    sentence = "section 1, cell 1: ValueError: no &lt;good&gt;"
    assert sentence in site["index"]
    assert f'<a href="#cell-id={bad.id}">{sentence}</a>' in site["z"]
    assert f'id="cell-id={bad.id}"' in site["z"], "the link leads to the cell"
    assert "at all" in site["z"], "the whole message"


def test_nothing_is_asked_of_another_host(tree):
    """Widgets would bring a script from a content network, and so would nbconvert's own template."""
    run = executed(tree, "z", new_markdown_cell("$x$ and [a site](https://example.org)"), ran("1"))
    run.notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"a": {}}}}
    page = written(tree, run)["z"]
    fetched = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"([^\"]*)\"", page)
    assert fetched == [pages.MATHJAX_URL]
    assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", page)
    assert not re.findall(r"\bimport\b[^;\n]*[\"']https?://", page)


def test_the_font_of_the_formulas_is_the_one_that_lies_beside_the_pages(tree):
    """MathJax asks for the outlines of its TeX font otherwise: a failed request, upright letters, collapsed roots."""
    page = written(tree, executed(tree, "z"))["z"]
    (font,) = re.findall(r'availableFonts: \[\], preferredFont: null, webFont: "([\w-]+)", imageFont: null', page)
    assert (pages.MATHJAX / f"jax/output/HTML-CSS/fonts/{font}/fontdata.js").is_file()
    assert list((pages.MATHJAX / f"fonts/HTML-CSS/{font}").rglob("*.woff"))
    assert "[mathvariant] { font-family: inherit !important; }" in page, "nor fonts for what only screen readers read"
    assert page.index("availableFonts") < page.index(pages.MATHJAX_URL), "configured before it starts"


def test_links_between_notebooks_lead_to_pages(tree):
    text = "[a](a.ipynb) [b](../assignment2/b.ipynb#3.-Votes) [c](https://example.org/c.ipynb) `d.ipynb`"
    page = written(tree, executed(tree, "z", new_markdown_cell(text)))["z"]
    for address in ("a.html", "../assignment2/b.html#3.-Votes", "https://example.org/c.ipynb"):
        assert f'href="{address}"' in page
    assert "d.ipynb" in page


def test_a_page_shows_a_film_that_nbconvert_would_drop():
    film = new_output("display_data", {"image/gif": "R0lG\nODlh", "text/plain": "<Image>"})
    notebook = new_notebook(cells=[new_code_cell(outputs=[film]), new_markdown_cell()])
    shown = pages.presentable(notebook)
    assert 'src="data:image/gif;base64,R0lGODlh"' in shown.cells[0].outputs[0].data["text/html"]
    assert "text/html" not in film.data


BAR = """
import os
from tqdm.auto import tqdm
print(sum(tqdm(range(3), desc="counting", leave=False, disable=bool(os.environ["WORKBOOK_QUIET"]))))
"""


@pytest.mark.parametrize("quiet", ["", "1"])
def test_a_finished_progress_bar_is_on_no_page(tree, quiet):
    """A bar of tqdm's own, since ours leaves nothing: switched on, as a kernel draws it for JupyterLab, and off."""
    path = tree / "assignment1/z.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Z"), new_code_cell(BAR)]), path)
    run = execute.execute(path, {"WORKBOOK_QUIET": quiet})
    assert run.error == ""
    drawn = [o for o in run.code_cells[0].outputs if pages.WIDGET in o.get("data", {})]
    assert len(drawn) == (0 if quiet else 1)
    page = written(tree, run)["z"]
    assert "3\n" in page
    assert pages.WIDGET not in page
    assert "counting: " not in page
    assert "widget-state" not in page


def test_a_page_is_written_whole_or_not_at_all(tree, monkeypatch):
    page = tree / "html/a.html"
    pages.save(page, "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pages.save(page, "new")
    assert page.read_text() == "old"
