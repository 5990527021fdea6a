"""Commits of one event loop: those that are there together share a script call a shard."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from raincheck.core.model import Job
from raincheck.store.base import Outcome
from raincheck.store.valkey import packing
from raincheck.store.valkey.hints import Hints
from raincheck.store.valkey.keys import Keys, ShardKeys

MAX_CHANGES = 500
"""Changes in one script call: the server does nothing else meanwhile."""

MAX_BYTES = 4 << 20
"""Bytes in one script call, unless one change alone has more."""

IN_FLIGHT = 4
"""Script calls of one shard that are on their way at once; later changes wait, and go together."""


EARLY = 16
"""Changes that go out during the turn if no batch is in flight, so that server and loop work together."""


class _Caller:
    """Who committed changes together, and the outcomes so far."""

    __slots__ = ("future", "open", "outcomes")

    def __init__(self, size: int) -> None:
        self.outcomes: list[Outcome] = [None] * size
        self.open = size
        self.future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

    def settle(self, place: int, outcome: Outcome) -> None:
        """One of the outcomes has come."""
        self.outcomes[place] = outcome
        self.open -= 1
        if not self.open and not self.future.done():
            self.future.set_result(self.outcomes)

    def fail(self, error: Exception) -> None:
        """One of them will not come."""
        if not self.future.done():
            self.future.set_exception(error)


class _Order(NamedTuple):
    """A change, and where its outcome goes."""

    caller: _Caller
    place: int
    change: packing.Packed


class Batch:
    """Changes that go to a shard in one script call."""

    def __init__(self, commits: Commits, shard: ShardKeys, orders: list[_Order]) -> None:
        self._commits = commits
        self._orders = orders
        self.shard = shard
        self.functions = {place.function for each in orders for place in each.change.change.put}

    def arguments(self, hints: Hints, channel: str) -> tuple[list[str], tuple[Any, ...]]:
        """The keys and the words of ``commit.lua``."""
        packed = packing.Batch(self.shard)
        for order in self._orders:
            packed.add(order.change)
        jobs = [job.id for order in self._orders if (job := order.change.change.job).rev > 1]
        return packed.keys, (packed.packed, channel, hints.message(self.functions, jobs), *packed.bodies)

    def settle(self, reply: list[Any], hints: Hints) -> None:
        """Give each caller the outcomes, and tell this process what was written."""
        written: dict[str, Job | None] = {}
        for (caller, place, change), each in zip(self._orders, reply, strict=True):
            outcome = packing.outcome(each) if each else None
            if outcome is None:
                written[change.change.job.id] = change.change.job
            caller.settle(place, outcome)
        self._commits.ended(self.shard)
        hints.tell(written, self.functions)

    def fail(self, error: Exception) -> None:
        """No outcome will come."""
        for order in self._orders:
            order.caller.fail(error)
        self._commits.ended(self.shard)


class Commits:
    """The changes of one loop that wait. ``flush`` sends `batches` now, ``schedule`` after this turn."""

    def __init__(self, keys: Keys, flush: Callable[[], None], schedule: Callable[[], None]) -> None:
        self._keys = keys
        self._flush = flush
        self._schedule = schedule
        self._waiting: list[deque[_Order]] = [deque() for _ in keys.shards]
        self._in_flight = [0] * len(keys.shards)

    @property
    def is_busy(self) -> bool:
        """Whether there is anything that has no outcome yet."""
        return any(self._in_flight) or any(self._waiting)

    def add(self, changes: Sequence[packing.Packed]) -> asyncio.Future[list[Outcome]]:
        """Have changes sent at the end of this turn; their outcomes to come."""
        caller = _Caller(len(changes))
        for place, change in enumerate(changes):
            shard = self._keys.shard_of(change.raw_id)
            self._waiting[shard.number].append(_Order(caller, place, change))
        number = changes[-1].raw_id[-1] % len(self._waiting)
        if self._in_flight[number] == 0 and len(self._waiting[number]) >= EARLY:
            self._flush()
        else:
            self._schedule()
        return caller.future

    def batches(self) -> Iterator[Batch]:
        """What is to be sent now."""
        for shard, waiting in zip(self._keys.shards, self._waiting, strict=True):
            while waiting and self._in_flight[shard.number] < IN_FLIGHT:
                self._in_flight[shard.number] += 1
                yield Batch(self, shard, _cut(waiting))

    def ended(self, shard: ShardKeys) -> None:
        """A batch of a shard is over."""
        self._in_flight[shard.number] -= 1
        if self._waiting[shard.number]:
            self._schedule()


def _cut(waiting: deque[_Order]) -> list[_Order]:
    """The first of the orders, as many as go into one call."""
    orders = [waiting.popleft()]
    size = orders[0].change.size
    while waiting and len(orders) < MAX_CHANGES and (size := size + waiting[0].change.size) <= MAX_BYTES:
        orders.append(waiting.popleft())
    return orders
