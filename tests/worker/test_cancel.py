"""Cancelling, wherever a job is in its life."""

import asyncio
import threading

import pytest

from raincheck import App, Context, JobCancelled, NotFound, RetryOptions, Worker, WrongState
from tests.worker import functions
from tests.worker.helpers import begun, entry, seen


async def test_a_running_async_function_is_cancelled(app: App) -> None:
    """An async function is cancelled where it waits, and may clean up."""
    cleaned = asyncio.Event()

    @app.function
    async def wait(ctx: Context) -> None:
        ctx.progress(0)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    async with app, Worker(app):
        job = await app.submit("wait", [wait.step(), wait.step()])
        await begun(app, job.id)
        asked = await app.cancel(job.id)
        assert (asked.state, asked.cancel_requested_at is None) == ("doing", False)
        ended = await app.wait(job.id)
    assert (ended.state, entry(ended).state, ended.error) == ("cancelled", "cancelled", None)
    assert cleaned.is_set()


async def test_a_function_in_a_thread_is_told(app: App) -> None:
    """A function in a thread sees ``ctx.cancelled``; what it returns then is dropped."""
    go, told = threading.Event(), threading.Event()

    @app.function
    def work(ctx: Context) -> str:
        ctx.progress(0)
        while not ctx.cancelled:
            go.wait(0.01)
        told.set()
        return "late"

    async with app, Worker(app):
        job = await app.submit("work", [work.step()])
        await begun(app, job.id)
        await app.cancel(job.id)
        ended = await app.wait(job.id)
        assert await asyncio.to_thread(told.wait, 5)
    assert (ended.state, ended.result, entry(ended).result) == ("cancelled", None, None)


async def test_a_thread_that_never_looks_holds_nothing_up(app: App) -> None:
    """A function in a thread that is not interested is given up: its job ends, its slot is free."""
    go = threading.Event()

    @app.function
    def deaf(ctx: Context) -> str:
        ctx.progress(0)
        go.wait(20)
        return "late"

    @app.function
    def quick() -> int:
        return 1

    async with app, Worker(app, concurrency=1):
        job = await app.submit("deaf", [deaf.step()])
        await begun(app, job.id)
        await app.cancel(job.id)
        assert (await app.wait(job.id)).state == "cancelled"
        assert await quick.call() == 1
        go.set()
        assert await quick.call() == 1
        assert (await app.status(job.id)).state == "cancelled"


async def test_a_process_is_killed(app: App) -> None:
    """The child of a process function is killed, and the next one gets a new child."""
    hang = app.function(process=True)(functions.hang)
    square = app.function(process=True)(functions.square)

    async with app, Worker(app, concurrency=1):
        job = await app.submit("hang", [hang.step()])
        await begun(app, job.id)
        await app.cancel(job.id)
        assert (await app.wait(job.id)).state == "cancelled"
        assert await square.call(2) == 4


async def test_cancelling_tells_from_another_process(app: App) -> None:
    """A cancel that comes by way of the database reaches the worker at once, long before its lease ends."""

    @app.function
    async def wait(ctx: Context) -> None:
        ctx.progress(0)
        await asyncio.Event().wait()

    async with app, Worker(app), App(app.url) as other:
        job = await app.submit("wait", [wait.step()])
        await begun(app, job.id)
        await other.cancel(job.id)
        assert (await app.wait(job.id, timeout=30)).state == "cancelled"


async def test_what_waits_is_cancelled_at_once(app: App) -> None:
    """Pending and scheduled jobs are cancelled without a worker."""

    @app.function
    async def never() -> None:
        raise AssertionError

    async with app:
        pending = await app.submit("p", [never.step(), never.step()])
        scheduled = await app.submit("s", [never.step()], delay=3600)
        for job in (pending, scheduled):
            assert (await app.cancel(job.id)).state == "cancelled"
        async with Worker(app):
            assert (await app.status(pending.id)).state == "cancelled"
        assert (await app.engine.store.counts()).queued == {}


async def test_a_retrying_job_is_cancelled_at_once(app: App) -> None:
    """A job that waits for its next attempt is cancelled, and keeps its last error."""

    @app.function(retry=RetryOptions(retry_limit=2, delay=3600))
    async def fail() -> None:
        raise ValueError("first")

    async with app, Worker(app):
        job = await app.submit("fail", [fail.step()])
        await seen(app, job.id, lambda job: job.state == "retrying")
        ended = await app.cancel(job.id)
    assert (ended.state, entry(ended).state, entry(ended).retry_count) == ("cancelled", "cancelled", 1)


async def test_the_rest_of_a_stage_is_cancelled_too(app: App) -> None:
    """Of a parallel stage, what runs is stopped and what waits is not begun."""

    @app.function
    async def wait(ctx: Context) -> None:
        ctx.progress(0)
        await asyncio.Event().wait()

    async with app, Worker(app, concurrency=1):
        job = await app.submit("stage", [[wait.step(), wait.step()], wait.step()])
        await seen(app, job.id, lambda job: job.state == "doing")
        await app.cancel(job.id)
        ended = await app.wait(job.id)
    assert ended.state == "cancelled"
    assert [entry(ended, 0, n).state for n in (0, 1)] == ["cancelled", "cancelled"]


async def test_cancelling_twice_is_cancelling_once(app: App) -> None:
    """Cancelling what is cancelled, or being cancelled, changes nothing."""

    @app.function
    async def wait(ctx: Context) -> None:
        ctx.progress(0)
        await asyncio.Event().wait()

    async with app, Worker(app):
        job = await app.submit("wait", [wait.step()])
        await begun(app, job.id)
        await asyncio.gather(*(app.cancel(job.id) for _ in range(5)))
        ended = await app.wait(job.id)
        assert await app.cancel(job.id) == ended


async def test_only_what_has_not_ended_can_be_cancelled(app: App) -> None:
    """A job that is done stays done; one that never was is not found."""

    @app.function
    async def quick() -> int:
        return 1

    async with app, Worker(app):
        job = await app.submit("quick", [quick.step()])
        await app.wait(job.id)
        with pytest.raises(WrongState, match="done"):
            await app.cancel(job.id)
        with pytest.raises(NotFound):
            await app.cancel("01990000-0000-7000-8000-000000000000")
        assert (await app.status(job.id)).state == "done"


async def test_a_call_says_that_its_job_was_cancelled(app: App) -> None:
    """Whoever called the function hears ``JobCancelled``."""
    running: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @app.function
    async def wait(ctx: Context) -> None:
        running.set_result(ctx.job.id)
        await asyncio.Event().wait()

    async with app, Worker(app):
        call = asyncio.create_task(wait.call())
        job_id = await running
        await app.cancel(job_id)
        with pytest.raises(JobCancelled, match=job_id):
            await call


async def test_the_loser_of_a_race_leaves_things_as_they_are(app: App) -> None:
    """A cancel in the very moment of the end leaves the job either done or cancelled, never both."""

    @app.function
    async def quick() -> int:
        return 1

    async with app, Worker(app):
        for _ in range(50):
            job = await app.submit("quick", [quick.step()])
            try:
                await app.cancel(job.id)
            except WrongState:
                assert (await app.status(job.id)).state == "done"
            else:
                assert (await app.wait(job.id)).state == "cancelled"
        assert (await app.engine.store.counts()).leased == 0
