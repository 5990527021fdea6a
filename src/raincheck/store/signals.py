"""Who waits for which job in this process: what `Store.changed` and `Store.listen` stand on.

Stores call `Signals.tell` after a commit, from any thread. A watch lives on the event loop that
waits; all watches of one loop are told by one call into it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from threading import Lock
from typing import Self

from raincheck.clock import monotonic
from raincheck.model import Job, Stored
from raincheck.store.base import Listener, Missing

logger = logging.getLogger("raincheck.store")

Find = Callable[[str], Awaitable[Stored | Missing]]


class Watch:
    """From when it is made until it is left (``with``), no change of its job is missed.

    It belongs to the event loop it was made on.
    """

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
        """The job, if this process has just seen it end; else it must be read."""
        return Stored(self._job) if self._job is not None and self._job.state.ended else None

    def fire(self, job: Job | None) -> None:
        """The job has changed; called on the loop. That others say so, too, does not undo what was seen."""
        if job is not None or self.ended is None:
            self._job = job
        self._changed.set()


class Signals:
    """The watches and listeners of one store in one process.

    ``attend`` is called when the first of them comes.
    """

    def __init__(self, attend: Callable[[], None]) -> None:
        self._attend = attend
        self._lock = Lock()
        self._watches: dict[str, set[Watch]] = {}
        self._listeners: dict[object, Listener] = {}

    @property
    def wanted(self) -> bool:
        """Whether anybody here waits for anything."""
        return bool(self._watches or self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell ``listener`` of every change, until the returned function is called."""
        mark = object()
        with self._lock:
            first = not self.wanted
            self._listeners[mark] = listener
        if first:
            self._attend()

        def unlisten() -> None:
            with self._lock:
                self._listeners.pop(mark, None)

        return unlisten

    def watch(self, job_id: str) -> Watch:
        """A watch on a job, from now on."""
        watch = Watch(job_id, self._leave)
        with self._lock:
            first = not self.wanted
            self._watches.setdefault(job_id, set()).add(watch)
        if first:
            self._attend()
        return watch

    def tell(self, jobs: Mapping[str, Job | None]) -> None:
        """These jobs have changed; an empty mapping: any may have."""
        if not self.wanted:
            return
        self.fire(jobs)
        with self._lock:
            listeners = tuple(self._listeners.values())
        for listener in listeners:
            try:
                listener(jobs)
            except Exception:  # the others are told all the same
                logger.exception("a listener failed")

    def fire(self, jobs: Mapping[str, Job | None]) -> None:
        """Tell the watches alone."""
        with self._lock:
            ids = jobs.keys() & self._watches.keys() if jobs else list(self._watches)
            fired = [(watch, jobs.get(i)) for i in ids for watch in self._watches[i]]
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Watch, Job | None]]] = {}
        for watch, job in fired:
            by_loop.setdefault(watch.loop, []).append((watch, job))
        for loop, news in by_loop.items():
            call_into(loop, _fire, news)

    async def changed(self, job_id: str, rev: int, wait: float, find: Find) -> Stored | Missing | None:
        """What `Store.changed` promises; ``find`` reads one job."""
        deadline = monotonic() + wait
        with self.watch(job_id) as watch:
            while True:
                ended = watch.ended
                found = ended if ended is not None and ended.job.rev > rev else await find(job_id)
                if isinstance(found, Missing) or found.job.rev > rev:
                    return found
                if not await watch.changed(deadline - monotonic()):
                    return None

    def _leave(self, watch: Watch) -> None:
        with self._lock:
            watches = self._watches.get(watch.job_id)
            if watches is not None:
                watches.discard(watch)
                if not watches:
                    del self._watches[watch.job_id]


def call_into(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> bool:
    """Call a function on a loop of another thread; False: that loop is closed already."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


def _fire(news: list[tuple[Watch, Job | None]]) -> None:
    for watch, job in news:
        watch.fire(job)
