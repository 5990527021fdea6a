"""Stopping a worker: running attempts may end, the others go back at once and are not counted."""

import asyncio
import threading

import pytest

from raincheck import App, Context, JobDocument, Worker
from raincheck.store.base import Held
from tests.worker import functions
from tests.worker.helpers import begun, entry, known


async def untouched(app: App, job_id: str) -> JobDocument:
    """The job; fails unless it is in the queue again as if it had never been claimed."""
    job = await app.status(job_id)
    assert (job.state, entry(job).retry_count, entry(job).lost_count) == ("pending", 0, 0)
    assert (await app.engine.store.counts()).leased == 0
    return job


async def test_what_runs_may_end(app: App) -> None:
    """A stopping worker registers as stopping, claims no more, and lets running attempts end."""
    go, stop = asyncio.Event(), asyncio.Event()

    @app.function
    async def work(ctx: Context) -> int:
        ctx.progress(0)
        await go.wait()
        return ctx.attempt

    async with app:
        worker = asyncio.create_task(Worker(app).run(stop))
        job = await app.submit("work", [work.step(), work.step()])
        await begun(app, job.id)
        stop.set()
        await known(app, lambda workers: [w.state for w in workers] == ["stopping"])
        go.set()
        await worker
        ended = await app.status(job.id)
    assert (ended.state, ended.current_function) == ("pending", 1)
    assert (entry(ended, 0).result, entry(ended, 0).retry_count, entry(ended, 1).retry_count) == (1, 1, 0)


async def test_a_worker_is_known_while_it_is_there(app: App) -> None:
    """A worker is listed as active, with its functions and running attempts, until it has stopped."""
    go = asyncio.Event()

    @app.function
    async def work(ctx: Context) -> None:
        await go.wait()

    async with app:
        async with Worker(app, lease=0.6, concurrency=7) as worker:
            await app.submit("work", [work.step()])
            await known(app, lambda workers: workers[0].running == 1)
            (info,) = await app.engine.store.workers()
            assert (info.id, info.state, info.concurrency) == (worker.id, "active", 7)
            assert [function.name for function in info.functions] == ["work"]
            go.set()
        assert await app.engine.store.workers() == []


async def test_what_takes_too_long_is_given_back(app: App) -> None:
    """An attempt that has not ended within the grace period goes to another worker at once, uncounted."""
    cleaned, elsewhere = asyncio.Event(), App(app.url)

    @app.function("work")
    async def slow(ctx: Context) -> str:
        ctx.progress(0)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()
        return "first"

    @elsewhere.function("work")
    async def quick(ctx: Context) -> list[object]:
        return [ctx.attempt, cleaned.is_set()]

    async with app, elsewhere:
        async with Worker(app, grace=0.1):
            job = await app.submit("work", [slow.step()])
            await begun(app, job.id)
        await untouched(app, job.id)
        async with Worker(elsewhere):
            ended = await app.wait(job.id)
    assert (ended.result, entry(ended).retry_count, entry(ended).lost_count) == ([1, True], 1, 0)


@pytest.mark.parametrize("mode", ["hung", "thread", "process"])
async def test_nothing_holds_a_worker_up(app: App, mode: str) -> None:
    """A worker does not wait for a function that does not end: its job is given back, in two seconds."""
    go, released = threading.Event(), asyncio.Event()

    async def hung(ctx: Context) -> None:
        ctx.progress(0)
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    def thread(ctx: Context) -> None:
        ctx.progress(0)
        go.wait()

    chosen = {"hung": hung, "thread": thread, "process": functions.hang}[mode]
    function = app.function(process=mode == "process")(chosen)

    async with app:
        async with asyncio.timeout(None) as stopping, Worker(app, grace=0.1):
            job = await app.submit(mode, [function.step()])
            await begun(app, job.id)
            stopping.reschedule(asyncio.get_running_loop().time() + 15)
        await untouched(app, job.id)
        go.set()
        released.set()
        await untouched(app, job.id)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the coroutine that ignores it
@pytest.mark.parametrize("swallowed", [asyncio.CancelledError, BaseException])
async def test_nothing_holds_a_program_up(app: App, swallowed: type[BaseException]) -> None:
    """A program whose worker left a hung function behind ends.

    This relies on: closing the coroutine of a task ends the task; if the coroutine swallows even that,
    `asyncio._unregister_task`, which Python documents for programs with tasks of their own.
    """

    @app.function
    async def hung(ctx: Context) -> None:
        ctx.progress(0)
        while True:
            try:
                await asyncio.Event().wait()
            except swallowed:
                continue

    async def main() -> str:
        async with app, Worker(app, grace=0.0):
            job = await app.submit("hung", [hung.step()])
            await begun(app, job.id)
        return job.id

    job_id = await asyncio.to_thread(asyncio.run, main())
    async with app:
        await untouched(app, job_id)


async def test_what_ends_in_the_last_moment_counts(app: App) -> None:
    """A function that returns its result when the stopping worker cancels it is not run again."""

    @app.function
    async def work(ctx: Context) -> str:
        ctx.progress(0)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half of it"
        return "never"

    async with app:
        async with Worker(app, grace=0.0):
            job = await app.submit("work", [work.step()])
            await begun(app, job.id)
        ended = await app.status(job.id)
    assert (ended.state, ended.result) == ("done", "half of it")


async def test_a_cancelled_worker_counts_no_attempt(app: App) -> None:
    """A worker whose task is cancelled gives everything back, in every mode."""
    hang = app.function(process=True)(functions.hang)

    @app.function
    async def wait(ctx: Context) -> None:
        ctx.progress(0)
        await asyncio.Event().wait()

    async with app:
        worker = asyncio.create_task(Worker(app).run(asyncio.Event()))
        jobs = [await app.submit("stuck", [function.step()]) for function in (hang, wait)]
        for job in jobs:
            await begun(app, job.id)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        for job in jobs:
            await untouched(app, job.id)
        assert await app.engine.store.workers() == []


async def test_a_cancelled_job_stays_cancelled_by_a_stopping_worker(app: App) -> None:
    """A job that is being cancelled when its worker stops is not given back."""
    go = threading.Event()

    @app.function
    def deaf(ctx: Context) -> None:
        ctx.progress(0)
        go.wait(20)

    async with app:
        async with Worker(app, grace=0.0):
            job = await app.submit("deaf", [deaf.step()])
            await begun(app, job.id)
            await app.cancel(job.id)
            await app.wait(job.id, timeout=0.01)
        assert (await app.status(job.id)).state == "cancelled"
        go.set()


@pytest.mark.parametrize("turns", range(4))
async def test_a_claim_in_flight_is_given_back(app: App, turns: int) -> None:
    """A claim that is cancelled just after the store has answered it keeps no lease."""

    @app.function
    async def never() -> None:
        raise AssertionError

    async with app:
        store = app.engine.store
        for _ in range(20):
            claim = asyncio.create_task(store.claim("w", ("never",), 10, 60.0, 30.0))
            await asyncio.sleep(0)
            job = await app.submit("never", [never.step()])
            for _ in range(turns):
                await asyncio.sleep(0)
            claim.cancel()
            (taken,) = await asyncio.gather(claim, return_exceptions=True)
            if isinstance(taken, list):
                await store.release([Held(c.job.id, c.lease.step, c.lease.token) for c in taken])
            (again,) = await store.claim("w", ("never",), 10, 0.0, 5.0)
            assert again.job.id == job.id
            await store.release([Held(job.id, 0, again.lease.token)])
            assert (await app.cancel(job.id)).state == "cancelled"


async def test_stopping_under_load_leaves_no_lease(app: App) -> None:
    """Workers that stop at any moment, under load, leave every job done or as it was."""

    @app.function
    async def quick() -> int:
        await asyncio.sleep(0)
        return 1

    async with app:
        jobs = []
        for _ in range(10):
            async with Worker(app, concurrency=3):
                jobs += await asyncio.gather(*(app.submit("quick", [quick.step()]) for _ in range(20)))
            assert (await app.engine.store.counts()).leased == 0
        async with Worker(app):
            for job in jobs:
                ended = await app.wait(job.id)
                assert (ended.state, entry(ended).retry_count, entry(ended).lost_count) == ("done", 1, 0)
