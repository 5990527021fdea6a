"""The documentation page."""

from __future__ import annotations

import re
from importlib import resources

import httpx2
import pytest

FILES = {"/docs": "text/html", "/docs/docs.js": "text/javascript", "/docs/docs.css": "text/css"}


async def test_the_root_leads_to_it(client: httpx2.AsyncClient) -> None:
    """There is no dashboard yet."""
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


@pytest.mark.parametrize(("path", "media"), list(FILES.items()))
async def test_it_comes_with_all_it_needs(client: httpx2.AsyncClient, path: str, media: str) -> None:
    """Each part says what it is, and lets nothing else in."""
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{media}; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_it_works_under_any_prefix(client: httpx2.AsyncClient) -> None:
    """All its links are relative, and lead to what there is."""
    page = (await client.get("/docs")).text
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert links
    for link in links:
        assert (await client.get(f"/{link}")).status_code == 200


def test_nothing_becomes_markup() -> None:
    """What strangers wrote enters the page as text; nothing is inline that the policy would stop."""
    files = resources.files("raincheck.server.docs")
    script, page = (files.joinpath(name).read_text("utf-8") for name in ("docs.js", "index.html"))
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(", script)
    assert "https://" not in script + page
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=", page)
