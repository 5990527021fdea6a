"""Writing: changes of jobs, removals and schedules.

`commit` first checks the guards of each change on its own, then writes all changes of the batch together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import apsw
import msgspec

from raincheck.core.codec import decode_job, encode_schedule
from raincheck.core.model import Change, Entry, Job, Key, QueueEntry, Release, Schedule
from raincheck.store.base import Conflict, Duplicate, Ended, Outcome
from raincheck.store.sqlite.connection import write_rows

Record = tuple[Change, bytes]
"""A change, and its job as it is stored."""

WORKER_MEMORY = 60.0
"""Seconds for which a worker that no longer sends heartbeats is still listed."""

SWEEP_LIMIT = 1000
"""Expired entries of each kind that one call removes."""

_CONFLICT = Conflict()
_NO_LEASE = (0, 0.0)
"""The token and the time of a lease that does not exist: no token is 0."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

JOBS_WITH_LEASES = """
    SELECT json_group_array(json_array(job.id, n, rev, state, step, token, until))
    FROM json_each(?) CROSS JOIN job ON job.id = value LEFT JOIN lease ON lease.job = n
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
INSERT_ENTRY = """
    INSERT INTO journal (job, number, kind, step, value)
    SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3, ?4 FROM journal WHERE job = ?1
"""
SECOND_ENTRY = """
    SELECT number FROM journal WHERE job = ?1 AND kind = ?2 AND step = ?3
        AND (SELECT count(*) FROM journal WHERE job = ?1 AND kind = ?2 AND step = ?3) > ?4 + 1
    ORDER BY number LIMIT 1 OFFSET 1
"""
DELETE_ENTRY = "DELETE FROM journal WHERE job = ? AND number = ?"
INSERT_FUNCTION = "INSERT INTO job_function (function, job) VALUES (?, ?)"
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
DELETE_JOURNAL = "DELETE FROM journal WHERE job = ?"
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


class _StoredJob(NamedTuple):
    """A job as it is stored, and ``token`` and ``until`` of its leases, by step."""

    n: int
    rev: int
    state: str
    leases: dict[int, tuple[int, float]]


class _Batch:
    """The changes of one batch: `read` what the guards need, `add` each change, `write` all of them."""

    def __init__(self, connection: apsw.Connection, effects: Effects) -> None:
        self.connection = connection
        self.effects = effects
        self.last_job: int | None = None
        self.used_ids: set[str] = set()
        self.stored: dict[str, _StoredJob] = {}
        self.jobs: dict[str, Job] = {}
        self.inserts: list[tuple[Any, ...]] = []
        self.updates: list[tuple[Any, ...]] = []
        self.functions: list[tuple[str, int]] = []
        self.ended_leases: list[tuple[int, int]] = []
        self.enqueued: list[tuple[Any, ...]] = []
        self.dequeued: list[tuple[Any, ...]] = []
        self.results: list[tuple[int, int, bytes]] = []
        self.journal: list[tuple[int, Entry]] = []
        self.keys: dict[str, tuple[str, str, bytes, float]] = {}
        self.states: Counter[str] = Counter()
        self.queued: Counter[str] = Counter()

    def read(self, records: Sequence[Record]) -> None:
        """Read what the guards of all changes need: one statement for new jobs, one for existing jobs.

        Each answers with one row of JSON, which is quicker than one row per job.
        """
        new = [change.job.id for change, _ in records if change.job.rev == 1]
        old = [change.job.id for change, _ in records if change.job.rev > 1]
        if new:
            used = self.connection.execute(USED_IDS, (_encode(new).decode(), self.effects.now)).get
            self.used_ids = set(_decode(used))
        if old:
            rows = self.connection.execute(JOBS_WITH_LEASES, (_encode(old).decode(),)).get
            for job_id, n, rev, state, step, token, until in _decode(rows):
                if job_id not in self.stored:
                    self.stored[job_id] = _StoredJob(n, rev, state, {})
                if step is not None:
                    self.stored[job_id].leases[step] = (token, until)

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
        for journal_entry in change.journal:
            self.journal.append((n, journal_entry))
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
        job = change.job
        stored = self.stored.get(job.id)
        if stored is None or stored.rev != job.rev - 1:
            return None
        n, before, state = stored.n, stored.state, job.state
        for lease in change.release + change.hold:
            if not self._is_in_force(stored, lease):
                return None
        if change.take and not all(self._is_queued(n, entry) for entry in change.take):
            return None
        self.updates.append((job.rev, state, state.ended, change.check_at, record, n))
        for lease in change.release:
            self.ended_leases.append((n, lease.step))
        if change.take:
            self._dequeue(n, change.take)
        if change.drop:
            self.ended_leases += [(n, entry.step) for entry in change.drop]
            self._dequeue(n, [entry for entry in change.drop if self._is_queued(n, entry)])
        if before != state:
            self.states[before] -= 1
            self.states[state] += 1
        return n

    def _is_in_force(self, stored: _StoredJob, lease: Release) -> bool:
        token, until = stored.leases.get(lease.step, _NO_LEASE)
        return token == lease.token and (not lease.expired or until <= self.effects.now)

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
        for n, entry in self.journal:
            _append(self.connection, n, entry)
        _count_states(self.connection, self.states)
        count_queued(self.connection, self.queued)
        self.effects.jobs.update(self.jobs)


def _append(connection: apsw.Connection, n: int, entry: Entry) -> None:
    """Append an entry to the journal of a job; the second of its kind and step goes if there are too many."""
    step = -1 if entry.step is None else entry.step
    connection.execute(INSERT_ENTRY, (n, entry.kind, step, entry.value))
    second = connection.execute(SECOND_ENTRY, (n, entry.kind, step, entry.keep)).get
    if second is not None:
        connection.execute(DELETE_ENTRY, (n, second))


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
        connection.execute(DELETE_JOURNAL, (n,))
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


def _row(n: int, entry: QueueEntry) -> tuple[Any, ...]:
    return entry.function, -entry.priority, entry.due, n, entry.step
