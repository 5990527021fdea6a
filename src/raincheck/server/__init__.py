"""The HTTP API of an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raincheck.auth import Auth
from raincheck.engine.engine import Engine
from raincheck.server.routes import ROUTES, Server

__all__ = ["ROUTES", "Server", "create_server", "serve"]


def create_server(engine: Engine, *, title: str = "raincheck", auth: Auth | None = None) -> Server:
    """The HTTP API of an engine, an ASGI application; its lifespan opens the engine and does maintenance.

    ``title`` is that of its documentation. ``auth`` says who may call; without one, the environment does.
    """
    return Server(engine, title, auth)


async def serve(
    engine: Engine,
    host: str,
    port: int,
    stop: asyncio.Event,
    started: Callable[[str], None] = lambda url: None,
    *,
    title: str = "raincheck",
    auth: Auth | None = None,
    insecure: bool = False,
) -> None:
    """Serve an engine until ``stop`` is set; ``started`` is told the URL once it is being served.

    Opens the engine if it is not open, and then closes it again. Signals are the caller's: let them set
    ``stop``. An address that others can reach is refused, unless the engine has a sign-in or ``insecure``
    says that something else stands guard. Raises `ConfigError`, or `StoreError` if it cannot be opened.
    """
    from raincheck.server.listener import listen  # only who serves loads uvicorn

    await listen(create_server(engine, title=title, auth=auth), host, port, stop, started, insecure)
