"""Takes calls to the servers: whatever came up while one trip was under way goes together with the next.

One thread, one connection to each server. Commits of all callers share a script call a shard.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from raincheck import clock
from raincheck.model import Job
from raincheck.store.batcher import Answers
from raincheck.store.batcher import Batcher as Lane
from raincheck.store.batcher import Call as Request
from raincheck.store.signals import Signals
from raincheck.store.valkey import wire
from raincheck.store.valkey.address import Address
from raincheck.store.valkey.keys import Keys, ShardKeys
from raincheck.store.valkey.nodes import make_nodes
from raincheck.store.valkey.parcels import PATIENCE, Call, Commit, Parcel
from raincheck.store.valkey.ready import Ready
from raincheck.store.valkey.subscriber import message
from raincheck.store.valkey.trips import Trips

logger = logging.getLogger("raincheck.store")

MAX_CHANGES = 500
"""Changes in one script call: the server does nothing else meanwhile."""

CLOCK_LOOK = 15.0
"""Seconds between looks at the server's clock."""


class Courier:
    """The thread (`lane`) and its connections."""

    def __init__(self, address: Address, keys: Keys, origin: str, signals: Signals, ready: Ready) -> None:
        self._keys = keys
        self._origin = origin
        self._signals = signals
        self._ready = ready
        self.nodes = make_nodes(address)
        self._trips = Trips(self.nodes, address.ack)
        self._looked_at = -CLOCK_LOOK
        self._answers = Answers()
        self._news: dict[str, Job | None] = {}
        self.offset = 0.0
        """How far the server's clock is ahead of ours."""
        self.lane = Lane("raincheck-valkey", self._serve, self._end, self._trips.waiting.patience)

    def start(self) -> None:
        """Carry from now on."""
        self._trips.last = False
        self.lane.start()

    def close(self) -> None:
        """Make the last trip, then end; nothing is sent again."""
        self._trips.last = True
        self.lane.close()

    def _end(self) -> None:
        self._carry(self._trips.waiting.empty())
        self.nodes.close()

    def _serve(self, batch: list[Request[Any]]) -> None:
        now = clock.monotonic()
        parcels = [self._call(each, now) for each in batch if isinstance(each, Call) and not each.idle]
        parcels += self._commits([each for each in batch if isinstance(each, Commit)], now + PATIENCE)
        self._carry(self._trips.waiting.sort(parcels))

    def _carry(self, parcels: list[Parcel]) -> None:
        """Carry parcels, and give the answers that came."""
        if parcels and clock.monotonic() - self._looked_at > CLOCK_LOOK:
            parcels = [self._clock_look(), *parcels]
        try:
            self._trips.make(parcels)
        except Exception as error:  # a bug: nobody shall wait for ever
            logger.exception("a trip to the store failed")
            self.nodes.close()
            for parcel in parcels:
                parcel.failed(error)
        news, self._news = self._news, {}
        answers, self._answers = self._answers, Answers()
        if news:
            self._signals.tell(news)
        answers.give()

    def _call(self, call: Call, now: float) -> Parcel:
        def settle(answer: Any) -> None:
            self._answers.add(call, answer)

        slot = self.nodes.slot(call.keys[0] if call.keys else self._keys.config)
        return Parcel(
            call.script, call.keys, call.words, settle, settle, slot=slot, until=now + call.patience
        )

    def _commits(self, commits: list[Commit], until: float) -> Iterator[Parcel]:
        shards: dict[int, list[tuple[Commit, int]]] = {}
        for commit in commits:
            for place, change in enumerate(commit.changes):
                shard = self._keys.shard_of(change.raw_id)
                shards.setdefault(shard.number, []).append((commit, place))
        for number, orders in shards.items():
            for at in range(0, len(orders), MAX_CHANGES):
                yield self._commit(self._keys.shards[number], orders[at : at + MAX_CHANGES], until)

    def _commit(self, shard: ShardKeys, orders: list[tuple[Commit, int]], until: float) -> Parcel:
        changes = [commit.changes[place] for commit, place in orders]
        batch = wire.Batch(shard)
        for each in changes:
            batch.add(each)
        functions = {place.function for each in changes for place in each.change.put}
        word = message(functions, [c.change.job.id for c in changes if c.change.job.rev > 1], self._origin)
        head = (batch.packed, self._keys.bell, word)

        def words(replay: bool) -> Sequence[Any]:
            return *head, int(replay), *batch.bodies

        def done(answer: Any) -> None:
            for (commit, place), each in zip(orders, answer, strict=True):
                commit.outcomes[place] = outcome = wire.outcome(each)
                commit.open -= 1
                if outcome is None:
                    job = commit.changes[place].change.job
                    self._news[job.id] = job
                if not commit.open:
                    self._answers.add(commit, commit.outcomes)
            self._ready.tell(functions)

        def failed(error: Exception) -> None:
            for commit in {commit for commit, _ in orders}:
                self._answers.add(commit, error)

        slot = self.nodes.slot(shard.fixed[0])
        return Parcel("commit", batch.keys, words, done, failed, slot=slot, until=until)

    def _clock_look(self) -> Parcel:
        """Asks for the time of the first shard's server: one clock decides, if there are several."""
        before = 0.0

        def words(replay: bool) -> Sequence[Any]:
            nonlocal before
            before = clock.now()
            return ("TIME",)

        def done(answer: tuple[int, int]) -> None:
            self._see_time(before, answer[0] + answer[1] / 1e6, clock.now())

        slot = self.nodes.slot(self._keys.config)
        return Parcel(None, (), words, done, lambda error: None, slot=slot, until=0.0)

    def _see_time(self, before: float, server: float, after: float) -> None:
        """Set our clock by the server's, unless the two may agree already."""
        self._looked_at = clock.monotonic()
        if not before + self.offset <= server <= after + self.offset:
            self.offset = server - (before + after) / 2
            if abs(self.offset) < after - before:
                self.offset = 0.0
