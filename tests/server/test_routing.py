"""From a path to its endpoints, and the lifespan that servers of ASGI speak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raincheck import App
from raincheck.server.routes import Router

TABLE = {
    "/": {"GET": "root"},
    "/a": {"GET": "list", "POST": "create"},
    "/a/{id}": {"GET": "find"},
    "/a/{id}/stop": {"POST": "stop"},
    "/f": {"GET": "functions"},
    "/f/{name:path}": {"POST": "call"},
    "/g/{name}/{id}": {"GET": "run"},
}


@pytest.mark.parametrize(
    ("path", "method", "found"),
    [
        ("/", "GET", ("root", "")),
        ("/a", "POST", ("create", "")),
        ("/a/1", "GET", ("find", "1")),
        ("/a/1", "HEAD", ("find", "1")),
        ("/a/1/stop", "POST", ("stop", "1")),
        ("/f", "GET", ("functions", "")),
        ("/f/", "POST", ("call", "")),
        ("/f/x", "POST", ("call", "x")),
        ("/f//v1/x/", "POST", ("call", "/v1/x/")),
        ("/g/n/1", "GET", ("run", "n/1")),
    ],
)
def test_a_path_leads_to_its_endpoint(path: str, method: str, found: tuple[str, str]) -> None:
    """With the values of its variables."""
    resource, target = Router(TABLE).find(path) or pytest.fail("nothing is there")
    assert (resource.endpoints[method], target) == found


@pytest.mark.parametrize(
    "path", ["", "/b", "/a/", "/a//stop", "/a/1/other", "/a/1/stop/", "/g", "/g/n", "//a"]
)
def test_other_paths_lead_nowhere(path: str) -> None:
    """Variables are not empty, and a slash more is another path."""
    assert Router(TABLE).find(path) is None


def test_a_resource_knows_its_methods() -> None:
    """For the answer to another one."""
    resource, _ = Router(TABLE).find("/a") or pytest.fail("nothing is there")
    assert resource.allow == b"GET, HEAD, OPTIONS, POST"


async def lived(app: App) -> list[Any]:
    """The messages of the server in a lifespan that ends at once."""
    said: list[Any] = []
    asked = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))

    async def receive() -> Any:
        return next(asked)

    async def send(message: Any) -> None:
        said.append((message["type"], app.opened))

    await app.asgi({"type": "lifespan"}, receive, send)
    return said


async def test_a_lifespan_opens_and_closes(app: App) -> None:
    """As ASGI has it."""
    assert await lived(app) == [("lifespan.startup.complete", True), ("lifespan.shutdown.complete", False)]


async def test_a_start_that_fails_is_told(tmp_path: Path) -> None:
    """It is reported to the ASGI server, and raised."""
    (tmp_path / "jobs.db").write_text("this is no database, and long enough to show it" * 10)
    app = App(f"sqlite:///{tmp_path / 'jobs.db'}")
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message["type"])

    with pytest.raises(Exception, match="database"):
        await app.asgi({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.failed"]
