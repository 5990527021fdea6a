"""PgQueuer on PostgreSQL: ``pgq run``, with batches of 200 instead of 10, in its favour.

PostgreSQL as it comes, with ``fsync``. PgQueuer keeps no results, only that a job has ended well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
from pgqueuer import AsyncpgDriver, AsyncpgPoolDriver, PgQueuer, Queries
from pgqueuer.core.completion import CompletionWatcher
from pgqueuer.models import Job

from benchmarks.peers.contract import URL, AsyncClient, script

BATCH = 200
NAME = "nothing"
TABLES = ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics")


@asynccontextmanager
async def consumer() -> AsyncIterator[PgQueuer]:
    """What ``pgq run`` is given."""
    connection = await asyncpg.connect(URL)
    pgq = PgQueuer(AsyncpgDriver(connection))

    @pgq.entrypoint(NAME)
    async def nothing(job: Job) -> None:
        """Does nothing."""

    try:
        yield pgq
    finally:
        await connection.close()


class PgQueuerClient(AsyncClient):
    """``enqueue``, one or a list, over a pool; ``CompletionWatcher``."""

    def worker(self) -> list[str]:
        """One process."""
        command = [script("pgq"), "run", f"{__name__}:consumer", "--batch-size", str(BATCH)]
        return [*command, "--log-level", "ERROR"]

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
        self.pool.terminate()  # not close: the watcher still holds a connection that listens

    async def submit(self) -> Any:
        """A row."""
        (job,) = await self.queries.enqueue(NAME, None)
        return job

    async def submit_many(self, jobs: int) -> None:
        """Many rows."""
        await self.queries.enqueue([NAME] * jobs, [None] * jobs, [0] * jobs)

    async def result(self, job: Any) -> Any:
        """How it has ended, told by a notification; debounced by 50 ms by default, here not at all."""
        return await self.watcher.wait_for(job)

    def left(self) -> int:
        """Rows of the queue."""
        return int(self._value("SELECT count(*) FROM pgqueuer"))

    def stored(self) -> int:
        """The table and its indexes."""
        return int(self._value("SELECT pg_total_relation_size('pgqueuer')"))

    def clear(self) -> None:
        """Forget everything."""
        self.runner.run(self.pool.execute(f"TRUNCATE {', '.join(TABLES)}"))

    def _value(self, query: str) -> Any:
        return self.runner.run(self.pool.fetchval(query))


client = PgQueuerClient
