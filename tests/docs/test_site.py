"""The site of the documentation, as `make docs-site` builds it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import IN_CI

ROOT = Path(__file__).parents[2]
SPHINX = ROOT / ".venv-docs" / "bin" / "sphinx-build"

pytestmark = [
    pytest.mark.long,
    pytest.mark.acceptance,
    pytest.mark.xdist_group("site"),
    pytest.mark.skipif(not (SPHINX.exists() or IN_CI), reason="needs `make docs-site`"),
]

LOADED = {"img": "src", "link": "href", "script": "src"}
"""What a browser loads with a page: elements, and the attribute with the address."""


class Address(NamedTuple):
    """An address on a page. ``loaded`` says whether a browser loads it with the page."""

    url: str
    loaded: bool


class Page(HTMLParser):
    """The addresses on a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[Address] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        url = dict(attrs).get(LOADED.get(tag, "href"))
        if url is not None:
            self.addresses.append(Address(url, tag in LOADED))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site. A warning fails the build."""
    folder = tmp_path_factory.mktemp("site")
    options = ["-q", "-W", "--keep-going", "-n", "-c", str(ROOT / "docs" / "site")]
    built = subprocess.run(
        [str(SPHINX), *options, str(ROOT), str(folder)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder


def addresses(site: Path) -> Iterator[tuple[Path, Address]]:
    """The addresses on all pages, each with its page."""
    for page in site.rglob("*.html"):
        for address in Page(page.read_text("utf-8")).addresses:
            yield page, address


def test_each_link_leads_to_a_file_of_the_site(site: Path) -> None:
    """Also the links to code."""
    broken = [
        f"{page.relative_to(site)}: {address.url}"
        for page, address in addresses(site)
        if not (url := urlsplit(address.url)).scheme and not (page.parent / unquote(url.path)).exists()
    ]
    assert broken == []
    assert (site / "code" / "src" / "raincheck" / "core" / "lifecycle.py.html").exists()


def test_no_page_needs_the_network(site: Path) -> None:
    """Scripts, styles, fonts and images are in the site."""
    loaded = {address.url for _, address in addresses(site) if address.loaded}
    assert {url for url in loaded if urlsplit(url).netloc} == set()
    assert [file.name for file in site.rglob("*.css") if "url(http" in file.read_text("utf-8")] == []


def test_the_first_page_lists_every_guide_and_decision(site: Path) -> None:
    """In the sidebar."""
    linked = {address.url for address in Page((site / "index.html").read_text("utf-8")).addresses}
    folders = [ROOT / "docs" / name for name in ("how-to", "decisions", "reference")]
    pages = [file.relative_to(ROOT) for folder in folders for file in folder.glob("*.md")]
    assert {str(page.with_suffix(".html")) for page in pages} - linked == set()


def test_diagrams_are_drawn(site: Path) -> None:
    """They need no script."""
    page = (site / "docs" / "explanation" / "lifecycle.html").read_text("utf-8")
    assert '<div class="diagram"><svg' in page
    assert "[*] --&gt;" not in page
