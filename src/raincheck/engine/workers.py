"""The registry of workers: which functions they offer, read at most once a second."""

from __future__ import annotations

import asyncio
import logging

from raincheck.core.clock import monotonic
from raincheck.core.model import FunctionInfo, RetryOptions, WorkerInfo
from raincheck.functions.registry import Functions
from raincheck.store.base import Store

logger = logging.getLogger("raincheck.workers")

FRESH = 1.0
STALE = 10.0


class Workers:
    """The functions known here, and those that workers offer."""

    def __init__(self, store: Store, functions: Functions) -> None:
        self._store = store
        self._functions = functions
        self._workers: list[WorkerInfo] = []
        self._offered: dict[str, list[str]] = {}
        self._infos: dict[str, FunctionInfo] = {}
        self._read_at = -STALE
        self._refreshing: asyncio.Task[list[WorkerInfo]] | None = None

    async def refresh(self) -> None:
        """Read the registry again if it is old; waits only if it is very old."""
        age = monotonic() - self._read_at
        if age >= STALE:
            await self.read()
        elif age >= FRESH and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self.read())
            self._refreshing.add_done_callback(_log_failure)

    async def read(self) -> list[WorkerInfo]:
        """Read the registry now."""
        now = self._store.now()
        workers = [worker.at(now) for worker in await self._store.workers()]
        offered: dict[str, list[str]] = {}
        infos: dict[str, FunctionInfo] = {}
        for worker in workers:
            for info in worker.functions:
                infos[info.name] = info
                if worker.state != "unhealthy":
                    offered.setdefault(info.name, []).append(worker.id)
        self._workers, self._offered, self._infos = workers, offered, infos
        self._read_at = monotonic()
        return workers

    def offered(self, name: str) -> bool:
        """Whether a live worker offers the function."""
        return name in self._offered

    def workers_of(self, name: str) -> list[str]:
        """The ids of live workers that offer it."""
        return self._offered.get(name, [])

    def info(self, name: str) -> FunctionInfo | None:
        """What is known of a function, here or from a worker; None: nothing."""
        function = self._functions.get(name)
        return self._infos.get(name) if function is None else function.info

    async def find(self, name: str) -> FunctionInfo | None:
        """A function, read anew if it is not known: its worker may just have started."""
        if self.info(name) is None:
            await self.read()
        return self.info(name)

    def infos(self) -> dict[str, FunctionInfo]:
        """All functions known, by name."""
        return {**self._infos, **{function.name: function.info for function in self._functions}}

    def options(self, name: str) -> RetryOptions:
        """The retry options of a function, where a step has none of its own."""
        info = self.info(name)
        return RetryOptions() if info is None else info.retry


def _log_failure(refreshing: asyncio.Task[list[WorkerInfo]]) -> None:
    """Log why a refresh failed; the next caller tries again."""
    if not refreshing.cancelled() and (error := refreshing.exception()) is not None:
        logger.debug("the registry of workers could not be read: %s", error)
