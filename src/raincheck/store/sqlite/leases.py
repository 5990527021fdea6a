"""Claims, heartbeats and releases: moves between the queue and the leases, and the register of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apsw
import msgspec

from raincheck.core.model import Lease, WorkerInfo
from raincheck.store.base import Held
from raincheck.store.sqlite.changes import ENQUEUE, Effects, count_places
from raincheck.store.sqlite.connection import query
from raincheck.store.sqlite.rows import write_rows

WAITING = """
    SELECT name FROM function
    WHERE name IN (SELECT value FROM json_each(?)) AND places > 0 ORDER BY served, name
"""
READY = """
    SELECT function, priority, due, job, step FROM queue
    WHERE function = ? AND priority = ? AND due <= ? ORDER BY due, job, step LIMIT ?
"""
RECORDS = "SELECT n, record FROM json_each(?) CROSS JOIN job ON n = value"
TAKE = "DELETE FROM queue WHERE function = ? AND priority = ? AND (due, job, step) <= (?, ?, ?)"
NEXT_PRIORITY = "SELECT min(priority) FROM queue WHERE function = ? AND priority > ?"
FIRST_DUE = "SELECT min(due) FROM queue WHERE function = ? AND priority = ?"
NEW_TOKENS = "UPDATE meta SET token = token + ? RETURNING token"
SERVED = "UPDATE function SET places = places - ?, served = ? WHERE name = ?"
LEASE = """
    INSERT INTO lease (job, step, token, worker, since, until, function, priority, due)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
EXTEND = """
    UPDATE lease SET until = ? WHERE job = (SELECT n FROM job WHERE id = ?) AND step = ? AND token = ?
    RETURNING (SELECT rev FROM job WHERE n = lease.job)
"""
RELEASE = """
    DELETE FROM lease WHERE job = (SELECT n FROM job WHERE id = ?) AND step = ? AND token = ?
    RETURNING function, priority, due, job, step
"""
REPORT = """
    UPDATE lease SET progress = ? WHERE job = (SELECT n FROM job WHERE id = ?) AND step = ? AND token = ?
    RETURNING 1
"""

REGISTER = "INSERT OR REPLACE INTO worker (id, info, seen, until) VALUES (?, ?, ?, ?)"
UNREGISTER = "DELETE FROM worker WHERE id = ?"

_encode = msgspec.json.Encoder().encode
_encode_worker = msgspec.msgpack.Encoder().encode


class Demand(NamedTuple):
    """What a claim asks for."""

    worker: str
    functions: tuple[str, ...]
    limit: int
    lease: float


class Taken(NamedTuple):
    """What a claim got: the records of jobs by number, and leases, each with the number of its job."""

    records: dict[int, bytes]
    leases: list[tuple[int, Lease]]


def claim(connection: apsw.Connection, demand: Demand, now: float) -> Taken:
    """Lease up to ``limit`` ready steps: the share of each function first, then what is left."""
    waiting = _waiting(connection, demand.functions)
    rows: list[Any] = []
    while waiting and len(rows) < demand.limit:
        share = -(-(demand.limit - len(rows)) // len(waiting))
        still = []
        for function in waiting:
            room = min(share, demand.limit - len(rows))
            got = _dequeue(connection, function, room, now)
            rows += got
            if len(got) == room:
                still.append(function)
        waiting = still
    if not rows:
        return Taken({}, [])
    last: int = connection.execute(NEW_TOKENS, (len(rows),)).get
    until = now + demand.lease
    places = Counter(row[0] for row in rows)
    connection.executemany(SERVED, [(n, last, function) for function, n in places.items()])
    leased = [(token, *row) for token, row in enumerate(rows, last - len(rows) + 1)]
    write_rows(
        connection,
        LEASE,
        [
            (job, step, token, demand.worker, now, until, function, priority, due)
            for token, function, priority, due, job, step in leased
        ],
    )
    numbers = list({job for _, _, _, _, job, _ in leased})  # a job may have very many steps
    return Taken(
        dict(query(connection, RECORDS, (_encode(numbers).decode(),))),
        [(job, Lease(step, token, demand.worker, now, until)) for token, _, _, _, job, step in leased],
    )


def _waiting(connection: apsw.Connection, functions: tuple[str, ...]) -> list[str]:
    """Those of ``functions`` with anything in their queue, the one served longest ago first."""
    return [name for (name,) in query(connection, WAITING, (_encode(functions).decode(),))]


def _dequeue(connection: apsw.Connection, function: str, limit: int, now: float) -> list[Any]:
    rows: list[Any] = []
    for priority in _priorities(connection, function):
        got = list(query(connection, READY, (function, priority, now, limit - len(rows))))
        if got:  # they are the first of the queue: all up to the last of them
            connection.execute(TAKE, got[-1])
        rows += got
        if len(rows) >= limit:
            break
    return rows


def _priorities(connection: apsw.Connection, function: str) -> Iterator[int]:
    """The distinct priorities in a queue, highest first, found by hopping along the index."""
    priority = connection.execute(NEXT_PRIORITY, (function, -(2**63))).get
    while priority is not None:
        yield priority
        priority = connection.execute(NEXT_PRIORITY, (function, priority)).get


def next_due(connection: apsw.Connection, functions: tuple[str, ...]) -> float | None:
    """When the next place of any of ``functions`` is due; None: there is none."""
    times: Iterator[float] = (
        connection.execute(FIRST_DUE, (function, priority)).get
        for function in _waiting(connection, functions)
        for priority in _priorities(connection, function)
    )
    return min(times, default=None)


def heartbeat(
    connection: apsw.Connection, worker: WorkerInfo, held: Sequence[Held], lease: float, now: float
) -> list[int | None]:
    """Register a worker, and extend its leases; the job's revision for each, None for a lost one."""
    if worker.state == "stopped":
        connection.execute(UNREGISTER, (worker.id,))
    else:
        connection.execute(REGISTER, (worker.id, _encode_worker(worker), now, now + lease))
    return [connection.execute(EXTEND, (now + lease, *each)).get for each in held]


def release(connection: apsw.Connection, held: Sequence[Held], effects: Effects) -> None:
    """Put steps back where they were claimed from."""
    places = [place for lease in held for place in query(connection, RELEASE, lease)]
    write_rows(connection, ENQUEUE, places)
    count_places(connection, Counter(function for function, *_ in places))
    for function, _, due, _, _ in places:
        effects.put(function, due)


def report(connection: apsw.Connection, lease: Held, progress: bytes) -> bool:
    """Note progress on a lease."""
    return connection.execute(REPORT, (progress, *lease)).get is not None
