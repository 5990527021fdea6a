"""The registry of workers and the functions that they offer, cached for a second."""

from __future__ import annotations

import asyncio
import logging

from raincheck.core.clock import monotonic
from raincheck.core.model import FunctionInfo, RetryOptions, WorkerInfo
from raincheck.functions.registry import Functions
from raincheck.store.base import Store

logger = logging.getLogger("raincheck.workers")

FRESH = 1.0
"""Seconds for which the registry is not read again."""

STALE = 10.0
"""Seconds after which callers wait for the registry to be read."""


class Workers:
    """The functions of this process and those that workers offer."""

    def __init__(self, store: Store, functions: Functions) -> None:
        self._store = store
        self._functions = functions
        self._worker_ids: dict[str, list[str]] = {}
        self._infos: dict[str, FunctionInfo] = {}
        self._read_at = -STALE
        self._refreshing: asyncio.Task[list[WorkerInfo]] | None = None

    async def refresh(self) -> None:
        """Read the registry if it is older than a second; wait for that only if it is much older."""
        age = monotonic() - self._read_at
        if age >= STALE:
            await self.read()
        elif age >= FRESH and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self.read())
            self._refreshing.add_done_callback(_log_failure)

    async def read(self) -> list[WorkerInfo]:
        """Read the registry now. Returns all workers."""
        now = self._store.now()
        workers = [worker.at(now) for worker in await self._store.workers()]
        worker_ids: dict[str, list[str]] = {}
        infos: dict[str, FunctionInfo] = {}
        for worker in workers:
            for info in worker.functions:
                infos[info.name] = info
                if worker.state != "unhealthy":
                    worker_ids.setdefault(info.name, []).append(worker.id)
        self._worker_ids, self._infos = worker_ids, infos
        self._read_at = monotonic()
        return workers

    def offered(self, name: str) -> bool:
        """Whether a live worker offers the function."""
        return name in self._worker_ids

    def workers_of(self, name: str) -> list[str]:
        """The ids of the live workers that offer the function."""
        return self._worker_ids.get(name, [])

    def info(self, name: str) -> FunctionInfo | None:
        """A function of this process or of a worker; None if both do not know it."""
        function = self._functions.get(name)
        return self._infos.get(name) if function is None else function.info

    async def find(self, name: str) -> FunctionInfo | None:
        """A function; reads the registry if it is not known, because its worker may just have started."""
        if self.info(name) is None:
            await self.read()
        return self.info(name)

    def infos(self) -> dict[str, FunctionInfo]:
        """All known functions, by name."""
        return {**self._infos, **{function.name: function.info for function in self._functions}}

    def options(self, name: str) -> RetryOptions:
        """The retry options of a function, for steps without options of their own."""
        info = self.info(name)
        return RetryOptions() if info is None else info.retry


def _log_failure(refreshing: asyncio.Task[list[WorkerInfo]]) -> None:
    """Log why reading failed; the next caller tries again."""
    if not refreshing.cancelled() and (error := refreshing.exception()) is not None:
        logger.debug("reading the registry of workers failed: %s", error)
