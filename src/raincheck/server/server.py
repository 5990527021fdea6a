"""The server: the HTTP API of an engine as an ASGI application (docs/decisions/0002)."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from msgspec.structs import replace

from raincheck.auth import Auth
from raincheck.core.errors import ConfigError, Gone, StoreError, WrongState
from raincheck.engine.engine import Engine
from raincheck.engine.maintenance import Maintenance
from raincheck.engine.remote.finishing import Finisher
from raincheck.server.access import PUBLIC, Route, check_origin, check_routes
from raincheck.server.cors import AllowedOrigins, from_environment
from raincheck.server.http import (
    ClientGone,
    LongPolls,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    Services,
    path_of,
    problem_response,
)
from raincheck.server.openapi.document import OpenAPI
from raincheck.server.problems import NO_METHOD, NO_PATH, RequestError, problem_headers, problem_of
from raincheck.server.routes import ROUTES, Resource, Router

logger = logging.getLogger("raincheck.server")

_JOB_PATH = re.compile(r"/v1/(?:job|group/[^/]+)/[^/]+")
"""The path of a job or run, at the beginning of the path of an operation on it."""


class Server:
    """The HTTP API of an engine. Its lifespan opens the engine and does maintenance.

    ``title`` is the title of the API description. ``auth`` is the sign-in, and the pages of
    ``allowed_origins`` may call the API (default of both: as the environment says). Raises `ConfigError`.
    """

    def __init__(
        self,
        engine: Engine,
        title: str = "raincheck",
        auth: Auth | None = None,
        allowed_origins: Iterable[str] | None = None,
    ) -> None:
        check_routes(ROUTES)
        self.engine = engine
        self.auth = auth or Auth.from_environment()
        self.origins = AllowedOrigins(allowed_origins) if allowed_origins is not None else from_environment()
        if self.origins.any and self.auth is None:
            raise ConfigError(
                "without sign-in, any page in a browser could run your functions: list the allowed origins "
                "in place of *, or require sign-in"
            )
        self.long_polls = LongPolls()
        self.local_only = False
        """Whether to refuse requests for other hosts, because there is no sign-in."""
        self.openapi = OpenAPI(title, engine.limits, ROUTES if self.auth else None)
        self.services = Services(engine, self.auth, self.long_polls, self.openapi.document, Finisher(engine))
        self._router = Router(ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            resource, target = self._router.find(path_of(scope)) or (None, "")
            request = Request(self.services, scope, receive, target)
            try:
                response = await self._respond(resource, request)
            except ClientGone:
                return
            except Exception as error:  # noqa: BLE001 - becomes a problem; unexpected ones are logged
                response = error_response(error, request)
            if self.origins:
                headers = response.headers + self.origins.headers(request.headers)
                response = response._replace(headers=headers)
            await response.send(request, send)
        elif scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000, "reason": ""})

    async def _respond(self, resource: Resource[Route] | None, request: Request) -> Response:
        """The response of the endpoint. Raises the error of a request that is not allowed."""
        method = request.scope["method"]
        check_origin(request, self.origins, self.local_only)
        if method == "OPTIONS" and (preflight := self.origins.preflight(request.headers)):
            return Response(204, headers=preflight)
        if resource is None:
            raise RequestError(
                NO_PATH, f"no route has the path {request.path[:200]!r}: /docs lists all routes"
            )
        route = resource.endpoints.get(method)
        if route is None:
            if method == "OPTIONS":
                return Response(204, headers=((b"allow", resource.allow),))
            detail = f"this path does not support {method[:20]}: use {resource.allow.decode()}"
            raise RequestError(NO_METHOD, detail, (b"allow", resource.allow))
        need, endpoint = route
        if need != PUBLIC:
            if self.auth is not None:
                identity = await self.auth.check(request.headers.get(b"authorization"), need)
                request.caller, request.scopes = identity.subject, identity.scopes
            await self.engine.open()
            await self.engine.workers.refresh()
        return await endpoint(request)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol of ASGI: one message starts it, one ends it."""
        phase = "startup"
        try:
            await receive()
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except BaseException:
            await send({"type": f"lifespan.{phase}.failed", "message": traceback.format_exc()})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """The engine open, and maintenance running."""
        was_open = self.engine.opened
        if self.auth is not None:
            await self.auth.open()
        await self.engine.open()
        try:
            async with Maintenance(self.engine):
                yield
        finally:
            self.long_polls.end()
            if not was_open:  # else the code that opened it still uses it
                await self.engine.close()


def error_response(error: Exception, request: Request) -> Response:
    """The response to a request that raised ``error``. Errors of the store and unexpected ones are logged."""
    problem = problem_of(error)
    if isinstance(error, StoreError):  # its message may name files of the server
        logger.warning("%s %s: %s", request.scope["method"], request.path, error)
    elif problem.status == 500:
        logger.error("%s %s failed", request.scope["method"], request.path, exc_info=error)
    if isinstance(error, Gone | WrongState) and (about := _JOB_PATH.match(request.path)):
        problem = replace(problem, instance=request.url(about[0]).decode())
    return problem_response(problem, *problem_headers(error, b"authorization" in request.headers))
