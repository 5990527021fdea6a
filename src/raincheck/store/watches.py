"""Waiting for a change of a job: written once for all stores, above `Store.listen`.

A watch belongs to the event loop on which it was created; all watches of a loop are notified by one call into
it. `Watches` listens to the store only while there are watches.
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
    """Sees every change of a job from its creation to the end of its ``with`` block."""

    def __init__(self, job_id: str, remove: Callable[[Watch], None]) -> None:
        self.job_id = job_id
        self.loop = asyncio.get_running_loop()
        self._remove = remove
        self._changed = asyncio.Event()
        self._job: Job | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._remove(self)

    async def changed(self, seconds: float) -> bool:
        """Wait for a change since the last call. False: there was none for ``seconds``."""
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
        """The job, if this process has seen it end; None: read it."""
        return Stored(self._job) if self._job is not None and self._job.state.ended else None

    @property
    def is_open(self) -> bool:
        """Whether this process has just written the job, and it has not ended: it need not be read."""
        return self._job is not None and not self._job.state.ended

    def fire(self, job: Job | None) -> None:
        """Note a change; called on the loop. A notification without the job does not discard its end."""
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
        """Watch a job.

        Created before its job is submitted, a watch can make it unnecessary to read the end of the job.
        """
        watch = Watch(job_id, self._remove)
        with self._lock:
            self._watches.setdefault(job_id, set()).add(watch)
            if self._unlisten is None:
                self._unlisten = self._store.listen(self._notify)
        return watch

    @property
    def watched(self) -> list[str]:
        """The ids of the jobs that callers wait for."""
        with self._lock:
            return list(self._watches)

    async def changed(self, job_id: str, rev: int, wait: float) -> Stored | Missing | None:
        """Wait until the job has a revision over ``rev``, or is missing; None: ``wait`` seconds passed."""
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

    def _notify(self, jobs: Mapping[str, Job | None]) -> None:
        """Notify the watches of changed jobs. Called from any thread, for every change of any job."""
        with self._lock:
            ids = jobs.keys() & self._watches.keys() if jobs else list(self._watches)
            changed = [(watch, jobs.get(i)) for i in ids for watch in self._watches[i]]
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Watch, Job | None]]] = {}
        for watch, job in changed:
            loops.setdefault(watch.loop, []).append((watch, job))
        for loop, changes in loops.items():
            call_into(loop, _fire, changes)

    def _remove(self, watch: Watch) -> None:
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
