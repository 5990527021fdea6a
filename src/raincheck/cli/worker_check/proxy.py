"""A proxy on this machine between a worker and its server: it records calls, and can make them fail."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec
import uvicorn

from raincheck.server.http import Receive, Scope, Send
from raincheck.server.listener import Uvicorn

T = TypeVar("T")

Entries = list[dict[str, Any]]

_PATH = re.compile(r"/v1/worker(?:/(?P<worker>[^/]+)(?:/(?P<verb>\w+))?)?")
_METHODS = {"POST": "register", "DELETE": "leave"}
_PASSED_ON = ("content-type", "location", "retry-after")
"""Headers of a response that the worker gets."""

_TIMEOUT = 120.0
"""Seconds that the server may take to respond: longer than any claim waits."""

_WITHHELD = b'{"title": "worker-check withholds this call", "status": 503}'


@dataclass(eq=False)
class Call:
    """A call of the worker: ``kind`` is register, claim, extend, finish, release, leave or other.

    ``worker`` is the id in its path. ``status`` and the decoded ``reply`` are None until the worker gets a
    response, and for ever if it gets none.
    """

    kind: str
    worker: str | None
    headers: dict[str, str]
    body: Any
    status: int | None = None
    reply: Any = None

    @property
    def attempts(self) -> Entries:
        """The attempts that the worker extends, finishes or releases."""
        return _entries(self.body, "attempts")

    @property
    def answers(self) -> Entries:
        """The attempts that a claim gave, or the outcomes of a finish."""
        return _entries(self.reply, "attempts")

    @property
    def stops(self) -> Entries:
        """The attempts that must stop, by the response to an extend."""
        return _entries(self.reply, "stop")

    def __str__(self) -> str:
        return f"{self.kind}: {self.status or 'no response'}"


class Proxy:
    """Passes the calls of one worker on to the server, and keeps them in ``calls``, oldest first.

    ``lease`` (seconds) replaces the lease that the worker asks for. ``cut_count`` is the number of calls
    that came while the server seemed to be down.
    """

    def __init__(self, server_url: str, lease: float, http: httpx2.AsyncClient) -> None:
        self.url = ""
        self.calls: list[Call] = []
        self.cut_count = 0
        self._server_url = server_url.rstrip("/")
        self._lease = lease
        self._http = http
        config = uvicorn.Config(self, ws="none", lifespan="off", log_config=None, access_log=False)
        self._server = Uvicorn(config, lambda: None)
        self._is_down = False
        self._withheld = ""
        self._lost_reply = ""
        self._changed = asyncio.Condition()

    async def serve(self, listener: socket.socket) -> None:
        """Serve on a socket that listens, until `stop`."""
        await self._server.serve([listener])

    def stop(self) -> None:
        """Cut all connections, and stop serving."""
        self.go_down()
        self._server.should_exit = True

    async def until(self, condition: Callable[[], T | None]) -> T:
        """Wait until the condition, which is asked after each call, is true; returns its value."""
        async with self._changed:
            while not (value := condition()):
                await self._changed.wait()
        return value

    def go_down(self) -> None:
        """Cut all connections, and each new one, as if the server had died."""
        self._is_down = True
        self._abort(lambda connection: True)

    def come_back(self) -> None:
        """End what `go_down` began."""
        self._is_down = False

    def withhold(self, kind: str) -> None:
        """Answer calls of this kind with 503, in place of the server; an empty text ends it."""
        self._withheld = kind

    def lose_next_reply(self, kind: str) -> None:
        """Pass the next call of this kind on, and cut the connection in place of its response."""
        self._lost_reply = kind

    async def remove(self, registered: Call) -> None:
        """Remove a registration from the server: it then knows the worker no more."""
        headers = {"worker-token": registered.reply["token"]}
        if "authorization" in registered.headers:
            headers["authorization"] = registered.headers["authorization"]
        with suppress(httpx2.TransportError):
            await self._http.delete(f"{self._server_url}/v1/worker/{registered.reply['id']}", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a call of the worker."""
        body = await _read_body(receive)
        if self._is_down:
            self.cut_count += 1
            await self._notify()
            await self._cut(scope, receive)
            return
        call = self._record(scope, body)
        if call.kind == "register" and isinstance(call.body, dict):
            body = msgspec.json.encode({**call.body, "lease": self._lease})
        await self._notify()
        if call.kind == self._withheld:
            await self._respond(call, httpx2.Response(503, content=_WITHHELD), send)
            return
        response = await self._pass_on(call, body, scope, receive)
        if response is None or call.kind == self._lost_reply:
            self._lost_reply = "" if response is not None else self._lost_reply
            await self._cut(scope, receive)
        else:
            await self._respond(call, response, send)

    def _record(self, scope: Scope, body: bytes) -> Call:
        match = _PATH.fullmatch(scope["path"])
        kind = "other" if match is None else match["verb"] or _METHODS.get(scope["method"], "other")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        call = Call(kind, match and match["worker"], headers, _decoded(body))
        self.calls.append(call)
        return call

    async def _pass_on(
        self, call: Call, body: bytes, scope: Scope, receive: Receive
    ) -> httpx2.Response | None:
        """The server's response; None if there is none, or if the worker has gone meanwhile."""
        query = scope["query_string"].decode("latin-1")
        request = self._http.build_request(
            scope["method"],
            f"{self._server_url}{scope['path']}{'?' if query else ''}{query}",
            headers={name: value for name, value in call.headers.items() if name not in _HOP_HEADERS},
            content=body,
        )
        sending = asyncio.create_task(self._http.send(request))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
            return sending.result() if sending.done() else None
        except httpx2.TransportError:
            return None
        finally:
            sending.cancel()
            leaving.cancel()

    async def _respond(self, call: Call, response: httpx2.Response, send: Send) -> None:
        headers = [
            (name.encode(), response.headers[name].encode("latin-1"))
            for name in _PASSED_ON
            if name in response.headers
        ]
        status = response.status_code
        if status != 204:
            headers.append((b"content-length", b"%d" % len(response.content)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": response.content})
        call.status, call.reply = status, _decoded(response.content)  # sent: a cut does not lose it any more
        await self._notify()

    async def _cut(self, scope: Scope, receive: Receive) -> None:
        """Cut the connection of a call without a response."""
        self._abort(lambda connection: connection.client == scope["client"])
        await _gone(receive)

    def _abort(self, chosen: Callable[[Any], bool]) -> None:
        for each in filter(chosen, list(self._server.server_state.connections)):
            each.transport.abort()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


_HOP_HEADERS = ("host", "content-length", "connection", "transfer-encoding", "accept-encoding")
"""Headers of a request that are not passed on."""


@asynccontextmanager
async def proxy_of(server_url: str, lease: float) -> AsyncIterator[Proxy]:
    """A proxy that listens on a free port of this machine; ``lease`` is in seconds."""
    is_local = urlsplit(server_url).hostname in ("127.0.0.1", "localhost", "::1")
    async with httpx2.AsyncClient(timeout=_TIMEOUT, trust_env=not is_local) as http:
        listener = socket.create_server(("127.0.0.1", 0))
        proxy = Proxy(server_url, lease, http)
        proxy.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(proxy.serve(listener))
        try:
            yield proxy
        finally:
            proxy.stop()
            await serving
            listener.close()


async def _read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _gone(receive: Receive) -> None:
    """Wait until the worker has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _entries(value: Any, member: str) -> Entries:
    entries = value.get(member) if isinstance(value, dict) else None
    return [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
