"""Servers for client tests: raincheck, a gateway, and a proxy that cuts connections."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from raincheck import Auth, Worker
from raincheck.server import serve
from tests.client.functions import make_app
from tests.problems import urn

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


@contextmanager
def in_thread(context: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter an async context on an event loop in its own thread."""
    entered: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def stay() -> None:
        leave = asyncio.Event()
        async with context as value:
            entered.set_result((value, asyncio.get_running_loop(), leave))
            await leave.wait()

    thread = Thread(target=asyncio.run, args=(stay(),))
    thread.start()
    value, loop, leave = entered.result(20)
    try:
        yield value
    finally:
        loop.call_soon_threadsafe(leave.set)
        thread.join()


@asynccontextmanager
async def server(folder: Path, port: int = 0, auth: Auth | None = None) -> AsyncIterator[str]:
    """Run a server with a worker; yields its URL."""
    app = make_app(folder)
    app.auth = auth
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with app, Worker(app, grace=0.1):
        serving = asyncio.create_task(
            serve(app.engine, "127.0.0.1", port, stop, url.set_result, auth=app.auth)
        )
        yield await url
        stop.set()
        await serving


class Gateway:
    """Forwards requests to a server, and handles some itself.

    The functions in ``handlers`` handle the next requests, one each. With ``users``, requests need a
    token of ``POST /v1/token``; tokens are valid until `revoke`.
    """

    def __init__(self, upstream: str, users: dict[str, str] | None = None, expires_in: float = 3600) -> None:
        self.upstream = upstream
        self.users = users
        self.expires_in = expires_in
        self.handlers: deque[Handler] = deque()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.tokens: set[str] = set()
        self.issued = 0
        self.url = ""
        self._http = httpx2.AsyncClient(timeout=30)

    def headers_of(self, path: str) -> list[dict[str, str]]:
        """The headers of the requests to a path."""
        return [headers for _, requested, headers in self.requests if requested == path]

    def revoke(self) -> None:
        """Invalidate all tokens issued so far."""
        self.tokens.clear()

    async def handle(self, request: Request) -> Response:
        self.requests.append((request.method, request.url.path, dict(request.headers)))
        if self.users is not None:
            if request.url.path == "/v1/token":
                return await self._sign_in(request)
            if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
                return problem(401, "not-signed-in")
        if self.handlers:
            return await self.handlers.popleft()(request)
        return await self.forward(request)

    async def forward(self, request: Request, without: Sequence[str] = ("host",)) -> Response:
        """Return the response of the server behind."""
        headers = {name: value for name, value in request.headers.items() if name not in without}
        url = f"{self.upstream}{request.url.path}?{request.url.query}"
        response = await self._http.request(
            request.method, url, headers=headers, content=await request.body()
        )
        return Response(response.content, response.status_code, dict(response.headers))

    async def forward_without_wait(self, request: Request) -> Response:
        """Forward the request without ``Prefer``, so that the server does not wait."""
        return await self.forward(request, ("host", "prefer"))

    async def lose_response(self, request: Request) -> Response:
        """Forward the request, and respond with 504 all the same."""
        await self.forward(request)
        return Response("no", 504)

    async def stall_response(self, request: Request) -> Response:
        """Forward the request, and respond only after the client has disconnected."""
        response = await self.forward(request)
        await request.receive()
        return response

    async def _sign_in(self, request: Request) -> Response:
        login = await request.json()
        if self.users is None or self.users.get(login["username"]) != login["password"]:
            return problem(401, "not-signed-in")
        self.issued += 1
        token = f"token-{self.issued}"
        self.tokens.add(token)
        return JSONResponse(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": self.expires_in,
                "scope": "job:write",
            }
        )

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Gateway]:
        """Run the gateway on a free port."""
        methods = ["GET", "POST", "DELETE"]
        app = Starlette(routes=[Route("/{path:path}", self.handle, methods=methods)])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            web = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
            serving = asyncio.create_task(web.serve(sockets=[listener]))
            async with self._http:
                yield self
                web.should_exit = True
                await serving


@contextmanager
def gateway(upstream: str, users: dict[str, str] | None = None, **options: Any) -> Iterator[Gateway]:
    """A running gateway in front of a server."""
    with in_thread(Gateway(upstream, users, **options).listening()) as running:
        yield running


def plain_response(status: int, **headers: str) -> Handler:
    """A handler whose response does not come from raincheck."""

    async def handle(request: Request) -> Response:
        return Response("no", status, {name.replace("_", "-"): value for name, value in headers.items()})

    return handle


def problem_response(status: int, kind: str, **headers: str) -> Handler:
    """A handler that responds with a problem document."""

    async def handle(request: Request) -> Response:
        refusal = problem(status, kind)
        refusal.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        return refusal

    return handle


def problem(status: int, kind: str) -> Response:
    """A response with a problem document."""
    return JSONResponse(
        {"type": urn(kind), "title": "No", "status": status, "detail": f"this is {kind}"},
        status,
        media_type="application/problem+json",
    )


class Proxy:
    """Copies bytes between clients and a server. It cuts the next ``cuts`` responses off in the middle."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.removeprefix("http://").partition(":")
        self._upstream = host, int(port)
        self.cuts = 0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Proxy]:
        """Run the proxy on a free port."""
        listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            listener.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_copy(reader, server_writer))
                tasks.create_task(self._answer(server_reader, writer))
        except* OSError:
            pass
        finally:
            writer.close()
            server_writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.cuts:
                self.cuts -= 1
                writer.write(data[: len(data) // 2])
                await writer.drain()
                writer.transport.abort()
                raise ConnectionAbortedError
            writer.write(data)
            await writer.drain()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A running proxy in front of a server."""
    with in_thread(Proxy(upstream).listening()) as running:
        yield running
