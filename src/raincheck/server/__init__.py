"""The HTTP API: what is at which path, and how a request gets there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.routing import Route, Router

from raincheck.server import counts, docs, functions, groups, health, jobs, openapi, schedules, workers
from raincheck.server.exchange import Answer, ClientGone, Endpoint, Request, path_of
from raincheck.server.origin import check_origin
from raincheck.server.problems import problem_answer
from raincheck.server.refusals import NO_METHOD, NO_PATH, Refused
from raincheck.server.waits import Waits

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from raincheck.app import App

__all__ = ["ROUTES", "Server", "create_server", "serve"]

ROUTES: dict[str, dict[str, Endpoint]] = {
    "/v1/job": {"GET": jobs.page, "POST": jobs.create},
    "/v1/job/{id}": {"GET": jobs.find, "DELETE": jobs.forget},
    "/v1/job/{id}/cancel": {"POST": jobs.cancel},
    "/v1/job/{id}/retry": {"POST": jobs.retry},
    "/v1/job/{id}/events": {"GET": jobs.events},
    "/v1/function": {"GET": functions.everything},
    "/v1/function/{name:path}": {"GET": functions.find, "POST": functions.call},
    "/v1/group": {"GET": groups.everything},
    "/v1/group/{name}": {"GET": groups.find, "POST": groups.trigger},
    "/v1/group/{name}/{id}": {"GET": groups.run},
    "/v1/group/{name}/{id}/cancel": {"POST": groups.cancel},
    "/v1/worker": {"GET": workers.everybody},
    "/v1/count": {"GET": counts.everything},
    "/v1/schedule": {"GET": schedules.everything},
    "/v1/schedule/{name}": {"GET": schedules.find, "PUT": schedules.put, "DELETE": schedules.delete},
    "/v1/schedule/{name}/pause": {"POST": schedules.pause},
    "/v1/schedule/{name}/resume": {"POST": schedules.resume},
    "/v1/schedule/{name}/run": {"POST": schedules.run},
    "/openapi.json": {"GET": openapi.describe},
    "/docs": {"GET": docs.page},
    "/docs/{file}": {"GET": docs.file},
    "/": {"GET": docs.redirect},
    "/healthz": {"GET": health.alive},
    "/readyz": {"GET": health.ready},
}


def create_server(app: App) -> Server:
    """The HTTP API of an app, an ASGI application; its lifespan opens the app and looks after jobs."""
    return Server(app)


async def serve(
    app: App,
    host: str,
    port: int,
    stop: asyncio.Event,
    started: Callable[[str], None] = lambda url: None,
    *,
    insecure: bool = False,
) -> None:
    """Serve an app until ``stop`` is set; ``started`` is told the URL once it is being served.

    Opens the app if it is not open, and then closes it again. Signals are the caller's: let them set
    ``stop``. Without ``insecure`` it serves this machine only, and refuses an address that others can
    reach, for there is no sign-in yet. Raises `ConfigError`, or `StoreError` if the app cannot open.
    """
    from raincheck.server.listener import listen  # only who serves loads uvicorn

    await listen(app, host, port, stop, started, insecure)


class Server:
    """An app's HTTP API.

    The endpoints that carry the load are reached without Starlette's router, which decides all else
    (docs/decisions/0002).
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.waits = Waits()
        self.local_only = False
        self.openapi = openapi.OpenAPI(app)
        self._router = Router(
            [Resource(self, path, methods) for path, methods in ROUTES.items()],
            redirect_slashes=False,
            default=self._nothing_here,
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (hot := _hot(scope["method"], path_of(scope))):
            endpoint, target = hot
            await self.answer(endpoint, Request(self, scope, receive, target), send)
        else:
            await self._router(scope, receive, send)

    async def answer(self, endpoint: Endpoint, request: Request, send: Send) -> None:
        """Let ``endpoint`` answer the request; whatever it raises becomes a problem document."""
        try:
            check_origin(request)
            answer = await endpoint(request)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - answered with 500, and logged
            answer = problem_answer(error, request)
        await answer.send(request, send)

    async def _nothing_here(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.answer(_not_found, Request(self, scope, receive), send)
        else:
            await self._router.not_found(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        from raincheck.upkeep import Upkeep

        opened = self.app.opened
        await self.app.open()
        try:
            async with Upkeep(self.app):
                yield
        finally:
            self.waits.end()
            if not opened:  # else whoever opened it still needs it
                await self.app.close()


class Resource(Route):
    """One path, and an endpoint for each method it takes."""

    def __init__(self, server: Server, path: str, methods: dict[str, Endpoint]) -> None:
        super().__init__(path, self.handle, name=path)
        self.methods = None  # handle knows them, and answers any
        self._server = server
        self._endpoints = methods | ({"HEAD": methods["GET"]} if "GET" in methods else {})
        self._allow = (b"allow", ", ".join(sorted([*self._endpoints, "OPTIONS"])).encode())

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the endpoint for the method."""
        target = "/".join(scope["path_params"][name] for name in self.param_convertors)
        other = self._options if scope["method"] == "OPTIONS" else self._not_allowed
        endpoint = self._endpoints.get(scope["method"], other)
        await self._server.answer(endpoint, Request(self._server, scope, receive, target), send)

    async def _options(self, request: Request) -> Answer:
        return Answer(204, headers=(self._allow,))

    async def _not_allowed(self, request: Request) -> Answer:
        method, allowed = request.scope["method"], self._allow[1].decode()
        raise Refused(NO_METHOD, f"{method[:20]} is not for this path: use {allowed}", self._allow)


def _hot(method: str, path: str) -> tuple[Endpoint, str] | None:
    """The endpoint for one of the requests that there are many of, and the id or name in its path."""
    if method == "POST":
        if path == "/v1/job":
            return jobs.create, ""
        if path.startswith("/v1/function/"):
            return functions.call, path[13:]
    elif method == "GET" and path.startswith("/v1/job/") and "/" not in path[8:]:
        return jobs.find, path[8:]
    return None


async def _not_found(request: Request) -> Answer:
    raise Refused(NO_PATH, f"there is nothing at {request.path[:200]!r}: /docs shows what there is")
