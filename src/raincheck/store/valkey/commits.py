"""Group commit: changes of one event loop that wait at the same time share a script call per shard."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from raincheck.core.model import Job
from raincheck.store.base import Outcome
from raincheck.store.valkey.connection import Command
from raincheck.store.valkey.keys import Keys, ShardKeys
from raincheck.store.valkey.packing import PackedChange, read_outcome
from raincheck.store.valkey.subscription import Hints

MAX_CHANGES = 500
"""Changes in one script call: the server does nothing else meanwhile."""

MAX_BYTES = 4 << 20
"""Bytes in one script call, unless one change alone is larger."""

MAX_IN_FLIGHT = 4
"""Script calls of one shard in flight; later changes wait and share the next call."""

EARLY = 16
"""Changes that are sent before the turn ends if no call is in flight: server and loop overlap."""


class _Caller:
    """The future of one call of `CommitQueue.add`, and the outcomes so far."""

    __slots__ = ("future", "missing", "outcomes")

    def __init__(self, size: int) -> None:
        self.outcomes: list[Outcome] = [None] * size
        self.missing = size
        self.future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

    def settle(self, index: int, outcome: Outcome) -> None:
        """Store an outcome; the last one settles the future."""
        self.outcomes[index] = outcome
        self.missing -= 1
        if not self.missing and not self.future.done():
            self.future.set_result(self.outcomes)

    def fail(self, error: Exception) -> None:
        """Raise an error to the caller."""
        if not self.future.done():
            self.future.set_exception(error)


class QueuedChange(NamedTuple):
    """A change, and where its outcome goes."""

    caller: _Caller
    place: int
    packed: PackedChange


class CommitQueue:
    """The changes of one loop that wait to be sent.

    It calls ``flush`` to have `batches` sent at once, and ``schedule`` at the end of the turn.
    """

    def __init__(self, keys: Keys, flush: Callable[[], None], schedule: Callable[[], None]) -> None:
        self._keys = keys
        self._flush = flush
        self._schedule = schedule
        self._waiting: list[deque[QueuedChange]] = [deque() for _ in keys.shards]
        self._in_flight = [0] * len(keys.shards)

    @property
    def is_busy(self) -> bool:
        """Whether a change has no outcome yet."""
        return any(self._in_flight) or any(self._waiting)

    def add(self, changes: Sequence[PackedChange]) -> asyncio.Future[list[Outcome]]:
        """Queue changes. Returns the future of their outcomes."""
        caller = _Caller(len(changes))
        number = 0
        for index, change in enumerate(changes):
            number = self._keys.shard_of(change.raw_id).number
            self._waiting[number].append(QueuedChange(caller, index, change))
        if self._in_flight[number] == 0 and len(self._waiting[number]) >= EARLY:
            self._flush()
        else:
            self._schedule()
        return caller.future

    def batches(self) -> Iterator[tuple[ShardKeys, list[QueuedChange]]]:
        """The batches to send now. Call `finish` when a batch has its reply, or failed."""
        for shard, waiting in zip(self._keys.shards, self._waiting, strict=True):
            while waiting and self._in_flight[shard.number] < MAX_IN_FLIGHT:
                self._in_flight[shard.number] += 1
                yield shard, _take(waiting)

    def finish(self, shard: ShardKeys) -> None:
        """A batch of a shard is no longer in flight."""
        self._in_flight[shard.number] -= 1
        if self._waiting[shard.number]:
            self._schedule()


class CommitCommand(Command):
    """The script call of a batch; ``functions`` get new queue entries."""

    def __init__(
        self,
        words: tuple[Any, ...],
        slot: int,
        batch: list[QueuedChange],
        functions: set[str],
        finish: Callable[[], None],
        hints: Hints,
    ) -> None:
        super().__init__(words, slot=slot, script="commit", durable=True)
        self._batch = batch
        self._functions = functions
        self._finish = finish
        self._hints = hints

    def settle(self, reply: list[Any]) -> None:
        """Deliver the outcomes to the callers, and notify this process of what was written."""
        if self.future.done():  # the callers already got an error: the server did not reply in time
            self._hints.notify_all()
            return
        self.future.set_result(None)
        written: dict[str, Job | None] = {}
        for (caller, place, packed), each in zip(self._batch, reply, strict=True):
            outcome = read_outcome(each) if each else None
            if outcome is None:
                written[packed.change.job.id] = packed.change.job
            caller.settle(place, outcome)
        self._finish()
        self._hints.notify(written, self._functions)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_result(None)
            for queued in self._batch:
                queued.caller.fail(error)
            self._finish()


def _take(waiting: deque[QueuedChange]) -> list[QueuedChange]:
    """Take the first changes, as many as fit into one call."""
    taken = [waiting.popleft()]
    size = taken[0].packed.size
    while waiting and len(taken) < MAX_CHANGES and (size := size + waiting[0].packed.size) <= MAX_BYTES:
        taken.append(waiting.popleft())
    return taken
