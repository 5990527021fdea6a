"""What the SQLite store does when the disk fails: nothing acknowledged is lost, and it goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest

from raincheck.core.errors import StoreError, StoreFull, StoreUnavailable
from raincheck.core.model import Stored
from raincheck.store import Store, make_store
from raincheck.store.watches import Watches
from tests.contract.leaks import assert_no_leaks
from tests.contract.steps import (
    HOUR,
    SOON,
    draft,
    get,
    later,
    settle,
    submission,
    submit,
    submit_many,
    succeeded,
    take,
    waiting,
    write,
)


class Disk(apsw.VFS):
    """The disk, until it is told to fail: every ``operation`` on it, or one after so many others."""

    def __init__(self) -> None:
        super().__init__("faulty", "unix", makedefault=True)
        self.broken: frozenset[str] = frozenset()
        self.error: type[apsw.Error] = apsw.IOError
        self.good_for: int | None = None
        self.done = 0

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        self.check("open")
        return DiskFile(self, name, flags)

    def check(self, operation: str) -> None:
        """Fail, if it is time to."""
        self.done += 1
        if self.good_for is not None:
            self.good_for -= 1
            if self.good_for == 0:
                raise self.error("this once")
        if operation in self.broken:
            raise self.error("broken")


class DiskFile(apsw.VFSFile):
    """A file on the disk."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self.disk = disk

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.disk.check("sync")
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.disk.check("write")
        super().xWrite(data, offset)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self.disk.check("read")
        return super().xRead(amount, offset)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """The disk under every connection opened in the test."""
    before = apsw.vfs_names()[0]
    disk = Disk()
    yield disk
    apsw.set_default_vfs(before)
    disk.unregister()


@pytest.fixture
async def store(disk: Disk, url: str) -> AsyncIterator[Store]:
    """A store on that disk."""
    store = make_store(url)
    await store.open()
    try:
        yield store
        disk.broken, disk.good_for = frozenset(), None
        await assert_no_leaks(store)
    finally:
        await store.close()


class TestFailing:
    """A disk that fails, and recovers."""

    @pytest.mark.parametrize("operation", ["sync", "write"])
    async def test_a_failed_commit_is_told_and_the_next_one_works(
        self, store: Store, disk: Disk, operation: str
    ) -> None:
        """What was acknowledged before is there, without opening the store again."""
        before = await submit(store, "f")
        disk.broken = frozenset((operation,))
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await submit(store, "f")
        disk.broken = frozenset()
        after = await submit(store, "f")
        assert [(await get(store, job.id)).job for job in (before, after)] == [before, after]

    async def test_a_full_disk_is_told_as_such(self, store: Store, disk: Disk) -> None:
        """Reading goes on meanwhile, and writing as soon as there is room."""
        before = await submit(store, "f")
        disk.broken, disk.error = frozenset(("write",)), apsw.FullError
        for _ in range(3):
            with pytest.raises(StoreFull):
                await submit(store, "f")
        assert (await get(store, before.id)).job == before
        disk.broken = frozenset()
        await submit(store, "f")

    async def test_everyone_in_a_failed_batch_is_told(self, store: Store, disk: Disk) -> None:
        """Nobody waits for ever, and nothing of the batch is half written."""
        disk.broken = frozenset(("sync",))
        calls = [write(store, submission(store, draft("f"))) for _ in range(50)]
        outcomes = await asyncio.gather(*calls, store.remove([], 0.0), take(store), return_exceptions=True)
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes[:50])
        disk.broken = frozenset()
        assert sum((await store.counts()).states.values()) in (0, 50)  # unknown to the callers, but whole

    async def test_a_waiting_claim_is_told(self, store: Store, disk: Disk) -> None:
        """Its worker asks again, and gets what is there once the disk works."""
        async with waiting(store, store.claim("w", ("f",), 1, HOUR, SOON)) as claiming:
            disk.broken = frozenset(("sync", "write"))
            with pytest.raises(StoreUnavailable):
                await submit(store, "f")
            with pytest.raises(StoreUnavailable):
                await claiming
        disk.broken = frozenset()
        await submit(store, "f")
        assert len(await store.claim("w", ("f",), 1, HOUR, SOON)) == 1

    async def test_a_failing_read_is_told_and_the_next_one_works(self, store: Store, disk: Disk) -> None:
        """Readers begin anew, too."""
        jobs = await submit_many(store, 300, "f", data=b'{"x":"' + b"x" * 20_000 + b'"}')
        await store.close()
        await store.open()
        disk.broken = frozenset(("read",))
        with pytest.raises(StoreUnavailable):
            await store.find([job.id for job in jobs])
        disk.broken = frozenset()
        assert [
            each.job for each in await store.find([job.id for job in jobs]) if isinstance(each, Stored)
        ] == jobs

    async def test_a_store_that_cannot_be_opened_can_be_opened_later(self, url: str, disk: Disk) -> None:
        """The same store, without making another."""
        store = make_store(url)
        disk.broken, disk.error = frozenset(("open",)), apsw.CantOpenError
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.open()
        disk.broken = frozenset()
        await store.open()
        await submit(store, "f")
        await store.close()

    async def test_waiting_for_a_broken_disk_is_idle(self, store: Store, disk: Disk) -> None:
        """Nobody asks it again and again."""
        job = await submit(store, "f", scheduled_at=later(store, 0.02))
        async with waiting(store, Watches(store).changed(job.id, job.rev, SOON)):
            disk.broken = frozenset(("open", "sync", "write", "read"))
            with pytest.raises(StoreError):
                await store.claim("w", ("f",), 1, HOUR, SOON)
            before = disk.done
            await asyncio.sleep(0.2)
            assert disk.done - before < 50
            disk.broken = frozenset()


class TestFailingOnce:
    """A disk that fails at one moment, whichever it is."""

    @pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
    async def test_nothing_acknowledged_is_lost(self, url: str, disk: Disk, error: type[apsw.Error]) -> None:
        """And everything is whole, wherever the failure came."""
        for good_for in range(1, 60, 2):
            store = make_store(f"{url}-{good_for}")
            await store.open()
            disk.error, disk.good_for = error, good_for
            kept = await work(store)
            disk.good_for = None
            found = await store.find(kept)
            assert [each.job.id for each in found if isinstance(each, Stored)] == kept
            await assert_no_leaks(store)
            await store.close()
            check_integrity(Path(f"{url}-{good_for}".removeprefix("sqlite:///")))


async def work(store: Store) -> list[str]:
    """Submit, claim and finish some jobs, and go on when that fails; the jobs that were acknowledged."""
    kept = []
    for _ in range(4):
        for change in [submission(store, draft("f", "g")) for _ in range(2)]:
            try:
                assert await write(store, change) is None
                kept.append(change.job.id)
            except StoreError:
                pass
        try:
            claims = await take(store, "f", "g", limit=3)
            await store.commit([succeeded(store, claim) for claim in claims[1:]])
        except StoreError:
            await settle(store)
    return kept


def check_integrity(path: Path) -> None:
    """The file is as SQLite wants it."""
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()
