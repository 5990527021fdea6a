"""Reading: jobs, pages of jobs, due work, workers, counters and schedules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import groupby
from typing import Any

import apsw
import msgspec
from msgspec.structs import replace

from raincheck.core.codec import decode_job, decode_schedule, decode_worker
from raincheck.core.model import Claim, Entry, Job, Lease, Schedule, State, Stored, WorkerInfo
from raincheck.store.base import Candidates, Counts, Due, Ended, Filter, Missing
from raincheck.store.sqlite.connection import query

PAGE_READS = 1000
"""Jobs that one page reads at most."""

OUT_OF_ORDER = 60.0
"""Seconds by which jobs may have been created in another order than that of their numbers."""

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
    SELECT ended, record FROM job WHERE n = ?1
        AND (?2 IS NULL OR state IN (SELECT value FROM json_each(?2)))
        AND (?3 IS NULL OR name = ?3) AND (?4 IS NULL OR "group" = ?4)
        AND (?5 IS NULL OR EXISTS (SELECT 1 FROM job_function WHERE function = ?5 AND job = n))
"""
FIRST_JOB = "SELECT n, record FROM job WHERE n >= ? AND n < ? ORDER BY n LIMIT 1"
LAST_JOB = "SELECT coalesce(max(n), 0) FROM job"
ALL_JOBS = "SELECT n FROM job WHERE n > ? AND n < ? ORDER BY n DESC LIMIT ?"
BY_GROUP = 'SELECT n FROM job WHERE "group" = ? AND n > ? AND n < ? ORDER BY n DESC LIMIT ?'
BY_NAME = "SELECT n FROM job WHERE name = ? AND n > ? AND n < ? ORDER BY n DESC LIMIT ?"
BY_FUNCTION = (
    "SELECT job FROM job_function WHERE function = ? AND job > ? AND job < ? ORDER BY job DESC LIMIT ?"
)
BY_STATE = "SELECT n FROM job WHERE state = ? AND n > ? AND n < ? ORDER BY n DESC LIMIT ?"
DOING_JOBS = """
    SELECT job FROM lease WHERE job > ?1 AND job < ?2
    UNION SELECT n FROM job WHERE state = 'doing' AND n > ?1 AND n < ?2
    ORDER BY 1 DESC LIMIT ?3
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

_encode = msgspec.json.Encoder().encode


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
    low, high = _range(connection, which)
    if after is not None and which.oldest_first:
        low = max(low, _number(after))
    elif after is not None:
        high = min(high, _number(after))
    jobs: list[Stored] = []
    positions: list[str] = []
    last, columns = 0, _columns(which)
    for reads, n in enumerate(_indexed(connection, which, low, high)):
        if len(jobs) == limit or reads == PAGE_READS:
            return Candidates(tuple(jobs), tuple(positions), str(last))
        last = n
        row = connection.execute(MATCHING_JOB, (n, *columns)).get
        if row is not None:  # else its record is not read
            ended, record = row
            jobs.append(Stored(decode_job(record), () if ended else _leases(connection, n)))
            positions.append(str(n))
    return Candidates(tuple(jobs), tuple(positions))


def _range(connection: apsw.Connection, which: Filter) -> tuple[int, int]:
    """The numbers between which the jobs of a filter are, without both."""
    low, high = 0, MAX_NUMBER
    if which.since is not None:
        low = _first_created(connection, which.since - OUT_OF_ORDER) - 1
    if which.until is not None:
        high = _first_created(connection, which.until + OUT_OF_ORDER)
    return low, high


def _first_created(connection: apsw.Connection, moment: float) -> int:
    """The number from which on jobs were created at a time or later, found in a few reads."""
    low, high = 1, connection.execute(LAST_JOB).get + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(FIRST_JOB, (middle, high)).get
        if row is None or decode_job(row[1]).created_at >= moment:
            high = middle
        else:
            low = row[0] + 1
    return low


def _columns(which: Filter) -> tuple[str | None, ...]:
    """The values that the columns of a job must have; None: any. Only the state at rest has a column."""
    states = {*which.states}
    if State.DOING in states:
        states |= {state for state in State if not state.ended}
    at_rest = _encode([*states]).decode() if states else None
    return at_rest, which.name, which.group, which.function


def _indexed(connection: apsw.Connection, which: Filter, low: int, high: int) -> Iterator[int]:
    """The numbers of jobs in the order of a filter, from the index that selects the fewest."""
    numbers = [
        (n for (n,) in query(connection, _ordered(sql, which), (*key, low, high, PAGE_READS + 1)))
        for sql, key in _sources(connection, which)
    ]
    return (n for n, _ in groupby(merge(*numbers, reverse=not which.oldest_first)))


def _ordered(sql: str, which: Filter) -> str:
    return sql.replace(" DESC ", " ASC ") if which.oldest_first else sql


def _sources(connection: apsw.Connection, which: Filter) -> list[tuple[str, tuple[str, ...]]]:
    """Queries that find the jobs of a filter together, and the key that each looks up."""
    by_state: list[tuple[str, tuple[str, ...]]] = [
        (DOING_JOBS, ()) if state is State.DOING else (BY_STATE, (state,)) for state in which.states
    ]
    if by_state and _are_rare(connection, which.states):
        return by_state
    for sql, key in ((BY_NAME, which.name), (BY_GROUP, which.group), (BY_FUNCTION, which.function)):
        if key is not None:
            return [(sql, (key,))]
    return by_state or [(ALL_JOBS, ())]


def _are_rare(connection: apsw.Connection, states: Sequence[State]) -> bool:
    """Whether so few jobs are in these states that their index is better than that of a name."""
    at_rest = _count_states(connection)
    jobs = sum(at_rest[state] for state in states)
    if State.DOING in states:
        jobs += _count_leases(connection)
    return jobs <= max(PAGE_READS, sum(at_rest.values()) // 10)


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
        replace(decode_worker(info), seen_at=seen, seen_until=until, running=running[worker_id])
        for worker_id, info, seen, until in query(connection, WORKERS)
    ]


def counts(connection: apsw.Connection) -> Counts:
    """The counters."""
    queued = dict(query(connection, "SELECT name, places FROM function WHERE places > 0"))
    doing = Counter(State(state) for (state,) in query(connection, DOING_STATES))
    return Counts(_count_states(connection), queued, _count_leases(connection), doing)


def _count_states(connection: apsw.Connection) -> dict[State, int]:
    """The number of jobs in each state at rest."""
    states: dict[State, int] = dict.fromkeys(State, 0)
    states.update((State(state), jobs) for state, jobs in query(connection, "SELECT state, jobs FROM tally"))
    return states


def _count_leases(connection: apsw.Connection) -> int:
    leases: int = connection.execute("SELECT count(*) FROM lease").get
    return leases


def schedules(connection: apsw.Connection, name: str | None) -> list[Schedule]:
    """The schedule of this name, if it exists; None: all schedules."""
    if name is None:
        return _schedules(query(connection, ALL_SCHEDULES))
    return _schedules(query(connection, SCHEDULE, (name,)))


def _schedules(rows: Iterator[Any]) -> list[Schedule]:
    return [decode_schedule(record) for (record,) in rows]
