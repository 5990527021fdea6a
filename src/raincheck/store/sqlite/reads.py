"""Reading: none of it locks anything, and none of it costs more when there is more to read."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import apsw
import msgspec
from msgspec.structs import replace

from raincheck.codec import decode_job
from raincheck.errors import Fault, InvalidInput
from raincheck.model import Claim, Job, Lease, State, Stored, WorkerInfo
from raincheck.store.base import Counts, Filter, Missing, Page
from raincheck.store.sqlite.connection import query

EXAMINE = 1000
"""How many jobs one page looks at."""

START = 2**63 - 1

ONE = "SELECT n, ended, record FROM job WHERE id = ?"
IS_GONE = "SELECT 1 FROM gone WHERE id = ? AND until > ?"
LEASES = "SELECT step, token, worker, since, until, progress FROM lease WHERE job = ?"
LISTED = "SELECT state, ended, name, record FROM job WHERE n = ?"
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

DOING = "SELECT state FROM (SELECT DISTINCT job AS n FROM lease) CROSS JOIN job USING (n)"

_worker_decoder = msgspec.msgpack.Decoder(WorkerInfo)


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


def page(connection: apsw.Connection, which: Filter, limit: int, cursor: str | None) -> Page:
    """One page of a listing: candidates from the best index, read one by one until it is full."""
    last = START if cursor is None else _number(cursor)
    found: list[Stored] = []
    for examined, (n,) in enumerate(_candidates(connection, which, last)):
        if len(found) == limit or examined == EXAMINE:
            return Page(tuple(found), _cursor(last))
        last = n
        stored = _match(connection, n, which)
        if stored is not None:
            found.append(stored)
    return Page(tuple(found))


def _candidates(connection: apsw.Connection, which: Filter, before: int) -> Iterator[Any]:
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


def _match(connection: apsw.Connection, n: int, which: Filter) -> Stored | None:
    state, ended, name, record = connection.execute(LISTED, (n,)).get
    if which.name not in (None, name):
        return None
    leases = () if ended else _leases(connection, n)
    if which.state not in (None, State.DOING if leases else state):
        return None
    job = decode_job(record)
    if which.function is not None and all(step.function != which.function for step in job.steps):
        return None
    if which.group not in (None, job.group):
        return None
    return Stored(job, leases)


def _cursor(n: int) -> str:
    return base64.urlsafe_b64encode(b"n%d" % n).decode().rstrip("=")


def _number(cursor: str) -> int:
    try:
        n = int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[1:])
    except ValueError:
        n = 0
    if not 0 < n <= START or _cursor(n) != cursor:
        raise InvalidInput(Fault("not a cursor that a page of this listing gave", "/cursor"))
    return n


def lost(connection: apsw.Connection, limit: int, now: float) -> list[Claim]:
    """Leases that have run out. All leases are looked at: there are only as many as steps being run."""
    jobs: dict[int, Job] = {}
    claims = []
    for n, record, *lease in query(connection, LOST, (now, limit)):
        if n not in jobs:  # a job may have very many steps
            jobs[n] = decode_job(record)
        claims.append(Claim(jobs[n], Lease(*lease)))
    return claims


def alarmed(connection: apsw.Connection, limit: int, now: float) -> list[Stored]:
    """Unfinished jobs whose alarm has rung."""
    rows = query(connection, ALARMED, (now, limit))
    return [Stored(decode_job(record), _leases(connection, n)) for n, record in rows]


def workers(connection: apsw.Connection, now: float) -> list[WorkerInfo]:
    """The workers known, those that fell silent marked so."""
    return [
        _worker(_worker_decoder.decode(info), seen, until, now)
        for info, seen, until in query(connection, "SELECT info, seen, until FROM worker ORDER BY id")
    ]


def _worker(info: WorkerInfo, seen: float, until: float, now: float) -> WorkerInfo:
    state = info.state if until > now else "unhealthy"
    return replace(info, seen_at=seen, seen_until=until, state=state)


def counts(connection: apsw.Connection) -> Counts:
    """The counters."""
    states: dict[State, int] = dict.fromkeys(State, 0)
    states.update((State(state), jobs) for state, jobs in query(connection, "SELECT state, jobs FROM tally"))
    queued = dict(query(connection, "SELECT name, places FROM function WHERE places > 0"))
    doing = Counter(State(state) for (state,) in query(connection, DOING))
    return Counts(states, queued, connection.execute("SELECT count(*) FROM lease").get, doing)
