"""The HTTP/1.1 protocol of uvicorn, with limits on headers and slow readers, and a close that does not lose
responses."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from raincheck.engine.documents import encode
from raincheck.server.problems import HEAD_TOO_LARGE, MALFORMED, PROBLEM_JSON, TOO_SLOW, Kind, new_problem

HEAD_BYTES = 32 * 1024
HEAD_LINES = 200
HEAD_SECONDS = 10.0
"""The time-out for receiving the headers of a request, from when the client connects or starts to send."""

WRITE_SECONDS = 30.0
"""How long a client may leave what is sent to it unread: at most a piece of a response and some 64 KiB."""

_RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""The value of ``SO_LINGER`` for a close that sends nothing more."""

LINGER_SECONDS = 2.0
"""The time for a client that is still sending to read its response."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    _timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _heading = True
    _arrived = 0
    _parsed = 0
    lingering = False
    lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._socket = transport
        super().connection_made(_Transport(transport, self))  # type: ignore[arg-type]
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_write_timer()
        self.lost = True
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_write()

    def resume_writing(self) -> None:
        if self._socket.is_closing():
            self._watch_write()  # until the rest is sent, too
        else:
            self._stop_write_timer()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self.lingering:
            return
        super().data_received(data)
        if self._heading and not self.transport.is_closing():
            self._arrived += len(data)
            if self._arrived > HEAD_BYTES:
                self._refuse(
                    HEAD_TOO_LARGE, f"request headers can have at most {HEAD_BYTES} bytes: send less"
                )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._watch_head()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._heading = False
        self._stop_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that cannot be parsed. uvicorn calls this."""
        if self._parsed > HEAD_BYTES or len(self.headers or ()) >= HEAD_LINES:
            limits = f"at most {HEAD_LINES} headers and {HEAD_BYTES} bytes"
            self._refuse(HEAD_TOO_LARGE, f"a request can have {limits} of headers: send less")
        else:
            self._refuse(
                MALFORMED,
                "the request is not valid HTTP/1.1: fix the client, or the proxy in front of this server",
            )

    def hang_up(self) -> None:
        """Close the connection; if the client is still sending, after it had time to read its response."""
        if self._heading or not self.cycle.more_body:
            self._close()
        else:
            self._linger()

    def _close(self) -> None:
        """Close the connection when all is sent."""
        self._socket.close()
        self._watch_write()

    def _linger(self) -> None:
        """Stop reading and close soon. Closing at once would reset the connection and lose the response."""
        if self.lingering or self._socket.is_closing():
            return
        self.lingering = True
        self._stop_timer()
        self._timer = self.loop.call_later(LINGER_SECONDS, self._close)
        cycle = getattr(self, "cycle", None)
        if cycle is not None:  # an earlier request is still running: its client has gone
            cycle.disconnected = True
            cycle.message_event.set()
        self._socket.write_eof()
        self.flow.resume_reading()

    def _count(self, size: int) -> None:
        self._parsed += size
        if self._parsed > HEAD_BYTES or len(self.headers) >= HEAD_LINES:
            raise ValueError  # the parser stops, and send_400_response is called

    def _watch_head(self) -> None:
        self._heading, self._arrived, self._parsed = True, 0, 0
        self._stop_timer()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_write(self) -> None:
        """Cut the client off unless it reads in time."""
        self._stop_write_timer()
        if not self.lost:
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self._cut_off)

    def _cut_off(self) -> None:
        """Reset the connection: a close would keep what the client has not read, here and in the kernel."""
        self._socket.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _late(self) -> None:
        if self._arrived:
            self._refuse(TOO_SLOW, f"the request headers did not arrive within {HEAD_SECONDS:g} s: retry")
        else:
            self._socket.close()

    def _refuse(self, kind: Kind, detail: str) -> None:
        """Respond with a problem without calling the app, and close the connection."""
        body = encode(new_problem(kind, detail))
        name, media = PROBLEM_JSON
        head = (STATUS_LINE[kind.status], name, b": ", media, b"\r\nconnection: close\r\ncontent-length: ")
        self._socket.write(b"".join((*head, b"%d\r\n\r\n" % len(body), body)))
        self._linger()


class _Transport:
    """The transport that uvicorn gets: its `close` is `Protocol.hang_up`.

    It ignores writes to a lost connection: uvicorn tells only the latest of several requests that it is lost.
    """

    def __init__(self, transport: asyncio.Transport, protocol: Protocol) -> None:
        self._transport = transport
        self._protocol = protocol

    def close(self) -> None:
        self._protocol.hang_up()

    def write(self, data: bytes) -> None:
        if not self._protocol.lost:
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.lingering or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
