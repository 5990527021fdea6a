"""The HTTP API: what is at which path, and how a request gets there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.routing import Route, Router

from raincheck.auth import Auth
from raincheck.server import (
    counts,
    docs,
    functions,
    groups,
    health,
    jobs,
    openapi,
    schedules,
    tokens,
    workers,
)
from raincheck.server.exchange import Answer, ClientGone, Request, path_of
from raincheck.server.guard import PUBLIC, READ, WRITE, Guarded, check_routes
from raincheck.server.origin import check_origin
from raincheck.server.problems import problem_answer
from raincheck.server.refusals import NO_METHOD, NO_PATH, Refused
from raincheck.server.waits import Waits

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from raincheck.app import App

__all__ = ["ROUTES", "Server", "create_server", "serve"]

ROUTES: dict[str, dict[str, Guarded]] = {
    "/v1/job": {"GET": (READ, jobs.page), "POST": (WRITE, jobs.create)},
    "/v1/job/{id}": {"GET": (READ, jobs.find), "DELETE": (WRITE, jobs.forget)},
    "/v1/job/{id}/cancel": {"POST": (WRITE, jobs.cancel)},
    "/v1/job/{id}/retry": {"POST": (WRITE, jobs.retry)},
    "/v1/job/{id}/events": {"GET": (READ, jobs.events)},
    "/v1/function": {"GET": (READ, functions.everything)},
    "/v1/function/{name:path}": {"GET": (READ, functions.find), "POST": (WRITE, functions.call)},
    "/v1/group": {"GET": (READ, groups.everything)},
    "/v1/group/{name}": {"GET": (READ, groups.find), "POST": (WRITE, groups.trigger)},
    "/v1/group/{name}/{id}": {"GET": (READ, groups.run)},
    "/v1/group/{name}/{id}/cancel": {"POST": (WRITE, groups.cancel)},
    "/v1/worker": {"GET": (READ, workers.everybody)},
    "/v1/count": {"GET": (READ, counts.everything)},
    "/v1/schedule": {"GET": (READ, schedules.everything)},
    "/v1/schedule/{name}": {
        "GET": (READ, schedules.find),
        "PUT": (WRITE, schedules.put),
        "DELETE": (WRITE, schedules.delete),
    },
    "/v1/schedule/{name}/pause": {"POST": (WRITE, schedules.pause)},
    "/v1/schedule/{name}/resume": {"POST": (WRITE, schedules.resume)},
    "/v1/schedule/{name}/run": {"POST": (WRITE, schedules.run)},
    "/v1/token": {"POST": (PUBLIC, tokens.create)},
    "/openapi.json": {"GET": (READ, openapi.describe)},  # it names all functions and their arguments
    "/docs": {"GET": (PUBLIC, docs.page)},
    "/docs/{file}": {"GET": (PUBLIC, docs.file)},
    "/": {"GET": (PUBLIC, docs.redirect)},
    "/healthz": {"GET": (PUBLIC, health.alive)},
    "/readyz": {"GET": (PUBLIC, health.ready)},
}
"""Every path, its methods, and for each what it needs (docs/decisions/0011) and who answers."""


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
    ``stop``. An address that others can reach is refused, unless the app has a sign-in or ``insecure``
    says that something else stands guard. Raises `ConfigError`, or `StoreError` if the app cannot open.
    """
    from raincheck.server.listener import listen  # only who serves loads uvicorn

    await listen(app, host, port, stop, started, insecure)


class Server:
    """An app's HTTP API.

    The endpoints that carry the load are reached without Starlette's router, which decides all else
    (docs/decisions/0002).
    """

    def __init__(self, app: App) -> None:
        check_routes(ROUTES)
        self.app = app
        self.auth = app.auth or Auth.from_environment()
        self.waits = Waits()
        self.local_only = False
        self.openapi = openapi.OpenAPI(app, ROUTES if self.auth else None)
        self._router = Router(
            [Resource(self, path, methods) for path, methods in ROUTES.items()],
            redirect_slashes=False,
            default=self._nothing_here,
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (hot := _hot(scope["method"], path_of(scope))):
            guarded, target = hot
            await self.answer(guarded, Request(self, scope, receive, target), send)
        else:
            await self._router(scope, receive, send)

    async def answer(self, guarded: Guarded, request: Request, send: Send) -> None:
        """Let the endpoint answer the request, if its caller may; whatever is raised becomes a problem."""
        need, endpoint = guarded
        try:
            check_origin(request)
            if self.auth is not None and need != PUBLIC:
                await self.auth.check(request.headers.get(b"authorization"), need)
            answer = await endpoint(request)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - answered with 500, and logged
            answer = problem_answer(error, request)
        await answer.send(request, send)

    async def _nothing_here(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.answer((PUBLIC, _not_found), Request(self, scope, receive), send)
        else:
            await self._router.not_found(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        from raincheck.upkeep import Upkeep

        opened = self.app.opened
        if self.auth is not None:
            await self.auth.open()
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

    def __init__(self, server: Server, path: str, methods: dict[str, Guarded]) -> None:
        super().__init__(path, self.handle, name=path)
        self.methods = None  # handle knows them, and answers any
        self._server = server
        self._endpoints = methods | ({"HEAD": methods["GET"]} if "GET" in methods else {})
        self._allow = (b"allow", ", ".join(sorted([*self._endpoints, "OPTIONS"])).encode())

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the endpoint for the method."""
        target = "/".join(scope["path_params"][name] for name in self.param_convertors)
        other = self._options if scope["method"] == "OPTIONS" else self._not_allowed
        guarded = self._endpoints.get(scope["method"], (PUBLIC, other))
        await self._server.answer(guarded, Request(self._server, scope, receive, target), send)

    async def _options(self, request: Request) -> Answer:
        return Answer(204, headers=(self._allow,))

    async def _not_allowed(self, request: Request) -> Answer:
        method, allowed = request.scope["method"], self._allow[1].decode()
        raise Refused(NO_METHOD, f"{method[:20]} is not for this path: use {allowed}", self._allow)


_CREATE = ROUTES["/v1/job"]["POST"]
_CALL = ROUTES["/v1/function/{name:path}"]["POST"]
_FIND = ROUTES["/v1/job/{id}"]["GET"]


def _hot(method: str, path: str) -> tuple[Guarded, str] | None:
    """What answers one of the requests that there are many of, and the id or name in its path."""
    if method == "POST":
        if path == "/v1/job":
            return _CREATE, ""
        if path.startswith("/v1/function/"):
            return _CALL, path[13:]
    elif method == "GET" and path.startswith("/v1/job/") and "/" not in path[8:]:
        return _FIND, path[8:]
    return None


async def _not_found(request: Request) -> Answer:
    raise Refused(NO_PATH, f"there is nothing at {request.path[:200]!r}: /docs shows what there is")
