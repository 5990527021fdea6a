"""Schedules: each a row, changed only by who has read it as it is."""

from __future__ import annotations

import apsw

from raincheck.codec import decode_schedule, encode_schedule
from raincheck.model import Schedule
from raincheck.store.sqlite.connection import query

INSERT = "INSERT INTO schedule (name, id, rev, due, record) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
UPDATE = "UPDATE schedule SET rev = ?, due = ?, record = ? WHERE name = ? AND id = ? AND rev = ?"
ALL = "SELECT record FROM schedule ORDER BY name"
ONE = "SELECT record FROM schedule WHERE name = ?"
DUE = "SELECT record FROM schedule WHERE due <= ? ORDER BY due LIMIT ?"


def put(connection: apsw.Connection, schedule: Schedule) -> bool:
    """Write a schedule, if what is there is what it follows on."""
    record = encode_schedule(schedule)
    if schedule.rev == 1:
        row = (schedule.name, schedule.id, schedule.rev, schedule.due, record)
        connection.execute(INSERT, row)
    else:
        guard = (schedule.name, schedule.id, schedule.rev - 1)
        connection.execute(UPDATE, (schedule.rev, schedule.due, record, *guard))
    return connection.changes() == 1


def drop(connection: apsw.Connection, name: str) -> bool:
    """Remove a schedule."""
    connection.execute("DELETE FROM schedule WHERE name = ?", (name,))
    return connection.changes() == 1


def find(connection: apsw.Connection, name: str | None) -> list[Schedule]:
    """One schedule, or all."""
    rows = query(connection, ALL) if name is None else query(connection, ONE, (name,))
    return [decode_schedule(record) for (record,) in rows]


def due(connection: apsw.Connection, limit: int, now: float) -> list[Schedule]:
    """Those whose time has come."""
    return [decode_schedule(record) for (record,) in query(connection, DUE, (now, limit))]
