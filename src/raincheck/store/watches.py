"""Waiting for a job to change: written once, above `Store.listen`.

A watch belongs to the event loop that it was made on; all watches of one loop are told by one call into it.
While nobody waits, the store has no listener from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Self

from raincheck.core.clock import monotonic
from raincheck.core.model import Job, Stored
from raincheck.store.base import Missing, Store
from raincheck.store.listeners import call_into


class Watch:
    """From when it is made until it is left (``with``), no change of its job is missed."""

    def __init__(self, job_id: str, leave: Callable[[Watch], None]) -> None:
        self.job_id = job_id
        self.loop = asyncio.get_running_loop()
        self._leave = leave
        self._changed = asyncio.Event()
        self._job: Job | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._leave(self)

    async def changed(self, seconds: float) -> bool:
        """Wait for a change since the last call; False: ``seconds`` passed without one."""
        if not self._changed.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                return False
        self._changed.clear()
        return True

    @property
    def ended(self) -> Stored | None:
        """The job, if this process has just seen it end; None: read it."""
        return Stored(self._job) if self._job is not None and self._job.state.ended else None

    def fire(self, job: Job | None) -> None:
        """The job has changed; called on the loop. A later hint does not undo that it ended."""
        if job is not None or self.ended is None:
            self._job = job
        self._changed.set()


class Watches:
    """The watches on jobs of one store. May be used from several event loops."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._watches: dict[str, set[Watch]] = {}
        self._unlisten: Callable[[], None] | None = None

    def watch(self, job_id: str) -> Watch:
        """A watch on a job, from now on.

        Made before a job is submitted, it makes reading the job again needless.
        """
        watch = Watch(job_id, self._leave)
        with self._lock:
            self._watches.setdefault(job_id, set()).add(watch)
            if self._unlisten is None:
                self._unlisten = self._store.listen(self._hear)
        return watch

    async def changed(self, job_id: str, rev: int, wait: float) -> Stored | Missing | None:
        """The job once its ``rev`` is over ``rev``, or it is missing; None: ``wait`` seconds passed."""
        deadline = monotonic() + wait
        with self.watch(job_id) as watch:
            while True:
                found = watch.ended
                if found is None or found.job.rev <= rev:
                    (read,) = await self._store.find([job_id])
                    if isinstance(read, Missing) or read.job.rev > rev:
                        return read
                else:
                    return found
                if not await watch.changed(deadline - monotonic()):
                    return None

    def _hear(self, jobs: Mapping[str, Job | None]) -> None:
        """Jobs have changed. Called from any thread, for every change: quick to see what nobody waits for."""
        with self._lock:
            ids = jobs.keys() & self._watches.keys() if jobs else list(self._watches)
            told = [(watch, jobs.get(i)) for i in ids for watch in self._watches[i]]
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Watch, Job | None]]] = {}
        for watch, job in told:
            loops.setdefault(watch.loop, []).append((watch, job))
        for loop, changes in loops.items():
            call_into(loop, _fire, changes)

    def _leave(self, watch: Watch) -> None:
        with self._lock:
            watches = self._watches.get(watch.job_id, set())
            watches.discard(watch)
            if not watches:
                self._watches.pop(watch.job_id, None)
            if not self._watches and self._unlisten is not None:
                self._unlisten()
                self._unlisten = None


def _fire(changes: list[tuple[Watch, Job | None]]) -> None:
    for watch, job in changes:
        watch.fire(job)
