"""Threads: microseconds to run a sync no-op function in a thread, a hundred at a time.

The `Executor` of the worker runs a hundred claimed attempts repeatedly, without the store. *to_thread*: a
gather of a hundred `asyncio.to_thread`. Both are wall time on uvloop. *Drain*: one ``raincheck worker``
drains a full queue of jobs that run in threads, and one of async jobs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from benchmarks.bench import CONCURRENCY, Bench
from benchmarks.drain import drain, fill
from benchmarks.figures import Measure, Readings, Row, at_most, ratio_to
from benchmarks.programs.functions import app, nothing, nothing_in_a_thread
from raincheck.worker.attempt import Inbox, RunningAttempt
from raincheck.worker.executor import Executor


def run(bench: Bench) -> Readings:
    """Measure the threads, and then a worker that uses them."""
    calls, jobs = bench.size(50_000), bench.size(20_000)
    return {
        "executor": bench.call(with_executor, url=bench.store(), calls=calls),
        "to_thread": bench.call(with_to_thread, calls=calls // 5),
        "drain": _drain(bench, jobs, nothing_in_a_thread.name),
        "drain_async": _drain(bench, jobs, nothing.name),
    }


def _drain(bench: Bench, jobs: int, function: str) -> float:
    url = bench.store()
    bench.call(fill, url=url, jobs=jobs, function=function)
    seconds, _ = drain(bench, url, jobs)
    return jobs / seconds


async def with_executor(url: str, calls: int) -> float:
    """In a child process: microseconds per run."""
    app.url = url
    await fill(url, CONCURRENCY, function=nothing_in_a_thread.name)
    async with app:
        claims = await app.engine.store.claim("bench", [nothing_in_a_thread.name], CONCURRENCY, 3600.0)
        executor, reports = Executor(CONCURRENCY, 1), Inbox[RunningAttempt]()

        async def burst() -> None:
            executor.start([RunningAttempt.of(claim, nothing_in_a_thread, reports) for claim in claims])
            left = len(claims)
            while left:
                left -= len(await executor.finished())

        micros = await _time(burst, calls)
        await executor.close()
    return micros


async def with_to_thread(calls: int) -> float:
    """In a child process: microseconds per call."""

    async def burst() -> None:
        await asyncio.gather(*(asyncio.to_thread(nothing_in_a_thread) for _ in range(CONCURRENCY)))

    return await _time(burst, calls)


async def _time(burst: Callable[[], Any], calls: int) -> float:
    await burst()
    started_at = time.perf_counter()
    for _ in range(calls // CONCURRENCY):
        await burst()
    return (time.perf_counter() - started_at) / calls * 1e6


MEASURE = Measure(
    "threads",
    "Sync functions, in threads",
    (
        Row("executor", "the worker's threads, 100 at a time", "µs", (at_most(0.25, "to_thread"),)),
        Row("to_thread", "asyncio.to_thread, 100 at a time", "µs"),
        Row("drain", "drain of sync functions", "jobs/s", (ratio_to("drain_async"),)),
        Row("drain_async", "drain of async functions", "jobs/s"),
    ),
    run,
)
