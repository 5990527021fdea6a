"""Whether the server lives, and what every answer says."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from raincheck import App
from tests.problems import urn
from tests.server.conftest import transport


async def test_it_lives(client: httpx2.AsyncClient, app: App) -> None:
    """While the loop runs; the store does not have to be open."""
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert not app.opened


async def test_it_is_ready(client: httpx2.AsyncClient) -> None:
    """When the store answers."""
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_it_is_not_ready_without_its_store(tmp_path: Path) -> None:
    """It says so, lives on, and every call says when to come again."""
    (tmp_path / "jobs.db").mkdir()
    app = App(f"sqlite:///{tmp_path / 'jobs.db'}")
    async with httpx2.AsyncClient(transport=transport(app), base_url="http://localhost") as client:
        ready, alive = await client.get("/readyz"), await client.get("/healthz")
        listing = await client.get("/v1/job")
    assert (ready.status_code, ready.json()["type"], ready.headers["retry-after"]) == (
        503,
        urn("not-ready"),
        "2",
    )
    assert alive.status_code == 200
    assert (listing.status_code, listing.json()["type"]) == (503, urn("store-unavailable"))
    assert listing.headers["retry-after"] == "2"
    assert str(tmp_path) not in listing.text


@pytest.mark.parametrize(
    "path", ["/healthz", "/v1/job", "/v1/function/add", "/docs", "/openapi.json", "/v1/worker"]
)
async def test_a_head_is_a_get_without_its_body(client: httpx2.AsyncClient, path: str) -> None:
    """With the same headers, the length among them."""
    head, get = await client.head(path), await client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert dict(head.headers) == dict(get.headers)
    assert int(head.headers["content-length"]) == len(get.content)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/job", "GET, HEAD, OPTIONS, POST"),
        ("/v1/job/x", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/job/x/retry", "OPTIONS, POST"),
        ("/v1/function/a/b", "GET, HEAD, OPTIONS, POST"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_are_the_methods(client: httpx2.AsyncClient, path: str, allowed: str) -> None:
    """And nothing that would let a page of another site in."""
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await client.options(path, headers=headers)
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (204, b"", allowed)
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/v1/job", "/v1/nothing", "/healthz", "/docs", "/v1/function"])
async def test_no_answer_is_taken_for_what_it_is_not(client: httpx2.AsyncClient, path: str) -> None:
    """Nor kept by a cache that would show it later."""
    answer = await client.get(path, headers={"origin": "https://evil.example"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] in ("no-store", "no-cache")
    assert not [name for name in answer.headers if name.startswith("access-control")]
