"""Processes that share one SQLite file: they notify each other, and lose no data."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import apsw
import pytest

from raincheck.core.model import Stored
from raincheck.store import Store, make_store
from raincheck.store.sqlite.connection import VERSION
from tests.acceptance import sqlite_children
from tests.acceptance.sqlite_children import submission
from tests.contract.leaks import assert_no_leaks
from tests.folders import on_disk

pytestmark = pytest.mark.acceptance

CHILDREN = str(sqlite_children.__file__)
WAL_LIMIT = 64 * 1024**2
"""The size in bytes to which the store cuts its write-ahead log (``journal_size_limit``)."""


@pytest.fixture
def path() -> Iterator[Path]:
    """The path of a database, short enough for the names of sockets."""
    with on_disk() as folder:
        yield folder / "raincheck.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    """An open store in this process."""
    store = make_store(url_of(path))
    await store.open()
    yield store
    await store.close()


def url_of(path: Path) -> str:
    """The URL of a database."""
    return f"sqlite:///{path}"


@asynccontextmanager
async def child(
    role: str, path: Path, number: float = 0, **env: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process with a role; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        CHILDREN,
        role,
        url_of(path),
        str(number),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> list[str]:
    """The words of the next line that a child prints."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().split()


async def run(role: str, path: Path, number: float = 0) -> tuple[int | None, str]:
    """Run a child to its end; returns its exit code and output."""
    async with child(role, path, number) as process:
        said, _ = await process.communicate()
        return process.returncode, said.decode()


def show(*words: object) -> None:
    """Print figures, shown by ``pytest -s``."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def check_integrity(path: Path) -> None:
    """Check the integrity of the file."""
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()


class TestWaking:
    """An idle claimer in another process."""

    @pytest.mark.parametrize("bell", ["works", "is blocked"])
    async def test_a_commit_wakes_an_idle_claimer(self, path: Path, bell: str) -> None:
        """By a notification, or else by polling. The time is shown, not asserted."""
        if bell == "is blocked":
            path.with_name(path.name + "-bell").write_text("a file where the folder would be")
        store = make_store(url_of(path))
        await store.open()
        delays = []
        async with child("claimer", path) as claimer:
            assert await line(claimer) == ["ready"]
            for _ in range(10):
                await asyncio.sleep(0.05)  # by now it is idle
                change = submission(store)
                committed = time.monotonic()
                assert await store.commit([change]) == [None]
                job_id, claimed = await line(claimer)
                assert job_id == change.job.id
                delays.append(float(claimed) - committed)
        await store.close()
        show(f"the bell {bell}: claimed after", *(f"{1000 * delay:.1f}" for delay in delays), "ms")

    @pytest.mark.parametrize("bell", ["works", "is blocked"])
    async def test_an_idle_claimer_uses_almost_no_cpu(self, path: Path, bell: str) -> None:
        """Less than a hundredth of a core."""
        if bell == "is blocked":
            path.with_name(path.name + "-bell").write_text("a file where the folder would be")
        _, said = await run("idler", path, 3.0)
        show(f"the bell {bell}: {100 * float(said):.2f} % of a core")
        assert float(said) < 0.01


class TestManyWriters:
    """Several processes that write as fast as they can."""

    @pytest.mark.parametrize("seconds", [1.0, pytest.param(10.0, marks=pytest.mark.long)])
    async def test_no_process_is_locked_out(self, path: Path, store: Store, seconds: float) -> None:
        """There is no error, no job is lost, and the WAL is cut back to its limit by the commits that follow.

        How far it grows beyond that meanwhile is a matter of speed: readers hold a checkpoint up.
        """
        runs = [run("hammer", path, seconds) for _ in range(4)]
        results = await asyncio.gather(*runs, run("looker", path, seconds))
        show("finished:", *(said.strip() for _, said in results[:4]), "pages read:", results[4][1].strip())
        assert [code for code, _ in results] == [0] * 5
        assert all(int(said) > 0 for _, said in results)
        wal = path.with_name(path.name + "-wal")
        show(f"WAL: {wal.stat().st_size / 1024**2:.1f} MiB")
        for _ in range(3):  # the first may run the checkpoint, the next starts the WAL anew and cuts it
            assert await store.commit([submission(store)]) == [None]
        assert wal.stat().st_size <= WAL_LIMIT
        await assert_no_leaks(store)
        check_integrity(path)

    async def test_many_processes_create_one_database(self, path: Path) -> None:
        """One process creates it, the others open it."""
        results = await asyncio.gather(*(run("opener", path) for _ in range(8)))
        assert results == [(0, "opened\n")] * 8

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked there")
    async def test_a_forked_process_cannot_use_the_store(self, path: Path) -> None:
        """It gets an error immediately, and the parent can still use the store."""
        assert await run("forker", path) == (0, "StoreUnavailable\ngoes on\n")


class TestKilling:
    """A process that is killed while it commits."""

    async def test_acknowledged_commits_survive(self, path: Path, store: Store) -> None:
        """Every commit that returned in a killed process is in the file."""
        acknowledged: list[str] = []
        for number in range(6):
            async with child("committer", path) as committer:
                for _ in range(5 + 7 * number):
                    acknowledged += await line(committer)
                assert await store.commit([submission(store)]) == [None]  # the killed process left no lock
                committer.send_signal(signal.SIGKILL)
                said, _ = await committer.communicate()
                *complete, _ = said.decode().split("\n")
                acknowledged += " ".join(complete).split()
            assert await store.commit([submission(store)]) == [None]
        found = await store.find(acknowledged)
        assert [each.job.id for each in found if isinstance(each, Stored)] == acknowledged
        await assert_no_leaks(store)
        check_integrity(path)

    async def test_acknowledged_commits_survive_if_no_process_has_the_file_open(self, path: Path) -> None:
        """A process that opens the file later finds them."""
        async with child("committer", path) as committer:
            acknowledged = [job_id for _ in range(20) for job_id in await line(committer)]
            committer.kill()
            await committer.wait()
        async with AsyncExitStack() as stack:
            store = make_store(url_of(path))
            await store.open()
            stack.push_async_callback(store.close)
            found = await store.find(acknowledged)
            assert [each.job.id for each in found if isinstance(each, Stored)] == acknowledged


class TestFullDisk:
    """Files cannot grow."""

    async def test_no_data_is_lost_on_a_full_disk(self, path: Path) -> None:
        """Commits fail with an error, and succeed when there is space, without a restart."""
        code, said = await run("filler", path)
        show(said)
        lines = [words.split() for words in said.splitlines()]
        refused = [words for words in lines if words[0] == "full"]
        assert code == 0
        assert {words[1] for words in refused} == {"StoreFull"}
        assert len(refused) > 1
        printed = {words[0]: words[1:] for words in lines if words[0] != "full"}
        assert printed["kept"][0] == printed["kept"][1]
        assert printed["resumed"] == ["True"]
        assert printed["after"][0] == printed["after"][1]
        check_integrity(path)


class TestUnusableFiles:
    """Files that are not a raincheck database."""

    def open_error(self, path: Path, **env: str) -> str:
        """The error of opening a file."""
        command = [sys.executable, CHILDREN, "opener", url_of(path)]
        return subprocess.run(
            command, env={**os.environ, **env}, capture_output=True, check=True, text=True
        ).stdout.strip()

    def test_a_file_that_is_not_a_database(self, path: Path) -> None:
        """It is refused, and does not change."""
        path.write_text("Dear diary, " * 1000)
        assert self.open_error(path) == (
            f"StoreUnusable {path} is not an intact SQLite database: file is not a database"
        )
        assert path.read_text() == "Dear diary, " * 1000

    def test_a_database_of_another_program(self, path: Path) -> None:
        """It is refused, and does not change."""
        other = apsw.Connection(str(path))
        other.execute("CREATE TABLE diary (text)")
        other.close()
        before = path.read_bytes()
        assert self.open_error(path) == (
            f"StoreUnusable {path} is the database of another program: use another file"
        )
        assert path.read_bytes() == before

    def test_a_database_of_a_newer_version(self, path: Path) -> None:
        """It is refused, and does not change."""
        assert self.open_error(path) == "opened"
        newer = apsw.Connection(str(path))
        newer.execute("UPDATE meta SET version = 99")
        newer.close()
        assert self.open_error(path) == (
            f"StoreUnusable {path} was written by a newer raincheck (format 99, this one knows {VERSION}): "
            "upgrade raincheck"
        )

    def test_a_damaged_database(self, path: Path) -> None:
        """It is refused."""
        assert self.open_error(path) == "opened"
        content = bytearray(path.read_bytes())
        content[100:4096] = os.urandom(3996)
        path.write_bytes(content)
        assert self.open_error(path).startswith(f"StoreUnusable {path} is not an intact SQLite database:")

    def test_a_missing_folder(self, path: Path) -> None:
        """The error has the path."""
        assert self.open_error(path / "nowhere" / "raincheck.db") == (
            f"StoreUnavailable {path}/nowhere/raincheck.db cannot be opened: "
            "check that its folder exists, and the permissions"
        )

    def test_a_folder_instead_of_a_file(self, path: Path) -> None:
        """The error has the path."""
        path.mkdir()
        assert self.open_error(path).startswith(f"StoreUnavailable {path} cannot be opened")

    @pytest.mark.skipif(os.name != "posix", reason="permissions are different there")
    def test_a_file_that_cannot_be_written(self, path: Path) -> None:
        """The error has the path."""
        assert self.open_error(path) == "opened"
        for each in (path, path.parent):
            each.chmod(0o555 if each.is_dir() else 0o444)
        environment = {"AS_NOBODY": "1"} if os.geteuid() == 0 else {}
        try:
            assert self.open_error(path, **environment) == (
                f"StoreUnavailable {path} cannot be written: check the permissions of the file and its folder"
            )
        finally:
            path.parent.chmod(0o755)
