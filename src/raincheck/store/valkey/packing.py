"""How values cross to the scripts and back: `Change` to arrays, arrays to `Stored` and `Claim`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from raincheck.core.codec import decode_job, encode_job
from raincheck.core.model import Change, Claim, Job, Lease, QueueEntry, Release, Stored
from raincheck.store.base import Conflict, Duplicate, Held, Outcome
from raincheck.store.valkey.keys import STATES, ShardKeys, packed, tags, unpacked

HEADER = 5
"""Bytes before a record: its revision and the number of its state."""

_TOP = 1 << 63
_NUMBER = {state: number for number, state in enumerate(STATES)}
_encode = msgspec.msgpack.Encoder().encode


class Packed(NamedTuple):
    """A change, packed where it is committed: errors in it are raised to that caller."""

    change: Change
    raw_id: bytes
    record: bytes
    members: bytes

    @property
    def size(self) -> int:
        """About how many bytes it takes in a call."""
        results = sum(len(value) for _, value in self.change.results)
        return len(self.record) + len(self.members) + results + 100


def pack(change: Change) -> Packed:
    """Make a change ready. Raises `ValueError` for what cannot be stored."""
    raw = packed(change.job.id)
    places = (*change.take, *change.drop, *change.put)
    return Packed(change, raw, encode_job(change.job), b"".join([_member(raw, place) for place in places]))


def _member(raw_id: bytes, place: QueueEntry) -> bytes:
    """A place as a member of its queue. They sort as they are claimed: by priority, due time, id, step."""
    (due,) = struct.unpack(">Q", struct.pack(">d", place.due))
    due = due | _TOP if due < _TOP else due ^ (2 * _TOP - 1)  # bits of a float, made to sort as numbers
    try:
        return struct.pack(">QQ16sH", _TOP - place.priority, due, raw_id, place.step)
    except struct.error as error:
        raise ValueError(f"priority {place.priority} or step {place.step} is out of range") from error


class Batch:
    """Changes of one shard as the arguments of ``commit.lua``: each key once, then by its number."""

    def __init__(self, shard: ShardKeys) -> None:
        self._shard = shard
        self._numbers: dict[str, int] = {}
        self.keys = list(shard.fixed)
        self.bodies: list[bytes] = []
        self._changes: list[Any] = []

    def add(self, each: Packed) -> None:
        """Put a change in."""
        change = each.change
        job, key = change.job, change.key
        self.bodies += (each.raw_id, tags_of(job), each.record, each.members)
        self.bodies += (value for _, value in change.results)
        self._changes.append(
            (
                job.rev,
                _NUMBER[job.state],
                False if change.check_at is None else change.check_at,
                key is not None and (key.name, key.fingerprint.hex(), key.until),
                (change.take and [self._place(place) for place in change.take]) or None,
                (change.release and [_guard(release) for release in change.release]) or None,
                (change.hold and [_guard(hold) for hold in change.hold]) or None,
                (change.drop and [self._place(place) for place in change.drop]) or None,
                (change.put and [self._place(place) for place in change.put]) or None,
                job.state.ended,
                [step for step, _ in change.results] or None,
            )
        )

    @property
    def packed(self) -> bytes:
        """The changes as one argument."""
        return _encode(self._changes)

    def _key(self, key: str) -> int:
        number = self._numbers.get(key)
        if number is None:
            self.keys.append(key)
            number = self._numbers[key] = len(self.keys) + 1  # behind the key of the answer
        return number

    def _place(self, place: QueueEntry) -> tuple[int, int, int, float, str]:
        ready, later = self._shard.queue(place.function)
        return place.step, self._key(ready), self._key(later), place.due, place.function


def _guard(release: Release) -> tuple[int, int, bool]:
    return release.step, release.token, release.expired


def tags_of(job: Job) -> bytes:
    """What listings find a job by, without reading it."""
    return tags(job.name, tuple([step.function for step in job.steps]), job.group)


def lease_args(held: Held) -> tuple[bytes, int, int]:
    """How a script is told of a lease. Raises `ValueError` for the id of no job."""
    return packed(held.job_id), held.step, held.token


def field(job_id: str, step: int) -> bytes:
    """A step of a job, as scripts name it. Raises `ValueError` for the id of no job."""
    return packed(job_id) + struct.pack(">H", step)


def outcome(answer: Any) -> Outcome:
    """What ``commit.lua`` says of a change."""
    if isinstance(answer, list):
        return Duplicate(unpacked(answer[0]), bytes.fromhex(answer[1].decode()))
    return Conflict() if answer else None


def stored(answer: list[Any]) -> Stored:
    """What ``find.lua`` or ``due.lua`` says of a job."""
    leases = [_lease(answer[i : i + 6]) for i in range(1, len(answer), 6)]
    return Stored(decode_job(answer[0][HEADER:]), tuple(sorted(leases, key=lambda lease: lease.step)))


def overdue(lists: Sequence[list[Any]], limit: int) -> list[Any]:
    """The entries of one kind that ``due.lua`` gave in all shards, the longest overdue first."""
    timed = [(float(each[i]), each[i + 1]) for each in lists for i in range(0, len(each), 2)]
    return [entry for _, entry in sorted(timed, key=lambda pair: pair[0])[:limit]]


def lost(entries: Sequence[list[Any]]) -> list[Claim]:
    """What ``due.lua`` says of lost leases: the value of a job comes with the first of them."""
    jobs: dict[bytes, Job] = {}
    for raw_id, value, *_ in entries:
        if value:
            jobs[raw_id] = decode_job(value[HEADER:])
    return [Claim(jobs[entry[0]], _lease(entry[2:])) for entry in entries]


def _lease(words: list[Any]) -> Lease:
    step, token, worker, since, until, progress = words
    return Lease(step, token, worker.decode(), float(since), float(until), progress or None)


def claims(answer: Sequence[Any], worker: str) -> list[Claim]:
    """What ``claim.lua`` moved. Each job comes once, however many of its steps there are."""
    jobs, rows = _claimed(answer)
    since, until = float(answer[-2]), float(answer[-1])
    return [Claim(jobs[number - 1], Lease(step, token, worker, since, until)) for number, step, token in rows]


def _claimed(answer: Sequence[Any]) -> tuple[list[Job], Iterator[tuple[int, int, int]]]:
    """The jobs, and of each lease the number of its job (from 1), its step and its token."""
    values, words = answer[1], answer[2]
    rows = zip(words[::3], words[1::3], words[2::3], strict=True)
    return [decode_job(value[HEADER:]) for value in values], rows


def held_in(answer: Sequence[Any]) -> list[tuple[bytes, int, int]]:
    """The leases that ``claim.lua`` gave, as a script is told of them."""
    jobs, rows = _claimed(answer)
    ids = [packed(job.id) for job in jobs]
    return [(ids[number - 1], step, token) for number, step, token in rows]


def info(reply: bytes) -> dict[str, Any]:
    """What INFO says, numbers as numbers."""
    rows = (line.partition(":") for line in reply.decode().splitlines() if ":" in line)
    return {name: int(value) if value.isdigit() else value for name, _, value in rows}


def pairs(reply: Sequence[bytes]) -> dict[str, str]:
    """A list of names, each followed by its value."""
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))
