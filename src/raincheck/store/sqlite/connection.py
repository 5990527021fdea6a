"""Connections to the database file: settings, migrations, transactions, and SQLite's errors as ours."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import resources
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import quote

import apsw

from raincheck.core.clock import chance, monotonic
from raincheck.core.errors import StoreError, StoreFull, StoreUnavailable, StoreUnusable

VERSION = 5
APPLICATION_ID = 0x7261696E  # "rain"
BUSY_SECONDS = 30.0
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MEMORY = ":memory:"
OLDEST_SQLITE = 3_051_003  # older versions can corrupt a WAL database that two connections write

_OPEN = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI

_PRAGMAS = (
    "synchronous=FULL",
    "fullfsync=ON",  # on macOS, fsync alone does not reach the disk
    "wal_autocheckpoint=4000",
    "journal_size_limit=67108864",
    "cache_size=-4096",  # the operating system caches the file too
    "temp_store=MEMORY",
)


def in_memory(path: Path) -> bool:
    """Whether this is the name of a database in memory. A file has an absolute path."""
    return str(path).startswith(MEMORY)


class OpenFile(NamedTuple):
    """A database file that a process has opened."""

    path: str
    pid: int


_open_files: list[OpenFile] = []
"""The files that are open, once for each store; a forked child has those of its parent."""


def note_open(path: Path) -> OpenFile:
    """Note that this process opens a file. Raises `StoreUnusable` if its parent had it open at the fork.

    SQLite would count the locks of the parent as those of this process, and could then overwrite what other
    processes use (https://sqlite.org/howtocorrupt.html, section 2.6).
    """
    file = OpenFile(os.path.realpath(path), os.getpid())
    if any(other.path == file.path and other.pid != file.pid for other in _open_files):
        raise StoreUnusable(
            f"this process was forked while {path} was open, and SQLite cannot be used on both sides of a "
            "fork. Close the app before the fork (app.blocking.close() or await app.close()), or start the "
            "child with spawn: multiprocessing.get_context('spawn')"
        )
    _open_files.append(file)
    return file


def note_closed(file: OpenFile) -> None:
    """Note that a store has closed its file."""
    _open_files.remove(file)


def connect(path: Path) -> apsw.Connection:
    """A connection that commits durably: WAL with a sync for every commit. Creates missing files and tables.

    A database in memory is shared by the connections of this process that use its name, and is gone when the
    last of them is closed (docs/decisions/0021). It has no WAL: a reader and a writer wait for each other.

    Raises `StoreUnusable` or `StoreUnavailable`.
    """
    if apsw.SQLITE_VERSION_NUMBER < OLDEST_SQLITE:
        raise StoreUnusable(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a database that several processes write; "
            "raincheck needs 3.51.3 or newer: pip install --upgrade apsw"
        )
    with mapped(path):
        connection = apsw.Connection(_uri(path) if in_memory(path) else str(path), flags=_OPEN)
        try:
            wait = _BusyHandler()
            connection.set_busy_handler(wait)
            _set_up(connection, path, wait)
        except BaseException:
            close(connection)
            raise
    return connection


def _uri(path: Path) -> str:
    return f"file:/{quote(str(path))}?vfs=memdb"


def close(connection: apsw.Connection) -> None:
    """Close a connection in any state, without an error."""
    with suppress(apsw.Error):
        connection.close(True)


def query(connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()) -> Iterator[Any]:
    """The rows of a query, read one by one; the columns have the types of the schema."""
    return connection.execute(sql, tuple(bindings))


ROWS_PER_STATEMENT = (64, 16, 4, 1)
"""Few sizes, so that SQLite prepares each statement once and keeps it."""

_ROW = re.compile(r"VALUES (\([?, ]+\))")


def write_rows(connection: apsw.Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Execute a statement that contains ``VALUES (?, ...)`` for all rows, with many rows per statement.

    A connection releases the interpreter lock for each statement, and waits for it behind a busy event loop:
    one statement with 64 rows waits once, 64 statements wait 64 times.
    """
    rest = list(rows)
    for size in ROWS_PER_STATEMENT:
        while len(rest) >= size:
            connection.execute(_with_rows(statement, size), tuple(chain.from_iterable(rest[:size])))
            del rest[:size]


@lru_cache(maxsize=64)
def _with_rows(statement: str, size: int) -> str:
    return _ROW.sub(lambda row: "VALUES " + ", ".join([row[1]] * size), statement)


def _set_up(connection: apsw.Connection, path: Path, wait: Callable[[int], bool]) -> None:
    with transaction(connection, "DEFERRED"):  # another process may be creating it
        version = _version(connection, path)  # before anything is changed
    if not in_memory(path):
        _set_wal(connection, path, wait)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    if version < VERSION:
        with transaction(connection):
            _migrate(connection, _version(connection, path))


def _set_wal(connection: apsw.Connection, path: Path, wait: Callable[[int], bool]) -> None:
    attempts = 0
    while True:
        try:
            mode = connection.pragma("journal_mode", "WAL")
            break
        except apsw.BusyError:  # another process is setting it: SQLite does not wait for that
            if not wait(attempts):
                raise
            attempts += 1
    if mode != "wal":
        raise StoreUnusable(f"{path} is on a file system without WAL support: use a local disk")


def _version(connection: apsw.Connection, path: Path) -> int:
    """The version of the tables; 0: there are none.

    Raises `StoreUnusable` if the file belongs to another program or to a newer version.
    """
    owner = connection.pragma("application_id")
    if owner != APPLICATION_ID:
        if owner or connection.execute("SELECT count(*) FROM sqlite_schema").get:
            raise StoreUnusable(f"{path} is the database of another program: use another file")
        return 0
    version: int = connection.execute("SELECT version FROM meta").get
    if version > VERSION:
        raise StoreUnusable(
            f"{path} was written by a newer raincheck (format {version}, this one knows {VERSION}): "
            "upgrade raincheck"
        )
    return version


def _migrate(connection: apsw.Connection, version: int) -> None:
    if version == 0:
        connection.execute(_sql("schema.sql")).fetchall()
        connection.pragma("application_id", APPLICATION_ID)
        version = VERSION
    for number in range(version + 1, VERSION + 1):
        connection.execute(_sql(f"migrations/{number:03}.sql")).fetchall()
    connection.execute("UPDATE meta SET version = ?", (VERSION,))


def _sql(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@contextmanager
def transaction(connection: apsw.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Commit the block durably, or roll it back if it raises. With ``DEFERRED``, read from one snapshot."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        full = isinstance(error, apsw.IOError) and connection.system_errno in NO_SPACE
        with suppress(apsw.Error):  # the first error is raised
            if connection.in_transaction:  # SQLite may have rolled back already
                connection.execute("ROLLBACK")
        if full:
            raise apsw.FullError(str(error)) from error
        raise


class _BusyHandler:
    """Tries again every fraction of a millisecond, for `BUSY_SECONDS`.

    SQLite's own handler sleeps longer each time, so that one of several busy writers can wait very long.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._never_set = Event()

    def __call__(self, attempts: int) -> bool:
        if attempts == 0:
            self._since = monotonic()
        self._never_set.wait(0.0002 + 0.0006 * chance())
        return monotonic() - self._since < BUSY_SECONDS


@contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Raise our errors for SQLite's."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error


def translate(error: apsw.Error, path: Path) -> StoreError:
    """Our error for an error of SQLite; the message says what to do."""
    match error:
        case apsw.FullError():
            return StoreFull(f"no space left for {path}: free some space; acknowledged jobs are not lost")
        case apsw.BusyError() | apsw.LockedError():
            return StoreUnavailable(f"{path} was locked by another process for {BUSY_SECONDS:g} s: retry")
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return StoreUnavailable(
                f"{path} cannot be written: check the permissions of the file and its folder"
            )
        case apsw.CantOpenError():
            return StoreUnavailable(
                f"{path} cannot be opened: check that its folder exists, and the permissions"
            )
        case apsw.IOError():
            return StoreUnavailable(f"reading or writing {path} failed: {error}")
        case apsw.NotADBError() | apsw.CorruptError():
            return StoreUnusable(f"{path} is not an intact SQLite database: {error}")
        case _:
            return StoreError(f"{path}: {error}")
