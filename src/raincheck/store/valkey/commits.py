"""Commits of one event loop: all that wait when a trip leaves become one script call a shard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from raincheck.codec import encode_job
from raincheck.model import Change
from raincheck.store.base import Outcome
from raincheck.store.valkey.courier import Call
from raincheck.store.valkey.keys import Keys, packed
from raincheck.store.valkey.scripts import script
from raincheck.store.valkey.subscriber import message
from raincheck.store.valkey.wire import Batch, outcome

MAX_BATCH = 1000
"""Changes in one script call: the server does nothing else meanwhile."""

Waiting = tuple[Change, bytes, "Order", int]


class Order:
    """One caller's changes, and the outcomes that have come in for them."""

    def __init__(self, size: int) -> None:
        self.outcomes: list[Outcome] = [None] * size
        self.open = size
        self.future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

    def settle(self, place: int, result: Outcome) -> None:
        """The outcome of one change; the last one answers the caller."""
        self.outcomes[place] = result
        self.open -= 1
        if not self.open and not self.future.done():
            self.future.set_result(self.outcomes)

    def fail(self, error: BaseException) -> None:
        """They could not be carried out."""
        if not self.future.done():
            self.future.set_exception(error)


class Commits:
    """Gathers changes by shard; ``pack`` is called when a trip leaves."""

    def __init__(self, keys: Keys, origin: str) -> None:
        self._keys = keys
        self._origin = origin
        self._waiting: dict[int, list[Waiting]] = {}

    def add(self, changes: Sequence[Change]) -> asyncio.Future[list[Outcome]]:
        """Have these written; their outcomes."""
        order = Order(len(changes))
        for place, change in enumerate(changes):
            shard = self._keys.shard_of(packed(change.job.id))
            self._waiting.setdefault(shard.number, []).append((change, encode_job(change.job), order, place))
        return order.future

    def pack(self) -> list[Call]:
        """What has been gathered, as script calls."""
        gathered, self._waiting = self._waiting, {}
        return [
            self._call(number, waiting[at : at + MAX_BATCH])
            for number, waiting in gathered.items()
            for at in range(0, len(waiting), MAX_BATCH)
        ]

    def _call(self, number: int, waiting: list[Waiting]) -> Call:
        batch = Batch(self._keys.shards[number])
        for change, record, _, _ in waiting:
            batch.add(change, record)
        word = message(
            {place.function for change, _, _, _ in waiting for place in change.put},
            [change.job.id for change, _, _, _ in waiting if change.job.rev > 1],
            self._origin,
        )
        head: list[Any] = [batch.packed, self._keys.bell, word]
        call = Call(script("commit"), batch.keys, lambda replay: [*head, int(replay), *batch.bodies])
        call.future.add_done_callback(_settler(waiting))
        return call


def _settler(waiting: list[Waiting]) -> Callable[[asyncio.Future[Any]], None]:
    def settle(future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        for i, (_, _, order, place) in enumerate(waiting):
            if error is not None:
                order.fail(error)
            else:
                order.settle(place, outcome(future.result()[i]))

    return settle
