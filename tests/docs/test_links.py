"""Links between the documents. The build of the site (`tests/docs/test_site.py`) also checks anchors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_documents import DOCUMENTS, ROOT

_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")

INDEXES = [ROOT / "README.md", ROOT / "docs/how-to/README.md", ROOT / "docs/decisions/README.md"]


def links(document: Path) -> set[Path]:
    """The files and folders of the repository that a document links to."""
    text = _CODE.sub("", document.read_text("utf-8"))
    return {(document.parent / link).resolve() for link in _LINK.findall(text)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document: Path) -> None:
    """Or to a folder."""
    assert {link for link in links(document) if not link.exists()} == set()


def test_every_page_is_in_an_index() -> None:
    """From which the site takes its navigation."""
    listed = set().union(*map(links, INDEXES))
    pages = set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs/README.md"}
    assert pages - listed == set()
