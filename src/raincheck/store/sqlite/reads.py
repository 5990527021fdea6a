"""Reading: none of it locks anything, and none of it costs more when there is more to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import apsw
import msgspec
from msgspec.structs import replace

from raincheck.core.codec import decode_job
from raincheck.core.model import Claim, Job, Lease, State, Stored, WorkerInfo
from raincheck.store.base import Candidates, Counts, Due, Ended, Filter, Missing
from raincheck.store.sqlite import schedules
from raincheck.store.sqlite.connection import query

EXAMINE = 1000
"""How many jobs one page looks at."""

START = 2**63 - 1

ONE = "SELECT n, ended, record FROM job WHERE id = ?"
IS_GONE = "SELECT 1 FROM gone WHERE id = ? AND until > ?"
LEASES = "SELECT step, token, worker, since, until, progress FROM lease WHERE job = ?"
RESULT = "SELECT value FROM result WHERE job = (SELECT n FROM job WHERE id = ?) AND step = ?"
LISTED = """
    SELECT ended, record FROM job WHERE n = ?1 AND (?2 IS NULL OR name = ?2) AND (?3 IS NULL OR state = ?3)
        AND (?4 IS NULL OR "group" = ?4)
"""
ALL = "SELECT n FROM job WHERE n < ? ORDER BY n DESC LIMIT ?"
OF_GROUP = 'SELECT n FROM job WHERE "group" = ? AND n < ? ORDER BY n DESC LIMIT ?'
NAMED = "SELECT n FROM job WHERE name = ? AND n < ? ORDER BY n DESC LIMIT ?"
WITH_FUNCTION = "SELECT job FROM job_function WHERE function = ? AND job < ? ORDER BY job DESC LIMIT ?"
IN_STATE = "SELECT n FROM job WHERE state = ? AND n < ? ORDER BY n DESC LIMIT ?"
BEING_DONE = """
    SELECT job FROM lease WHERE job < ?1 UNION SELECT n FROM job WHERE state = 'doing' AND n < ?1
    ORDER BY 1 DESC LIMIT ?2
"""
LOST = """
    SELECT job, record, step, token, worker, since, until, progress
    FROM lease JOIN job ON job.n = lease.job WHERE until <= ? LIMIT ?
"""
ALARMED = "SELECT n, record FROM job WHERE NOT ended AND alarm <= ? ORDER BY alarm LIMIT ?"
ENDED = "SELECT id, rev FROM job WHERE ended AND alarm <= ? ORDER BY alarm LIMIT ?"
HOLDERS = "SELECT worker FROM lease"

DOING = "SELECT state FROM (SELECT DISTINCT job AS n FROM lease) CROSS JOIN job USING (n)"

WORKERS = "SELECT id, info, seen, until FROM worker ORDER BY id"

_decode_worker = msgspec.msgpack.Decoder(WorkerInfo).decode


def find(connection: apsw.Connection, job_ids: Sequence[str], now: float) -> list[Stored | Missing]:
    """The jobs with these ids."""
    return [_find(connection, job_id, now) for job_id in job_ids]


def _find(connection: apsw.Connection, job_id: str, now: float) -> Stored | Missing:
    row = connection.execute(ONE, (job_id,)).get
    if row is None:
        return Missing(gone=connection.execute(IS_GONE, (job_id, now)).get is not None)
    n, ended, record = row
    return Stored(decode_job(record), () if ended else _leases(connection, n))


def _leases(connection: apsw.Connection, n: int) -> tuple[Lease, ...]:
    return tuple(Lease(*row) for row in query(connection, LEASES, (n,)))


def results(connection: apsw.Connection, wanted: Sequence[tuple[str, int]]) -> list[bytes | None]:
    """Large results, by the id of their job and the number of their step."""
    return [connection.execute(RESULT, spot).get for spot in wanted]


def page(connection: apsw.Connection, which: Filter, limit: int, after: str | None) -> Candidates:
    """Candidates from the best index, read one by one until there are enough."""
    last = START if after is None else _number(after)
    jobs: list[Stored] = []
    positions: list[str] = []
    for examined, (n,) in enumerate(_indexed(connection, which, last)):
        if len(jobs) == limit or examined == EXAMINE:
            return Candidates(tuple(jobs), tuple(positions), str(last))
        last = n
        stored = _narrowed(connection, n, which)
        if stored is not None:
            jobs.append(stored)
            positions.append(str(n))
    return Candidates(tuple(jobs), tuple(positions))


def _indexed(connection: apsw.Connection, which: Filter, before: int) -> Iterator[Any]:
    """The numbers of jobs from the index that leaves the fewest."""
    end = (before, EXAMINE + 1)
    if which.state is State.DOING:
        return query(connection, BEING_DONE, end)
    if which.name is not None:
        return query(connection, NAMED, (which.name, *end))
    if which.group is not None:
        return query(connection, OF_GROUP, (which.group, *end))
    if which.function is not None:
        return query(connection, WITH_FUNCTION, (which.function, *end))
    if which.state is not None:
        return query(connection, IN_STATE, (which.state, *end))
    return query(connection, ALL, end)


def _narrowed(connection: apsw.Connection, n: int, which: Filter) -> Stored | None:
    """The job, unless its columns show that it does not match: then its record is not read."""
    state = None if which.state is State.DOING else which.state
    row = connection.execute(LISTED, (n, which.name, state, which.group)).get
    if row is None:
        return None
    ended, record = row
    return Stored(decode_job(record), () if ended else _leases(connection, n))


def _number(position: str) -> int:
    n = int(position)
    if not 0 < n <= START:
        raise ValueError(position)
    return n


def due(connection: apsw.Connection, limit: int, now: float) -> Due:
    """What maintenance has to do."""
    return Due(
        _lost(connection, limit, now),
        _alarmed(connection, limit, now),
        [Ended(*row) for row in query(connection, ENDED, (now, limit))],
        schedules.due(connection, limit, now),
    )


def _lost(connection: apsw.Connection, limit: int, now: float) -> list[Claim]:
    """Leases that have run out. All leases are looked at: there are only as many as steps being run."""
    jobs: dict[int, Job] = {}
    claims = []
    for n, record, *lease in query(connection, LOST, (now, limit)):
        if n not in jobs:  # a job may have very many steps
            jobs[n] = decode_job(record)
        claims.append(Claim(jobs[n], Lease(*lease)))
    return claims


def _alarmed(connection: apsw.Connection, limit: int, now: float) -> list[Stored]:
    """Unfinished jobs whose alarm has rung."""
    rows = query(connection, ALARMED, (now, limit))
    return [Stored(decode_job(record), _leases(connection, n)) for n, record in rows]


def workers(connection: apsw.Connection) -> list[WorkerInfo]:
    """The workers known, each with the number of its leases. All leases are looked at."""
    running = Counter(worker for (worker,) in query(connection, HOLDERS))
    return [
        replace(_decode_worker(info), seen_at=seen, seen_until=until, running=running[worker_id])
        for worker_id, info, seen, until in query(connection, WORKERS)
    ]


def counts(connection: apsw.Connection) -> Counts:
    """The counters."""
    states: dict[State, int] = dict.fromkeys(State, 0)
    states.update((State(state), jobs) for state, jobs in query(connection, "SELECT state, jobs FROM tally"))
    queued = dict(query(connection, "SELECT name, places FROM function WHERE places > 0"))
    doing = Counter(State(state) for (state,) in query(connection, DOING))
    return Counts(states, queued, connection.execute("SELECT count(*) FROM lease").get, doing)
