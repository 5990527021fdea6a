"""Measures whether the SQLite store slows down as queues grow: ``python -m benchmarks.store_growth``.

Each call is measured with 1,000 and with 300,000 queued jobs in the same run; the ratio matters. Times
are those of whole calls from asyncio, so the calls that write include a sync of the disk.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from raincheck.core import lifecycle
from raincheck.core.clock import new_id
from raincheck.core.model import Change, Claim, Job, State, Step
from raincheck.core.triggers import Succeeded
from raincheck.store import Store, listing, make_store
from raincheck.store.base import Filter, Held

SIZES = (1_000, 300_000)
ROUNDS = 100
BATCH = 5_000

Call = Callable[[], Awaitable[object]]


def submission(store: Store, number: int) -> Change:
    """A job with two steps; one in a thousand has a higher priority, one in a thousand is scheduled."""
    now = store.now()
    job = Job(
        id=new_id(),
        name=f"name {number % 10}",
        steps=(Step(f"function {number % 3}", stage=0, args=b"[1,2,3]"), Step("then", stage=1)),
        data=b'{"city":"Paris"}',
        priority=1 if number % 1000 == 1 else 0,
        scheduled_at=now + 86400.0 if number % 1000 == 2 else None,
        result_ttl=86400.0,
    )
    return lifecycle.submit(job, now)


async def fill(store: Store, begin: int, end: int) -> float:
    """Submit jobs; returns the microseconds per job."""
    spent = 0.0
    for at in range(begin, end, BATCH):
        changes = [submission(store, number) for number in range(at, min(end, at + BATCH))]
        started_at = time.perf_counter()
        await store.commit(changes)
        spent += time.perf_counter() - started_at
    return spent / (end - begin) * 1e6


class Calls:
    """The measured calls; `restore` restores the queues."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.held: list[Claim] = []

    async def claim(self, limit: int) -> None:
        """Claim up to ``limit`` steps."""
        functions = ("function 0", "function 1", "function 2", "never submitted")
        self.held += await self.store.claim("benchmark", functions, limit, 60.0)

    async def finish_and_claim(self) -> None:
        """Finish all claimed steps and claim the same number, in one transaction."""
        held, self.held = self.held, []
        now = self.store.now()
        ended = [Succeeded(lifecycle.attempt_of(claim.lease), b"6") for claim in held]
        changes = [lifecycle.advance(claim.job, [e], now) for claim, e in zip(held, ended, strict=True)]
        await asyncio.gather(self.store.commit(changes), self.claim(len(held)))
        await self.store.commit([submission(self.store, number) for number in range(3, 3 + len(held))])

    async def restore(self) -> None:
        """Release the claimed steps."""
        await self.store.release([Held(c.job.id, c.lease.step, c.lease.token) for c in self.held])
        self.held.clear()


async def measure(store: Store) -> dict[str, float]:
    """The median milliseconds of each call."""
    calls = Calls(store)
    measured: dict[str, Call] = {
        "commit of 1": lambda: store.commit([submission(store, 0)]),
        "claim of 1": lambda: calls.claim(1),
        "claim of 100": lambda: calls.claim(100),
        "finish 100 and claim 100; submit 100": calls.finish_and_claim,
        "newest 50": lambda: listing.page(store, Filter(), 50),
        "50 of a name": lambda: listing.page(store, Filter(name="name 3"), 50),
        "50 of a function": lambda: listing.page(store, Filter(function="function 1"), 50),
        "50 pending": lambda: listing.page(store, Filter(states=(State.PENDING,)), 50),
        "due": lambda: store.due(100),
        "counts": store.counts,
    }
    times: dict[str, float] = {}
    for name, call in measured.items():
        spent = []
        for _ in range(ROUNDS):
            if call == calls.finish_and_claim:
                await calls.claim(100)
            started_at = time.perf_counter()
            await call()
            spent.append(time.perf_counter() - started_at)
            await calls.restore()
        times[name] = statistics.median(spent) * 1e3
    return times


async def main() -> None:
    """Measure at each size, and print a table."""
    with tempfile.TemporaryDirectory(prefix="rc-") as folder:
        store = make_store(f"sqlite:///{Path(folder) / 'raincheck.db'}")
        await store.open()
        results, queued = [], 0
        for size in SIZES:
            cost = await fill(store, queued, size)
            print(f"{size:>9,} jobs queued, {cost:.1f} µs per job")
            results.append(await measure(store))
            queued = size
        await store.close()
    print(f"\n{'ms per call, median':38}" + "".join(f"{size:>12,}" for size in SIZES) + f"{'ratio':>8}")
    for name, small in results[0].items():
        large = results[-1][name]
        print(f"{name:38}{small:12.3f}{large:12.3f}{large / small:8.2f}")


if __name__ == "__main__":
    asyncio.run(main())
