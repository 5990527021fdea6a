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
        """One process."""
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
        """A job of one function."""
        return await app.submit("bench", [nothing.step()])

    async def submit_many(self, jobs: int) -> None:
        """A thousand submits that are awaited together."""
        await asyncio.gather(*(self.submit() for _ in range(jobs)))

    def fill(self, jobs: int) -> None:
        """Straight into the store: a million must not take long."""
        self.runner.run(fill(URL, jobs))

    async def answer(self) -> None:
        """Submit and wait."""
        await nothing.call()

    async def result(self, job: Any) -> Any:
        """The job once it has ended."""
        return await app.wait(job.id)

    async def chain(self) -> Any:
        """A job of three functions."""
        return await app.submit("bench", [nothing.step()] * 3)

    def left(self) -> int:
        """The counters of the store."""
        counts = self.runner.run(app.engine.store.counts())
        return sum(count for state, count in counts.states.items() if not state.ended)


client = Raincheck
