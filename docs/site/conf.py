"""The site: Sphinx builds it from the Markdown files of the repository, as they are (``make docs-site``).

The navigation comes from the tables of the index pages. Here is what GitHub does with these files and Sphinx
does not: a Mermaid diagram becomes an SVG, and a link to code leads to a page with that code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

import mmdr
from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]

project = "raincheck"
html_title = "raincheck"
root_doc = "README"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/**/*.md",
    "examples/**/README.md",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "deploy/README.md",
]
exclude_patterns = ["docs/README.md", ".venv*/**", "benchmarks/.venv*/**"]

extensions = ["myst_parser", "sphinx_copybutton"]
myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]  # of JSON with an ellipsis
copybutton_prompt_text = "$ "

html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5cad", "color-brand-content": "#0b5cad"},
    "dark_css_variables": {"color-brand-primary": "#7ab7ff", "color-brand-content": "#7ab7ff"},
}
pygments_style = "default"
pygments_dark_style = "github-dark"

_ROW = re.compile(r"^\| ([^|]+?) \| .*", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#:]+)\.md[)#]")

INDEXES = ["docs/how-to/README", "docs/decisions/README"]
"""Pages whose table lists the pages below them."""

BELOW = {
    "docs/how-to/deploy": ["deploy/README"],
    "benchmarks/README": ["benchmarks/results/latest", "benchmarks/results/peers"],
}
"""Other pages with pages below them."""


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_navigation)
    app.connect("doctree-read", draw_diagrams)
    app.connect("doctree-read", link_code, priority=100)  # before Sphinx copies files that are linked
    app.connect("html-collect-pages", code_pages)
    app.connect("build-finished", add_index)


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Append a list of the pages below this one, which only the sidebar shows."""
    rows = [(row[1], _LINK.findall(row[0])) for row in _ROW.finditer(source[0]) if _LINK.search(row[0])]
    if page == root_doc:
        for label, pages in rows:
            source[0] += _toctree(page, pages, f":caption: {label[0].upper()}{label[1:]}")
    elif page in INDEXES:
        source[0] += _toctree(page, [each for _, links in rows for each in links])
    elif page in BELOW:
        source[0] += _toctree(page, [relpath(each, dirname(page)) for each in BELOW[page]])


def _toctree(page: str, links: list[str], *options: str) -> str:
    pages = dict.fromkeys("/" + normpath(f"{dirname(page)}/{link}".lstrip("/")) for link in links)
    return "\n".join(["\n\n```{toctree}", ":hidden:", *options, "", *pages, "```\n"])


def draw_diagrams(app: Sphinx, doctree: nodes.document) -> None:
    """Replace each Mermaid diagram by a drawing, so that the page needs no script for it."""
    for block in list(doctree.findall(nodes.literal_block)):
        if block.get("language") == "mermaid":
            svg = mmdr.render(block.astext()).svg()
            block.replace_self(nodes.raw("", f'<div class="diagram">{svg}</div>', format="html"))


def link_code(app: Sphinx, doctree: nodes.document) -> None:
    """Let links to files and folders that are no pages lead to pages with their content."""
    page = app.env.docname
    found = []
    for kind in (addnodes.download_reference, addnodes.pending_xref):  # to a file, to a folder
        for link in list(doctree.findall(kind)):
            path = normpath(f"{dirname(page)}/{link['reftarget']}".lstrip("/"))
            if not path.endswith(".md") and (ROOT / path).exists():
                found.append(path)
                url = f"{relpath(f'code/{path}', dirname(page) or '.')}.html"
                link.replace_self(nodes.reference("", "", *link.children, refuri=url, internal=True))
    app.env.metadata[page]["code"] = "\n".join(found)


def code_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file and folder that is linked, and for each file in such a folder."""
    paths = {path for data in app.env.metadata.values() for path in data.get("code", "").splitlines()}
    for folder in [path for path in paths if (ROOT / path).is_dir()]:
        files = sorted(str(file.relative_to(ROOT)) for file in (ROOT / folder).iterdir() if file.is_file())
        paths.update(files)
        links = (f'<a href="{relpath(file, dirname(folder))}.html">{Path(file).name}</a>' for file in files)
        yield _page(folder, "".join(f"<p>{link}</p>" for link in links))
    for file in [path for path in paths if (ROOT / path).is_file()]:
        try:
            lexer = get_lexer_for_filename(file).aliases[0]
        except ClassNotFound:
            lexer = "text"
        text = (ROOT / file).read_text("utf-8")
        yield _page(file, app.builder.highlighter.highlight_block(text, lexer))


def _page(path: str, body: str) -> tuple[str, dict[str, Any], str]:
    return f"code/{path}", {"title": escape(path), "body": f"<h1>{escape(path)}</h1>{body}"}, "page.html"


def add_index(app: Sphinx, error: Exception | None) -> None:
    """Copy the first page to ``index.html``, which servers and people open."""
    if error is None:
        folder = Path(app.outdir)
        (folder / "index.html").write_bytes((folder / f"{root_doc}.html").read_bytes())
