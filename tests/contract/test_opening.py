"""What every store does when it is opened and closed, and when many use it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from raincheck.core.errors import StoreUnavailable
from raincheck.core.model import Claim, Schedule
from raincheck.store import Store, make_store
from raincheck.store.base import Ended, Filter, Held
from raincheck.store.watches import Watches
from tests.contract.steps import (
    HOUR,
    SOON,
    Ear,
    beat,
    draft,
    finish,
    get,
    held,
    settle,
    submission,
    submit,
    take_one,
    waiting,
    write,
)


def calls(store: Store) -> list[Coroutine[Any, Any, object]]:
    """One call of each asynchronous verb."""
    return [
        store.commit([submission(store, draft())]),
        store.claim("w", ("f",), 1, HOUR),
        store.release([]),
        store.report(Held("unknown", 0, 1), b"1"),
        store.find(["unknown"]),
        Watches(store).changed("unknown", 0, SOON),
        store.page(Filter(), 1),
        store.due(1),
        store.remove([Ended("unknown", 1)], 0.0),
        beat(store, [Held("unknown", 0, 1)]),
        store.results([("unknown", 0)]),
        store.workers(),
        store.counts(),
        store.put_schedule(Schedule("unknown", draft())),
        store.schedules(),
    ]


async def refusals(store: Store) -> set[type]:
    """What the verbs raise, instead of waiting for ever."""
    async with asyncio.timeout(SOON):
        results = await asyncio.gather(*calls(store), return_exceptions=True)
    return {type(result) for result in results}


def test_a_store_has_nineteen_verbs() -> None:
    """As many as docs/explanation/architecture.md says, and those."""
    verbs = {name for name in vars(Store) if not name.startswith("_")} - {"kind"}
    page = Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md"
    section = page.read_text("utf-8").partition("## A store")[2].partition("\n## ")[0]
    told = {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line)
    }
    assert (len(verbs), told) == (19, verbs)


class TestOpening:
    """Before, between and after."""

    async def test_a_store_not_opened_is_unavailable(self, url: str) -> None:
        """Every verb says so."""
        store = make_store(url)
        assert await refusals(store) == {StoreUnavailable}

    async def test_a_closed_store_is_unavailable(self, url: str) -> None:
        """Every verb says so."""
        store = make_store(url)
        await store.open()
        await store.close()
        assert await refusals(store) == {StoreUnavailable}

    async def test_a_store_can_be_opened_again(self, store: Store) -> None:
        """Its claims wait and wake as before."""
        for _ in range(3):
            await store.close()
            await store.open()
            async with waiting(store, store.claim("w", ("f",), 1, HOUR, SOON)) as claiming:
                await submit(store, "f")
                assert len(await claiming) == 1

    async def test_opening_and_closing_twice_is_opening_and_closing(self, url: str) -> None:
        """The second time nothing happens."""
        store = make_store(url)
        await store.close()
        await store.open()
        await store.open()
        await submit(store, "f")
        await store.close()
        await store.close()

    async def test_many_processes_open_a_new_store_at_once(
        self, url: str, another: Callable[[], Store]
    ) -> None:
        """One creates it, and the others find it made."""
        stores = [another() for _ in range(8)]
        await asyncio.gather(*(store.open() for store in stores))
        jobs = await asyncio.gather(*(submit(store, "f") for store in stores))
        assert [(await get(stores[0], job.id)).job for job in jobs] == jobs


class TestClosing:
    """What becomes of calls when the store is closed."""

    async def test_a_waiting_claim_ends(self, url: str) -> None:
        """With the store being unavailable."""
        store = make_store(url)
        await store.open()
        async with waiting(store, store.claim("w", ("f",), 1, HOUR, 60.0)) as claiming:
            await store.close()
            with pytest.raises(StoreUnavailable):
                await claiming

    async def test_waiting_for_a_change_ends(self, url: str) -> None:
        """With the store being unavailable."""
        store = make_store(url)
        await store.open()
        job = await submit(store, "f")
        async with waiting(store, Watches(store).changed(job.id, job.rev, 60.0)) as changing:
            await store.close()
            with pytest.raises(StoreUnavailable):
                await changing

    async def test_a_watch_is_told(self, url: str) -> None:
        """So that it looks, and finds the store closed."""
        store = make_store(url)
        await store.open()
        job = await submit(store, "f")
        with Watches(store).watch(job.id) as watch:
            await settle(store)
            while await watch.changed(0.0):
                pass
            await store.close()
            assert await watch.changed(SOON)

    async def test_what_was_begun_is_finished(self, url: str) -> None:
        """A commit made before is written, its caller is told so."""
        store = make_store(url)
        await store.open()
        changes = [submission(store, draft("f")) for _ in range(100)]
        writing = [asyncio.create_task(write(store, change)) for change in changes]
        await asyncio.sleep(0)
        await store.close()
        assert await asyncio.gather(*writing) == [None] * 100
        await store.open()
        assert len(await store.find([change.job.id for change in changes])) == 100
        await store.close()

    async def test_a_claim_given_up_before_closing_leaves_no_lease(self, url: str) -> None:
        """A worker that stops in the middle of a claim costs no job an attempt."""
        store = make_store(url)
        await store.open()
        await submit(store, "f")
        for turns in range(0, 150, 5):
            claiming = asyncio.create_task(store.claim("w", ("f",), 1, HOUR))
            for _ in range(turns):
                await asyncio.sleep(0)
            claiming.cancel()
            with suppress(asyncio.CancelledError):
                await store.release([held(claim) for claim in await claiming])
            await store.close()
            await store.open()
            assert (await store.counts()).leased == 0
        await store.close()


class TestUse:
    """Who may use a store."""

    async def test_thousands_of_callers_are_answered(self, store: Store) -> None:
        """Every one of them, though they all come in the same moment."""
        changes = [submission(store, draft("f")) for _ in range(2500)]
        assert await asyncio.gather(*(write(store, change) for change in changes)) == [None] * 2500
        found = await asyncio.gather(*(get(store, change.job.id) for change in changes))
        assert [each.job for each in found] == [change.job for change in changes]

    async def test_several_loops_use_one_store(self, store: Store) -> None:
        """Each is answered, and woken, where it is."""
        claims: list[str] = []

        async def work() -> None:
            for _ in range(20):
                job = await submit(store, "f")
                claim = (await store.claim("w", ("f",), 1, HOUR, SOON))[0]
                claims.append(claim.job.id)
                await finish(store, claim)
                assert await Watches(store).changed(job.id, 1, SOON) is not None

        threads = [Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
        for thread in threads:
            thread.start()
        await asyncio.gather(work(), *(asyncio.to_thread(thread.join) for thread in threads))
        assert len(set(claims)) == len(claims) == 100

    async def test_a_loop_that_ends_while_it_waits_harms_nobody(self, store: Store) -> None:
        """What it would have got goes to others."""

        async def wait() -> None:
            async def claim() -> None:
                await store.claim("gone", ("f",), 1, HOUR, SOON)

            async def change() -> None:
                await Watches(store).changed(job.id, job.rev, SOON)

            tasks = [asyncio.create_task(claim()), asyncio.create_task(change())]
            await settle(store)
            assert not any(task.done() for task in tasks)

        job = await submit(store, "g")
        await asyncio.to_thread(asyncio.run, wait())
        ear = Ear()
        stop = store.listen(ear)
        await submit(store, "f")
        (claim,) = await store.claim("w", ("f",), 1, HOUR, SOON)
        assert claim.lease.worker == "w"
        await finish(store, await take_one(store, "g"))
        await ear.of(job.id)
        stop()

    async def test_a_loop_that_ends_while_it_is_served_gives_back(self, store: Store) -> None:
        """A claim whose loop is gone when its answer comes leaves no lease."""
        await submit(store, "f")

        async def ask(turns: int) -> asyncio.Task[list[Claim]]:
            asked = asyncio.create_task(store.claim("gone", ("f",), 1, HOUR))
            for _ in range(turns):
                await asyncio.sleep(0)
            return asked

        for turns in range(10):
            asked = await asyncio.to_thread(asyncio.run, ask(turns % 4))
            if not asked.cancelled():  # the store was so quick that the loop was still there
                await store.release([held(claim) for claim in asked.result()])
            (claim,) = await store.claim("w", ("f",), 1, HOUR, SOON)
            assert claim.lease.worker == "w"
            await store.release([held(claim)])

    async def test_a_faulty_change_harms_only_its_own_caller(self, store: Store) -> None:
        """What is written in the same moment is written."""
        good = [submission(store, draft("f")) for _ in range(5)]
        faulty = submission(store, draft("f", priority=-(2**63)))
        writes = [write(store, change) for change in (*good[:3], faulty, *good[3:])]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [False] * 3 + [True] + [False] * 2
        assert [each.job for each in [await get(store, change.job.id) for change in good]] == [
            change.job for change in good
        ]
