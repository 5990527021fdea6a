"""raincheck on Valkey: ``raincheck worker``, all by default."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.drain import fill
from benchmarks.peers.contract import URL, AsyncClient, script
from benchmarks.programs.functions import app, nothing


class Raincheck(AsyncClient):
    """The App; many at once are a gather, for there is no bulk call."""

    def worker(self) -> list[str]:
        """The command of one process."""
        module = "benchmarks.programs.functions:app"
        return [script("raincheck"), "worker", module, "--store", URL, "--log-level", "error"]

    async def open(self) -> None:
        """Connect."""
        app.url = URL
        await app.open()

    async def shut(self) -> None:
        """Disconnect."""
        await app.close()

    async def submit(self) -> Any:
        """Submit a job with one function."""
        return await app.submit("bench", [nothing.step()])

    async def submit_many(self, jobs: int) -> None:
        """Await many submits together."""
        await asyncio.gather(*(self.submit() for _ in range(jobs)))

    def fill(self, jobs: int) -> None:
        """Write to the store directly, to fill it quickly with a million jobs."""
        self.runner.run(fill(URL, jobs))

    async def answer(self) -> None:
        """Submit and wait."""
        await nothing.call()

    async def result(self, job: Any) -> Any:
        """Wait until the job has ended."""
        return await app.wait(job.id)

    async def chain(self) -> Any:
        """Submit a job with three functions."""
        return await app.submit("bench", [nothing.step()] * 3)

    def left(self) -> int:
        """The number of jobs that have not ended, from the counters of the store."""
        counts = self.runner.run(app.engine.store.counts())
        return sum(count for state, count in counts.states.items() if not state.ended)


client = Raincheck
