"""Bare baselines: the minimum that a task needs. They are upper limits for a queue, not competitors."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import redis.asyncio

from benchmarks.bench import CONCURRENCY
from benchmarks.measures import cpu, threads
from benchmarks.peers.peer_bench import PeerBench
from benchmarks.peers.roster import RAINCHECK
from benchmarks.programs.functions import nothing

JOBS = 100_000
RECORD = bytes(170)
"""A record as long as that of raincheck for a job with one step."""


def stream(bench: PeerBench) -> float:
    """Jobs per second that one client reads from a stream and acknowledges, without any state."""
    rate: float = bench.call(read_and_acknowledge, bench.env(RAINCHECK), jobs=bench.size(JOBS))
    return rate


async def read_and_acknowledge(jobs: int) -> float:
    """In a child process: read 100 entries, await 100 no-op functions, acknowledge 100 entries."""
    from benchmarks.peers.contract import URL

    server: Any = redis.asyncio.Redis.from_url(URL)
    await server.flushall()
    await server.xgroup_create("bare", "group", id="0", mkstream=True)
    for begin in range(0, jobs, 1000):
        pipeline = server.pipeline(transaction=False)
        for _ in range(min(1000, jobs - begin)):
            pipeline.xadd("bare", {"job": RECORD})
        await pipeline.execute()
    started_at, done = time.perf_counter(), 0
    while done < jobs:
        ((_, entries),) = await server.xreadgroup("group", "worker", {"bare": ">"}, count=CONCURRENCY)
        await asyncio.gather(*(nothing.function() for _ in entries))
        await server.xack("bare", "group", *(entry for entry, _ in entries))
        done += len(entries)
    took = time.perf_counter() - started_at
    await server.flushall()
    await server.aclose()
    return jobs / took


def loop(bench: PeerBench) -> dict[str, float]:
    """Microseconds per no-op task and per no-op in a thread, without a queue."""
    return {
        "gather": bench.call(cpu.gather, tasks=bench.size(200_000)),
        "to_thread": bench.call(threads.with_to_thread, calls=bench.size(10_000)),
    }
