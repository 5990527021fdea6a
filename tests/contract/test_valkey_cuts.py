"""The connection is lost in the middle of a command: callers get no error, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from raincheck.core.errors import StoreUnavailable
from raincheck.core.model import Key, State
from raincheck.store import Store, make_store
from raincheck.store.base import Conflict, Duplicate
from raincheck.store.valkey.keys import packed
from tests.contract.leaks import assert_no_leaks
from tests.contract.leftovers import assert_nothing_left
from tests.contract.steps import (
    HOUR,
    beat,
    done,
    draft,
    extend,
    finish,
    get,
    held,
    info,
    later,
    removed,
    submission,
    submit,
    take,
    take_one,
    write,
)
from tests.proxy import Proxy, proxy

WITHOUT = ("valkey-cluster",)  # its clients go to each node, past a proxy

WORD = "in-the-middle"
REMEMBER = 7654321.0


@pytest.fixture
async def cutter(url: str) -> AsyncIterator[Proxy]:
    """What cuts the connections of ``store``."""
    async with proxy(int(url.partition("?")[0].rpartition(":")[2])) as made:
        yield made


@pytest.fixture
async def store(url: str, cutter: Proxy) -> AsyncIterator[Store]:
    """A store behind the cutter; nothing must have leaked when the test is over."""
    store = make_store(f"redis://127.0.0.1:{cutter.port}?{url.partition('?')[2]}")
    await store.open()
    try:
        yield store
        assert cutter.cuts == 1
        await assert_no_leaks(store)
        await assert_nothing_left(store, url)
    finally:
        await store.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
class TestCut:
    """Before the command was carried out, and after: then its answer is lost."""

    async def test_a_submit(self, store: Store, cutter: Proxy, after: bool) -> None:
        """The job is there once, and its key did not turn against it."""
        cutter.cut(WORD.encode(), after=after)
        change = submission(store, draft(WORD), Key("key", b"", later(store)))
        assert await write(store, change) is None
        assert (await get(store, change.job.id)).job == change.job
        assert (await store.counts()).queued == {WORD: 1}

    async def test_several_commits_at_once(self, store: Store, cutter: Proxy, after: bool) -> None:
        """What was written counts as written, what conflicted conflicts, a taken key leads to its job."""
        key = Key("key", b"", later(store))
        known, first = submission(store, draft()), submission(store, draft(), key)
        assert await store.commit([known, first]) == [None, None]
        new, second = submission(store, draft(WORD)), submission(store, draft(), key)
        cutter.cut(WORD.encode(), after=after)
        outcomes = await asyncio.gather(*(write(store, change) for change in (known, new, second)))
        assert outcomes == [Conflict(), None, Duplicate(first.job.id, b"")]
        assert len(await take(store, WORD)) == 1

    async def test_a_finish(self, store: Store, cutter: Proxy, after: bool) -> None:
        """The result is recorded, and the next step waits once."""
        job = await submit(store, "f", WORD)
        claim = await take_one(store, "f")
        cutter.cut(WORD.encode(), after=after)
        await finish(store, claim, b"42")
        assert (await get(store, job.id)).job.steps[0].result == b"42"
        assert len(await take(store, WORD)) == 1

    async def test_a_claim(self, store: Store, cutter: Proxy, after: bool) -> None:
        """It returns what it took: no lease is lost."""
        jobs = [await submit(store, "f") for _ in range(5)]
        cutter.cut(WORD.encode(), after=after)
        claims = await take(store, "f", limit=3, worker=WORD)
        assert [claim.job.id for claim in claims] == [job.id for job in jobs[:3]]
        counts = await store.counts()
        assert (counts.leased, counts.queued) == (3, {"f": 2})
        assert await extend(store, claims, HOUR) == [1, 1, 1]

    async def test_an_extension(self, store: Store, cutter: Proxy, after: bool) -> None:
        """The lease is held; with several shards the worker may have to repeat the heartbeat."""
        job = await submit(store, "f")
        claim = await take_one(store)
        cutter.cut(packed(job.id), after=after)
        with suppress(StoreUnavailable):
            await extend(store, [claim], HOUR)
        assert await extend(store, [claim], HOUR) == [1]

    async def test_a_release(self, store: Store, cutter: Proxy, after: bool) -> None:
        """The step waits once."""
        job = await submit(store, "f")
        claim = await take_one(store)
        cutter.cut(packed(job.id), after=after)
        await store.release([held(claim)])
        counts = await store.counts()
        assert (counts.leased, counts.queued) == (0, {"f": 1})

    async def test_a_report(self, store: Store, cutter: Proxy, after: bool) -> None:
        """The progress is noted."""
        job = await submit(store, "f")
        claim = await take_one(store)
        cutter.cut(WORD.encode(), after=after)
        assert await store.report(held(claim), f'"{WORD}"'.encode())
        assert (await get(store, job.id)).leases[0].progress == f'"{WORD}"'.encode()

    async def test_a_reading(self, store: Store, cutter: Proxy, after: bool) -> None:
        """The job is found."""
        job = await submit(store, "f")
        cutter.cut(packed(job.id), after=after)
        assert (await get(store, job.id)).job == job

    async def test_a_registration(self, store: Store, cutter: Proxy, after: bool) -> None:
        """The worker is known."""
        cutter.cut(WORD.encode(), after=after)
        with suppress(StoreUnavailable):  # with several shards it may have to repeat it
            await beat(store, worker=info(WORD))
        await beat(store, worker=info(WORD))
        assert [known.id for known in await store.workers()] == [WORD]

    async def test_a_removal(self, store: Store, cutter: Proxy, after: bool) -> None:
        """The caller gets the answer that the job was removed."""
        job = await done(store)
        cutter.cut(str(int(REMEMBER)).encode(), after=after)
        assert await removed(store, job, remember=REMEMBER) == [True]
        assert (await store.counts()).states[State.DONE] == 0
