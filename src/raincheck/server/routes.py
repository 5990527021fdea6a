"""The HTTP API: what is at which path, and how a request gets there."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from raincheck.auth import Auth
from raincheck.engine.engine import Engine
from raincheck.engine.maintenance import Maintenance
from raincheck.server import docs
from raincheck.server.access import PUBLIC, READ, WRITE, Guarded, check_routes
from raincheck.server.endpoints import counts, functions, groups, health, jobs, schedules, tokens, workers
from raincheck.server.http import Answer, Receive, Request, Scope, Send, Site, path_of
from raincheck.server.long_poll import ClientGone, Waits
from raincheck.server.openapi import document
from raincheck.server.origin import check_origin
from raincheck.server.problems import problem_answer
from raincheck.server.refusals import NO_METHOD, NO_PATH, Refused
from raincheck.server.routing import Resource, Routing

ROUTES: dict[str, dict[str, Guarded]] = {
    "/v1/job": {"GET": (READ, jobs.page), "POST": (WRITE, jobs.create)},
    "/v1/job/{id}": {"GET": (READ, jobs.find), "DELETE": (WRITE, jobs.forget)},
    "/v1/job/{id}/cancel": {"POST": (WRITE, jobs.cancel)},
    "/v1/job/{id}/retry": {"POST": (WRITE, jobs.retry)},
    "/v1/job/{id}/events": {"GET": (READ, jobs.events)},
    "/v1/function": {"GET": (READ, functions.list_functions)},
    "/v1/function/{name:path}": {"GET": (READ, functions.find), "POST": (WRITE, functions.call)},
    "/v1/group": {"GET": (READ, groups.list_groups)},
    "/v1/group/{name}": {"GET": (READ, groups.find), "POST": (WRITE, groups.trigger)},
    "/v1/group/{name}/{id}": {"GET": (READ, groups.run)},
    "/v1/group/{name}/{id}/cancel": {"POST": (WRITE, groups.cancel)},
    "/v1/worker": {"GET": (READ, workers.list_workers)},
    "/v1/count": {"GET": (READ, counts.count_jobs)},
    "/v1/schedule": {"GET": (READ, schedules.list_schedules)},
    "/v1/schedule/{name}": {
        "GET": (READ, schedules.find),
        "PUT": (WRITE, schedules.put),
        "DELETE": (WRITE, schedules.delete),
    },
    "/v1/schedule/{name}/pause": {"POST": (WRITE, schedules.pause)},
    "/v1/schedule/{name}/resume": {"POST": (WRITE, schedules.resume)},
    "/v1/schedule/{name}/run": {"POST": (WRITE, schedules.run)},
    "/v1/token": {"POST": (PUBLIC, tokens.create)},
    "/openapi.json": {"GET": (READ, document.describe)},  # it names all functions and their arguments
    "/docs": {"GET": (PUBLIC, docs.page)},
    "/docs/{file}": {"GET": (PUBLIC, docs.file)},
    "/": {"GET": (PUBLIC, docs.redirect)},
    "/healthz": {"GET": (PUBLIC, health.alive)},
    "/readyz": {"GET": (PUBLIC, health.ready)},
}
"""Every path, its methods, and for each what it needs (docs/decisions/0011) and who answers."""


class Server:
    """The HTTP API of an engine, as an ASGI application (docs/decisions/0002)."""

    def __init__(self, engine: Engine, title: str, auth: Auth | None) -> None:
        check_routes(ROUTES)
        self.engine = engine
        self.auth = auth or Auth.from_environment()
        self.waits = Waits()
        self.local_only = False
        self.openapi = document.OpenAPI(title, engine.limits, ROUTES if self.auth else None)
        self.site = Site(engine, self.auth, self.waits, self.openapi.document)
        self._routing = Routing(ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            found = self._routing.find(path_of(scope))
            resource, target = found or (None, "")
            request = Request(self.site, scope, receive, target)
            try:
                answer = await self._answer(resource, request)
            except ClientGone:
                return
            except Exception as error:  # noqa: BLE001 - answered with 500, and logged
                answer = problem_answer(error, request)
            await answer.send(request, send)
        elif scope["type"] == "lifespan":
            await self._speak_lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000, "reason": ""})

    async def _answer(self, resource: Resource[Guarded] | None, request: Request) -> Answer:
        """The answer of the endpoint, if its caller may ask; else what is wrong is raised."""
        method = request.scope["method"]
        check_origin(request, self.local_only)
        if resource is None:
            raise Refused(NO_PATH, f"there is nothing at {request.path[:200]!r}: /docs shows what there is")
        guarded = resource.endpoints.get(method)
        if guarded is None:
            if method == "OPTIONS":
                return Answer(204, headers=((b"allow", resource.allow),))
            words = f"{method[:20]} is not for this path: use {resource.allow.decode()}"
            raise Refused(NO_METHOD, words, (b"allow", resource.allow))
        need, endpoint = guarded
        if need != PUBLIC:
            if self.auth is not None:
                identity = await self.auth.check(request.headers.get(b"authorization"), need)
                request.caller = identity.subject
            await self.engine.open()
            await self.engine.workers.refresh()
        return await endpoint(request)

    async def _speak_lifespan(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol of ASGI: one message begins it, one ends it."""
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
        """The engine open and under maintenance."""
        opened = self.engine.opened
        if self.auth is not None:
            await self.auth.open()
        await self.engine.open()
        try:
            async with Maintenance(self.engine):
                yield
        finally:
            self.waits.end()
            if not opened:  # else whoever opened it still needs it
                await self.engine.close()
