"""Carries calls to the server: whatever came up while one trip was under way goes together with the next.

One thread, one connection. A trip that fails is made again for some seconds; its scripts are told that
they may have been there before (``replay``), so that they answer as they did, or would have done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Event
from typing import Any

import redis
from redis import exceptions

from raincheck import clock
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.model import Job
from raincheck.store.base import Outcome
from raincheck.store.lane import Answers, Lane, Request, fail
from raincheck.store.signals import Signals
from raincheck.store.valkey import wire
from raincheck.store.valkey.address import Address, connect
from raincheck.store.valkey.faults import passes, translate
from raincheck.store.valkey.keys import Keys, ShardKeys
from raincheck.store.valkey.ready import Ready
from raincheck.store.valkey.scripts import script
from raincheck.store.valkey.subscriber import message

logger = logging.getLogger("raincheck.store")

PATIENCE = 4.0
"""Seconds for which a trip is tried again, before its callers hear of it."""

MAX_CHANGES = 500
"""Changes in one script call: the server does nothing else meanwhile."""

ACK_MILLISECONDS = 2000
CLOCK_LOOK = 15.0
"""Seconds between looks at the server's clock."""

ACK_COMMANDS = {"fsync": ("WAITAOF", 1, 0, ACK_MILLISECONDS), "replicated": ("WAIT", 1, ACK_MILLISECONDS)}

Words = Callable[[bool], Sequence[Any]]
"""The arguments of a call; told whether it may have been carried out before."""


class Call(Request[Any]):
    """A script call, or a plain command; ``given_up`` gets the answer that nobody waits for any more."""

    def __init__(
        self,
        script: str | None,
        keys: Sequence[str],
        words: Words,
        *,
        given_up: Callable[[Any], None] | None = None,
        threaded: bool = False,
    ) -> None:
        super().__init__(threaded=threaded)
        self.script = script
        self.keys = keys
        self.words = words
        self.given_up = given_up

    def abandoned(self, answer: Any) -> None:
        if self.given_up is not None:
            self.given_up(answer)


class Commit(Request[list[Outcome]]):
    """Changes of one caller, and the outcomes that have come in for them."""

    def __init__(self, changes: Sequence[wire.Packed]) -> None:
        super().__init__()
        self.changes = changes
        self.outcomes: list[Outcome] = [None] * len(changes)
        self.open = len(changes)


class Parcel:
    """One command of a trip, what is done with its answer, and with its failure."""

    def __init__(
        self,
        script: str | None,
        keys: Sequence[str],
        words: Words,
        done: Callable[[Any], None],
        failed: Callable[[StoreError], None],
    ) -> None:
        self.script = script
        self.keys = keys
        self.words = words
        self.done = done
        self.failed = failed
        self.replay = False

    def command(self) -> Sequence[Any]:
        """What is sent."""
        words = self.words(self.replay)
        if self.script is None:
            return words
        return "EVALSHA", script(self.script).sha, len(self.keys), *self.keys, *words


class Courier:
    """The thread (`lane`) and its connection."""

    def __init__(self, address: Address, keys: Keys, origin: str, signals: Signals, ready: Ready) -> None:
        self._address = address
        self._keys = keys
        self._origin = origin
        self._signals = signals
        self._ready = ready
        self._client: redis.Redis | None = None
        self._acknowledge = ACK_COMMANDS.get(address.ack)
        self._looked_at = -CLOCK_LOOK
        self._closing = Event()
        self.offset = 0.0
        """How far the server's clock is ahead of ours."""
        self.lane = Lane("raincheck-valkey", self._serve, self._end)

    def start(self) -> None:
        """Carry from now on."""
        self._closing.clear()
        self.lane.start()

    def close(self) -> None:
        """Make the last trip, then end; nothing is tried for long any more."""
        self._closing.set()
        self.lane.close()

    def _end(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _serve(self, batch: list[Request[Any]]) -> None:
        answers = Answers()
        news: dict[str, Job | None] = {}
        parcels = [
            self._parcel(each, answers) for each in batch if isinstance(each, Call) and not _is_idle(each)
        ]
        parcels += self._commits([each for each in batch if isinstance(each, Commit)], answers, news)
        try:
            if parcels:
                self._deliver(parcels)
        except Exception as error:  # a bug: nobody shall wait for ever
            logger.exception("a trip to the store failed")
            fail(batch, error)
            return
        if news:
            self._signals.tell(news)
        answers.give()

    def _parcel(self, call: Call, answers: Answers) -> Parcel:
        def settle(answer: Any) -> None:
            answers.add(call, answer)

        return Parcel(call.script, call.keys, call.words, settle, settle)

    def _commits(
        self, commits: list[Commit], answers: Answers, news: dict[str, Job | None]
    ) -> Iterator[Parcel]:
        shards: dict[int, list[tuple[Commit, int]]] = {}
        for commit in commits:
            for place, change in enumerate(commit.changes):
                shard = self._keys.shard_of(change.raw_id)
                shards.setdefault(shard.number, []).append((commit, place))
        for number, orders in shards.items():
            for at in range(0, len(orders), MAX_CHANGES):
                yield self._commit(self._keys.shards[number], orders[at : at + MAX_CHANGES], answers, news)

    def _commit(
        self,
        shard: ShardKeys,
        orders: list[tuple[Commit, int]],
        answers: Answers,
        news: dict[str, Job | None],
    ) -> Parcel:
        changes = [commit.changes[place] for commit, place in orders]
        batch = wire.Batch(shard)
        for each in changes:
            batch.add(each)
        functions = {place.function for each in changes for place in each.change.put}
        word = message(functions, [c.change.job.id for c in changes if c.change.job.rev > 1], self._origin)
        head = (batch.packed, self._keys.bell, word)

        def done(answer: Any) -> None:
            for (commit, place), each in zip(orders, answer, strict=True):
                commit.outcomes[place] = outcome = wire.outcome(each)
                commit.open -= 1
                if outcome is None:
                    job = commit.changes[place].change.job
                    news[job.id] = job
                if not commit.open:
                    answers.add(commit, commit.outcomes)
            self._ready.tell(functions)

        def failed(error: StoreError) -> None:
            for commit in {commit for commit, _ in orders}:
                answers.add(commit, error)

        return Parcel("commit", batch.keys, lambda replay: (*head, int(replay), *batch.bodies), done, failed)

    def _deliver(self, parcels: list[Parcel]) -> None:
        """Make trips until every parcel is delivered, or patience is over."""
        until, pause = clock.monotonic() + PATIENCE, 0.02
        while True:
            parcels, error = self._travel(parcels)
            if not parcels or error is None:
                return
            if self._closing.is_set() or clock.monotonic() + pause > until:
                for parcel in parcels:
                    parcel.failed(error)
                return
            self._closing.wait(pause * (0.5 + clock.chance()))
            pause = min(2 * pause, 0.5)

    def _travel(self, parcels: list[Parcel]) -> tuple[list[Parcel], StoreError | None]:
        """One trip; the parcels to be sent again, and why."""
        try:
            answers = self._send([parcel.command() for parcel in parcels])
        except (exceptions.RedisError, OSError) as error:
            self._end()  # nothing that may still come on this connection is an answer to what follows
            for parcel in parcels:
                parcel.replay = True
            return parcels, translate(error)
        unmet = self._unmet(answers.pop()) if self._acknowledge else None
        again: list[Parcel] = []
        reason: StoreError | None = None
        for parcel, answer in zip(parcels, answers, strict=True):
            if isinstance(answer, exceptions.NoScriptError) and parcel.script is not None:
                self._load(parcel.script)
            elif not (isinstance(answer, Exception) and passes(answer)):
                _hand_over(parcel, answer, unmet)
                continue
            again.append(parcel)
            reason = translate(answer)
        return again, reason

    def _load(self, name: str) -> None:
        with suppress(exceptions.RedisError, OSError):  # then the next trip finds out
            self._connected().script_load(script(name).source)

    def _send(self, commands: list[Sequence[Any]]) -> list[Any]:
        """Send commands, and what goes with every trip; the answers, the acknowledgement's last."""
        look = clock.monotonic() - self._looked_at > CLOCK_LOOK
        before = clock.now()
        pipeline: Any  # its execute_command ships without types
        with self._connected().pipeline(transaction=False) as pipeline:
            if look:
                pipeline.execute_command("TIME")
            for command in commands:
                pipeline.execute_command(*command)
            if self._acknowledge:
                pipeline.execute_command(*self._acknowledge)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        if look:
            self._see_time(before, answers.pop(0), clock.now())
        return answers

    def _see_time(self, before: float, time: Any, after: float) -> None:
        """Set our clock by the server's, unless the two may agree already."""
        if isinstance(time, tuple):
            self._looked_at = clock.monotonic()
            server = time[0] + time[1] / 1e6
            if not before + self.offset <= server <= after + self.offset:
                self.offset = server - (before + after) / 2
                if abs(self.offset) < after - before:
                    self.offset = 0.0

    def _unmet(self, answer: Any) -> StoreError | None:
        """Why what was written may not count as acknowledged."""
        if isinstance(answer, Exception):
            return translate(answer)
        count = answer[0] if isinstance(answer, list) else answer
        if count >= 1:
            return None
        what = "synced to disk" if self._address.ack == "fsync" else "received by a replica"
        return StoreUnavailable(
            f"ack={self._address.ack}: it was written, but not {what} in time; it may be lost"
        )

    def _connected(self) -> redis.Redis:
        if self._client is None:
            self._client = connect(self._address)
        return self._client


def _is_idle(call: Call) -> bool:
    """Whether the call would only be undone: a claim whose caller has gone."""
    return call.given_up is not None and bool(call.future.cancelled())


def _hand_over(parcel: Parcel, answer: Any, unmet: StoreError | None) -> None:
    if isinstance(answer, Exception):
        parcel.failed(translate(answer))
    elif unmet is not None and parcel.script == "commit":
        parcel.failed(unmet)
    else:
        parcel.done(answer)
