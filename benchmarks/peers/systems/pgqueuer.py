"""PgQueuer on PostgreSQL: ``PgQueuer.run`` on uvloop, with batches of 200 instead of 10, in its favour.

Not ``pgq run``: that fails with the newest typer, and does the same.

PostgreSQL with its defaults and ``fsync``. PgQueuer stores no results, only the end of a job.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import asyncpg
import uvloop
from pgqueuer import AsyncpgDriver, AsyncpgPoolDriver, PgQueuer, Queries
from pgqueuer.core.completion import CompletionWatcher
from pgqueuer.models import Job

from benchmarks.peers.contract import URL, AsyncClient

BATCH = 200
NAME = "nothing"
TABLES = ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics")


async def work() -> None:
    """Run a worker until its process ends."""
    connection = await asyncpg.connect(URL)
    pgq = PgQueuer(AsyncpgDriver(connection))

    @pgq.entrypoint(NAME)
    async def nothing(job: Job) -> None:
        """Do nothing."""

    await pgq.run(batch_size=BATCH)


class PgQueuerClient(AsyncClient):
    """``enqueue``, one or a list, over a pool; ``CompletionWatcher``."""

    def worker(self) -> list[str]:
        """The command of one process."""
        return [sys.executable, "-m", __name__]

    async def open(self) -> None:
        """Connect, and install the tables."""
        self.pool = await asyncpg.create_pool(URL)
        self.driver = AsyncpgPoolDriver(self.pool)
        self.queries = Queries(self.driver)
        if not await self.queries.has_table("pgqueuer"):
            await self.queries.install()
        self.watcher = await CompletionWatcher(
            self.driver, queries=self.queries, debounce=timedelta(0)
        ).__aenter__()

    async def shut(self) -> None:
        """Disconnect."""
        await self.watcher.__aexit__(None, None)
        self.pool.terminate()  # not close: the watcher still has a connection that listens

    async def submit(self) -> Any:
        """Insert a row."""
        (job,) = await self.queries.enqueue(NAME, None)
        return job

    async def submit_many(self, jobs: int) -> None:
        """Insert many rows."""
        await self.queries.enqueue([NAME] * jobs, [None] * jobs, [0] * jobs)

    async def result(self, job: Any) -> Any:
        """Wait for a notification of its end; without the default debounce of 50 ms."""
        return await self.watcher.wait_for(job)

    def left(self) -> int:
        """The number of rows in the queue."""
        return int(self._value("SELECT count(*) FROM pgqueuer"))

    def stored(self) -> int:
        """The size of the table and its indexes."""
        return int(self._value("SELECT pg_total_relation_size('pgqueuer')"))

    def spent(self) -> None:
        """PostgreSQL does not report it."""

    def clear(self) -> None:
        """Delete all data."""
        self.runner.run(self.pool.execute(f"TRUNCATE {', '.join(TABLES)}"))

    def _value(self, query: str) -> Any:
        return self.runner.run(self.pool.fetchval(query))


client = PgQueuerClient

if __name__ == "__main__":
    uvloop.run(work())
