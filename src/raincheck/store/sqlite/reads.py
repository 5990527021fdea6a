"""Reading: none of it locks anything, and none of it costs more when there is more to read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec
from msgspec.structs import replace

from raincheck.codec import decode_job
from raincheck.errors import Fault, InvalidInput
from raincheck.model import Claim, Lease, State, Stored, WorkerInfo
from raincheck.store.base import Counts, Filter, Missing, Page

EXAMINE = 1000
"""How many jobs one page looks at."""

_worker_decoder = msgspec.msgpack.Decoder(WorkerInfo)
_LEASE = "step, token, worker, since, until, progress"


def find(connection: apsw.Connection, job_ids: Sequence[str]) -> list[Stored | Missing]:
    """The jobs with these ids."""
    return [_find(connection, job_id) for job_id in job_ids]


def _find(connection: apsw.Connection, job_id: str) -> Stored | Missing:
    row = connection.execute("SELECT n, ended, record FROM job WHERE id = ?", (job_id,)).get
    if row is None:
        return Missing(gone=connection.execute("SELECT 1 FROM gone WHERE id = ?", (job_id,)).get is not None)
    return Stored(decode_job(row[2]), () if row[1] else _leases(connection, row[0]))


def _leases(connection: apsw.Connection, n: int) -> tuple[Lease, ...]:
    rows = connection.execute(f"SELECT {_LEASE} FROM lease WHERE job = ?", (n,))  # noqa: S608
    return tuple(Lease(*row) for row in rows)


def page(connection: apsw.Connection, which: Filter, limit: int, cursor: str | None) -> Page:
    """One page of a listing: candidates from the best index, then the rest of the filter."""
    before = 2**63 - 1 if cursor is None else _number(cursor)
    candidates = [n for (n,) in connection.execute(*_candidates(which, before)).fetchall()]
    found: list[Stored] = []
    for n in candidates:
        stored = _match(connection, n, which)
        if stored is not None:
            found.append(stored)
        if len(found) == limit or (n == candidates[-1] and len(candidates) == EXAMINE):
            return Page(
                tuple(found), None if n == candidates[-1] and len(candidates) < EXAMINE else _cursor(n)
            )
    return Page(tuple(found))


def _candidates(which: Filter, before: int) -> tuple[str, tuple[Any, ...]]:
    if which.state is State.DOING:
        return "SELECT DISTINCT job FROM lease WHERE job < ? ORDER BY job DESC LIMIT ?", (before, EXAMINE)
    for column, value in (("name", which.name), ("state", which.state)):
        if value is not None and (column == "name" or which.function is None):
            query = f"SELECT n FROM job WHERE {column} = ? AND n < ? ORDER BY n DESC LIMIT ?"  # noqa: S608
            return query, (value, before, EXAMINE)
    if which.function is not None:
        query = "SELECT job FROM job_function WHERE function = ? AND job < ? ORDER BY job DESC LIMIT ?"
        return query, (which.function, before, EXAMINE)
    return "SELECT n FROM job WHERE n < ? ORDER BY n DESC LIMIT ?", (before, EXAMINE)


def _match(connection: apsw.Connection, n: int, which: Filter) -> Stored | None:
    row = connection.execute("SELECT state, ended, name, record FROM job WHERE n = ?", (n,)).get
    if row is None or (which.name is not None and which.name != row[2]):
        return None
    leases = () if row[1] else _leases(connection, n)
    if which.state is not None and which.state != (State.DOING if leases else row[0]):
        return None
    job = decode_job(row[3])
    if which.function is not None and all(step.function != which.function for step in job.steps):
        return None
    return Stored(job, leases)


def _cursor(n: int) -> str:
    return base64.urlsafe_b64encode(b"n%d" % n).decode().rstrip("=")


def _number(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        if text[:1] == b"n" and text[1:].isdigit() and len(text) < 20:
            return int(text[1:])
    except (binascii.Error, ValueError):
        pass
    raise InvalidInput(Fault("not a cursor that a page of this listing gave", "/cursor"))


def lost(connection: apsw.Connection, limit: int, now: float) -> list[Claim]:
    """Leases that have run out. All leases are looked at: there are only as many as jobs running."""
    rows = connection.execute(
        f"SELECT job.record, {_LEASE} FROM lease JOIN job ON job.n = lease.job WHERE until <= ? LIMIT ?",  # noqa: S608
        (now, limit),
    )
    return [Claim(decode_job(record), Lease(*rest)) for record, *rest in rows]


def alarmed(connection: apsw.Connection, limit: int, now: float) -> list[Stored]:
    """Unfinished jobs whose alarm has rung."""
    rows = connection.execute(
        "SELECT n, record FROM job WHERE NOT ended AND alarm <= ? ORDER BY alarm LIMIT ?", (now, limit)
    ).fetchall()
    return [Stored(decode_job(record), _leases(connection, n)) for n, record in rows]


def workers(connection: apsw.Connection, now: float) -> list[WorkerInfo]:
    """The workers known, those that fell silent marked so."""
    rows = connection.execute("SELECT info, seen, until FROM worker ORDER BY id")
    return [
        replace(
            _worker_decoder.decode(info),
            seen_at=seen,
            seen_until=until,
            state="active" if until > now else "unhealthy",
        )
        for info, seen, until in rows
    ]


def counts(connection: apsw.Connection) -> Counts:
    """The counters."""
    rows = connection.execute("SELECT kind, name, value FROM counter").fetchall()
    states = {state: 0 for state in State if state is not State.DOING}
    states |= {State(name): value for kind, name, value in rows if kind == "state"}
    queued = {name: value for kind, name, value in rows if kind == "queue" and value}
    return Counts(states, queued, connection.execute("SELECT count(*) FROM lease").get)
