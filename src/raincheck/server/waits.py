"""Requests that wait for a job: until it has ended, the client has gone, or the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from raincheck.server.exchange import ClientGone, Request

T = TypeVar("T")


class Waits:
    """The waiting requests of one server."""

    def __init__(self) -> None:
        self._works: set[asyncio.Task[Any]] = set()
        self._over = False

    @property
    def count(self) -> int:
        """How many wait now."""
        return len(self._works)

    def end(self) -> None:
        """Let all that wait, and all that come, be answered at once with things as they are."""
        self._over = True
        for work in self._works:
            work.cancel()

    async def race(self, request: Request, work: Coroutine[Any, Any, T]) -> T | None:
        """What ``work`` returns; None if nobody is to wait any more. Raises `ClientGone`."""
        if self._over:
            work.close()
            return None
        doing = asyncio.create_task(work)
        leaving = asyncio.create_task(request.gone())
        self._works.add(doing)
        try:
            await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return None if doing.cancelled() else doing.result()
            raise ClientGone
        finally:
            self._works.discard(doing)
            doing.cancel()
            leaving.cancel()
