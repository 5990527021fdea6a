"""Connections to the file: how they are set up, and what their errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from threading import Event

import apsw

from raincheck.clock import chance, monotonic
from raincheck.errors import RaincheckError, StoreError, StoreFull, StoreUnavailable, StoreUnusable

VERSION = 1
APPLICATION_ID = 0x7261696E  # "rain"
BUSY_SECONDS = 30.0
OLDEST_SQLITE = 3_051_003  # before it, two connections can corrupt a WAL database


def connect(path: Path) -> apsw.Connection:
    """A connection that commits durably: WAL with a sync at every commit."""
    if apsw.SQLITE_VERSION_NUMBER < OLDEST_SQLITE:
        raise StoreUnusable(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a database that several processes write; "
            "raincheck needs 3.51.3 or newer: pip install --upgrade apsw"
        )
    with mapped(path):
        connection = apsw.Connection(str(path))
        connection.set_busy_handler(_Patience())
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        for pragma in ("journal_size_limit=67108864", "cache_size=-32768", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def prepare(connection: apsw.Connection, path: Path) -> None:
    """Create the tables, or bring those of an older version up to this one."""
    with mapped(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            _migrate(connection, path)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _migrate(connection: apsw.Connection, path: Path) -> None:
    owner = connection.pragma("application_id")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if owner != APPLICATION_ID:
        if tables:
            raise StoreUnusable(
                f"{path} is the database of another program; give raincheck a file of its own"
            )
        connection.execute(_sql("schema.sql")).fetchall()
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    version = connection.execute("SELECT version FROM meta").get
    if version > VERSION:
        raise StoreUnusable(
            f"{path} was written by a newer raincheck (format {version}, this one knows {VERSION}): upgrade raincheck"
        )
    for number in range(version + 1, VERSION + 1):
        connection.execute(_sql(f"migrations/{number:03}.sql")).fetchall()
        connection.execute("UPDATE meta SET version = ?", (number,))


def _sql(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


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


def translate(error: BaseException, path: Path) -> BaseException:
    """Our error for one of SQLite's; any other error as it is."""
    if isinstance(error, RaincheckError) or not isinstance(error, apsw.Error):
        return error
    if isinstance(error, apsw.FullError):
        return StoreFull(f"no space left for {path}: free some; nothing acknowledged is lost")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreUnavailable(f"{path} was busy for {BUSY_SECONDS:g} s: another process holds it")
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError):
        return StoreUnavailable(f"{path} cannot be written: look at the permissions of it and its folder")
    if isinstance(error, apsw.CantOpenError):
        return StoreUnavailable(f"{path} cannot be opened: look at its folder and their permissions")
    if isinstance(error, apsw.IOError):
        return StoreUnavailable(f"reading or writing {path} failed: {error}")
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return StoreUnusable(f"{path} is no intact SQLite database: {error}")
    return StoreError(f"{path}: {error}")
