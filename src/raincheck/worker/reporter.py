"""Tells the store how far attempts have come: only the latest word of each, a few times a second."""

from __future__ import annotations

import asyncio
import logging

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
        self._news: dict[int, Run] = {}
        self._sending: asyncio.Task[None] | None = None

    def report(self, run: Run, progress: bytes) -> None:
        """A run has come this far."""
        run.progress = progress
        first = not self._news
        self._news[run.claim.lease.token] = run
        if first:
            call_into(self._loop, self._begin)

    def _begin(self) -> None:
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._news:
            news, self._news = self._news, {}
            for run in news.values():
                if run.over or run.progress is None:
                    continue
                try:
                    await self._store.report(run.held, run.progress)
                except StoreError as error:
                    logger.debug("progress of %s was not noted: %s", run, error)
            await asyncio.sleep(EVERY)

    async def close(self) -> None:
        """Send no more."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
