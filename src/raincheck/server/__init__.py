"""The HTTP API of an engine: `Server` is the ASGI application, `serve` listens on an address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from raincheck.auth import Auth
from raincheck.engine.engine import Engine
from raincheck.server.routes import ROUTES
from raincheck.server.server import Server

__all__ = ["ROUTES", "Server", "serve"]


async def serve(
    engine: Engine,
    host: str,
    port: int,
    stop: asyncio.Event,
    started: Callable[[str], None] = lambda url: None,
    *,
    title: str = "raincheck",
    auth: Auth | None = None,
    allowed_origins: Iterable[str] | None = None,
    insecure: bool = False,
    access_log: bool = False,
    drain: float = 0,
) -> None:
    """Serve an engine until ``stop`` is set; calls ``started`` with the URL when requests can come.

    Opens the engine if it is not open, and then closes it at the end. It handles no signals: handlers of the
    caller set ``stop``. Refuses an address that other machines can reach, unless there is a sign-in or
    ``insecure`` says that something else protects it. With ``access_log``, each request is logged to
    ``uvicorn.access``. For ``drain`` seconds after ``stop`` is set, it still responds to requests, says at
    ``/readyz`` that it is not ready, and closes each connection after a response, so that a proxy sends
    requests to other servers before this one stops. Raises `ConfigError` or `StoreError`.
    """
    from raincheck.server.listener import listen  # here, because it loads uvicorn

    server = Server(engine, title, auth, allowed_origins)
    await listen(server, host, port, stop, started, insecure=insecure, access_log=access_log, drain=drain)
