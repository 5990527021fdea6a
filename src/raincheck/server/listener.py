"""Listening on an address, with uvicorn, on an event loop that others may share."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import uvicorn

from raincheck.core.errors import ConfigError
from raincheck.server.http_protocol import Protocol
from raincheck.server.routes import Server

GRACE = 10
"""Seconds that requests have to end once the server is to stop; those that wait for a job end at once."""

BACKLOG = 2048


async def listen(
    server: Server,
    host: str,
    port: int,
    stop: asyncio.Event,
    started: Callable[[str], None],
    insecure: bool,
) -> None:
    """What `raincheck.server.serve` does."""
    if server.auth is not None:
        await server.auth.open()
    listener = await _listen(host, port, insecure or server.auth is not None)
    engine, opened = server.engine, server.engine.opened
    try:
        await engine.open()
        server.local_only = not insecure and server.auth is None
        config = uvicorn.Config(
            server,
            http=Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        await _run(_Uvicorn(config, lambda: started(_url(listener))), listener, stop, server.waits.end)
    finally:
        listener.close()
        if not opened:
            await engine.close()


async def _run(
    server: _Uvicorn, listener: socket.socket, stop: asyncio.Event, hurry: Callable[[], None]
) -> None:
    serving = asyncio.create_task(server.serve([listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        hurry()
        server.should_exit = True
        await serving


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, that says when it has started and leaves signals alone."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _listen(host: str, port: int, guarded: bool) -> socket.socket:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{host} is no address of this machine ({error}): try 127.0.0.1") from None
    if not guarded and not all(_is_loopback(address) for *_, address in found):
        raise ConfigError(
            f"{host or 'every address'} can be reached from other machines, and whoever reaches it could "
            "run your functions, for no sign-in is configured: set RAINCHECK_SECRET_FILE (raincheck key add "
            "makes one), serve on 127.0.0.1, or say --insecure if something else guards it"
        )
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)  # asyncio sends without delay only if it says TCP
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port} ({error.strerror}): try another port") from None


def _is_loopback(address: Any) -> bool:
    return ip_address(address[0]).is_loopback


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
