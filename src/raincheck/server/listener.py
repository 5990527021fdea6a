"""Listens on an address with uvicorn, on an event loop that other code may share."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import uvicorn

from raincheck.core.errors import ConfigError
from raincheck.server.http import LongPolls
from raincheck.server.http_protocol import Protocol
from raincheck.server.server import Server

GRACE = 10
"""Seconds for requests to end when the server stops; requests that wait for a job end at once."""

BACKLOG = 2048
"""Connections that wait to be accepted."""


async def listen(
    server: Server,
    host: str,
    port: int,
    stop: asyncio.Event,
    started: Callable[[str], None],
    *,
    insecure: bool,
    access_log: bool,
    drain: float,
) -> None:
    """Serve until ``stop`` is set: see `raincheck.server.serve`."""
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
            access_log=access_log,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        if access_log:
            _set_up_access_log()
        uvicorn_server = Uvicorn(config, lambda: started(_url(listener)))
        await _run(uvicorn_server, listener, stop, server.long_polls, drain)
    finally:
        listener.close()
        if not opened:
            await engine.close()


async def _run(
    server: Uvicorn, listener: socket.socket, stop: asyncio.Event, long_polls: LongPolls, drain: float
) -> None:
    """Run the server until ``stop`` is set, and ``drain`` seconds more: see `raincheck.server.serve`."""
    serving = asyncio.create_task(server.serve([listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        if drain:
            long_polls.draining = True
            await asyncio.wait((serving,), timeout=drain)
    finally:
        stopping.cancel()
        long_polls.end()
        server.should_exit = True
        await serving


class Uvicorn(uvicorn.Server):
    """The server of uvicorn. It calls ``announce`` when it has started, and handles no signals."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AccessFields(logging.Filter):
    """Gives each record of ``uvicorn.access`` fields, and removes the query, which may contain secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; returns True."""
        if isinstance(record.args, tuple) and len(record.args) == 5:
            client, method, target, version, status = record.args
            path = str(target).partition("?")[0]
            record.args = (client, method, path, version, status)
            vars(record).update(client=client, method=method, path=path, status=status)
        return True


def _set_up_access_log() -> None:
    logger = logging.getLogger("uvicorn.access")
    logger.setLevel(logging.INFO)
    logger.propagate = True
    if not any(isinstance(each, AccessFields) for each in logger.filters):
        logger.addFilter(AccessFields())


async def _listen(host: str, port: int, is_protected: bool) -> socket.socket:
    try:
        addresses = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{host} is not an address of this machine ({error}): try 127.0.0.1") from None
    if not is_protected and not all(_is_loopback(address) for *_, address in addresses):
        raise ConfigError(
            f"other machines can reach {host or 'every address'} and could run your functions, because no "
            "sign-in is configured: set RAINCHECK_SECRET_FILE (raincheck key add creates one), serve on "
            "127.0.0.1, or use --insecure if something else protects the server"
        )
    family, kind, protocol, _, address = min(addresses, key=lambda each: each[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)  # with the protocol given, asyncio sets TCP_NODELAY
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
