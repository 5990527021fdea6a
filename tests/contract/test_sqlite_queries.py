"""How SQLite answers each query of the store: none looks at more than it must."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from raincheck.store.sqlite import leases, reads, writes
from raincheck.store.sqlite.connection import connect

SMALL = {"CONSTANT", "meta", "json_each", "lease", "(subquery-1)", "schedule", "worker"}
"""What is looked at as a whole: no or one row; the functions that a worker offers; the steps being run; the
schedules and workers, where all are asked for."""


def queries() -> Iterator[tuple[str, str]]:
    """Every statement of the store that has a name."""
    for module in (leases, reads, writes):
        for name, value in vars(module).items():
            is_statement = isinstance(value, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE)\b", value)
            if name.isupper() and is_statement:
                yield f"{module.__name__.rpartition('.')[2]}.{name}", value


@pytest.fixture(scope="module")
def connection() -> Iterator[apsw.Connection]:
    """A database with the tables."""
    with tempfile.TemporaryDirectory(prefix="rc-") as folder:
        connection = connect(Path(folder) / "raincheck.db")
        yield connection
        connection.close()


@pytest.mark.parametrize("sql", [pytest.param(sql, id=name) for name, sql in queries()])
def test_a_query_uses_an_index(connection: apsw.Connection, sql: str) -> None:
    """It neither reads a whole table, nor sorts what an index has in order."""
    bound = re.sub(r"\?\d*", ":x", sql)
    plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {bound}", {"x": 1})]
    scanned = {step.split()[1] for step in plan if step.startswith("SCAN")}
    assert scanned <= SMALL
    if sql != leases.WAITING:  # sorts the few functions of a worker
        assert not any("TEMP B-TREE" in step for step in plan)


def test_there_are_queries() -> None:
    """The list above is not empty by mistake."""
    assert len(list(queries())) > 30
