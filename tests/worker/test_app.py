"""What can be asked of an app while a worker is there, and while none is."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from raincheck import (
    App,
    Context,
    InvalidInput,
    JobCancelled,
    JobFailed,
    NotFound,
    State,
    StoreError,
    Worker,
    WrongState,
    step,
)
from raincheck.core.errors import IdempotencyMismatch, RegisteredTooLate, UnexpectedResult
from raincheck.testing import running
from tests.worker.helpers import entry, logged


async def test_a_call_gives_the_result(app: App) -> None:
    """Calling a function, by itself or through the app, submits it and waits for what it returns."""

    @app.function
    async def add(a: int, b: int = 1) -> int:
        return a + b

    async with app, Worker(app):
        assert await add.call(1, b=2) == 3
        assert await app.call(add.step(5)) == 6
        assert await app.call(step("add", 5, 6)) == 11


@dataclass
class Point:
    """A value that is an object in JSON."""

    x: int
    y: float = 0.5


async def test_a_call_returns_the_annotated_type(app: App) -> None:
    """Not the plain data that is stored; a function of another app returns that."""

    @app.function
    async def move(point: Point, by: int) -> Point:
        return Point(point.x + by)

    @app.function
    def days(ctx: Context) -> list[date]:
        return [date(2026, 1, 2)]

    other = App(app.url)
    async with app, other, Worker(app):
        assert await move.call(Point(1), 2) == Point(3)
        assert await app.call(move.step(Point(1), by=3)) == Point(4)
        assert await days.call() == [date(2026, 1, 2)]
        assert await other.call(step("move", Point(1), 2)) == {"x": 3, "y": 0.5}


async def test_a_result_of_another_type_is_an_error(app: App) -> None:
    """A worker with another version of the function can return one; the error names the job."""
    old = App(app.url)

    @app.function("size")
    async def size(name: str) -> int:
        return len(name)

    @old.function("size")
    async def size_of_old(name: str) -> list[int]:
        return [len(name)]

    async with app, old, Worker(old):
        with pytest.raises(UnexpectedResult, match=r"job .*: the result .* Expected `int`, got `array`"):
            await size.call("Paris")


async def test_a_call_that_fails_says_why(app: App) -> None:
    """A call of a function that fails raises ``JobFailed``, with the job and its problem."""

    @app.function
    async def fail() -> None:
        raise ValueError("too bad")

    async with app, Worker(app):
        with pytest.raises(JobFailed, match="fail raised ValueError: too bad") as caught:
            await fail.call()
        assert not isinstance(caught.value, JobCancelled)
        assert (await app.status(caught.value.job_id)).error == caught.value.problem


async def test_a_job_waits_for_a_worker(app: App) -> None:
    """Without a worker a job is pending and says what it waits for; one that comes later runs it."""

    @app.function
    async def quick() -> int:
        return 1

    async with app:
        job = await app.submit("quick", [quick.step()])
        assert (job.state, job.waiting_for) == ("pending", ["quick"])
        assert (await app.wait(job.id, timeout=0.01)).state == "pending"
        async with Worker(app):
            ended = await app.wait(job.id)
    assert (ended.state, ended.waiting_for) == ("done", [])


async def test_a_call_that_no_worker_can_run_is_logged(app: App) -> None:
    """So is a wait for such a job. They continue when a worker comes."""

    @app.function
    async def quick(number: int) -> int:
        return number

    other = App(app.url)
    async with app, other:
        job = await app.submit("misspelt", [step("quik")])
        with (
            logged(f"job {job.id} waits: no worker offers 'quik'. Did you mean 'quick'?") as first,
            logged("no worker offers 'quick'. The job waits for such a worker.") as second,
        ):
            waiting = asyncio.create_task(app.wait(job.id))
            calling = asyncio.create_task(other.call(step("quick", 3)))
            await first.wait()
            await second.wait()
        await app.cancel(job.id)
        async with Worker(app):
            assert await calling == 3
        assert (await waiting).warnings == []


async def test_a_step_of_a_chain_waits_for_its_own_worker(app: App) -> None:
    """The steps of a chain may run in different workers, each offering its own functions."""
    second = App(app.url)

    @app.function
    async def one() -> str:
        return "one"

    @second.function
    async def two(ctx: Context) -> list[object]:
        return [ctx.previous, "two"]

    async with app, second, Worker(app), Worker(second):
        job = await app.submit("pair", [one.step(), step("two")])
        ended = await app.wait(job.id)
    assert ended.result == ["one", "two"]
    assert entry(ended, 0).worker != entry(ended, 1).worker


async def test_a_scheduled_job_is_never_early(app: App) -> None:
    """A job with a delay is scheduled, and runs when it is due, not before."""

    delays = (0.5, 0.2, 0.35)

    @app.function
    async def when() -> float:
        return worker.clock()

    async with running(app) as worker:
        before = worker.clock()
        jobs = [await app.submit("later", [when.step()], delay=delay) for delay in delays]
        assert {job.state for job in jobs} == {"scheduled"}
        assert await worker.run_for(1) == 3
        ended = [await app.status(job.id) for job in jobs]
    assert [job.result for job in ended] == [before + delay for delay in delays]


async def test_a_date_in_the_past_is_now(app: App) -> None:
    """A job scheduled for a time that has passed runs at once."""

    @app.function
    async def quick() -> int:
        return 1

    async with app, Worker(app):
        job = await app.submit("past", [quick.step()], scheduled_at=datetime(2020, 1, 1, tzinfo=UTC))
        assert (await app.wait(job.id)).result == 1


async def test_an_expired_job_is_not_run(app: App) -> None:
    """A job whose deadline has passed before a worker came has failed, and was not run."""
    runs: list[int] = []

    @app.function
    async def work(number: int) -> None:
        runs.append(number)

    async with app:
        soon = datetime.now(UTC) + timedelta(seconds=0.3)
        jobs = [await app.submit("work", [work.step(n)], expires_at=soon) for n in range(3)]
        while datetime.now(UTC) < soon:
            assert (await app.status(jobs[0].id)).state == "pending"
        async with Worker(app):
            for job in jobs:
                ended = await app.wait(job.id)
                assert ended.state == "failed"
                assert ended.error is not None
                assert ended.error.name == "deadline-passed"
                assert entry(ended).retry_count == 0
    assert runs == []


async def test_higher_priority_goes_first(app: App) -> None:
    """Higher priority runs first; of one priority, what was submitted first."""
    order: list[str] = []

    @app.function
    async def note(word: str) -> None:
        order.append(word)

    async with app:
        jobs = [
            await app.submit("note", [note.step(word)], priority=priority)
            for word, priority in (("b1", 0), ("c", -5), ("a", 10), ("b2", 0), ("b3", 0))
        ]
        async with Worker(app, concurrency=1):
            for job in jobs:
                await app.wait(job.id)
    assert order == ["a", "b1", "b2", "b3", "c"]


async def test_a_key_makes_one_job_of_many_submits(app: App) -> None:
    """The same submit with the same key, again and again, even at once, is one job that runs once."""
    runs: list[str] = []

    @app.function
    async def work(word: str) -> str:
        runs.append(word)
        return word

    async with app, Worker(app):
        submits = [app.submit("work", [work.step("a")], idempotency_key="k") for _ in range(10)]
        (job_id,) = {job.id for job in await asyncio.gather(*submits)}
        await app.wait(job_id)
        again = await app.submit("work", [work.step("a")], idempotency_key="k")
        assert (again.id, again.result) == (job_id, "a")
        with pytest.raises(IdempotencyMismatch, match="use a new key"):
            await app.submit("work", [work.step("b")], idempotency_key="k")
    assert runs == ["a"]


async def test_a_watch_shows_each_change(app: App) -> None:
    """Watching a job shows it now, then whenever it has changed, and ends with it."""
    go = asyncio.Event()

    @app.function
    async def work(ctx: Context) -> None:
        ctx.progress(1)
        await go.wait()
        ctx.progress(2)

    async with app, Worker(app):
        job = await app.submit("work", [work.step(), work.step()])
        states = []
        async for shown in app.watch(job.id):
            states.append((shown.state, shown.current_function))
            if entry(shown).progress is not None:
                go.set()
    assert states[-1] == ("done", 1)
    assert ("doing", 0) in states
    assert states == sorted(states, key=lambda pair: pair[1])


async def test_a_wait_ends_in_time(app: App) -> None:
    """Waiting with a timeout gives the job as it is then."""
    async with app:
        job = await app.submit("later", [step("nobody")])
        assert (await app.wait(job.id, timeout=0.0)).state == "pending"
        assert (await app.wait(job.id, timeout=0.05)).state == "pending"


async def test_a_job_that_is_not_there(app: App) -> None:
    """Asking for a job that never was raises ``NotFound``."""
    async with app:
        for ask in (app.status, app.wait, app.cancel, app.retry):
            with pytest.raises(NotFound):
                await ask("01990000-0000-7000-8000-000000000000")


async def test_only_failed_and_cancelled_jobs_are_retried(app: App) -> None:
    """A job that is not at its end, or is done, cannot be retried; a cancelled one can."""

    @app.function
    async def quick() -> int:
        return 1

    async with app:
        job = await app.submit("quick", [quick.step()])
        with pytest.raises(WrongState):
            await app.retry(job.id)
        await app.cancel(job.id)
        await app.retry(job.id)
        async with Worker(app):
            assert (await app.wait(job.id)).result == 1
        with pytest.raises(WrongState):
            await app.retry(job.id)


async def test_bad_input_is_not_stored(app: App) -> None:
    """A job whose arguments do not fit is refused, with every fault, and nothing is stored."""

    @app.function
    async def add(a: int, b: int) -> int:
        return a + b

    async with app:
        with pytest.raises(InvalidInput) as caught:
            await app.submit("", [step("add", "one", b=2.5), []])
        assert len(caught.value.faults) == 4
        assert (await app.engine.store.counts()).states[State.PENDING] == 0


async def test_registering_ends_with_the_start(app: App) -> None:
    """Once an app is open no function can be added: callers and workers know what it offers."""
    async with app, Worker(app):
        with pytest.raises(RegisteredTooLate, match="has started"):

            @app.function
            async def late() -> None: ...


async def test_an_app_that_could_not_open_can_be_opened_later(tmp_path: Path) -> None:
    """Opening fails with a clear error where there is no folder; once it is there, it opens."""
    lost = App(f"sqlite:///{tmp_path / 'missing' / 'jobs.db'}")
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be opened"):
            await lost.open()
    await asyncio.to_thread((tmp_path / "missing").mkdir)
    async with lost:
        assert (await lost.submit("x", [step("x")])).state == "pending"


async def test_an_app_can_be_opened_again(app: App) -> None:
    """A closed app opens again, with its jobs."""
    async with app:
        job = await app.submit("x", [step("x")])
    async with app:
        assert (await app.status(job.id)).id == job.id
