"""Bare transactions: the minimum work of SQLite for a queue, without event loop, threads, guards and codec.

The connections have the settings of raincheck, and the records have the length of its records.
"""

from __future__ import annotations

import time
from typing import Any

import apsw

PENDING, DONE = bytes(170), bytes(250)
"""Records as long as those of raincheck for a job with one step, before and after it is done."""

PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000", "cache_size=-32768")

ONE_TABLE = """
    CREATE TABLE job (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state INTEGER NOT NULL, due REAL NOT NULL,
        worker TEXT, until REAL, record BLOB NOT NULL
    );
    CREATE INDEX ready  ON job (due, n) WHERE state = 0;
    CREATE INDEX leased ON job (until)  WHERE state = 1;
"""

THREE_TABLES = """
    CREATE TABLE job (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, rev INTEGER NOT NULL, state TEXT NOT NULL,
        ended INTEGER NOT NULL, name TEXT NOT NULL, alarm REAL, record BLOB NOT NULL
    );
    CREATE INDEX job_by_state ON job (state, n);
    CREATE INDEX job_by_name  ON job (name, n);
    CREATE INDEX job_to_wake  ON job (alarm) WHERE NOT ended AND alarm IS NOT NULL;
    CREATE INDEX job_to_prune ON job (alarm) WHERE ended;
    CREATE TABLE queue (
        function TEXT NOT NULL, priority INTEGER NOT NULL, due REAL NOT NULL,
        job INTEGER NOT NULL, step INTEGER NOT NULL,
        PRIMARY KEY (function, priority, due, job, step)
    ) WITHOUT ROWID;
    CREATE TABLE lease (
        job INTEGER NOT NULL, step INTEGER NOT NULL, token INTEGER NOT NULL, worker TEXT NOT NULL,
        since REAL NOT NULL, until REAL NOT NULL, function TEXT NOT NULL, priority INTEGER NOT NULL,
        due REAL NOT NULL, progress BLOB,
        PRIMARY KEY (job, step)
    ) WITHOUT ROWID;
"""


def insert(file: str, jobs: int, batch: int) -> float:
    """Jobs per second inserted into one table, ``batch`` per transaction."""
    connection = _create(file, ONE_TABLE)
    started_at = time.perf_counter()
    for begin in range(0, jobs, batch):
        _insert(connection, begin, min(batch, jobs - begin))
    return jobs / (time.perf_counter() - started_at)


def _create(file: str, tables: str) -> apsw.Connection:
    connection = apsw.Connection(file)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute(tables).fetchall()
    return connection


def _insert(connection: apsw.Connection, begin: int, count: int) -> None:
    rows = [(_id(n), time.time(), PENDING) for n in range(begin, begin + count)]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO job (id, state, due, record) VALUES (?, 0, ?, ?)", rows)
    connection.execute("COMMIT")


def one_table(file: str, jobs: int, batch: int) -> float:
    """Jobs per second finished and claimed in one table, ``batch`` of each per transaction."""
    connection = _create(file, ONE_TABLE)
    _insert(connection, 0, jobs)
    claimed: list[Any] = []
    started_at, first = time.perf_counter(), True
    while claimed or first:
        first = False
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "UPDATE job SET state = 2, until = NULL, record = ? WHERE id = ? AND state = 1",
            [(DONE, job_id) for _, job_id, _ in claimed],
        )
        claimed = connection.execute(
            "SELECT n, id, record FROM job WHERE state = 0 AND due <= ? ORDER BY due, n LIMIT ?",
            (time.time(), batch),
        ).fetchall()
        until = time.time() + 15.0
        connection.executemany(
            "UPDATE job SET state = 1, worker = 'worker', until = ? WHERE n = ?",
            [(until, row[0]) for row in claimed],
        )
        connection.execute("COMMIT")
    return jobs / (time.perf_counter() - started_at)


def three_tables(file: str, jobs: int, batch: int) -> float:
    """The same as `one_table` with separate tables for jobs, queue entries and leases, as raincheck has."""
    connection = _create(file, THREE_TABLES)
    _fill_three(connection, jobs)
    claimed: list[Any] = []
    started_at, first, token = time.perf_counter(), True, 0
    while claimed or first:
        first = False
        connection.execute("BEGIN IMMEDIATE")
        ends = time.time() + 7 * 86400.0
        connection.executemany(
            "UPDATE job SET rev = 2, state = 'done', ended = 1, alarm = ?, record = ? WHERE id = ?",
            [(ends, DONE, row[5]) for row in claimed],
        )
        connection.executemany(
            "DELETE FROM lease WHERE job = ? AND step = ?", [(row[3], row[4]) for row in claimed]
        )
        now = time.time()
        claimed = connection.execute(
            "SELECT function, priority, due, queue.job, step, id, record FROM queue JOIN job ON n = queue.job"
            " WHERE function = 'nothing' AND priority = 0 AND due <= ? ORDER BY due, queue.job, step LIMIT ?",
            (now, batch),
        ).fetchall()
        connection.executemany(
            "DELETE FROM queue WHERE function = ? AND priority = ? AND due = ? AND job = ? AND step = ?",
            [row[:5] for row in claimed],
        )
        connection.executemany(
            "INSERT INTO lease (job, step, token, worker, since, until, function, priority, due)"
            " VALUES (?, ?, ?, 'worker', ?, ?, ?, ?, ?)",
            [(row[3], row[4], token + i, now, now + 15.0, *row[:3]) for i, row in enumerate(claimed, 1)],
        )
        token += len(claimed)
        connection.execute("COMMIT")
    return jobs / (time.perf_counter() - started_at)


def _fill_three(connection: apsw.Connection, jobs: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO job (n, id, rev, state, ended, name, record) VALUES (?, ?, 1, 'pending', 0, 'bench', ?)",
        ((n, _id(n), PENDING) for n in range(jobs)),
    )
    connection.executemany(
        "INSERT INTO queue (function, priority, due, job, step) VALUES ('nothing', 0, ?, ?, 0)",
        ((time.time(), n) for n in range(jobs)),
    )
    connection.execute("COMMIT")


def _id(n: int) -> str:
    return f"00000000-0000-7000-8000-{n:012}"
