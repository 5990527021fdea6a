"""Requests that wait for a job: until it has ended, the client has gone, or the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from raincheck.core.errors import RaincheckError


class ClientGone(RaincheckError):
    """Nobody waits for the answer any more."""


class Waits:
    """The waiting requests of one server."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[None]] = set()
        self._over = False

    @property
    def count(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    def end(self) -> None:
        """Answer waiting and new requests at once with the current state."""
        self._over = True
        for gone in self._waiting:
            gone.cancel()

    @asynccontextmanager
    async def until_gone(self, gone: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
        """A future for a wait within the context: done once ``gone`` returns, or the server stops.

        ``gone`` returns when the client has gone; then this raises `ClientGone` at the end.
        """
        task = asyncio.create_task(gone)
        if self._over:
            task.cancel()
        self._waiting.add(task)
        try:
            yield task
            if task.done() and not task.cancelled():
                raise ClientGone
        finally:
            self._waiting.discard(task)
            task.cancel()
