"""Who waits for which job in this process: what `Store.changed` and `Store.listen` stand on.

Stores call `Signals.tell` after a commit, from any thread. A waiter lives on the event loop that
waits; all waiters of one loop are woken by one call into it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from threading import Lock

from raincheck.clock import monotonic
from raincheck.model import Job, Stored
from raincheck.store.base import Listener, Missing

Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Job | None]"]
Find = Callable[[str], Awaitable[Stored | Missing]]


class Signals:
    """The waiters and listeners of one store in one process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiters: dict[str, set[Waiter]] = {}
        self._listeners: set[Listener] = set()

    @property
    def wanted(self) -> bool:
        """Whether anybody here waits for anything."""
        return bool(self._waiters or self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell ``listener`` of every change, until the returned function is called."""
        with self._lock:
            self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def tell(self, jobs: Mapping[str, Job | None]) -> None:
        """These jobs have changed; an empty mapping: any may have."""
        if not self._waiters and not self._listeners:
            return
        with self._lock:
            ids = jobs.keys() & self._waiters.keys() if jobs else list(self._waiters)
            woken = [(jobs.get(i), waiter) for i in ids for waiter in self._waiters.pop(i)]
            listeners = tuple(self._listeners)
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job | None, asyncio.Future[Job | None]]]] = {}
        for job, (loop, future) in woken:
            by_loop.setdefault(loop, []).append((job, future))
        for loop, news in by_loop.items():
            call_into(loop, _wake, news)
        for listener in listeners:
            listener(jobs)

    async def changed(self, job_id: str, rev: int, wait: float, find: Find) -> Stored | Missing | None:
        """What `Store.changed` promises; ``find`` reads one job."""
        loop = asyncio.get_running_loop()
        deadline = monotonic() + wait
        while True:
            waiter = (loop, loop.create_future())
            with self._lock:
                self._waiters.setdefault(job_id, set()).add(waiter)
            try:
                found = await find(job_id)
                if isinstance(found, Missing) or found.job.rev > rev:
                    return found
                async with asyncio.timeout(deadline - monotonic()):
                    job = await waiter[1]
                if job is not None and job.state.ended:
                    return Stored(job)
            except TimeoutError:
                return None
            finally:
                self._leave(job_id, waiter)

    def _leave(self, job_id: str, waiter: Waiter) -> None:
        with self._lock:
            waiters = self._waiters.get(job_id)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiters[job_id]


def call_into(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> None:
    """Call a function on a loop of another thread; nothing if that loop is closed already."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _wake(news: list[tuple[Job | None, asyncio.Future[Job | None]]]) -> None:
    for job, future in news:
        if not future.done():
            future.set_result(job)
