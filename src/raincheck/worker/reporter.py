"""Tells the store how far attempts have come: only the latest word of each, a few times a second."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from raincheck.errors import StoreError
from raincheck.store.base import Store
from raincheck.store.signals import call_into
from raincheck.worker.run import Run

logger = logging.getLogger("raincheck.worker")

EVERY = 0.1
"""Seconds between two reports."""


class Reporter:
    """Takes progress from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._news: deque[Run] = deque()
        self._sending: asyncio.Task[None] | None = None

    def report(self, run: Run, progress: bytes) -> None:
        """A run has come this far."""
        run.progress = progress
        if not run.untold:
            run.untold = True
            self._news.append(run)
            if len(self._news) == 1:
                call_into(self._loop, self._begin)

    def _begin(self) -> None:
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._news:
            await asyncio.gather(*(self._tell(self._news.popleft()) for _ in range(len(self._news))))
            await asyncio.sleep(EVERY)

    async def _tell(self, run: Run) -> None:
        run.untold = False  # before it is read: what comes from now on is news again
        if run.over or run.progress is None:
            return
        try:
            await self._store.report(run.held, run.progress)
        except StoreError as error:
            logger.debug("progress of %s was not noted: %s", run, error)

    async def close(self) -> None:
        """Send no more."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
