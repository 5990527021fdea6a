"""Reading: jobs, pages of jobs, due work, workers, counters and schedules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import apsw
import msgspec
from msgspec.structs import replace

from raincheck.core.codec import decode_job, decode_schedule
from raincheck.core.model import Claim, Entry, Job, Lease, Schedule, State, Stored, WorkerInfo
from raincheck.store.base import Candidates, Counts, Due, Ended, Filter, Missing
from raincheck.store.sqlite.connection import query

PAGE_READS = 1000
"""Jobs that one page reads at most."""

MAX_NUMBER = 2**63 - 1

JOB = "SELECT n, ended, record FROM job WHERE id = ?"
IS_GONE = "SELECT 1 FROM gone WHERE id = ? AND until > ?"
LEASES = "SELECT step, token, worker, since, until, progress FROM lease WHERE job = ?"
RESULT = "SELECT value FROM result WHERE job = (SELECT n FROM job WHERE id = ?) AND step = ?"
JOURNAL = """
    SELECT number, kind, step, value FROM journal
    WHERE job = (SELECT n FROM job WHERE id = ?) AND number > ? ORDER BY number LIMIT ?
"""
MATCHING_JOB = """
    SELECT ended, record FROM job WHERE n = ?1 AND (?2 IS NULL OR name = ?2) AND (?3 IS NULL OR state = ?3)
        AND (?4 IS NULL OR "group" = ?4)
"""
ALL_JOBS = "SELECT n FROM job WHERE n < ? ORDER BY n DESC LIMIT ?"
BY_GROUP = 'SELECT n FROM job WHERE "group" = ? AND n < ? ORDER BY n DESC LIMIT ?'
BY_NAME = "SELECT n FROM job WHERE name = ? AND n < ? ORDER BY n DESC LIMIT ?"
BY_FUNCTION = "SELECT job FROM job_function WHERE function = ? AND job < ? ORDER BY job DESC LIMIT ?"
BY_STATE = "SELECT n FROM job WHERE state = ? AND n < ? ORDER BY n DESC LIMIT ?"
DOING_JOBS = """
    SELECT job FROM lease WHERE job < ?1 UNION SELECT n FROM job WHERE state = 'doing' AND n < ?1
    ORDER BY 1 DESC LIMIT ?2
"""
EXPIRED_LEASES = """
    SELECT job, record, step, token, worker, since, until, progress
    FROM lease JOIN job ON job.n = lease.job WHERE until <= ? LIMIT ?
"""
DUE_JOBS = "SELECT n, record FROM job WHERE NOT ended AND alarm <= ? ORDER BY alarm LIMIT ?"
REMOVABLE_JOBS = "SELECT id, rev FROM job WHERE ended AND alarm <= ? ORDER BY alarm LIMIT ?"
LEASE_WORKERS = "SELECT worker FROM lease"

DOING_STATES = "SELECT state FROM (SELECT DISTINCT job AS n FROM lease) CROSS JOIN job USING (n)"

WORKERS = "SELECT id, info, seen, until FROM worker ORDER BY id"

ALL_SCHEDULES = "SELECT record FROM schedule ORDER BY name"
SCHEDULE = "SELECT record FROM schedule WHERE name = ?"
DUE_SCHEDULES = "SELECT record FROM schedule WHERE due <= ? ORDER BY due LIMIT ?"

_decode_worker = msgspec.msgpack.Decoder(WorkerInfo).decode


def find(connection: apsw.Connection, job_ids: Sequence[str], now: float) -> list[Stored | Missing]:
    """The jobs with these ids, in their order."""
    return [_find(connection, job_id, now) for job_id in job_ids]


def _find(connection: apsw.Connection, job_id: str, now: float) -> Stored | Missing:
    row = connection.execute(JOB, (job_id,)).get
    if row is None:
        return Missing(gone=connection.execute(IS_GONE, (job_id, now)).get is not None)
    n, ended, record = row
    return Stored(decode_job(record), () if ended else _leases(connection, n))


def _leases(connection: apsw.Connection, n: int) -> tuple[Lease, ...]:
    return tuple(Lease(*row) for row in query(connection, LEASES, (n,)))


def results(connection: apsw.Connection, wanted: Sequence[tuple[str, int]]) -> list[bytes | None]:
    """Large results, each by job id and step."""
    return [connection.execute(RESULT, job_and_step).get for job_and_step in wanted]


def journal(connection: apsw.Connection, job_id: str, after: int, limit: int) -> list[Entry]:
    """The entries of a journal after a number."""
    return [
        Entry(kind, None if step < 0 else step, value, number=number)
        for number, kind, step, value in query(connection, JOURNAL, (job_id, after, limit))
    ]


def page(connection: apsw.Connection, which: Filter, limit: int, after: str | None) -> Candidates:
    """Jobs that may match, from the index that selects the fewest."""
    last = MAX_NUMBER if after is None else _number(after)
    jobs: list[Stored] = []
    positions: list[str] = []
    for reads, (n,) in enumerate(_indexed(connection, which, last)):
        if len(jobs) == limit or reads == PAGE_READS:
            return Candidates(tuple(jobs), tuple(positions), str(last))
        last = n
        stored = _matching(connection, n, which)
        if stored is not None:
            jobs.append(stored)
            positions.append(str(n))
    return Candidates(tuple(jobs), tuple(positions))


def _indexed(connection: apsw.Connection, which: Filter, before: int) -> Iterator[Any]:
    """The numbers of jobs, newest first, from the index that selects the fewest."""
    end = (before, PAGE_READS + 1)
    if which.state is State.DOING:
        return query(connection, DOING_JOBS, end)
    if which.name is not None:
        return query(connection, BY_NAME, (which.name, *end))
    if which.group is not None:
        return query(connection, BY_GROUP, (which.group, *end))
    if which.function is not None:
        return query(connection, BY_FUNCTION, (which.function, *end))
    if which.state is not None:
        return query(connection, BY_STATE, (which.state, *end))
    return query(connection, ALL_JOBS, end)


def _matching(connection: apsw.Connection, n: int, which: Filter) -> Stored | None:
    """The job, or None if its columns show that it does not match; then its record is not read."""
    state = None if which.state is State.DOING else which.state
    row = connection.execute(MATCHING_JOB, (n, which.name, state, which.group)).get
    if row is None:
        return None
    ended, record = row
    return Stored(decode_job(record), () if ended else _leases(connection, n))


def _number(position: str) -> int:
    n = int(position)
    if not 0 < n <= MAX_NUMBER:
        raise ValueError(position)
    return n


def due(connection: apsw.Connection, limit: int, now: float) -> Due:
    """The work of maintenance that is due."""
    return Due(
        _expired_leases(connection, limit, now),
        _due_jobs(connection, limit, now),
        [Ended(*row) for row in query(connection, REMOVABLE_JOBS, (now, limit))],
        _schedules(query(connection, DUE_SCHEDULES, (now, limit))),
    )


def _expired_leases(connection: apsw.Connection, limit: int, now: float) -> list[Claim]:
    """Expired leases. This reads all leases: there are only as many as running steps."""
    jobs: dict[int, Job] = {}
    claims = []
    for n, record, *lease in query(connection, EXPIRED_LEASES, (now, limit)):
        if n not in jobs:  # a job may have many steps
            jobs[n] = decode_job(record)
        claims.append(Claim(jobs[n], Lease(*lease)))
    return claims


def _due_jobs(connection: apsw.Connection, limit: int, now: float) -> list[Stored]:
    """Jobs that have not ended and whose check is due."""
    rows = query(connection, DUE_JOBS, (now, limit))
    return [Stored(decode_job(record), _leases(connection, n)) for n, record in rows]


def workers(connection: apsw.Connection) -> list[WorkerInfo]:
    """The registered workers, each with the number of its leases. This reads all leases."""
    running = Counter(worker for (worker,) in query(connection, LEASE_WORKERS))
    return [
        replace(_decode_worker(info), seen_at=seen, seen_until=until, running=running[worker_id])
        for worker_id, info, seen, until in query(connection, WORKERS)
    ]


def counts(connection: apsw.Connection) -> Counts:
    """The counters."""
    states: dict[State, int] = dict.fromkeys(State, 0)
    states.update((State(state), jobs) for state, jobs in query(connection, "SELECT state, jobs FROM tally"))
    queued = dict(query(connection, "SELECT name, places FROM function WHERE places > 0"))
    doing = Counter(State(state) for (state,) in query(connection, DOING_STATES))
    return Counts(states, queued, connection.execute("SELECT count(*) FROM lease").get, doing)


def schedules(connection: apsw.Connection, name: str | None) -> list[Schedule]:
    """The schedule of this name, if it exists; None: all schedules."""
    if name is None:
        return _schedules(query(connection, ALL_SCHEDULES))
    return _schedules(query(connection, SCHEDULE, (name,)))


def _schedules(rows: Iterator[Any]) -> list[Schedule]:
    return [decode_schedule(record) for (record,) in rows]
