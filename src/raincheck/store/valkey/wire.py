"""How values cross to the scripts and back: `Change` to arrays, arrays to `Stored` and `Claim`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from raincheck.codec import decode_job
from raincheck.model import Change, Claim, Lease, Place, Release, Stored
from raincheck.store.base import Conflict, Duplicate, Outcome
from raincheck.store.valkey.keys import STATES, ShardKeys, packed, unpacked

EPOCH_MS = 1_735_689_600_000
"""Milliseconds to 2025-01-01: scores count from there, so that they are exact in a double."""

PRIORITY_STEP = 1 << 42

HEADER = 5
"""Bytes before a record: its revision and the number of its state."""

_encode = msgspec.msgpack.Encoder().encode
_CONFLICT = Conflict()
_NUMBER = {state: number for number, state in enumerate(STATES)}


class Batch:
    """Changes of one shard as the arguments of ``commit.lua``: each key once, then by its number."""

    def __init__(self, keys: ShardKeys) -> None:
        self._shard = keys
        self._numbers: dict[str, int] = {}
        self.keys = list(keys.fixed)
        self.bodies: list[bytes] = []
        self._changes: list[Any] = []

    def add(self, change: Change, record: bytes) -> None:
        """Put a change in."""
        job = change.job
        raw = packed(job.id)
        indexes: list[int] = []
        if job.rev == 1:
            indexes = [self._number(key) for key in index_keys(self._shard, job.name, {s.function for s in job.steps})]
        self.bodies += [raw, record]
        key = change.key
        self._changes.append(
            (
                job.rev,
                _NUMBER[job.state],
                False if change.alarm is None else change.alarm,
                key is not None and (key.name, key.fingerprint.hex(), key.until),
                indexes,
                [self._place(place) for place in change.take],
                [_guard(release) for release in change.release],
                [_guard(hold) for hold in change.hold],
                [self._place(place) for place in change.drop],
                [self._place(place) for place in change.put],
            )
        )

    @property
    def packed(self) -> bytes:
        """The changes as one argument."""
        return _encode(self._changes)

    def _number(self, key: str) -> int:
        number = self._numbers.get(key)
        if number is None:
            self.keys.append(key)
            number = self._numbers[key] = len(self.keys)
        return number

    def _place(self, place: Place) -> tuple[int, int, int, int, int, float, str]:
        ready, later = self._shard.queue(place.function)
        score = -place.priority * PRIORITY_STEP + int(place.due * 1000) - EPOCH_MS
        return (place.step, self._number(ready), self._number(later), place.priority, score, place.due, place.function)


def _guard(release: Release) -> tuple[int, int, bool]:
    return (release.step, release.token, release.expired)


def index_keys(shard: ShardKeys, name: str, functions: set[str]) -> list[str]:
    """The keys of the indexes that a job is in beside those of all and of its state."""
    return [shard.index("name", name), *(shard.index("function", function) for function in sorted(functions))]


def outcome(answer: Any) -> Outcome:
    """What ``commit.lua`` says of a change."""
    if isinstance(answer, list):
        return Duplicate(unpacked(answer[0]), bytes.fromhex(answer[1].decode()))
    return _CONFLICT if answer else None


def stored(answer: list[Any]) -> Stored:
    """What ``find.lua`` says of a job."""
    leases = tuple(
        sorted(
            (
                Lease(
                    answer[i],
                    answer[i + 1],
                    answer[i + 2].decode(),
                    float(answer[i + 3]),
                    float(answer[i + 4]),
                    answer[i + 5] or None,
                )
                for i in range(1, len(answer), 6)
            ),
            key=lambda lease: lease.step,
        )
    )
    return Stored(decode_job(answer[0][HEADER:]), leases)


def claims(answer: Sequence[Any], worker: str) -> list[Claim]:
    """What ``claim.lua`` moved."""
    since, until = float(answer[-2]), float(answer[-1])
    return [
        Claim(decode_job(answer[i][HEADER:]), Lease(answer[i + 1], answer[i + 2], worker, since, until))
        for i in range(1, len(answer) - 2, 3)
    ]
