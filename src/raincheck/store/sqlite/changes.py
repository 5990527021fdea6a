"""Writing changes: guards first, for each change on its own, then all writes of the batch at once."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import apsw

from raincheck.model import Change, Job, Key, Place, Release
from raincheck.store.base import Conflict, Duplicate, Outcome

CONFLICT = Conflict()

_GUARD = """
    SELECT job.n, job.rev, job.state, lease.token, lease.until
    FROM job LEFT JOIN lease ON lease.job = job.n AND lease.step = ?
    WHERE job.id = ?
"""
_INSERT = "INSERT INTO job (n, id, rev, state, ended, name, alarm, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE = "UPDATE job SET rev = ?, state = ?, ended = ?, alarm = ?, record = ? WHERE n = ?"
_ENQUEUE = "INSERT INTO queue (function, priority, due, job, step) VALUES (?, ?, ?, ?, ?)"
_DEQUEUE = "DELETE FROM queue WHERE function = ? AND priority = ? AND due = ? AND job = ? AND step = ?"
_COUNT = """
    INSERT INTO counter (kind, name, value) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET value = value + excluded.value
"""


class Written(NamedTuple):
    """What a batch wrote: an outcome a change, the jobs, and the earliest due time of new places."""

    outcomes: list[Outcome]
    jobs: dict[str, Job]
    due: dict[str, float]


class _Batch:
    """The writes of one batch, gathered while its guards are checked."""

    def __init__(self, connection: apsw.Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        self.next_n: int | None = None
        self.inserts: list[tuple[Any, ...]] = []
        self.updates: list[tuple[Any, ...]] = []
        self.functions: list[tuple[str, int]] = []
        self.enqueue: list[tuple[Any, ...]] = []
        self.dequeue: list[tuple[Any, ...]] = []
        self.release: list[tuple[int, int]] = []
        self.keys: dict[str, tuple[str, str, bytes, float]] = {}
        self.states: Counter[str] = Counter()
        self.queued: Counter[str] = Counter()
        self.jobs: dict[str, Job] = {}
        self.due: dict[str, float] = {}

    def add(self, change: Change, record: bytes) -> Outcome:
        if change.job.id in self.jobs:
            return CONFLICT  # two changes of one job in one batch: the second must look again
        if change.key is not None and (taken := self._taken(change.key)) is not None:
            return taken
        outcome = self._insert(change, record) if change.job.rev == 1 else self._update(change, record)
        if outcome is None:
            self.jobs[change.job.id] = change.job
            if (key := change.key) is not None:
                self.keys[key.name] = (key.name, change.job.id, key.fingerprint, key.until)
        return outcome

    def _taken(self, key: Key) -> Outcome:
        if key.name in self.keys:
            _, job_id, fingerprint, _ = self.keys[key.name]
            return Duplicate(job_id, fingerprint)
        row = self.connection.execute(
            "SELECT job_id, fingerprint FROM idempotency WHERE key = ? AND until > ?", (key.name, self.now)
        ).get
        return None if row is None else Duplicate(*row)

    def _insert(self, change: Change, record: bytes) -> Outcome:
        job = change.job
        if self.connection.execute("SELECT 1 FROM job WHERE id = ?", (job.id,)).get is not None:
            return CONFLICT
        if self.next_n is None:
            self.next_n = self.connection.execute("SELECT coalesce(max(n), 0) + 1 FROM job").get
        n, self.next_n = self.next_n, self.next_n + 1
        self.inserts.append((n, job.id, 1, job.state, job.state.ended, job.name, change.alarm, record))
        self.functions.extend((function, n) for function in {step.function for step in job.steps})
        self.states[job.state] += 1
        self._put(n, change.put)
        return None

    def _update(self, change: Change, record: bytes) -> Outcome:
        job = change.job
        guards = change.release + change.hold
        first = guards[0].step if guards else -1
        row = self.connection.execute(_GUARD, (first, job.id)).get
        if row is None or row[1] != job.rev - 1:
            return CONFLICT
        n, _, state, token, until = row
        if guards and not self._in_force(guards[0], token, until):
            return CONFLICT
        if not all(self._leased(n, guard) for guard in guards[1:]):
            return CONFLICT
        if not all(self._queued(n, place) for place in change.take):
            return CONFLICT
        self.updates.append((job.rev, job.state, job.state.ended, change.alarm, record, n))
        self.release.extend((n, release.step) for release in change.release)
        for place in change.take + tuple(p for p in change.drop if self._queued(n, p)):
            self.dequeue.append((place.function, -place.priority, place.due, n, place.step))
            self.queued[place.function] -= 1
        self.release.extend((n, place.step) for place in change.drop)
        if state != job.state:
            self.states[state] -= 1
            self.states[job.state] += 1
        self._put(n, change.put)
        return None

    def _in_force(self, guard: Release, token: int | None, until: float | None) -> bool:
        return token == guard.token and (not guard.expired or (until or 0.0) <= self.now)

    def _leased(self, n: int, guard: Release) -> bool:
        row = self.connection.execute(
            "SELECT token, until FROM lease WHERE job = ? AND step = ?", (n, guard.step)
        ).get
        return row is not None and self._in_force(guard, *row)

    def _queued(self, n: int, place: Place) -> bool:
        return bool(
            self.connection.execute(
                "SELECT 1 FROM queue WHERE function = ? AND priority = ? AND due = ? AND job = ? AND step = ?",
                (place.function, -place.priority, place.due, n, place.step),
            ).get
        )

    def _put(self, n: int, places: tuple[Place, ...]) -> None:
        for place in places:
            self.enqueue.append((place.function, -place.priority, place.due, n, place.step))
            self.queued[place.function] += 1
            self.due[place.function] = min(place.due, self.due.get(place.function, place.due))

    def write(self) -> None:
        many = self.connection.executemany
        for statement, rows in (
            (_INSERT, self.inserts),
            ("INSERT INTO job_function (function, job) VALUES (?, ?)", self.functions),
            (_UPDATE, self.updates),
            ("DELETE FROM lease WHERE job = ? AND step = ?", self.release),
            (_DEQUEUE, self.dequeue),
            (_ENQUEUE, self.enqueue),
            (
                "INSERT OR REPLACE INTO idempotency (key, job_id, fingerprint, until) VALUES (?, ?, ?, ?)",
                list(self.keys.values()),
            ),
        ):
            if rows:
                many(statement, rows)
        count(self.connection, "state", self.states)
        count(self.connection, "queue", self.queued)


def commit(connection: apsw.Connection, changes: list[tuple[Change, bytes]], now: float) -> Written:
    """Write a batch of changes (each with its encoded record) within the open transaction."""
    batch = _Batch(connection, now)
    outcomes = [batch.add(change, record) for change, record in changes]
    batch.write()
    return Written(outcomes, batch.jobs, batch.due)


def count(connection: apsw.Connection, kind: str, differences: Counter[str]) -> None:
    """Add to counters."""
    rows = [(kind, name, value) for name, value in differences.items() if value]
    if rows:
        connection.executemany(_COUNT, rows)
