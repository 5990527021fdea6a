"""Waiters: jobs per second of 100 callers that each submit a no-op job and await its result.

Each caller has its result before it submits the next job. *In one process*: App and `Worker` on one event
loop. *Across two*: the callers in one process, ``raincheck worker`` in another.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.bench import Bench
from benchmarks.drain import working
from benchmarks.figures import Measure, Readings, Row, at_least
from benchmarks.programs.functions import app, nothing
from raincheck import Worker

WAITERS = 100


def run(bench: Bench) -> Readings:
    """Measure both ways, each on a new store."""
    jobs = bench.size(20_000)
    url = bench.store()
    with working(bench, url) as workers:
        workers.open_gate()
        across: float = bench.call(from_outside, url=url, jobs=jobs)
    return {"one": bench.call(in_one_process, url=bench.store(), jobs=jobs), "two": across}


async def in_one_process(url: str, jobs: int) -> float:
    """In a child process: App and Worker on one event loop."""
    app.url = url
    async with app, Worker(app):
        return await _wait(jobs)


async def from_outside(url: str, jobs: int) -> float:
    """In a child process: the App; the worker is another process."""
    app.url = url
    async with app:
        return await _wait(jobs)


async def _wait(jobs: int) -> float:
    async def waiter(turns: int) -> None:
        for _ in range(turns):
            await nothing.call()

    await asyncio.gather(*(waiter(2) for _ in range(WAITERS)))
    started_at = time.perf_counter()
    await asyncio.gather(*(waiter(jobs // WAITERS) for _ in range(WAITERS)))
    return jobs / (time.perf_counter() - started_at)


MEASURE = Measure(
    "waiters",
    "Submit and wait, 100 waiters",
    (
        Row("one", "in one process", "jobs/s", (at_least(12_000),)),
        Row("two", "across two processes", "jobs/s", (at_least(12_000),)),
    ),
    run,
)
