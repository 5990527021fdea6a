"""Plain ASGI with msgspec: decode, encode, send. The minimum work of a Python server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class Function(msgspec.Struct):
    """One entry of a job's functions."""

    name: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Job(msgspec.Struct):
    """A job."""

    name: str
    functions: list[Function]
    data: dict[str, Any] = {}


_decode, _encode = msgspec.json.Decoder(Job).decode, msgspec.json.Encoder().encode
_last: list[Job] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """POST returns the job of the request, GET the last one."""
    if scope["type"] != "http":
        return
    status = 200
    if scope["method"] == "POST":
        _last[:] = [_decode(await _body(receive))]
        status = 202
    body = _encode(_last[0] if _last else {"status": "ready"})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)
