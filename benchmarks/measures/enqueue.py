"""Enqueue: accepted jobs per second, without a worker. Each job is durable when its submit returns.

One process, one `App` on uvloop, jobs with one step. *One by one*: one caller that awaits each submit.
*50 callers*: 50 coroutines that each await one submit before the next. *50 at a time*: a gather of 50
submits, then the next gather (the App has no call that submits several jobs). *Bare*: INSERTs of the same
number of rows into a plain table, 50 per transaction. huey has only one way to enqueue, a call of the task.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks import bare, peer
from benchmarks.bench import Bench
from benchmarks.figures import Measure, Readings, Row, at_least, ratio_to
from benchmarks.programs.functions import app, nothing

TOGETHER = 50


def run(bench: Bench) -> Readings:
    """Enqueue in each way, each into a new file."""
    few, many = bench.size(2000), bench.size(20_000)
    file = str(bench.fresh() / "bare.db")
    return {
        "one": bench.call(one_by_one, url=bench.store(), jobs=few),
        "callers": bench.call(by_callers, url=bench.store(), jobs=many),
        "gather": bench.call(by_gather, url=bench.store(), jobs=many),
        "bare": bench.call(bare.insert, file=file, jobs=many, batch=TOGETHER),
        "huey": _huey(bench, few, fsync=False),
        "huey_fsync": _huey(bench, few, fsync=True),
    }


def _huey(bench: Bench, jobs: int, *, fsync: bool) -> float:
    rate: float = bench.call(
        peer.enqueue, peer.environment(bench.fresh() / "huey.db", fsync=fsync), jobs=jobs
    )
    return rate


async def one_by_one(url: str, jobs: int) -> float:
    """One caller that awaits each submit."""
    app.url = url
    async with app:
        await _submit()
        started_at = time.perf_counter()
        for _ in range(jobs):
            await _submit()
        return jobs / (time.perf_counter() - started_at)


async def by_callers(url: str, jobs: int) -> float:
    """Fifty callers that each await one submit before the next."""

    async def caller() -> None:
        for _ in range(jobs // TOGETHER):
            await _submit()

    app.url = url
    async with app:
        await _submit()
        started_at = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(TOGETHER)))
        return jobs / (time.perf_counter() - started_at)


async def by_gather(url: str, jobs: int) -> float:
    """One caller that awaits fifty submits together."""
    app.url = url
    async with app:
        await _submit()
        started_at = time.perf_counter()
        for _ in range(jobs // TOGETHER):
            await asyncio.gather(*(_submit() for _ in range(TOGETHER)))
        return jobs / (time.perf_counter() - started_at)


async def _submit() -> None:
    await app.submit("bench", [nothing.step()])


MEASURE = Measure(
    "enqueue",
    "Enqueue",
    (
        Row("one", "one by one", "jobs/s", (at_least(1.2, "huey"), ratio_to("huey_fsync"))),
        Row("callers", "50 concurrent callers", "jobs/s", (ratio_to("bare"),)),
        Row("gather", "50 at a time", "jobs/s", (ratio_to("bare"), ratio_to("huey"))),
        Row("bare", "bare INSERTs, 50 per transaction", "jobs/s"),
        Row("huey", "huey, one by one", "jobs/s"),
        Row("huey_fsync", "huey with fsync=True", "jobs/s"),
    ),
    run,
)
