"""Filling a store, and letting worker processes drain it: what several measures are made of."""

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
LOOK = 0.01
"""Seconds between two looks at how far the workers have come."""

STUCK = 30.0
"""Seconds without any job being done after which a measure is given up."""


async def fill(url: str, jobs: int, steps: int = 1, function: str = nothing.name) -> None:
    """Put jobs into a store, a thousand to a transaction: this is not what is measured."""
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
    """Worker processes of one store, which begin together."""

    def __init__(self, children: list[Child], gate: Path, url: str) -> None:
        self.children = children
        self._gate = gate
        self._url = url

    def ready(self) -> None:
        """Wait until each of them is held by nothing but the gate."""
        for child in self.children:
            child.until((self._gate / f"{child.pid}.ready").exists)

    def begin(self) -> float:
        """Let them begin; when that was."""
        self.ready()
        begun = time.perf_counter()
        (self._gate / "open").touch()
        return begun

    def until_done(self, jobs: int) -> float:
        """Wait until so many jobs of the store are done; when that was."""
        return asyncio.run(self._until_done(jobs))

    async def _until_done(self, jobs: int) -> float:
        async with App(self._url) as app:
            done, seen_at = 0, time.perf_counter()
            while True:
                before, done = done, (await app.engine.store.counts()).states.get(State.DONE, 0)
                now = time.perf_counter()
                if done >= jobs:
                    return now
                if done > before:
                    seen_at = now
                elif now - seen_at > STUCK:
                    raise ChildError(f"no job was done for {STUCK:g} s; {done} of {jobs} are")
                for child in self.children:
                    child.check()
                await asyncio.sleep(LOOK)

    def costs(self) -> dict[str, float]:
        """The CPU seconds of all of them, and of their threads by name, once they have ended."""
        spent: dict[str, float] = {}
        for child in self.children:
            for name, seconds in json.loads((self._gate / f"{child.pid}.cost").read_text()).items():
                spent[name] = spent.get(name, 0.0) + seconds
        return spent


@contextmanager
def working(bench: Bench, url: str, count: int = 1) -> Iterator[Workers]:
    """``count`` processes ``raincheck worker`` while the block runs, held until they are told to begin."""
    gate = bench.fresh()
    command = raincheck(
        "worker", "benchmarks.programs.functions:app", "--store", url, "--log-level", "warning"
    )
    with ExitStack() as stack:
        children = [stack.enter_context(bench.start(command, BENCH_GATE=str(gate))) for _ in range(count)]
        yield Workers(children, gate, url)


def drain(bench: Bench, url: str, jobs: int, count: int = 1) -> tuple[float, dict[str, float]]:
    """Let workers do so many jobs of a store: seconds from when they begin to when it shows them done,
    and the CPU seconds that took."""
    with working(bench, url, count) as workers:
        begun = workers.begin()
        ended = workers.until_done(jobs)
    return ended - begun, workers.costs()
