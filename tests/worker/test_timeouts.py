"""Attempts that take too long: they fail, and their slot is free again."""

import asyncio
import threading

import pytest

from raincheck import App, Context, JobDocument, RetryOptions, Worker
from tests.worker import functions
from tests.worker.helpers import entry, known


def timed_out(job: JobDocument) -> bool:
    return job.state == "failed" and job.error is not None and job.error.name == "timeout"


async def test_an_async_function_is_stopped(app: App) -> None:
    """An async function that takes too long is cancelled, and the next one has its slot."""
    cleaned = asyncio.Event()

    @app.function(timeout=0.1)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    @app.function
    async def quick() -> int:
        return 1

    async with app, Worker(app, concurrency=1):
        job = await app.submit("slow", [slow.step()])
        assert await quick.call() == 1
        ended = await app.wait(job.id)
    assert timed_out(ended)
    assert ended.error is not None
    assert ended.error.detail == "an attempt may take 0.1 s"
    assert cleaned.is_set()


async def test_a_thread_is_given_up(app: App) -> None:
    """A function in a thread that takes too long loses its slot; its late result is discarded."""
    go, told = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    @app.function(timeout=0.1)
    def slow(ctx: Context) -> str:
        threads.append(threading.current_thread())
        go.wait(20)
        if ctx.cancelled:
            told.set()
        return "late"

    @app.function
    def quick() -> int:
        return 1

    async with app, Worker(app, concurrency=1):
        job = await app.submit("slow", [slow.step()])
        assert await quick.call() == 1
        ended = await app.wait(job.id)
        assert timed_out(ended)
        go.set()
        assert await asyncio.to_thread(told.wait, 5)
        assert await quick.call() == 1
        assert await app.status(job.id) == ended
        await asyncio.to_thread(threads[0].join, 5)  # another thread has taken its place
        assert not threads[0].is_alive()


async def test_threads_that_were_abandoned_are_counted(app: App) -> None:
    """A worker registers how many threads still run abandoned attempts."""
    go = threading.Event()

    @app.function(timeout=0.1)
    def slow() -> None:
        go.wait(20)

    async with app, Worker(app, concurrency=2) as worker:
        jobs = [await app.submit("slow", [slow.step()]) for _ in range(3)]
        assert all([timed_out(await app.wait(job.id)) for job in jobs])
        await known(app, lambda workers: [(w.id, w.abandoned) for w in workers] == [(worker.id, 3)])
        go.set()
        await known(app, lambda workers: [w.abandoned for w in workers] == [0])


async def test_a_process_is_killed(app: App) -> None:
    """The child of a process function that takes too long is killed, and the next one gets a new child."""
    hang = app.function(process=True, timeout=1.5)(functions.hang)
    pid = app.function(process=True)(functions.pid)

    async with app, Worker(app, concurrency=1):
        job = await app.submit("hang", [hang.step()])
        other = await pid.call()
        ended = await app.wait(job.id)
    assert timed_out(ended)
    assert entry(ended).progress == {"done": pytest.approx(entry(ended).progress["done"])}
    assert entry(ended).progress["done"] != other


async def test_a_function_that_ignores_its_end_loses_its_slot(app: App) -> None:
    """Async functions that swallow every cancel keep no slot from others, however many there are."""
    release = asyncio.Event()

    @app.function(timeout=0.1)
    async def hung() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    @app.function
    async def good(number: int) -> int:
        return number

    async with app, Worker(app, concurrency=4):
        bad = [await app.submit("hung", [hung.step()]) for _ in range(8)]
        fine = [await app.submit("good", [good.step(n)]) for n in range(20)]
        assert [(await app.wait(job.id)).result for job in fine] == list(range(20))
        assert all([timed_out(await app.wait(job.id)) for job in bad])
        release.set()
        assert await good.call(1) == 1


async def test_a_swallowed_cancel_is_still_a_timeout(app: App) -> None:
    """A function that is cancelled by its timeout and returns or raises something else has failed."""

    @app.function(timeout=0.1)
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "never mind"
        return "never"

    @app.function(timeout=0.1)
    async def angry() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("how dare you") from None

    async with app, Worker(app):
        for function in (stubborn, angry):
            job = await app.submit("told", [function.step()])
            assert timed_out(await app.wait(job.id))


async def test_a_timeout_leaves_nothing_behind_for_the_next(app: App) -> None:
    """After a swallowed cancel, task groups and timeouts work in the functions that come next."""

    @app.function(timeout=0.05)
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    @app.function
    async def group() -> str:
        async def fail() -> None:
            raise ValueError

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())
                await asyncio.Event().wait()
        except* ValueError:
            pass
        return "as it should be"

    async with app, Worker(app, concurrency=1):
        jobs = [await app.submit("s", [f.step()]) for f in (stubborn, stubborn, group)]
        assert (await app.wait(jobs[-1].id)).result == "as it should be"


async def test_a_timeout_is_an_attempt(app: App) -> None:
    """An attempt that timed out is tried again like any that failed."""

    @app.function(timeout=0.5, retry=RetryOptions(retry_limit=2, delay=0.0, retry_on=("TimeoutError",)))
    async def better(ctx: Context) -> int:
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return ctx.attempt

    async with app, Worker(app):
        assert await better.call() == 2


async def test_the_timeout_of_a_step_goes_first(app: App) -> None:
    """A step's own timeout overrides the one of its function."""

    @app.function(timeout=3600)
    async def slow() -> None:
        await asyncio.Event().wait()

    async with app, Worker(app):
        job = await app.submit("slow", [slow.step().options(timeout=0.05)])
        assert timed_out(await app.wait(job.id))


async def test_waiting_for_a_child_does_not_count(app: App) -> None:
    """A process function's time begins when a child runs it, not when it was claimed."""
    square = app.function(process=True, timeout=1.5)(functions.square)
    hang = app.function(process=True)(functions.hang)

    async with app, Worker(app, process_slots=1):
        blocker = await app.submit("hang", [hang.step().options(timeout=2.0)])
        job = await app.submit("square", [square.step(3)])
        assert timed_out(await app.wait(blocker.id))
        assert (await app.wait(job.id)).result == 9
