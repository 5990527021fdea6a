"""Rows by the many in few statements.

A connection lets go of the interpreter for each step of a statement, and must get it back from a busy
event loop each time: one statement for 64 rows waits once where 64 statements wait 64 times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from typing import Any

import apsw

_ROW = re.compile(r"VALUES (\([?, ]+\))")

SIZES = (64, 16, 4, 1)
"""Rows a statement is made for: few sizes, so that each is prepared once and kept."""


def write_rows(connection: apsw.Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Run a statement with ``VALUES (?, …)`` in it for all of ``rows``."""
    left = list(rows)
    for size in SIZES:
        while len(left) >= size:
            connection.execute(_repeated(statement, size), tuple(chain.from_iterable(left[:size])))
            del left[:size]


@lru_cache(maxsize=64)
def _repeated(statement: str, size: int) -> str:
    return _ROW.sub(lambda row: "VALUES " + ", ".join([row[1]] * size), statement)
