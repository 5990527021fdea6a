"""Requests and responses of the HTTP API as plain ASGI, and requests that wait for a job (long polls)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from msgspec import to_builtins

from raincheck.auth import Auth, allows
from raincheck.core.errors import RaincheckError, TooLarge
from raincheck.core.model import FunctionInfo, Problem
from raincheck.engine.documents import encode
from raincheck.engine.engine import Engine
from raincheck.engine.jobs import Stop
from raincheck.engine.remote.finishing import Finisher
from raincheck.server.problems import MALFORMED, PROBLEM_JSON, TOO_SLOW, Header, RequestError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application; above it the types of its arguments."""

BODY_SECONDS = 30.0
"""The time-out for receiving a body."""

PIECE = 64 * 1024
"""How many bytes of a large response are handed over at once; more of them when the client has read these."""

JSON = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")
RETRY_LATER = (b"retry-after", b"2")
DEFAULT_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""Headers of every response without its own: browsers must not guess its type, and nothing may store it."""

Endpoint = Callable[["Request"], Awaitable["Response"]]


class ClientGone(RaincheckError):
    """The client has closed the connection; nobody reads the response."""


class LongPolls:
    """The requests of one server that wait: for a job to end, the client to go, or the server to stop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False
        self.draining = False
        """Whether the server stops soon, so that clients must send their next requests to another one."""

    @property
    def count(self) -> int:
        """The number of requests that wait now."""
        return len(self._tasks)

    @property
    def ended(self) -> bool:
        """Whether the server stops."""
        return self._ended

    def end(self) -> None:
        """Answer waiting and new requests at once with the current state."""
        self._ended = self.draining = True
        for task in self._tasks:
            task.cancel()

    @asynccontextmanager
    async def until_gone(self, gone: Coroutine[None, None, None]) -> AsyncIterator[Stop]:
        """A future for a wait in this context: done when ``gone`` returns or the server stops.

        ``gone`` returns when the client has gone; then the context raises `ClientGone` at its end.
        """
        task = asyncio.create_task(gone)
        if self._ended:
            task.cancel()
        self._tasks.add(task)
        try:
            yield task
            if task.done() and not task.cancelled():
                raise ClientGone
        finally:
            self._tasks.discard(task)
            task.cancel()


class Services(NamedTuple):
    """What the endpoints of one server use. ``describe`` returns the OpenAPI document for a root path and
    functions. ``finisher`` writes how attempts of workers over HTTP ended."""

    engine: Engine
    auth: Auth | None
    long_polls: LongPolls
    describe: Callable[[str, dict[str, FunctionInfo]], bytes]
    finisher: Finisher


class Response(NamedTuple):
    """A status, a body and headers; ``defaults`` are headers that most responses share."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = ()
    defaults: tuple[Header, ...] = DEFAULT_HEADERS

    async def send(self, request: Request, send: Send) -> None:
        """Send it, without the body if the method is HEAD; a large body in pieces, as fast as it is read."""
        headers = [*self.headers, *self.defaults]
        if self.status != 204:
            headers.append((b"content-length", b"%d" % len(self.body)))
        if request.unread or request.services.long_polls.draining:
            headers.append(CLOSE)
        body = b"" if request.scope["method"] == "HEAD" else self.body
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        sent = 0
        while len(body) - sent > PIECE:
            await send({"type": "http.response.body", "body": body[sent : sent + PIECE], "more_body": True})
            sent += PIECE
            await asyncio.sleep(0)  # other requests are next: a fast client never makes this one wait
        await send({"type": "http.response.body", "body": body[sent:]})


def json_response(status: int, document: Any, *headers: Header) -> Response:
    """A response with a document as JSON."""
    return Response(status, encode(document), (JSON, *headers))


def problem_response(problem: Problem, *headers: Header) -> Response:
    """A response with a problem document."""
    document = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        **to_builtins(problem),
    }
    if problem.errors:
        document["errors"] = [{"detail": fault.detail, "pointer": fault.pointer} for fault in problem.errors]
    retry = (RETRY_LATER,) if problem.status == 503 else ()
    return Response(problem.status, encode(document), (PROBLEM_JSON, *headers, *retry))


class Request:
    """A request. ``target`` is the name or id in its path (or both, as name/id).

    ``caller`` is the signed-in subject, and ``scopes`` are its scopes; None: no sign-in. For an endpoint that
    needs a scope, the engine is open and the registry of workers fresh.
    """

    def __init__(self, services: Services, scope: Scope, receive: Receive, target: str = "") -> None:
        self.services = services
        self.engine = services.engine
        self.scope = scope
        self.target = target
        self.caller: str | None = None
        self.scopes: Collection[str] | None = None
        self._receive = receive
        self._read = False
        self._headers: dict[bytes, bytes] | None = None

    def allows(self, scope: str) -> bool:
        """Whether the caller has a scope; everyone has, without sign-in."""
        return self.scopes is None or allows(self.scopes, scope)

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers; the values of a repeated header are joined by commas (RFC 9110 §5.3)."""
        if self._headers is None:
            headers: dict[bytes, bytes] = {}
            for name, value in self.scope["headers"]:
                headers[name] = headers[name] + b", " + value if name in headers else value
            self._headers = headers
        return self._headers

    @property
    def path(self) -> str:
        """The path without the prefix that the server is mounted at."""
        return path_of(self.scope)

    def url(self, path: str) -> bytes:
        """A link to a path of this API: with the prefix, and without a host, which could be forged."""
        return quote(self.scope.get("root_path", "") + path, safe="/:@").encode()

    async def body(self, limit: int | None = None) -> bytes:
        """The whole body, of at most ``limit`` bytes (default: the limit of the server).

        Raises `TooLarge` as soon as it is over the limit, and `RequestError`.
        """
        limit = limit or self.engine.limits.body
        declared = self.headers.get(b"content-length", b"0")
        if not declared.isdigit():
            raise RequestError(MALFORMED, "Content-Length must be the length of the body in bytes")
        if int(declared[:20]) > limit:
            raise _too_large(limit)
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            chunks = [message.get("body", b"")]
        else:
            chunks = await self._rest(message, limit)
        if sum(map(len, chunks)) > limit:
            raise _too_large(limit)
        self._read = True
        return b"".join(chunks)

    async def _rest(self, message: Any, limit: int) -> list[bytes]:
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while message["type"] == "http.request":
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > limit or not message.get("more_body"):
                        return chunks
                    message = await self._receive()
        except TimeoutError:
            raise RequestError(
                TOO_SLOW, f"the body did not arrive within {BODY_SECONDS:g} s: retry"
            ) from None
        raise ClientGone

    @property
    def unread(self) -> bool:
        """Whether more of the body may come, so that the connection must be closed (HTTP/1 only)."""
        if self._read or not self.scope["http_version"].startswith("1"):
            return False
        return b"transfer-encoding" in self.headers or self.headers.get(b"content-length", b"0") != b"0"

    @asynccontextmanager
    async def long_poll(self, seconds: float) -> AsyncIterator[Stop | None]:
        """A future that ends a wait in this context early, or None if ``seconds`` is 0.

        Raises `ClientGone` at the end if the client has gone.
        """
        if not seconds:
            yield None
            return
        async with self.until_gone() as stop:
            yield stop

    def until_gone(self) -> AbstractAsyncContextManager[Stop]:
        """A future that ends a wait in this context early, once the body was read.

        Raises `ClientGone` at the end if the client has gone.
        """
        return self.services.long_polls.until_gone(self._gone())

    async def _gone(self) -> None:
        """Return when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def path_of(scope: Scope) -> str:
    """The path without the prefix that the server is mounted at."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"a body can have at most {limit} bytes: send less data, or several requests")
