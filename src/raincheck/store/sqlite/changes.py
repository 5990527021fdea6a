"""Writing changes: guards first, for each change on its own, then all writes of the batch at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from raincheck.core.model import Change, Job, Key, QueueEntry, Release
from raincheck.store.base import Conflict, Duplicate, Outcome
from raincheck.store.sqlite.rows import write_rows

Record = tuple[Change, bytes]
"""A change and its job as it is stored."""

CONFLICT = Conflict()

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

GUARDS = """
    SELECT json_group_array(json_array(job.id, json_each.value ->> 1, n, rev, state,
        (SELECT token FROM lease WHERE job = n AND step = json_each.value ->> 1),
        (SELECT until FROM lease WHERE job = n AND step = json_each.value ->> 1)))
    FROM json_each(?) CROSS JOIN job ON job.id = json_each.value ->> 0
"""
USED = """
    SELECT json_group_array(value) FROM json_each(?1)
    WHERE EXISTS (SELECT 1 FROM job WHERE job.id = value)
        OR EXISTS (SELECT 1 FROM gone WHERE gone.id = value AND until > ?2)
"""
INSERT = """
    INSERT INTO job (n, id, rev, state, ended, name, alarm, record, "group")
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
UPDATE = "UPDATE job SET rev = ?, state = ?, ended = ?, alarm = ?, record = ? WHERE n = ?"
PUT_RESULT = "INSERT OR REPLACE INTO result (job, step, value) VALUES (?, ?, ?)"
LIST = "INSERT INTO job_function (function, job) VALUES (?, ?)"
END_LEASE = "DELETE FROM lease WHERE (job, step) IN (VALUES (?, ?))"
IS_QUEUED = "SELECT 1 FROM queue WHERE function = ? AND priority = ? AND due = ? AND job = ? AND step = ?"
ENQUEUE = "INSERT INTO queue (function, priority, due, job, step) VALUES (?, ?, ?, ?, ?)"
DEQUEUE = "DELETE FROM queue WHERE (function, priority, due, job, step) IN (VALUES (?, ?, ?, ?, ?))"
KEEP = "INSERT OR REPLACE INTO idempotency (key, job_id, fingerprint, until) VALUES (?, ?, ?, ?)"
TALLY = """
    INSERT INTO tally (state, jobs) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs
"""
PLACES = """
    INSERT INTO function (name, places) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET places = places + excluded.places
"""


class Effects:
    """What a transaction writes that other threads or processes may wait for."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.jobs: dict[str, Job | None] = {}
        """Jobs that changed, by id; None: removed."""
        self.ready: set[str] = set()
        """Functions with new places that are due."""
        self.later: set[str] = set()
        """Functions with new places that are due later."""

    def put(self, function: str, due: float) -> None:
        """A place has come into a queue."""
        (self.ready if due <= self.now else self.later).add(function)


class Batch:
    """The writes of one batch, gathered while its guards are checked."""

    def __init__(self, connection: apsw.Connection, effects: Effects) -> None:
        self.connection = connection
        self.effects = effects
        self.next_n: int | None = None
        self.used: set[str] = set()
        self.found: dict[tuple[str, int], list[Any]] = {}
        self.jobs: dict[str, Job] = {}
        self.inserts: list[tuple[Any, ...]] = []
        self.updates: list[tuple[Any, ...]] = []
        self.listed: list[tuple[str, int]] = []
        self.ended_leases: list[tuple[int, int]] = []
        self.enqueue: list[tuple[Any, ...]] = []
        self.dequeue: list[tuple[Any, ...]] = []
        self.results: list[tuple[int, int, bytes]] = []
        self.keys: dict[str, tuple[str, str, bytes, float]] = {}
        self.states: Counter[str] = Counter()
        self.places: Counter[str] = Counter()

    def look(self, records: Sequence[Record]) -> None:
        """Read what all guards are about, in one statement a kind: it comes as one row of JSON."""
        new = [change.job.id for change, _ in records if change.job.rev == 1]
        old = [(change.job.id, _first_guard(change)) for change, _ in records if change.job.rev > 1]
        if new:
            used = self.connection.execute(USED, (_encode(new).decode(), self.effects.now)).get
            self.used = set(_decode(used))
        if old:
            found = self.connection.execute(GUARDS, (_encode(old).decode(),)).get
            self.found = {(row[0], row[1]): row[2:] for row in _decode(found)}

    def add(self, change: Change, record: bytes) -> Outcome:
        """Check a change's guards, and note what it writes if they hold."""
        job, key = change.job, change.key
        if job.id in self.jobs:
            return CONFLICT
        if key is not None and (taken := self._taken(key)) is not None:
            return taken
        n = self._insert(change, record) if job.rev == 1 else self._update(change, record)
        if n is None:
            return CONFLICT
        for place in change.put:
            self.enqueue.append(_row(n, place))
            self.places[place.function] += 1
            self.effects.put(place.function, place.due)
        self.results.extend((n, step, value) for step, value in change.results)
        self.jobs[job.id] = job
        if key is not None:
            self.keys[key.name] = (key.name, job.id, key.fingerprint, key.until)
        return None

    def _taken(self, key: Key) -> Duplicate | None:
        if key.name in self.keys:
            _, job_id, fingerprint, _ = self.keys[key.name]
            return Duplicate(job_id, fingerprint)
        row = self.connection.execute(
            "SELECT job_id, fingerprint FROM idempotency WHERE key = ? AND until > ?",
            (key.name, self.effects.now),
        ).get
        return None if row is None else Duplicate(*row)

    def _insert(self, change: Change, record: bytes) -> int | None:
        job = change.job
        if change.take or change.release or change.hold:
            return None
        if job.id in self.used:
            return None
        if self.next_n is None:
            self.next_n = self.connection.execute("SELECT coalesce(max(n), 0) + 1 FROM job").get
        n, self.next_n = self.next_n, self.next_n + 1
        row = (n, job.id, 1, job.state, job.state.ended, job.name, change.check_at, record, job.group)
        self.inserts.append(row)
        self.listed.extend((function, n) for function in {step.function for step in job.steps})
        self.states[job.state] += 1
        return n

    def _update(self, change: Change, record: bytes) -> int | None:
        job = change.job
        guards = change.release + change.hold if change.hold else change.release
        row = self.found.get((job.id, _first_guard(change)))
        if row is None or row[1] != job.rev - 1:
            return None
        n: int = row[0]
        _, _, state, token, until = row
        if guards and not (
            self._in_force(guards[0], token, until) and all(self._leased(n, guard) for guard in guards[1:])
        ):
            return None
        if not all(self._is_queued(n, place) for place in change.take):
            return None
        self.updates.append((job.rev, job.state, job.state.ended, change.check_at, record, n))
        self.ended_leases.extend((n, release.step) for release in change.release)
        self.ended_leases.extend((n, place.step) for place in change.drop)
        self._dequeue(n, change.take)
        self._dequeue(n, [place for place in change.drop if self._is_queued(n, place)])
        if state != job.state:
            self.states[state] -= 1
            self.states[job.state] += 1
        return n

    def _in_force(self, guard: Release, token: int | None, until: float) -> bool:
        return token == guard.token and (not guard.expired or until <= self.effects.now)

    def _leased(self, n: int, guard: Release) -> bool:
        row = self.connection.execute(
            "SELECT token, until FROM lease WHERE job = ? AND step = ?", (n, guard.step)
        ).get
        return row is not None and self._in_force(guard, *row)

    def _is_queued(self, n: int, place: QueueEntry) -> bool:
        return self.connection.execute(IS_QUEUED, _row(n, place)).get is not None

    def _dequeue(self, n: int, places: Iterable[QueueEntry]) -> None:
        for place in places:
            self.dequeue.append(_row(n, place))
            self.places[place.function] -= 1

    def write(self) -> None:
        """Write all that was noted."""
        if self.updates:
            self.connection.executemany(UPDATE, self.updates)
        for statement, rows in (
            (INSERT, self.inserts),
            (LIST, self.listed),
            (END_LEASE, self.ended_leases),
            (DEQUEUE, self.dequeue),
            (ENQUEUE, self.enqueue),
            (KEEP, self.keys.values()),
        ):
            write_rows(self.connection, statement, rows)
        if self.results:  # one by one: each may be large
            self.connection.executemany(PUT_RESULT, self.results)
        tally(self.connection, self.states)
        count_places(self.connection, self.places)
        self.effects.jobs.update(self.jobs)


def commit(connection: apsw.Connection, records: Sequence[Record], effects: Effects) -> list[Outcome]:
    """Write a batch of changes within the open transaction."""
    batch = Batch(connection, effects)
    batch.look(records)
    outcomes = [batch.add(change, record) for change, record in records]
    batch.write()
    return outcomes


def tally(connection: apsw.Connection, states: Counter[str]) -> None:
    """Count so many more jobs in each state."""
    connection.executemany(TALLY, [pair for pair in states.items() if pair[1]])


def count_places(connection: apsw.Connection, places: Counter[str]) -> None:
    """Count so many more places in the queue of each function."""
    connection.executemany(PLACES, [pair for pair in places.items() if pair[1]])


def _first_guard(change: Change) -> int:
    """The step of the lease that a change guards first; most guard no other."""
    guards = change.release or change.hold
    return guards[0].step if guards else -1


def _row(n: int, place: QueueEntry) -> tuple[Any, ...]:
    return place.function, -place.priority, place.due, n, place.step
