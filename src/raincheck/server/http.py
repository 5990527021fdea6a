"""One request and its answer, as plain ASGI: what every endpoint takes and gives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import quote

from raincheck.auth import Auth
from raincheck.core.errors import TooLarge
from raincheck.core.model import FunctionInfo
from raincheck.engine.documents import encode
from raincheck.engine.engine import Engine
from raincheck.server.long_poll import ClientGone, Waits
from raincheck.server.refusals import MALFORMED, TOO_SLOW, Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application, and what it is called with."""

BODY_SECONDS = 30.0
"""How long a client may take to send a body."""

JSON = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")
GUARDS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""Headers of every answer, unless it has its own: it is what it claims to be, and is not to be kept."""

Header = tuple[bytes, bytes]
Endpoint = Callable[["Request"], Awaitable["Answer"]]


class Site(NamedTuple):
    """What the endpoints of one server share. ``describe`` makes the OpenAPI document for a
    root path and functions."""

    engine: Engine
    auth: Auth | None
    waits: Waits
    describe: Callable[[str, dict[str, FunctionInfo]], bytes]


class Answer(NamedTuple):
    """A status, headers and a body."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = ()
    guards: tuple[Header, ...] = GUARDS

    async def send(self, request: Request, send: Send) -> None:
        """Send it to who asked; to a HEAD request without its body."""
        headers = [*self.headers, *self.guards]
        if self.status != 204:
            headers.append((b"content-length", b"%d" % len(self.body)))
        if request.unread:
            headers.append(CLOSE)
        body = b"" if request.scope["method"] == "HEAD" else self.body
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def json_answer(status: int, document: Any, *headers: Header) -> Answer:
    """An answer with a document as JSON."""
    return Answer(status, encode(document), (JSON, *headers))


class Request:
    """A request: its scope, the server it came to, and the name or id (or both, as name/id) in its path.

    ``caller`` is the signed-in subject; None: nobody known. An endpoint that needs a scope is called with
    the engine open and the registry of workers fresh.
    """

    def __init__(self, site: Site, scope: Scope, receive: Receive, target: str = "") -> None:
        self.site = site
        self.engine = site.engine
        self.scope = scope
        self.target = target
        self.caller: str | None = None
        self._receive = receive
        self._read = False
        self._headers: dict[bytes, bytes] | None = None

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers; those that came more than once are joined by commas (RFC 9110 §5.3)."""
        if self._headers is None:
            headers: dict[bytes, bytes] = {}
            for name, value in self.scope["headers"]:
                headers[name] = headers[name] + b", " + value if name in headers else value
            self._headers = headers
        return self._headers

    @property
    def path(self) -> str:
        """The path below the prefix that the server is mounted at."""
        return path_of(self.scope)

    def url(self, path: str) -> bytes:
        """A path of this API as a link: below the prefix, and without a host that could be forged."""
        return quote(self.scope.get("root_path", "") + path, safe="/:@").encode()

    async def body(self) -> bytes:
        """The whole body. Raises `TooLarge` as soon as it is known to be, and reads no further."""
        limit = self.engine.limits.body
        declared = self.headers.get(b"content-length", b"0")
        if not declared.isdigit():
            raise Refused(MALFORMED, "Content-Length is no number: send the length of the body in bytes")
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
            raise Refused(
                TOO_SLOW, f"the body did not arrive within {BODY_SECONDS:g} s: send it again"
            ) from None
        raise ClientGone

    @property
    def unread(self) -> bool:
        """Whether more of the body may come, so that the connection is best closed (HTTP/1 only)."""
        if self._read or not self.scope["http_version"].startswith("1"):
            return False
        return b"transfer-encoding" in self.headers or self.headers.get(b"content-length", b"0") != b"0"

    async def gone(self) -> None:
        """Return when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def path_of(scope: Scope) -> str:
    """The path below the prefix that the server is mounted at."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"a body has at most {limit} bytes: send less, or several requests")
