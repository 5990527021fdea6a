"""Connections to the file: how they are set up, and what their errors mean."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from threading import Event
from typing import Any

import apsw

from raincheck.core.clock import chance, monotonic
from raincheck.core.errors import StoreError, StoreFull, StoreUnavailable, StoreUnusable

VERSION = 4
APPLICATION_ID = 0x7261696E  # "rain"
BUSY_SECONDS = 30.0
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OLDEST_SQLITE = 3_051_003  # before it, two connections can corrupt a WAL database

_PRAGMAS = (
    "synchronous=FULL",
    "fullfsync=ON",  # on a Mac, fsync alone does not reach the disk
    "wal_autocheckpoint=4000",
    "journal_size_limit=67108864",
    "cache_size=-4096",  # the operating system caches the file, too
    "temp_store=MEMORY",
)


def connect(path: Path) -> apsw.Connection:
    """A connection that commits durably: WAL with a sync at every commit. Creates what is not there."""
    if apsw.SQLITE_VERSION_NUMBER < OLDEST_SQLITE:
        raise StoreUnusable(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a database that several processes write; "
            "raincheck needs 3.51.3 or newer: pip install --upgrade apsw"
        )
    with mapped(path):
        connection = apsw.Connection(str(path))
        try:
            patience = _Patience()
            connection.set_busy_handler(patience)
            _set_up(connection, path, patience)
        except BaseException:
            close(connection)
            raise
    return connection


def close(connection: apsw.Connection) -> None:
    """Let go of a connection, in whatever state it is."""
    with suppress(apsw.Error):
        connection.close(True)


def query(connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()) -> Iterator[Any]:
    """The rows of a query, read as they are taken; their columns have the types of the schema."""
    return connection.execute(sql, tuple(bindings))


def _set_up(connection: apsw.Connection, path: Path, patience: Callable[[int], bool]) -> None:
    with transaction(connection, "DEFERRED"):  # another may just be creating it
        version = _version(connection, path)  # before anything of it is changed
    asked = 0
    while True:
        try:
            mode = connection.pragma("journal_mode", "WAL")
            break
        except apsw.BusyError:  # another is just doing so: SQLite does not wait for that by itself
            if not patience(asked):
                raise
            asked += 1
    if mode != "wal":
        raise StoreUnusable(f"{path} is on a file system where SQLite has no WAL; put it on a local disk")
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    if version < VERSION:
        with transaction(connection):
            _migrate(connection, _version(connection, path))


def _version(connection: apsw.Connection, path: Path) -> int:
    """The version of the tables, 0 if there are none. Raises `StoreUnusable` if it is not ours to use."""
    owner = connection.pragma("application_id")
    if owner != APPLICATION_ID:
        if owner or connection.execute("SELECT count(*) FROM sqlite_schema").get:
            raise StoreUnusable(f"{path} is the database of another program; give raincheck its own file")
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
    """Write all that is done within, durably, or nothing of it; or (``DEFERRED``) read from one snapshot."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        full = isinstance(error, apsw.IOError) and connection.system_errno in NO_SPACE
        with suppress(apsw.Error):  # the first error is the one to be told
            if connection.in_transaction:  # SQLite may have rolled back by itself
                connection.execute("ROLLBACK")
        if full:
            raise apsw.FullError(str(error)) from error
        raise


class _Patience:
    """A busy handler that asks again every fraction of a millisecond: fair, and quick to notice.

    SQLite's own sleeps ever longer, so that a writer among busy ones may wait for very long.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._never = Event()

    def __call__(self, asked: int) -> bool:
        if asked == 0:
            self._since = monotonic()
        self._never.wait(0.0002 + 0.0006 * chance())
        return monotonic() - self._since < BUSY_SECONDS


@contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, each saying what to do."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error


def translate(error: apsw.Error, path: Path) -> StoreError:
    """Our error for one of SQLite's."""
    match error:
        case apsw.FullError():
            return StoreFull(f"no space left for {path}: free some; nothing acknowledged is lost")
        case apsw.BusyError() | apsw.LockedError():
            return StoreUnavailable(f"{path} was busy for {BUSY_SECONDS:g} s: another process holds it")
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return StoreUnavailable(f"{path} cannot be written: look at the permissions of it and its folder")
        case apsw.CantOpenError():
            return StoreUnavailable(f"{path} cannot be opened: look at its folder and their permissions")
        case apsw.IOError():
            return StoreUnavailable(f"reading or writing {path} failed: {error}")
        case apsw.NotADBError() | apsw.CorruptError():
            return StoreUnusable(f"{path} is no intact SQLite database: {error}")
        case _:
            return StoreError(f"{path}: {error}")
