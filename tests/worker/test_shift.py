"""The work in hand, moment by moment: claims are begun, told to stop, given back, written."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from raincheck import App, Worker
from raincheck.functions import Function
from raincheck.triggers import Stopped, Succeeded
from raincheck.worker.finisher import Finisher
from raincheck.worker.run import Reason, Run
from raincheck.worker.shift import Shift
from tests.worker import functions
from tests.worker.helpers import entry, logged


@asynccontextmanager
async def shift_with(app: App, function: Function, jobs: int) -> AsyncIterator[tuple[Shift, list[Run]]]:
    """A shift that has just begun so many jobs of a function; none of them has had its turn."""
    async with app:
        for _ in range(jobs):
            await app.submit("job", [function.step()])
        shift = Shift(app.engine, 10, 1, {})
        shift.begin(await app.engine.store.claim("w", (function.name,), jobs, 60.0))
        yield shift, shift.held()
        await shift.abort()
        await shift.close()


def never(app: App, mode: str) -> Function:
    """A function that must not be run."""

    async def on_the_loop() -> None:
        raise AssertionError

    def in_a_thread() -> None:
        raise AssertionError

    if mode == "process":
        return app.function(process=True)(functions.leave)
    return app.function(on_the_loop if mode == "async" else in_a_thread)


async def test_what_has_not_begun_is_given_back_at_once(app: App) -> None:
    """Of a shift that winds up, what waits for its turn goes back to the queue, unrun."""
    async with shift_with(app, never(app, "async"), 3) as (shift, _):
        await shift.wind_up(0.0)
        counts = await app.engine.store.counts()
        assert (counts.leased, counts.queued) == (0, {"on_the_loop": 3})


@pytest.mark.parametrize("mode", ["async", "process"])
async def test_what_has_not_begun_is_stopped_at_once(app: App, mode: str) -> None:
    """A run that is told to stop before its turn is over, and never has one."""
    function = never(app, mode)
    async with shift_with(app, function, 2) as (shift, runs):
        for run in runs:
            shift.crew.stop(run, Reason.GIVEN_BACK)
        assert all(run.over for run in runs)
        assert shift.held() == []
        assert (shift.crew.room(), shift.crew.children()) == (10, 1)


async def test_telling_twice_is_telling_once(app: App) -> None:
    """The first reason for which a run is told to stop is the one that counts."""

    @app.function
    async def wait() -> None:
        await asyncio.Event().wait()

    async with shift_with(app, wait, 1) as (shift, (run,)):
        await asyncio.sleep(0)
        shift.crew.stop(run, Reason.GIVEN_BACK)
        shift.crew.stop(run, Reason.TIMEOUT)
        assert run.reason is Reason.GIVEN_BACK


async def test_a_run_whose_lease_is_lost_is_dropped(app: App) -> None:
    """A run whose lease turns out to be lost is stopped, and nothing is made of how it ends."""
    cancelled = asyncio.Event()

    @app.function
    async def wait() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
        return "late"

    async with shift_with(app, wait, 1) as (shift, (run,)):
        await asyncio.sleep(0)
        shift.notices.changed(run, None)
        await cancelled.wait()
        await asyncio.sleep(0)
        assert run.over
        assert shift.held() == []


async def test_a_lease_lost_with_the_outcome_still_to_write_stops_nothing(app: App) -> None:
    """News of a lost lease that come when its attempt has ended already are no news."""
    async with shift_with(app, never(app, "async"), 1) as (shift, (run,)):
        await shift.wind_up(0.0)
        (claim,) = await app.engine.store.claim("w", ("on_the_loop",), 1, 60.0)
        run = Run(claim, run.function)
        shift.finisher.add(run, Succeeded(run.attempt, b"1"))
        shift.notices.changed(run, None)
        await shift.finisher.written()
        assert (await app.status(claim.job.id)).state == "done"


async def finished(app: App, jobs: int) -> tuple[Finisher, list[Run]]:
    """A finisher, and runs of so many jobs whose outcomes are still to be told."""
    function = never(app, "async")
    await app.open()
    for _ in range(jobs):
        await app.submit("job", [function.step()])
    claims = await app.engine.store.claim("w", (function.name,), jobs, 60.0)
    return Finisher(app.engine.store), [Run(claim, function) for claim in claims]


async def test_an_outcome_that_cannot_be_written_harms_no_other(app: App) -> None:
    """An outcome that the lifecycle chokes on is logged and let go; those beside it are written."""
    finisher, (bad, good) = await finished(app, 2)
    with logged("cannot be written", "raincheck.worker") as line:
        finisher.add(bad, Succeeded(bad.attempt, b"1", b"no JSON"))
        finisher.add(good, Succeeded(good.attempt, b"1"))
        await finisher.written()
    assert line.is_set()
    assert (await app.status(good.claim.job.id)).state == "done"
    assert (await app.status(bad.claim.job.id)).state == "doing"  # until its lease runs out
    assert finisher.held == {}
    await app.close()


async def test_an_outcome_that_does_not_fit_gives_the_step_back(app: App) -> None:
    """An outcome that the lifecycle refuses for a job that has not changed leads to another attempt."""
    finisher, (run,) = await finished(app, 1)
    finisher.add(run, Stopped(run.attempt))  # nobody asked for that
    await finisher.written()
    assert (await app.status(run.claim.job.id)).state == "pending"
    await app.close()


async def test_an_outcome_of_a_job_that_changed_is_decided_anew(app: App) -> None:
    """An outcome of a job that was cancelled meanwhile is written as that."""
    finisher, (run,) = await finished(app, 1)
    await app.cancel(run.claim.job.id)
    finisher.add(run, Succeeded(run.attempt, b"1"))
    await finisher.written()
    assert (await app.status(run.claim.job.id)).state == "cancelled"
    await app.close()


async def test_a_run_that_is_cancelled_while_its_child_starts(app: App) -> None:
    """A process function that is cancelled before its child is ready never runs; its child is kept."""
    die = app.function(process=True)(functions.leave)
    square = app.function(process=True)(functions.square)

    async with app, Worker(app, processes=1):
        job = await app.submit("die", [die.step()])
        async for shown in app.watch(job.id):
            if shown.state == "doing":
                await app.cancel(job.id)
        ended = await app.status(job.id)
        assert (ended.state, entry(ended).error) == ("cancelled", None)
        assert await square.call(3) == 9


async def test_entering_may_be_cancelled(app: App) -> None:
    """A worker that is cancelled while it starts leaves nothing behind."""
    slow = asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        try:
            await asyncio.Event().wait()
            yield
        finally:
            slow.set()

    app.lifespan = lifespan
    async with app:
        entering = asyncio.create_task(Worker(app).__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        await slow.wait()
        assert await app.engine.store.workers() == []
