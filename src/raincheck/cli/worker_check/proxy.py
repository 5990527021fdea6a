"""A proxy on this machine between a worker and its server. It records the worker's calls and can fail them."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec
import uvicorn

from raincheck.core.clock import monotonic
from raincheck.server.http import Receive, Scope, Send
from raincheck.server.listener import Uvicorn

_PATH = re.compile(r"/v1/worker(?:/(?P<worker>[^/]+)(?:/(?P<verb>\w+))?)?")
_KINDS = {("POST", None): "register", ("DELETE", None): "leave"}
_PASSED_ON = ("content-type", "location", "retry-after")
_TIMEOUT = 120.0
"""Seconds that the server may take to respond to a call; longer than a claim waits."""


@dataclass(eq=False)
class Call:
    """A call of the worker. ``status`` is None until the worker gets a response, or if it gets none.

    ``kind`` is register, claim, extend, finish, release, leave or other; ``body`` and ``reply`` are decoded.
    """

    kind: str
    worker: str | None
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    begun_at: float = field(default_factory=monotonic)
    status: int | None = None
    reply: Any = None

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """The entries of the body: the attempts that the worker extends, finishes or releases."""
        return _entries(self.body, "attempts")

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The entries of the reply: the attempts that it has claimed, or the outcomes of those that it finished."""
        return _entries(self.reply, "attempts")

    @property
    def told_to_stop(self) -> list[dict[str, Any]]:
        """The entries of an extend's reply that say which attempts must stop, and why."""
        return _entries(self.reply, "stop")

    def __str__(self) -> str:
        return f"{self.kind} {self.status or 'without a response'}"


class Proxy:
    """Passes the calls of one worker on to the server at ``server_url``, and keeps them in ``calls``.

    ``lease`` (seconds) replaces the lease that the worker asks for.
    """

    def __init__(self, server_url: str, lease: float) -> None:
        self.url = ""
        self.calls: list[Call] = []
        self.cut_count = 0
        """Connections that were cut while the server was down."""
        self._server_url = server_url.rstrip("/")
        self._lease = lease
        self._is_down = False
        self._withheld: frozenset[str] = frozenset()
        self._lost_replies: set[str] = set()
        self._changed = asyncio.Condition()
        self._connections: Callable[[], Iterable[Any]] = tuple
        self._http: httpx2.AsyncClient

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until the condition holds, which is asked after each call; returns its value."""
        async with self._changed:
            return await self._changed.wait_for(condition)
