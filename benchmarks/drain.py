"""Fills a store with jobs and drains it with worker processes, for several measures."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.bench import Bench, raincheck
from benchmarks.processes import Child, ChildError
from benchmarks.programs.functions import app as functions
from benchmarks.programs.functions import nothing
from raincheck import App, State, step
from raincheck.core.lifecycle import submit
from raincheck.core.options import JobOptions

BATCH = 1000
POLL_INTERVAL = 0.01
"""Seconds between two reads of the counters."""

STALL_TIMEOUT = 30.0
"""Seconds without a finished job after which a measure fails."""


async def fill(url: str, jobs: int, steps: int = 1, function: str = nothing.name) -> None:
    """Submit jobs to a store, a thousand per transaction. This is not measured."""
    async with App(url) as app:
        store = app.engine.store
        for begin in range(0, jobs, BATCH):
            now = store.now()
            drafts = [
                functions.engine.validator.draft("bench", [step(function)] * steps, JobOptions(), now)
                for _ in range(min(BATCH, jobs - begin))
            ]
            await store.commit([submit(job, now) for job in drafts])


class Workers:
    """Worker processes of one store that start to claim at the same time."""

    def __init__(self, children: list[Child], gate: Path, url: str) -> None:
        self.children = children
        self._gate = gate
        self._url = url

    def wait_until_ready(self) -> None:
        """Wait until all of them wait at the gate."""
        for child in self.children:
            child.until((self._gate / f"{child.pid}.ready").exists)

    def open_gate(self) -> float:
        """Let the workers claim; returns the time (`time.perf_counter`)."""
        self.wait_until_ready()
        started_at = time.perf_counter()
        (self._gate / "open").touch()
        return started_at

    def wait_until_done(self, jobs: int) -> float:
        """Wait until ``jobs`` jobs of the store are done; returns the time (`time.perf_counter`)."""
        return asyncio.run(self._wait_until_done(jobs))

    async def _wait_until_done(self, jobs: int) -> float:
        async with App(self._url) as app:
            done, seen_at = 0, time.perf_counter()
            while True:
                before, done = done, (await app.engine.store.counts()).states.get(State.DONE, 0)
                now = time.perf_counter()
                if done >= jobs:
                    return now
                if done > before:
                    seen_at = now
                elif now - seen_at > STALL_TIMEOUT:
                    raise ChildError(f"no job finished for {STALL_TIMEOUT:g} s; {done} of {jobs} are done")
                for child in self.children:
                    child.check()
                await asyncio.sleep(POLL_INTERVAL)

    def costs(self) -> dict[str, float]:
        """The CPU seconds of all workers and of their threads by name, after they have ended."""
        spent: dict[str, float] = {}
        for child in self.children:
            for name, seconds in json.loads((self._gate / f"{child.pid}.cost").read_text()).items():
                spent[name] = spent.get(name, 0.0) + seconds
        return spent


@contextmanager
def working(bench: Bench, url: str, count: int = 1, server: str | None = None) -> Iterator[Workers]:
    """Run ``count`` processes ``raincheck worker``. They wait at a gate until `Workers.open_gate`.

    They use the store, or the ``server`` with this URL.
    """
    gate = bench.fresh()
    source = ("--store", url) if server is None else ("--server", server)
    command = raincheck("worker", "benchmarks.programs.functions:app", *source, "--log-level", "warning")
    with ExitStack() as stack:
        children = [stack.enter_context(bench.start(command, BENCH_GATE=str(gate))) for _ in range(count)]
        yield Workers(children, gate, url)


def drain(
    bench: Bench, url: str, jobs: int, count: int = 1, server: str | None = None
) -> tuple[float, dict[str, float]]:
    """Drain ``jobs`` jobs of a store with ``count`` workers, which use the store or a ``server``.

    Returns the seconds from the opened gate until the store counts the jobs as done, and the CPU seconds.
    """
    with working(bench, url, count, server) as workers:
        started_at = workers.open_gate()
        ended = workers.wait_until_done(jobs)
    return ended - started_at, workers.costs()
