"""The way of a step through the worker, moment by moment: begun, stopped, given back, written."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from raincheck import App, Worker
from raincheck.core.triggers import Stopped, Succeeded
from raincheck.functions.registry import Function
from raincheck.worker.attempt import Inbox, InFlight, Reason, RunningAttempt
from raincheck.worker.attempt_log import AttemptLog
from raincheck.worker.cancellation import Beat, Cancellation
from raincheck.worker.completer import Completer
from raincheck.worker.dispatcher import Claimed
from raincheck.worker.executor import Executor
from raincheck.worker.injector import Injector
from raincheck.worker.outcome import Outcome
from raincheck.worker.store_dispatcher import StoreDispatcher
from raincheck.worker.worker import Pipe
from tests.worker import functions
from tests.worker.helpers import entry, logged, no_room_on_disk


@asynccontextmanager
async def pipe_with(
    app: App, function: Function, jobs: int
) -> AsyncIterator[tuple[Pipe, list[RunningAttempt]]]:
    """A pipe that has just begun this number of jobs of a function; none of them runs yet."""
    async with app:
        for _ in range(jobs):
            await app.submit("job", [function.step()])
        dispatcher = StoreDispatcher(app.engine.store, app.functions, "w", 60.0)
        pipe = Pipe(dispatcher, app.functions, Executor(10, 1), app.engine.limits, Injector([*app.functions]))
        pipe.begin(Claimed(await app.engine.store.claim("w", (function.name,), jobs, 60.0), {}))
        yield pipe, pipe.in_flight.all()
        await pipe.abort()
        await pipe.close()


@asynccontextmanager
async def finishing(pipe: Pipe) -> AsyncIterator[None]:
    """Judge and complete finished attempts meanwhile."""
    finish = asyncio.create_task(pipe.finish())
    yield
    finish.cancel()
    with suppress(asyncio.CancelledError):
        await finish


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
    """When a pipe winds up, attempts that wait for their turn go back to the queue, unrun."""
    async with pipe_with(app, never(app, "async"), 3) as (pipe, _):
        await pipe.wind_up(10.0)
        counts = await app.engine.store.counts()
        assert (counts.leased, counts.queued) == (0, {"on_the_loop": 3})
        assert len(pipe.in_flight) == 0


@pytest.mark.parametrize("mode", ["async", "process"])
async def test_what_has_not_begun_is_stopped_at_once(app: App, mode: str) -> None:
    """An attempt that is stopped before its turn has ended, and never runs."""
    async with pipe_with(app, never(app, mode), 2) as (pipe, attempts), finishing(pipe):
        for attempt in attempts:
            pipe.executor.stop(attempt, Reason.GIVEN_BACK)
        await pipe.in_flight.emptied()
        assert all(attempt.has_ended for attempt in attempts)
        assert (pipe.executor.slots().free, pipe.executor.slots(processes=True).free) == (10, 1)
        assert (await app.engine.store.counts()).leased == 0


async def test_the_first_reason_counts(app: App) -> None:
    """An attempt that is stopped twice keeps the first reason."""

    @app.function
    async def wait() -> None:
        await asyncio.Event().wait()

    async with pipe_with(app, wait, 1) as (pipe, (attempt,)), finishing(pipe):
        await asyncio.sleep(0)
        pipe.executor.stop(attempt, Reason.GIVEN_BACK)
        pipe.executor.stop(attempt, Reason.TIMEOUT)
        assert attempt.reason is Reason.GIVEN_BACK


async def test_an_attempt_whose_lease_is_lost_is_dropped(app: App) -> None:
    """An attempt whose lease is lost is stopped, and its result is discarded."""
    cancelled = asyncio.Event()

    @app.function
    async def wait() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
        return "late"

    async with pipe_with(app, wait, 1) as (pipe, (attempt,)), finishing(pipe):
        await asyncio.sleep(0)
        cancellation = Cancellation(app.engine.store, pipe.in_flight)
        cancellation.beats.put(Beat(attempt.token, None))
        assert await cancellation.next() == [(attempt, Reason.LOST)]
        pipe.executor.stop(attempt, Reason.LOST)
        await cancelled.wait()
        await pipe.in_flight.emptied()
        assert attempt.has_ended
        assert (await app.status(attempt.job.id)).state == "doing"
        cancellation.close()


async def test_a_lease_lost_with_the_outcome_still_to_write_stops_nothing(app: App) -> None:
    """A lost lease whose attempt has ended already stops nothing."""
    completer, in_flight, (attempt,) = await ended(app, 1)
    executor = Executor(1, 1)
    completer.complete([Outcome(attempt, Succeeded(attempt.attempt, b"1"))])
    executor.stop(attempt, Reason.LOST)
    await in_flight.emptied()
    assert attempt.reason is None
    assert (await app.status(attempt.job.id)).state == "done"
    await app.close()


async def test_a_step_claimed_while_its_job_is_read_is_not_lost(app: App) -> None:
    """A step that is claimed while its changed job is read goes on running."""
    function = never(app, "async")
    async with app:
        store, in_flight = app.engine.store, InFlight()
        job = await app.submit("job", [[function.step(), function.step()]])
        (first,) = await store.claim("w", (function.name,), 1, 60.0)
        in_flight.add(RunningAttempt.of(first, function, Inbox()))
        cancellation = Cancellation(store, in_flight)
        cancellation.beats.put(Beat(first.lease.token, 2))
        looking = asyncio.create_task(cancellation.next())
        await asyncio.sleep(0)  # it reads the job
        (second,) = await store.claim("w", (function.name,), 1, 60.0)
        in_flight.add(RunningAttempt.of(second, function, Inbox()))
        assert await looking == []
        assert second.job.id == job.id
        cancellation.close()


async def ended(app: App, jobs: int, steps: int = 1) -> tuple[Completer, InFlight, list[RunningAttempt]]:
    """A completer, and attempts of all steps of this number of jobs that have ended, unwritten."""
    function = never(app, "async")
    await app.open()
    for _ in range(jobs):
        await app.submit("job", [[function.step() for _ in range(steps)]])
    claims = await app.engine.store.claim("w", (function.name,), jobs * steps, 60.0)
    in_flight = InFlight()
    attempts = [RunningAttempt.of(claim, function, Inbox()) for claim in claims]
    for attempt in attempts:
        in_flight.add(attempt)
        in_flight.end(attempt)
    return Completer(app.engine.store, in_flight, AttemptLog()), in_flight, attempts


def successes(attempts: Sequence[RunningAttempt]) -> list[Outcome]:
    return [Outcome(attempt, Succeeded(attempt.attempt, b"1")) for attempt in attempts]


async def test_an_outcome_that_cannot_be_written_harms_no_other(app: App) -> None:
    """An outcome that the lifecycle chokes on is logged and left; those beside it are written."""
    completer, in_flight, (bad, good) = await ended(app, 2)
    with logged("cannot be written", "raincheck.worker") as line:
        completer.complete([Outcome(bad, Succeeded(bad.attempt, b"1", b"no JSON")), *successes([good])])
        await in_flight.emptied()
    assert line.is_set()
    assert (await app.status(good.claim.job.id)).state == "done"
    assert (await app.status(bad.claim.job.id)).state == "doing"  # until its lease runs out
    await app.close()


async def test_an_outcome_that_cannot_be_written_harms_no_other_of_its_job(app: App) -> None:
    """Of a stage whose outcomes come together, the others are written."""
    completer, in_flight, (first, bad, last) = await ended(app, 1, steps=3)
    outcomes = successes([first, bad, last])
    outcomes[1] = Outcome(bad, Succeeded(bad.attempt, b"1", b"no JSON"))
    completer.complete(outcomes)
    await in_flight.emptied()
    job = await app.status(first.job.id)
    assert [entry(job, 0, n).state for n in range(3)] == ["done", "doing", "done"]
    await app.close()


async def test_an_outcome_that_does_not_fit_gives_the_step_back(app: App) -> None:
    """An outcome that the lifecycle refuses for a job that has not changed leads to another attempt."""
    completer, in_flight, (attempt,) = await ended(app, 1)
    completer.complete([Outcome(attempt, Stopped(attempt.attempt))])  # nobody asked for that
    await in_flight.emptied()
    assert (await app.status(attempt.job.id)).state == "pending"
    await app.close()


async def test_an_outcome_that_does_not_fit_harms_no_other_of_its_job(app: App) -> None:
    """Of outcomes that come together, the one that does not fit is given back, the others are written."""
    completer, in_flight, (bad, good) = await ended(app, 1, steps=2)
    completer.complete([Outcome(bad, Stopped(bad.attempt)), *successes([good])])
    await in_flight.emptied()
    job = await app.status(bad.job.id)
    assert sorted(entry(job, 0, n).state for n in range(2)) == ["done", "pending"]
    await app.close()


async def test_an_outcome_whose_lease_is_lost_harms_no_other_of_its_job(app: App) -> None:
    """Of outcomes that come together, the one whose lease is lost is discarded, the others are written."""
    completer, in_flight, (lost, good) = await ended(app, 1, steps=2)
    await app.engine.store.release([lost.held])
    completer.complete(successes([lost, good]))
    await in_flight.emptied()
    job = await app.status(lost.job.id)
    assert sorted(entry(job, 0, n).state for n in range(2)) == ["done", "pending"]
    await app.close()


async def test_an_outcome_of_a_job_that_changed_is_decided_anew(app: App) -> None:
    """The outcome of a job that was cancelled meanwhile is written as a cancellation."""
    completer, in_flight, (attempt,) = await ended(app, 1)
    await app.cancel(attempt.job.id)
    completer.complete(successes([attempt]))
    await in_flight.emptied()
    assert (await app.status(attempt.job.id)).state == "cancelled"
    await app.close()


async def test_the_outcomes_of_one_job_that_are_there_make_one_change(app: App) -> None:
    """Outcomes that come while a change of their job is being written make the next change, together."""
    completer, in_flight, attempts = await ended(app, 1, steps=20)
    completer.complete(successes(attempts[:5]))
    for attempt in attempts[5:]:
        completer.complete(successes([attempt]))
    await in_flight.emptied()
    stored = await app.engine.jobs.find(attempts[0].job.id)
    assert (stored.job.state, stored.job.rev) == ("done", 3)
    await app.close()


async def test_what_cannot_be_given_back_is_left_to_its_lease(app: App) -> None:
    """While the store is away, steps cannot be given back; their leases run out."""
    async with pipe_with(app, never(app, "async"), 2) as (pipe, _):
        with no_room_on_disk(app):
            await pipe.wind_up(10.0)
        assert len(pipe.in_flight) == 0
        assert (await app.engine.store.counts()).leased == 2


async def test_each_of_several_returns_is_waited_for(app: App) -> None:
    """Claims that come late are given back one after the other, and a worker that leaves waits for all."""
    function = never(app, "async")
    async with pipe_with(app, function, 0) as (pipe, _):
        for _ in range(3):
            await app.submit("job", [function.step()])
            pipe.begin(Claimed(await app.engine.store.claim("w", (function.name,), 1, 0.0), {}))
        await pipe.wind_up(10.0)
        assert (await app.engine.store.counts()).leased == 0


async def test_a_run_that_is_cancelled_while_its_child_starts(app: App) -> None:
    """A process function that is cancelled before its child is ready never runs; its child is kept."""
    die = app.function(process=True)(functions.leave)
    square = app.function(process=True)(functions.square)

    async with app, Worker(app, process_slots=1):
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
