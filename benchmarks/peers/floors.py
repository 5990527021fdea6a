"""Bare floors: the least that a task takes. They are ceilings for a queue, not rivals."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import redis.asyncio

from benchmarks.bench import CONCURRENCY
from benchmarks.measures import cpu, threads
from benchmarks.peers.place import Place
from benchmarks.peers.roster import RAINCHECK
from benchmarks.programs.functions import nothing

JOBS = 100_000
RECORD = bytes(170)
"""As long as raincheck's record of a job of one step."""


def stream(place: Place) -> float:
    """Jobs a second that one client reads from a stream and acknowledges, without any state."""
    rate: float = place.call(read_and_acknowledge, place.env(RAINCHECK), jobs=place.size(JOBS))
    return rate


async def read_and_acknowledge(jobs: int) -> float:
    """In a child: read 100, await 100 no-op functions, acknowledge 100."""
    from benchmarks.peers.contract import URL

    server: Any = redis.asyncio.Redis.from_url(URL)
    await server.flushall()
    await server.xgroup_create("bare", "group", id="0", mkstream=True)
    for begin in range(0, jobs, 1000):
        pipeline = server.pipeline(transaction=False)
        for _ in range(min(1000, jobs - begin)):
            pipeline.xadd("bare", {"job": RECORD})
        await pipeline.execute()
    begun, done = time.perf_counter(), 0
    while done < jobs:
        ((_, entries),) = await server.xreadgroup("group", "worker", {"bare": ">"}, count=CONCURRENCY)
        await asyncio.gather(*(nothing.function() for _ in entries))
        await server.xack("bare", "group", *(entry for entry, _ in entries))
        done += len(entries)
    took = time.perf_counter() - begun
    await server.flushall()
    await server.aclose()
    return jobs / took


def loop(place: Place) -> dict[str, float]:
    """Microseconds that a no-op task, and a no-op in a thread, take without a queue."""
    return {
        "gather": place.call(cpu.gather, tasks=place.size(200_000)),
        "to_thread": place.call(threads.with_to_thread, calls=place.size(10_000)),
    }
