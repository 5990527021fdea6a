"""Celery: ``celery worker``, results in Redis, default settings: prefork, one process per core."""

from __future__ import annotations

from itertools import count
from typing import Any

from celery import Celery, chain

from benchmarks.peers.contract import URL, SyncClient, script

app = Celery("bench", broker=URL, backend=URL)


@app.task
def nothing() -> int:
    """Do nothing."""
    return 0


class CeleryClient(SyncClient):
    """``delay``, ``get`` and ``chain``."""

    numbers = count(1)

    def worker(self) -> list[str]:
        """The command of one worker."""
        name = f"{next(self.numbers)}@bench"
        return [script("celery"), "-A", __name__, "worker", "--loglevel", "WARNING", "--hostname", name]

    def submit(self) -> Any:
        """Enqueue a task."""
        return nothing.delay()

    def result(self, job: Any) -> Any:
        """Wait for its result, which arrives by publish and subscribe."""
        return job.get()

    def chain(self) -> Any:
        """Enqueue a chain."""
        return chain(nothing.si(), nothing.si(), nothing.si()).delay()

    def left(self) -> int:
        """Queued tasks, and tasks that a worker has taken and not acknowledged."""
        waiting, taken = self.server.pipeline().llen("celery").hlen("unacked").execute()
        return int(waiting + taken)


client = CeleryClient
