"""Claims, releases and heartbeats: moves between the queue and the leases, and the register of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apsw
import msgspec

from raincheck.core.model import Lease, WorkerInfo
from raincheck.store.base import Held
from raincheck.store.sqlite.connection import query, write_rows
from raincheck.store.sqlite.writes import ENQUEUE, Effects, count_queued

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


class ClaimRequest(NamedTuple):
    """The parameters of a claim; ``lease`` in seconds."""

    worker: str
    functions: tuple[str, ...]
    limit: int
    lease: float


class Claimed(NamedTuple):
    """The records of the claimed jobs by number, and the leases, each with the number of its job."""

    records: dict[int, bytes]
    leases: list[tuple[int, Lease]]


def claim(connection: apsw.Connection, request: ClaimRequest, now: float) -> Claimed:
    """Lease up to ``limit`` ready steps: an equal share per function first, then the rest."""
    functions = _with_entries(connection, request.functions)
    rows: list[Any] = []
    while functions and len(rows) < request.limit:
        share = -(-(request.limit - len(rows)) // len(functions))
        unfinished = []
        for function in functions:
            room = min(share, request.limit - len(rows))
            taken = _dequeue(connection, function, room, now)
            rows += taken
            if len(taken) == room:
                unfinished.append(function)
        functions = unfinished
    if not rows:
        return Claimed({}, [])
    last: int = connection.execute(NEW_TOKENS, (len(rows),)).get
    until = now + request.lease
    counts = Counter(row[0] for row in rows)
    connection.executemany(SERVED, [(n, last, function) for function, n in counts.items()])
    worker, first = request.worker, last - len(rows) + 1
    leased = [
        (job, step, token, worker, now, until, function, priority, due)
        for token, (function, priority, due, job, step) in enumerate(rows, first)
    ]
    write_rows(connection, LEASE, leased)
    numbers = list({row[0] for row in leased})  # a job may have many steps
    return Claimed(
        dict(query(connection, RECORDS, (_encode(numbers).decode(),))),
        [(row[0], Lease(row[1], row[2], worker, now, until)) for row in leased],
    )


def _with_entries(connection: apsw.Connection, functions: tuple[str, ...]) -> list[str]:
    """The functions whose queue is not empty, the one that was served longest ago first."""
    return [name for (name,) in query(connection, WAITING, (_encode(functions).decode(),))]


def _dequeue(connection: apsw.Connection, function: str, limit: int, now: float) -> list[Any]:
    rows: list[Any] = []
    for priority in _priorities(connection, function):
        ready = list(query(connection, READY, (function, priority, now, limit - len(rows))))
        if ready:  # the first entries of the queue: delete all up to the last of them
            connection.execute(TAKE, ready[-1])
        rows += ready
        if len(rows) >= limit:
            break
    return rows


def _priorities(connection: apsw.Connection, function: str) -> Iterator[int]:
    """The distinct priorities in a queue, highest first; one lookup in the index per priority."""
    priority = connection.execute(NEXT_PRIORITY, (function, -(2**63))).get
    while priority is not None:
        yield priority
        priority = connection.execute(NEXT_PRIORITY, (function, priority)).get


def next_due(connection: apsw.Connection, functions: tuple[str, ...]) -> float | None:
    """The earliest due time of the queue entries of these functions; None: there are no entries."""
    times: Iterator[float] = (
        connection.execute(FIRST_DUE, (function, priority)).get
        for function in _with_entries(connection, functions)
        for priority in _priorities(connection, function)
    )
    return min(times, default=None)


def heartbeat(
    connection: apsw.Connection, worker: WorkerInfo, held: Sequence[Held], lease: float, now: float
) -> list[int | None]:
    """Register a worker and extend its leases; the revision of the job per lease, None for a lost lease."""
    if worker.state == "stopped":
        connection.execute(UNREGISTER, (worker.id,))
    else:
        connection.execute(REGISTER, (worker.id, _encode_worker(worker), now, now + lease))
    return [connection.execute(EXTEND, (now + lease, *each)).get for each in held]


def release(connection: apsw.Connection, held: Sequence[Held], effects: Effects) -> None:
    """Return steps to the queue entries that they were claimed from."""
    entries = [entry for lease in held for entry in query(connection, RELEASE, lease)]
    write_rows(connection, ENQUEUE, entries)
    count_queued(connection, Counter(function for function, *_ in entries))
    for function, _, due, _, _ in entries:
        effects.add_entry(function, due)


def report(connection: apsw.Connection, lease: Held, progress: bytes) -> bool:
    """Store the progress of an attempt with its lease. False: the lease is lost."""
    return connection.execute(REPORT, (progress, *lease)).get is not None
