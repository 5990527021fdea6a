"""A process that forks: the child does not share connections, threads and locks of its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from raincheck import App, StoreError, step
from raincheck.core import clock
from raincheck.core.clock import new_id
from tests.servers import server

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_child(check: Callable[[], object]) -> None:
    """Run ``check`` in a forked child, which must end within ten seconds, without an exception."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(10)
            check()
            status = 0
        except BaseException:  # noqa: BLE001 - the child must not run the rest of the tests
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def refused(call: Callable[[], object]) -> None:
    """The call says what to do in place of hanging, again and again."""
    for _ in range(2):
        with pytest.raises(StoreError, match=r"forked.*Close the app before the fork.* spawn"):
            call()


def test_a_child_cannot_use_the_sqlite_store_of_its_parent(app: App) -> None:
    """SQLite loses its locks in a fork: the file could be damaged. The child is told at once what to do."""
    job = app.blocking.submit("x", [step("x")])
    in_child(lambda: refused(lambda: app.blocking.status(job.id)))
    in_child(lambda: refused(lambda: App(app.url).blocking.status(job.id)))
    assert app.blocking.status(job.id) == job
    app.blocking.close()


def test_a_child_makes_ids_of_its_own() -> None:
    """It does not use the random bits that its parent has read."""
    ids = clock._Ids()
    ids.new()
    pool = [f"{noise:016x}"[4:] for noise in ids._pool]

    def check() -> None:
        assert ids.new().rpartition("-")[2] not in pool

    in_child(check)


async def test_nor_can_the_child_of_an_async_program(app: App) -> None:
    """Likewise, with an event loop of its own."""
    async with app:
        job = await app.submit("x", [step("x")])
        in_child(lambda: refused(lambda: asyncio.run(app.status(job.id))))
        assert (await app.status(job.id)).state == "pending"


def test_what_is_closed_before_the_fork_can_be_used(app: App) -> None:
    """In the child and in its parent, at the same time."""
    job = app.blocking.submit("x", [step("x")])
    app.blocking.close()
    reading, writing = os.pipe()

    def submit() -> None:
        assert app.blocking.status(job.id).state == "pending"
        os.write(writing, app.blocking.submit("y", [step("y")]).id.encode())
        app.blocking.close()

    in_child(submit)
    assert app.blocking.status(os.read(reading, 100).decode()).name == "y"
    app.blocking.close()


def test_a_store_in_memory_stays_with_its_process() -> None:
    """A child would see none of its jobs."""
    app = App("sqlite:///:memory:")
    app.blocking.submit("x", [step("x")])

    def look() -> None:
        for _ in range(2):
            with pytest.raises(StoreError, match=r"in the memory of one process.*Use a file"):
                app.blocking.submit("x", [step("x")])
        other = App("sqlite:///:memory:")  # this one belongs to the child
        assert other.blocking.submit("x", [step("x")]).state == "pending"
        other.blocking.close()

    in_child(look)
    app.blocking.close()


def test_a_child_connects_to_valkey_by_itself(tmp_path: Path) -> None:
    """Its calls work, and so do those of its parent."""
    with server(tmp_path) as valkey:
        app = App(valkey.url)
        job = app.blocking.submit("x", [step("x")])
        in_child(lambda: _use(app, job.id))
        _use(app, job.id)
        app.blocking.close()


def _use(app: App, job_id: str) -> None:
    assert app.blocking.status(job_id).state == "pending"
    assert app.blocking.submit("y", [step("y")]).id != job_id


def test_children_make_their_own_ids() -> None:
    """Also those of the same millisecond."""
    reading, writing = os.pipe()
    new_id()
    for _ in range(3):
        in_child(lambda: os.write(writing, new_id().encode()))
    ids = os.read(reading, 1000).decode()
    assert len({ids[i + 15 : i + 36] for i in range(0, len(ids), 36)}) == 3
