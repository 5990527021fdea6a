"""The API in another application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastapi
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router

from raincheck import App
from raincheck.server import Server
from tests.server.hands import Hands


def in_fastapi(app: App) -> Any:
    """Mounted in a FastAPI application."""
    outer = fastapi.FastAPI()

    @outer.get("/")
    def root() -> str:
        return "outer"

    outer.mount("/api/jobs", app.asgi)
    return outer


def in_starlette(app: App) -> Any:
    """Mounted in a Starlette application."""

    async def root(request: object) -> PlainTextResponse:
        return PlainTextResponse("outer")

    return Starlette(routes=[Route("/", root), Mount("/api/jobs", app.asgi)])


def in_two(app: App) -> Any:
    """Mounted in what is mounted, below a path that has a parameter of the same name as ours."""
    return Router([Mount("/{id}", routes=[Mount("/jobs", app.asgi)])])


async def test_links_have_the_prefix(app: App, hands: Hands) -> None:
    """In any outer application, links lead back to the mounted API."""
    for mount in (in_fastapi, in_starlette, in_two):
        async with _client(mount(app)) as client:
            created = await client.post(
                "/api/jobs/v1/job", json={"name": "n", "functions": [{"name": "add"}]}
            )
            location = created.headers["location"]
            assert location.startswith("/api/jobs/v1/job/")
            assert (await client.get(location)).json() == created.json()
            assert (await client.head(location)).status_code == 200
            assert (await client.delete(location)).json()["instance"] == location
            called = await client.post("/api/jobs/v1/function//v1/test-1", json=["Paris"])
            assert called.headers["location"].startswith("/api/jobs/v1/job/")
            page = await client.get("/api/jobs/v1/job?limit=1")
            assert page.links["next"]["url"].startswith("/api/jobs/v1/job?limit=1&cursor=")
            assert (await client.get(page.links["next"]["url"])).status_code == 200
            assert (await client.get("/api/jobs/")).headers["location"] == "/api/jobs/docs"
            openapi = (await client.get("/api/jobs/openapi.json")).json()
            assert openapi["servers"] == [{"url": "/api/jobs"}]


@pytest.mark.parametrize("mount", [in_fastapi, in_starlette])
async def test_it_opens_itself(app: App, mount: Callable[[App], Any]) -> None:
    """The outer application need not know that there is a store to be opened."""
    async with _client(mount(app)) as client:
        assert (await client.get("/api/jobs/v1/job")).json() == {"jobs": [], "cursor": None}
    assert app.opened
    await app.close()


@pytest.mark.parametrize("mount", [in_fastapi, in_starlette])
async def test_errors_are_its_own(app: App, mount: Callable[[App], Any]) -> None:
    """The outer application's handlers have nothing to do."""
    async with _client(mount(app)) as client:
        for method, path, status in (("GET", "/nowhere", 404), ("PUT", "/v1/job", 405), ("GET", "", 307)):
            answer = await client.request(method, f"/api/jobs{path}")
            assert answer.status_code == status
        assert "outer" in (await client.get("/")).text


async def test_a_root_path_is_a_prefix(app: App) -> None:
    """A proxy that strips a prefix passes it as the root path."""
    transport = httpx2.ASGITransport(app.asgi, root_path="/a b")
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/")
    assert answer.headers["location"] == "/a%20b/docs"


async def test_its_lifespan_opens_and_closes_the_app(app: App) -> None:
    """What opened it closes it."""
    assert isinstance(app.asgi, Server)
    async with app.asgi.lifespan():
        assert app.opened
    assert not app.opened
    async with app:
        async with app.asgi.lifespan():
            pass
        assert app.opened


async def test_a_websocket_is_closed(app: App) -> None:
    """There is nothing to talk about."""
    sent = list[Any]()

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/job", "root_path": "", "headers": []}
    await app.asgi(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


def _client(outer: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(outer), base_url="http://localhost")
