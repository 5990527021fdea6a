"""The store is away for a while: nothing is lost, and the worker goes on by itself."""

import asyncio

import apsw
import pytest

from raincheck import App, Context, StoreError, Worker
from tests.worker.helpers import begun, entry, logged, no_room_on_disk

LEASE = 0.6


async def test_a_full_disk_is_an_outage(app: App) -> None:
    """While the disk is full, a submit is refused; afterwards it is not."""

    @app.function
    async def quick() -> int:
        return 1

    async with app, Worker(app):
        with no_room_on_disk(app), pytest.raises(StoreError):
            await app.submit("quick", [quick.step()])
        assert await quick.call() == 1


async def test_results_survive_an_outage(app: App) -> None:
    """What ends while the store is away is written once the store is back; nothing runs again."""
    go = asyncio.Event()
    runs: list[int] = []

    @app.function
    async def work(ctx: Context, number: int) -> int:
        runs.append(number)
        ctx.progress(0)
        await go.wait()
        return number

    async with app, Worker(app, lease=LEASE):
        jobs = [await app.submit("work", [work.step(n)]) for n in range(5)]
        for job in jobs:
            await begun(app, job.id)
        with no_room_on_disk(app), logged("outcomes wait for the store") as waiting:
            go.set()
            await waiting.wait()
        for number, job in enumerate(jobs):
            ended = await app.wait(job.id)
            assert (ended.result, entry(ended).retry_count, entry(ended).lost_count) == (number, 1, 0)
        assert await work.call(5) == 5
    assert sorted(runs) == list(range(6))


async def test_claiming_survives_an_outage(app: App) -> None:
    """A worker that could not claim goes on claiming once the store is back."""

    @app.function
    async def quick() -> int:
        return 1

    async with app, Worker(app, lease=LEASE):
        with no_room_on_disk(app), logged("nothing can be claimed", "raincheck.worker") as waiting:
            with pytest.raises(StoreError):
                await app.submit("quick", [quick.step()])
            await waiting.wait()
        assert await quick.call() == 1


async def test_a_stop_waits_for_no_store(app: App) -> None:
    """A worker that is stopped while the store is away does not wait for it; its jobs are run again later."""
    go = asyncio.Event()

    @app.function
    async def work(ctx: Context) -> int:
        ctx.progress(0)
        await go.wait()
        return ctx.attempt

    async with app:
        worker = await Worker(app, lease=LEASE, grace=0.2).__aenter__()
        job = await app.submit("work", [work.step()])
        await begun(app, job.id)
        with no_room_on_disk(app), logged("outcomes wait for the store") as waiting:
            go.set()
            await waiting.wait()
            async with asyncio.timeout(20):  # four seconds, on a quiet machine
                await worker.__aexit__()
        async with Worker(app, lease=LEASE):
            ended = await app.wait(job.id)
    assert (ended.result, entry(ended).lost_count) == (2, 1)


async def test_a_held_lock_only_delays(app: App) -> None:
    """While another program locks the database, everything waits; then it goes on, and no attempt is lost."""
    go = asyncio.Event()

    @app.function
    async def work(ctx: Context) -> int:
        ctx.progress(0)
        await go.wait()
        return ctx.attempt

    async with app, Worker(app, lease=LEASE):
        job = await app.submit("work", [work.step()])
        await begun(app, job.id)
        intruder = apsw.Connection(app.url.removeprefix("sqlite:///"))
        intruder.set_busy_timeout(5000)
        await asyncio.to_thread(intruder.execute, "BEGIN IMMEDIATE")
        go.set()
        waited = await app.wait(job.id, timeout=2 * LEASE)
        assert waited.state == "doing"
        intruder.execute("ROLLBACK")
        intruder.close()
        ended = await app.wait(job.id)
    assert (ended.result, entry(ended).retry_count, entry(ended).lost_count) == (1, 1, 0)
