"""The registry of workers and the functions that they offer, cached for a second."""

from __future__ import annotations

import asyncio
import logging
from difflib import get_close_matches
from itertools import islice

from raincheck.core.clock import monotonic
from raincheck.core.model import FunctionInfo, RetryOptions, WorkerInfo
from raincheck.functions.offered import OfferedFunctions
from raincheck.functions.registry import Functions
from raincheck.store.base import Store

logger = logging.getLogger("raincheck.workers")

FRESH = 1.0
"""Seconds for which the registry is not read again."""

MAX_CANDIDATES = 500
"""Names that a misspelt name is compared with; a comparison takes some microseconds."""

STALE = 10.0
"""Seconds after which callers wait for the registry to be read."""


class Workers:
    """The functions of this process and those that workers offer."""

    def __init__(self, store: Store, functions: Functions, offered: OfferedFunctions) -> None:
        self._store = store
        self._functions = functions
        self._offered = offered
        self._hints: dict[str, str] = {}
        self._worker_ids: dict[str, list[str]] = {}
        self._infos: dict[str, FunctionInfo] = {}
        self._by_id: dict[str, WorkerInfo] = {}
        self._read_at = -STALE
        self._refreshing: asyncio.Task[list[WorkerInfo]] | None = None

    async def refresh(self) -> None:
        """Read the registry if it is older than a second; wait for that only if it is much older."""
        age = monotonic() - self._read_at
        if age >= FRESH:
            reading = self._shared_read()
            if age >= STALE:
                await asyncio.shield(reading)

    async def read_since(self, moment: float) -> None:
        """Read the registry unless that was begun after a monotonic time; callers share one reading."""
        while self._read_at < moment:
            await asyncio.shield(self._shared_read())

    def _shared_read(self) -> asyncio.Task[list[WorkerInfo]]:
        reading = self._refreshing
        if reading is None or reading.done() or reading.get_loop() is not asyncio.get_running_loop():
            reading = self._refreshing = asyncio.create_task(self.read())
            reading.add_done_callback(_log_failure)
        return reading

    async def read(self) -> list[WorkerInfo]:
        """Read the registry now. Returns all workers."""
        now, began = self._store.now(), monotonic()
        workers = [worker.at(now) for worker in await self._store.workers()]
        self._by_id = {worker.id: worker for worker in workers}
        worker_ids: dict[str, list[str]] = {}
        infos: dict[str, FunctionInfo] = {}
        for worker in workers:
            for info in worker.functions:
                infos[info.name] = info
                if worker.state != "unhealthy":
                    worker_ids.setdefault(info.name, []).append(worker.id)
        self._worker_ids, self._infos, self._hints = worker_ids, infos, {}
        self._offered.update(
            info
            for worker in workers
            for info in worker.functions
            if worker.state != "unhealthy" or info.name not in worker_ids
        )
        self._read_at = began
        return workers

    def worker(self, worker_id: str) -> WorkerInfo | None:
        """A worker as it was when the registry was last read, or as this process last wrote it."""
        return self._by_id.get(worker_id)

    def update(self, worker: WorkerInfo) -> None:
        """Note a registration that this process has written."""
        if self._by_id.get(worker.id) is None:
            for info in worker.functions:
                self._infos[info.name] = info
                self._worker_ids.setdefault(info.name, []).append(worker.id)
                self._offered.add(info)
            self._hints = {}
        self._by_id[worker.id] = worker

    def remove(self, worker_id: str) -> None:
        """Note that this process has removed a registration."""
        if (worker := self._by_id.pop(worker_id, None)) is not None:
            for info in worker.functions:
                ids = self._worker_ids.get(info.name, [])
                if worker_id in ids:
                    ids.remove(worker_id)
                if not ids:
                    self._worker_ids.pop(info.name, None)

    def workers_of(self, name: str) -> list[str]:
        """The ids of the live workers that offer the function."""
        return self._worker_ids.get(name, [])

    def info(self, name: str) -> FunctionInfo | None:
        """A function of this process or of a worker; None if both do not know it."""
        function = self._functions.get(name)
        return self._infos.get(name) if function is None else function.info

    def warning(self, name: str) -> str | None:
        """The warning for who waits for a function that no live worker offers; None: one offers it."""
        if name in self._worker_ids:
            return None
        return f"no worker offers {name!r}. {self.hint(name) or 'The job waits for such a worker.'}"

    def hint(self, name: str) -> str:
        """``Did you mean 'add'?`` for an unknown name; empty if the name is known, or none is like it."""
        hint = self._hints.get(name)
        if hint is None:
            known = [*islice(self._infos, MAX_CANDIDATES), *islice(self._functions.names, MAX_CANDIDATES)]
            close = [] if self.info(name) else get_close_matches(name, known, 1)
            hint = self._hints[name] = f"Did you mean {close[0]!r}?" if close else ""
        return hint

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
