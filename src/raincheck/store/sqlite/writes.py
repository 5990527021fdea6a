"""Writing: changes of jobs, removals and schedules.

`commit` first checks the guards of each change on its own, then writes all changes of the batch together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from raincheck.core.codec import decode_job, encode_schedule
from raincheck.core.model import Change, Job, Key, QueueEntry, Release, Schedule
from raincheck.store.base import Conflict, Duplicate, Ended, Outcome
from raincheck.store.sqlite.connection import write_rows

Record = tuple[Change, bytes]
"""A change, and its job as it is stored."""

WORKER_MEMORY = 60.0
"""Seconds for which a worker that no longer sends heartbeats is still listed."""

SWEEP_LIMIT = 1000
"""Expired entries of each kind that one call removes."""

_CONFLICT = Conflict()

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

GUARDS = """
    SELECT json_group_array(json_array(job.id, json_each.value ->> 1, n, rev, state,
        (SELECT token FROM lease WHERE job = n AND step = json_each.value ->> 1),
        (SELECT until FROM lease WHERE job = n AND step = json_each.value ->> 1)))
    FROM json_each(?) CROSS JOIN job ON job.id = json_each.value ->> 0
"""
USED_IDS = """
    SELECT json_group_array(value) FROM json_each(?1)
    WHERE EXISTS (SELECT 1 FROM job WHERE job.id = value)
        OR EXISTS (SELECT 1 FROM gone WHERE gone.id = value AND until > ?2)
"""
LAST_JOB = "SELECT coalesce(max(n), 0) FROM job"
INSERT_JOB = """
    INSERT INTO job (n, id, rev, state, ended, name, alarm, record, "group")
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
UPDATE_JOB = "UPDATE job SET rev = ?, state = ?, ended = ?, alarm = ?, record = ? WHERE n = ?"
INSERT_RESULT = "INSERT OR REPLACE INTO result (job, step, value) VALUES (?, ?, ?)"
INSERT_FUNCTION = "INSERT INTO job_function (function, job) VALUES (?, ?)"
LEASE = "SELECT token, until FROM lease WHERE job = ? AND step = ?"
DELETE_LEASE = "DELETE FROM lease WHERE (job, step) IN (VALUES (?, ?))"
IS_QUEUED = "SELECT 1 FROM queue WHERE function = ? AND priority = ? AND due = ? AND job = ? AND step = ?"
ENQUEUE = "INSERT INTO queue (function, priority, due, job, step) VALUES (?, ?, ?, ?, ?)"
DEQUEUE = "DELETE FROM queue WHERE (function, priority, due, job, step) IN (VALUES (?, ?, ?, ?, ?))"
KEY = "SELECT job_id, fingerprint FROM idempotency WHERE key = ? AND until > ?"
INSERT_KEY = "INSERT OR REPLACE INTO idempotency (key, job_id, fingerprint, until) VALUES (?, ?, ?, ?)"
COUNT_STATE = """
    INSERT INTO tally (state, jobs) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs
"""
COUNT_QUEUED = """
    INSERT INTO function (name, places) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET places = places + excluded.places
"""

DELETE_JOB = "DELETE FROM job WHERE id = ? AND rev = ? AND ended RETURNING n, state, record"
DELETE_RESULTS = "DELETE FROM result WHERE job = ?"
DELETE_FUNCTION = "DELETE FROM job_function WHERE function = ? AND job = ?"
REMEMBER = "INSERT OR REPLACE INTO gone (id, until) VALUES (?, ?)"
SWEEP_IDS = "DELETE FROM gone WHERE id IN (SELECT id FROM gone WHERE until <= ? LIMIT ?)"
SWEEP_KEYS = "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE until <= ? LIMIT ?)"
SWEEP_WORKERS = "DELETE FROM worker WHERE until <= ?"

INSERT_SCHEDULE = (
    "INSERT INTO schedule (name, id, rev, due, record) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
UPDATE_SCHEDULE = "UPDATE schedule SET rev = ?, due = ?, record = ? WHERE name = ? AND id = ? AND rev = ?"
DELETE_SCHEDULE = "DELETE FROM schedule WHERE name = ? AND id = ? AND rev = ?"


class Effects:
    """What a transaction writes that other threads or processes may wait for."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.jobs: dict[str, Job | None] = {}
        """The changed jobs, by id; None: removed."""
        self.ready: set[str] = set()
        """Functions with new queue entries that are due."""
        self.later: set[str] = set()
        """Functions with new queue entries that are due later."""

    def add_entry(self, function: str, due: float) -> None:
        """Note a new queue entry."""
        (self.ready if due <= self.now else self.later).add(function)


class _Batch:
    """The changes of one batch: `read` what the guards need, `add` each change, `write` all of them."""

    def __init__(self, connection: apsw.Connection, effects: Effects) -> None:
        self.connection = connection
        self.effects = effects
        self.last_job: int | None = None
        self.used_ids: set[str] = set()
        self.guarded: dict[tuple[str, int], list[Any]] = {}
        """``n``, ``rev``, ``state`` and the lease (``token``, ``until``) of a job, by its id and a step."""
        self.jobs: dict[str, Job] = {}
        self.inserts: list[tuple[Any, ...]] = []
        self.updates: list[tuple[Any, ...]] = []
        self.functions: list[tuple[str, int]] = []
        self.ended_leases: list[tuple[int, int]] = []
        self.enqueued: list[tuple[Any, ...]] = []
        self.dequeued: list[tuple[Any, ...]] = []
        self.results: list[tuple[int, int, bytes]] = []
        self.keys: dict[str, tuple[str, str, bytes, float]] = {}
        self.states: Counter[str] = Counter()
        self.queued: Counter[str] = Counter()

    def read(self, records: Sequence[Record]) -> None:
        """Read what the guards of all changes need: one statement for new jobs, one for existing jobs.

        Each answers with one row of JSON, which is quicker than one row per job.
        """
        new = [change.job.id for change, _ in records if change.job.rev == 1]
        old = [(change.job.id, _first_guard(change)) for change, _ in records if change.job.rev > 1]
        if new:
            used = self.connection.execute(USED_IDS, (_encode(new).decode(), self.effects.now)).get
            self.used_ids = set(_decode(used))
        if old:
            found = self.connection.execute(GUARDS, (_encode(old).decode(),)).get
            self.guarded = {(row[0], row[1]): row[2:] for row in _decode(found)}

    def add(self, change: Change, record: bytes) -> Outcome:
        """Check the guards of a change. If they hold, note what it writes."""
        job, key = change.job, change.key
        if job.id in self.jobs:
            return _CONFLICT
        if key is not None and (duplicate := self._duplicate(key)) is not None:
            return duplicate
        n = self._insert(change, record) if job.rev == 1 else self._update(change, record)
        if n is None:
            return _CONFLICT
        for entry in change.put:
            self.enqueued.append(_row(n, entry))
            self.queued[entry.function] += 1
            self.effects.add_entry(entry.function, entry.due)
        for step, value in change.results:
            self.results.append((n, step, value))
        self.jobs[job.id] = job
        if key is not None:
            self.keys[key.name] = (key.name, job.id, key.fingerprint, key.until)
        return None

    def _duplicate(self, key: Key) -> Duplicate | None:
        if key.name in self.keys:
            _, job_id, fingerprint, _ = self.keys[key.name]
            return Duplicate(job_id, fingerprint)
        row = self.connection.execute(KEY, (key.name, self.effects.now)).get
        return None if row is None else Duplicate(*row)

    def _insert(self, change: Change, record: bytes) -> int | None:
        job = change.job
        if change.take or change.release or change.hold or job.id in self.used_ids:
            return None
        if self.last_job is None:
            self.last_job = self.connection.execute(LAST_JOB).get
        n = self.last_job = self.last_job + 1
        state = job.state
        self.inserts.append((n, job.id, 1, state, state.ended, job.name, change.check_at, record, job.group))
        for function in {step.function for step in job.steps}:
            self.functions.append((function, n))
        self.states[state] += 1
        return n

    def _update(self, change: Change, record: bytes) -> int | None:
        job, release = change.job, change.release
        row = self.guarded.get((job.id, _first_guard(change)))
        if row is None or row[1] != job.rev - 1:
            return None
        n: int = row[0]
        if not self._guards_hold(change, n, *row[3:]):
            return None
        state = job.state
        self.updates.append((job.rev, state, state.ended, change.check_at, record, n))
        for lease in release:
            self.ended_leases.append((n, lease.step))
        if change.take:
            self._dequeue(n, change.take)
        if change.drop:
            self.ended_leases += [(n, entry.step) for entry in change.drop]
            self._dequeue(n, [entry for entry in change.drop if self._is_queued(n, entry)])
        if row[2] != state:
            self.states[row[2]] -= 1
            self.states[state] += 1
        return n

    def _guards_hold(self, change: Change, n: int, token: int | None, until: float) -> bool:
        """Whether all leases are in force and all entries queued; ``token`` is that of the first lease."""
        leases = change.release + change.hold if change.hold else change.release
        if leases and not self._is_in_force(leases[0], token, until):
            return False
        if len(leases) > 1 and not all(self._is_leased(n, lease) for lease in leases[1:]):
            return False
        return not change.take or all(self._is_queued(n, entry) for entry in change.take)

    def _is_in_force(self, lease: Release, token: int | None, until: float) -> bool:
        return token == lease.token and (not lease.expired or until <= self.effects.now)

    def _is_leased(self, n: int, lease: Release) -> bool:
        row = self.connection.execute(LEASE, (n, lease.step)).get
        return row is not None and self._is_in_force(lease, *row)

    def _is_queued(self, n: int, entry: QueueEntry) -> bool:
        return self.connection.execute(IS_QUEUED, _row(n, entry)).get is not None

    def _dequeue(self, n: int, entries: Iterable[QueueEntry]) -> None:
        for entry in entries:
            self.dequeued.append(_row(n, entry))
            self.queued[entry.function] -= 1

    def write(self) -> None:
        """Write all changes that were added."""
        if self.updates:
            self.connection.executemany(UPDATE_JOB, self.updates)
        for statement, rows in (
            (INSERT_JOB, self.inserts),
            (INSERT_FUNCTION, self.functions),
            (DELETE_LEASE, self.ended_leases),
            (DEQUEUE, self.dequeued),
            (ENQUEUE, self.enqueued),
            (INSERT_KEY, self.keys.values()),
        ):
            if rows:
                write_rows(self.connection, statement, rows)
        if self.results:  # one by one: each may be large
            self.connection.executemany(INSERT_RESULT, self.results)
        _count_states(self.connection, self.states)
        count_queued(self.connection, self.queued)
        self.effects.jobs.update(self.jobs)


def commit(connection: apsw.Connection, records: Sequence[Record], effects: Effects) -> list[Outcome]:
    """Write the changes whose guards hold; an outcome for each change, in order."""
    batch = _Batch(connection, effects)
    batch.read(records)
    outcomes = [batch.add(change, record) for change, record in records]
    batch.write()
    return outcomes


def remove(
    connection: apsw.Connection, jobs: Sequence[Ended], remember: float, effects: Effects
) -> list[bool]:
    """Remove ended jobs that are still at their revision; for each, in order, whether it was removed."""
    removed = []
    states: Counter[str] = Counter()
    for job in jobs:
        row = connection.execute(DELETE_JOB, job).get
        removed.append(row is not None)
        if row is None:
            continue
        n, state, record = row
        functions = {step.function for step in decode_job(record).steps}
        connection.executemany(DELETE_FUNCTION, [(function, n) for function in functions])
        connection.execute(DELETE_RESULTS, (n,))
        connection.execute(REMEMBER, (job.job_id, effects.now + remember))
        states[state] -= 1
        effects.jobs[job.job_id] = None
    _count_states(connection, states)
    _sweep(connection, effects.now)
    return removed


def _sweep(connection: apsw.Connection, now: float) -> None:
    """Remove expired ids, keys and workers, and functions whose queue is empty."""
    connection.execute(SWEEP_IDS, (now, SWEEP_LIMIT))
    connection.execute(SWEEP_KEYS, (now, SWEEP_LIMIT))
    connection.execute(SWEEP_WORKERS, (now - WORKER_MEMORY,))
    connection.execute("DELETE FROM function WHERE places = 0")


def put_schedule(connection: apsw.Connection, schedule: Schedule) -> bool:
    """Write or remove a schedule. False: the stored schedule is not the one that it follows."""
    guard = (schedule.name, schedule.id, schedule.rev - 1)
    if schedule.removed:
        connection.execute(DELETE_SCHEDULE, guard)
        return connection.changes() == 1
    record = encode_schedule(schedule)
    if schedule.rev == 1:
        row = (schedule.name, schedule.id, schedule.rev, schedule.due, record)
        connection.execute(INSERT_SCHEDULE, row)
    else:
        connection.execute(UPDATE_SCHEDULE, (schedule.rev, schedule.due, record, *guard))
    return connection.changes() == 1


def _count_states(connection: apsw.Connection, jobs: Counter[str]) -> None:
    """Add numbers of jobs to the counters of states."""
    connection.executemany(COUNT_STATE, [pair for pair in jobs.items() if pair[1]])


def count_queued(connection: apsw.Connection, entries: Counter[str]) -> None:
    """Add numbers of queue entries to the counters of functions."""
    connection.executemany(COUNT_QUEUED, [pair for pair in entries.items() if pair[1]])


def _first_guard(change: Change) -> int:
    """The step of the first lease that a change guards; most changes guard one lease."""
    leases = change.release or change.hold
    return leases[0].step if leases else -1


def _row(n: int, entry: QueueEntry) -> tuple[Any, ...]:
    return entry.function, -entry.priority, entry.due, n, entry.step
