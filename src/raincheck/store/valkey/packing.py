"""Values to arguments of scripts, replies to values: `Change` and `Schedule`, `Stored` and `Claim`."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from raincheck.core.codec import decode_job, decode_schedule, encode_job, encode_schedule
from raincheck.core.model import (
    Change,
    Claim,
    Entry,
    Job,
    Lease,
    QueueEntry,
    Release,
    Schedule,
    Stored,
)
from raincheck.store.base import Conflict, Duplicate, Outcome
from raincheck.store.valkey.keys import STATES, ShardKeys, packed, tags, unpacked

HEADER = 5
"""Bytes before the record of a job: its revision and the number of its state."""

SCHEDULE_HEADER = 40
"""Bytes before the record of a schedule: its id and its revision."""

NO_STEP = 0xFFFF
"""The step of a journal entry about the whole job."""

_SIGN_BIT = 1 << 63
_NUMBERS = {state: number for number, state in enumerate(STATES)}
_encode = msgspec.msgpack.Encoder().encode
_pack_float = struct.Struct(">d").pack
_unpack_bits = struct.Struct(">Q").unpack
_pack_member = struct.Struct(">QQ16sH").pack


class PackedChange(NamedTuple):
    """A change, packed in the call of its caller, so that errors in it are raised to that caller."""

    change: Change
    raw_id: bytes
    record: bytes
    members: bytes
    size: int
    """About how many bytes it takes in a command."""


def pack(change: Change) -> PackedChange:
    """Pack a change. Raises `ValueError` for a value that cannot be stored."""
    raw_id, record = packed(change.job.id), encode_job(change.job)
    entries = (*change.take, *change.drop, *change.put)
    members = b"".join([_member(raw_id, entry) for entry in entries])
    size = len(record) + len(members) + 100
    if change.results:
        size += sum([len(value) for _, value in change.results])
    if change.journal:
        size += sum([len(entry.value) + 50 for entry in change.journal])
    return PackedChange(change, raw_id, record, members, size)


def _member(raw_id: bytes, entry: QueueEntry) -> bytes:
    """A queue entry as bytes that sort in the order of claims: by priority, due time, id, step."""
    (due,) = _unpack_bits(_pack_float(entry.due))
    due = due | _SIGN_BIT if due < _SIGN_BIT else due ^ (2 * _SIGN_BIT - 1)  # floats that sort as integers
    try:
        return _pack_member(_SIGN_BIT - entry.priority, due, raw_id, entry.step)
    except struct.error as error:
        raise ValueError(f"priority {entry.priority} or step {entry.step} is out of range") from error


class CommitArguments:
    """Changes of one shard as the keys and the words of ``commit.lua``. A change refers to keys by number."""

    def __init__(self, shard: ShardKeys, changes: Iterable[PackedChange]) -> None:
        self._shard = shard
        self._numbers: dict[str, int] = {}
        self.keys = list(shard.fixed)
        self.values: list[bytes] = []
        self.changes = _encode([self._add(each) for each in changes])

    def _add(self, packed_change: PackedChange) -> tuple[Any, ...]:
        change, raw_id, record, members, _ = packed_change
        job, key = change.job, change.key
        self.values += (raw_id, tags_of(job), record, members)
        if change.results:
            self.values += [value for _, value in change.results]
        fields = (
            job.rev,
            _NUMBERS[job.state],
            False if change.check_at is None else change.check_at,
            key is not None and (key.name, key.fingerprint.hex(), key.until),
            [self._entry(entry) for entry in change.take] if change.take else None,
            [_guard(release) for release in change.release] if change.release else None,
            [_guard(hold) for hold in change.hold] if change.hold else None,
            [self._entry(entry) for entry in change.drop] if change.drop else None,
            [self._entry(entry) for entry in change.put] if change.put else None,
            job.state.ended,
            [step for step, _ in change.results] if change.results else None,
        )
        if not change.journal:
            return fields
        self.values += [word for entry in change.journal for word in (_series(entry), entry.value)]
        return *fields, [self._number(self._shard.journals), *[entry.keep for entry in change.journal]]

    def _entry(self, entry: QueueEntry) -> tuple[int, int, int, float, str]:
        ready, later = self._shard.queue(entry.function)
        return entry.step, self._number(ready), self._number(later), entry.due, entry.function

    def _number(self, key: str) -> int:
        number = self._numbers.get(key)
        if number is None:
            self.keys.append(key)
            number = self._numbers[key] = len(self.keys) + 1  # after the key of the recorded reply
        return number


def _guard(release: Release) -> tuple[int, int, bool]:
    return release.step, release.token, release.expired


def tags_of(job: Job) -> bytes:
    """The tags by which listings find a job without reading its record."""
    return tags(job.name, tuple([step.function for step in job.steps]), job.group)


def result_field(raw_id: bytes, step: int) -> bytes:
    """The field of a large result."""
    return raw_id + struct.pack(">H", step)


def _series(entry: Entry) -> bytes:
    """The kind and the step of a journal entry; no series begins with another."""
    kind = entry.kind.encode()
    return (
        struct.pack(">B", len(kind)) + kind + struct.pack(">H", NO_STEP if entry.step is None else entry.step)
    )


def read_journal(reply: Iterable[bytes]) -> list[Entry]:
    """The entries in a reply of ``journal.lua``."""
    return [_read_entry(member[17:]) for member in reply]  # after the id and the mark of entries


def _read_entry(packed_entry: bytes) -> Entry:
    number, length = struct.unpack_from(">IB", packed_entry)
    kind, rest = packed_entry[5 : 5 + length].decode(), packed_entry[5 + length :]
    step = int.from_bytes(rest[:2])
    return Entry(kind, None if step == NO_STEP else step, rest[2:], number=number)


def schedule_words(schedule: Schedule) -> tuple[Any, ...]:
    """The words of ``schedule.lua`` that write or remove a schedule."""
    before = b"" if schedule.rev == 1 else _schedule_header(schedule.id, schedule.rev - 1)
    if schedule.removed:
        return schedule.name, before, b"", ""
    value = _schedule_header(schedule.id, schedule.rev) + encode_schedule(schedule)
    return schedule.name, before, value, "" if schedule.due is None else repr(schedule.due)


def _schedule_header(schedule_id: str, rev: int) -> bytes:
    return struct.pack(">36sI", schedule_id.encode(), rev)


def read_schedules(values: Iterable[bytes]) -> list[Schedule]:
    """Schedules in a reply of ``schedules.lua`` or ``due.lua``."""
    return [decode_schedule(value[SCHEDULE_HEADER:]) for value in values]


def read_outcome(reply: Any) -> Outcome:
    """The outcome of one change in a reply of ``commit.lua``."""
    if isinstance(reply, list):
        return Duplicate(unpacked(reply[0]), bytes.fromhex(reply[1].decode()))
    return Conflict() if reply else None


def read_stored(reply: list[Any]) -> Stored:
    """A job in a reply of ``find.lua`` or ``due.lua``."""
    leases = [_read_lease(reply[i : i + 6]) for i in range(1, len(reply), 6)]
    return Stored(decode_job(reply[0][HEADER:]), tuple(sorted(leases, key=lambda lease: lease.step)))


def merge_due(lists: Sequence[list[Any]], limit: int) -> list[Any]:
    """The entries of one kind in the replies of ``due.lua`` of all shards, the longest overdue first."""
    timed = [(float(each[i]), each[i + 1]) for each in lists for i in range(0, len(each), 2)]
    return [entry for _, entry in sorted(timed, key=lambda pair: pair[0])[:limit]]


def read_lost(entries: Sequence[list[Any]]) -> list[Claim]:
    """Lost leases in a reply of ``due.lua``. The record of a job comes with the first lease only."""
    jobs: dict[bytes, Job] = {}
    for raw_id, value, *_ in entries:
        if value:
            jobs[raw_id] = decode_job(value[HEADER:])
    return [Claim(jobs[entry[0]], _read_lease(entry[2:])) for entry in entries]


def _read_lease(words: list[Any]) -> Lease:
    step, token, worker, since, until, progress = words
    return Lease(step, token, worker.decode(), float(since), float(until), progress or None)


def read_claims(reply: Sequence[Any], worker: str) -> list[Claim]:
    """Claims in a reply of ``claim.lua``. The record of a job comes once for all of its steps."""
    jobs, rows = _read_claimed(reply)
    since, until = float(reply[-2]), float(reply[-1])
    return [Claim(jobs[number - 1], Lease(step, token, worker, since, until)) for number, step, token in rows]


def read_held(reply: Sequence[Any]) -> list[Any]:
    """The leases in a reply of ``claim.lua``, as words of a script."""
    jobs, rows = _read_claimed(reply)
    return [word for number, step, token in rows for word in (packed(jobs[number - 1].id), step, token)]


def _read_claimed(reply: Sequence[Any]) -> tuple[list[Job], Iterator[tuple[int, int, int]]]:
    """The jobs; and of each lease the number of its job (from 1), its step and its token."""
    values, words = reply[1], reply[2]
    rows = zip(words[::3], words[1::3], words[2::3], strict=True)
    return [decode_job(value[HEADER:]) for value in values], rows


def read_info(reply: bytes) -> dict[str, Any]:
    """A reply of INFO; digits as numbers."""
    rows = (line.partition(":") for line in reply.decode().splitlines() if ":" in line)
    return {name: int(value) if value.isdigit() else value for name, _, value in rows}


def read_pairs(reply: Sequence[bytes]) -> dict[str, str]:
    """A reply of names, each followed by its value."""
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))
