"""The worker that a test drives: what runs, in which order, and when."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from raincheck import App, AsyncClient, Context, DoNotRetry, GroupJob, JobFailed, RetryOptions, State, step
from raincheck.testing import Clock, MissingFunction, running
from tests.worker.helpers import logged

START = datetime(2027, 3, 1, 9, 0, tzinfo=UTC)


def make_app() -> tuple[App, list[str]]:
    """An app with functions of each kind, and what they did."""
    app = App("sqlite:///never-used.db", config=None)
    log: list[str] = []

    @app.function
    async def note(word: str) -> str:
        log.append(word)
        return word

    @app.function
    def also(ctx: Context, word: str) -> str:
        log.append(f"{word} after {ctx.previous}")
        return word

    @app.function(retry=RetryOptions(retry_limit=3, delay=60, backoff=2, jitter=0))
    async def unsteady(ctx: Context, failures: int) -> int:
        log.append(f"attempt {ctx.attempt}")
        if ctx.attempt <= failures:
            raise ConnectionError(f"failure {ctx.attempt}")
        return ctx.attempt

    return app, log


async def test_a_drain_runs_what_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no file behind."""
    monkeypatch.chdir(tmp_path)
    app, log = make_app()
    async with running(app) as worker:
        job = await app.submit("chain", [step("note", "a"), step("also", "b")])
        assert log == []
        assert await worker.drain() == 2
        assert log == ["a", "b after a"]
        assert (await app.status(job.id)).result == "b"
        assert await worker.drain() == 0
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - a folder in memory
    assert app.url == "sqlite:///never-used.db"


async def test_the_order_is_that_of_submission() -> None:
    """Whatever the functions are called; a higher priority comes first."""
    app, log = make_app()
    async with running(app) as worker:
        for word in "abc":
            await app.submit(word, [step("note", word), step("also", word)])
            await app.submit(word, [[step("also", f"{word}1"), step("note", f"{word}2")]])
        await app.submit("first", [step("note", "first")], priority=1)
        await worker.drain()
    assert log == [
        "first",
        *("a", "a after a", "a1 after None", "a2"),
        *("b", "b after b", "b1 after None", "b2"),
        *("c", "c after c", "c1 after None", "c2"),
    ]


async def test_hundreds_of_jobs_run_in_their_order() -> None:
    """Of two functions, in turns."""
    app, log = make_app()
    async with running(app) as worker:
        for n in range(300):
            await app.submit("n", [step("note" if n % 2 else "also", str(n))])
        assert await worker.drain() == 300
    assert [line.partition(" ")[0] for line in log] == [str(n) for n in range(300)]


@pytest.fixture
def nightly() -> tuple[App, list[str]]:
    """An app that declares a schedule, as a module does when it is imported."""
    app, log = make_app()
    app.schedule("nightly", [step("note", "night")], cron="0 3 * * *", zone="Europe/Paris")
    return app, log


async def test_jobs_are_listed_in_the_order_of_submission() -> None:
    """All, or those of a name or of a function; more than a page."""
    app, _ = make_app()
    async with running(app) as worker:
        for n in range(600):
            await app.submit(f"job-{n % 2}", [step("note" if n % 3 else "also", str(n))])
        await worker.drain()
        jobs = await worker.jobs()
        assert [job.result for job in jobs] == [str(n) for n in range(600)]
        assert await worker.jobs(name="job-1") == jobs[1::2]
        assert await worker.jobs(function="also") == jobs[::3]


class TestTime:
    """The clock stands still until it is moved."""

    async def test_a_delay_ends_when_the_clock_has_moved(self) -> None:
        """Not before."""
        app, _ = make_app()
        clock = Clock(START)
        async with running(app, clock=clock) as worker:
            job = await app.submit("later", [step("note", "a")], delay=3600)
            assert (job.state, job.scheduled_at) == (State.SCHEDULED, START + timedelta(hours=1))
            clock.advance(3599)
            assert await worker.drain() == 0
            clock.advance(timedelta(seconds=1))
            assert await worker.drain() == 1
            done = await app.status(job.id)
        assert (done.finished_at, clock.now) == (START + timedelta(hours=1), START + timedelta(hours=1))

    async def test_retries_come_with_their_backoff(self) -> None:
        """Each attempt at its time."""
        app, log = make_app()
        async with running(app) as worker:
            job = await app.submit("unsteady", [step("unsteady", 2)])
            assert await worker.drain() == 1
            assert (await app.status(job.id)).state is State.RETRYING
            worker.clock.advance(60)
            assert await worker.drain() == 1
            assert await worker.run_for(119) == 0
            assert await worker.run_for(1) == 1
            assert (await app.status(job.id)).result == 3
        assert log == ["attempt 1", "attempt 2", "attempt 3"]

    async def test_time_passes_from_one_due_time_to_the_next(self) -> None:
        """All attempts in one call, and the clock at its end."""
        app, _ = make_app()
        async with running(app, clock=Clock(START)) as worker:
            job = await app.submit("unsteady", [step("unsteady", 2)])
            assert await worker.run_for(3600) == 3
            done = await app.status(job.id)
            assert done.finished_at == START + timedelta(seconds=180)
            assert worker.clock.now == START + timedelta(hours=1)

    async def test_each_job_runs_at_its_time(self) -> None:
        """Also while ended jobs are removed, and if another app submits meanwhile."""
        app, log = make_app()
        other = App("sqlite:///:memory:each-at-its-time")
        delays = [random.uniform(0, 3600) for _ in range(100)]
        async with running(app, store=other.url) as worker, other:
            for n, delay in enumerate(delays):
                await app.submit(str(n), [step("note", str(n))], delay=delay, result_ttl=10)
            assert await worker.run_for(1800) == sum(delay <= 1800 for delay in delays)
            at = worker.clock.now + timedelta(seconds=3600)
            await other.submit("other", [step("note", "other")], scheduled_at=at)
            await worker.run_for(3600 + 10)
            assert [job.name for job in await worker.jobs()] == ["other"]
            assert (await worker.jobs())[0].finished_at == at
        assert log == [*sorted(map(str, range(100)), key=lambda n: delays[int(n)]), "other"]

    async def test_a_deadline_passes(self) -> None:
        """The job fails, and nothing is raised: its function did not fail."""
        app, log = make_app()
        async with running(app) as worker:
            at = worker.clock.now
            job = await app.submit(
                "late", [step("note", "a")], delay=10, expires_at=at + timedelta(seconds=50)
            )
            worker.clock.advance(60)
            assert await worker.drain() == 0
            error = (await app.status(job.id)).error
        assert error is not None
        assert error.title == "The deadline passed"
        assert log == []

    async def test_a_schedule_fires_as_time_passes(self, nightly: tuple[App, list[str]]) -> None:
        """At each of its firings; a jump is a time without any process."""
        app, log = nightly
        async with running(app, clock=Clock(START)) as worker:
            assert await worker.run_for(timedelta(days=7)) == 7
            worker.clock.move_to(START + timedelta(days=30))
            assert await worker.drain() == 1
            schedule = await app.schedules.find("nightly")
        assert log == ["night"] * 8
        assert schedule.last_fired_at == datetime(2027, 3, 31, 1, 0, tzinfo=UTC)

    def test_small_steps_add_up(self) -> None:
        """Ten times a tenth of a second is a second."""
        clock = Clock(START)
        for _ in range(10):
            clock.advance(0.1)
        assert clock() == Clock(START + timedelta(seconds=1))()

    @pytest.mark.parametrize("by", [-1, float("nan"), timedelta(seconds=-1)])
    def test_a_clock_only_moves_forward(self, by: float) -> None:
        """A move back is an error."""
        clock = Clock(START)
        with pytest.raises(ValueError, match="only moves forward"):
            clock.advance(by)
        with pytest.raises(ValueError, match="only moves forward"):
            clock.move_to(START - timedelta(seconds=1))
        assert clock.now == START
        assert repr(clock) == "<Clock 2027-03-01T09:00:00+00:00>"


class TestFailures:
    """What a test gets to know of a function that raises."""

    async def test_the_exception_of_a_failed_job_is_raised(self) -> None:
        """With the line of the function in its traceback."""
        app, _ = make_app()

        @app.function
        def fails() -> None:
            raise KeyError("here")

        async with running(app) as worker:
            await app.submit("fails", [fails.step()])
            with pytest.raises(KeyError, match="here") as raised:
                await worker.drain()
            assert [entry.name for entry in raised.traceback if not entry.ishidden(raised)][1:] == ["fails"]
            assert await worker.drain() == 0

    async def test_an_attempt_that_is_retried_raises_nothing(self) -> None:
        """Its last one does."""
        app, _ = make_app()
        async with running(app) as worker:
            await app.submit("unsteady", [step("unsteady", 9)])
            await worker.drain()
            with pytest.raises(ConnectionError, match="failure 3"):
                await worker.run_for(3600)

    async def test_without_errors_the_job_tells(self) -> None:
        """It ends as failed, and the next one runs."""
        app, _ = make_app()

        @app.function
        async def refuses() -> None:
            raise DoNotRetry("no")

        async with running(app) as worker:
            job = await app.submit("refuses", [refuses.step()])
            await app.submit("note", [step("note", "a")])
            assert await worker.drain(raise_errors=False) == 2
            document = await app.status(job.id)
        assert document.state is State.FAILED
        assert document.error is not None
        assert document.error.detail == "no"

    async def test_a_failure_without_an_exception_is_a_failed_job(self) -> None:
        """Such as a timeout, which is measured in real time."""
        app, _ = make_app()

        @app.function(timeout=0.01)
        async def slow() -> None:
            await asyncio.Event().wait()

        async with running(app) as worker:
            await app.submit("slow", [slow.step()])
            with pytest.raises(JobFailed, match="slow took too long"):
                await worker.drain()

    async def test_a_missing_function_is_an_error(self) -> None:
        """Once its step is ready; the message says which functions there are."""
        app, _ = make_app()
        async with running(app) as worker:
            await app.submit("other", [step("note", "a"), step("elsewhere")])
            await app.submit("later", [step("never")], delay=60)
            with pytest.raises(
                MissingFunction,
                match=r"\(other\) calls 'elsewhere', .*Its functions: note, also, unsteady\.",
            ):
                await worker.drain()

    async def test_a_call_that_nothing_runs_is_told_of(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It would wait for ever; the log says what to write."""
        monkeypatch.setattr("raincheck.testing.worker.HINT", 0.01)
        app, _ = make_app()
        async with running(app) as worker, asyncio.timeout(30):
            with logged("run the call with worker.until(...)") as told:
                call = asyncio.create_task(app.call(step("note", "a")))
                await told.wait()
            assert await worker.until(call) == "a"

    async def test_an_open_app_is_refused(self) -> None:
        """Its jobs would stay in the store that it has."""
        app, _ = make_app()
        async with running(app):
            with pytest.raises(RuntimeError, match="the app is open"):
                await running(app).__aenter__()

    def test_a_store_with_a_clock_of_its_own_is_refused(self) -> None:
        """The test's clock would not count."""
        with pytest.raises(ValueError, match="needs a SQLite store"):
            running(App(), store="redis://localhost")

    async def test_a_blocking_worker_is_refused_on_a_loop(self) -> None:
        """It would block the test itself."""
        app, _ = make_app()
        with pytest.raises(RuntimeError, match="use async with"), running(app):
            pass

    async def test_an_app_that_the_test_has_closed_is_left(self) -> None:
        """As a test client does, which leaves the lifespan of a server."""
        app, _ = make_app()
        async with running(app):
            await app.close()
        assert app.url == "sqlite:///never-used.db"

    async def test_an_exception_that_would_end_the_program_is_a_failed_job(self) -> None:
        """So that the other tests run."""
        app, _ = make_app()

        @app.function
        async def leaves() -> None:
            raise SystemExit(3)

        async with running(app) as worker:
            await app.submit("leaves", [leaves.step()])
            with pytest.raises(JobFailed, match="leaves raised SystemExit: 3"):
                await worker.drain()

    async def test_a_failure_in_a_child_process_shows_its_traceback(self) -> None:
        """Which is no exception of this process."""
        app = App()
        app.function("child", process=True)(process_id)
        app.function("bad", process=True)(divide)
        async with running(app, processes=True) as worker:
            await app.submit("bad", [step("bad", 1)])
            with pytest.raises(JobFailed, match="bad raised ZeroDivisionError") as raised:
                await worker.drain()
        assert "in divide" in raised.value.__notes__[0]

    async def test_a_second_drain_at_the_same_time_is_refused(self) -> None:
        """The order would be open."""
        app, _ = make_app()

        async with running(app) as worker:

            async def drains() -> int:
                return await worker.drain()

            with pytest.raises(RuntimeError, match="is running already"):
                await worker.until(drains())


class TestKinds:
    """Groups, wide stages, and functions of all kinds."""

    async def test_a_group_is_gathered(self) -> None:
        """In the same drain as its jobs, with what follows."""
        app, log = make_app()
        app.group(
            "sums", [GroupJob(word, [step("note", word)]) for word in "abcde"], then=[step("also", "end")]
        )
        async with running(app) as worker:
            run = await app.trigger("sums")
            assert await worker.drain() == 6
            assert (await app.run("sums", run.id)).result == "end"
        assert log == [*"abcde", "end after ['a', 'b', 'c', 'd', 'e']"]

    async def test_functions_run_in_the_process_of_the_test(self) -> None:
        """So that what a test replaces is replaced for them; a sync one has a thread."""
        app = App()
        app.function(process_id)
        app.function("in a thread".replace(" ", "-"))(thread_name)
        app.function("child", process=True)(process_id)
        async with running(app) as worker:
            assert await worker.until(app.call(step("process_id"))) == os.getpid()
            assert await worker.until(app.call(step("child"))) == os.getpid()
            assert await worker.until(app.call(step("in-a-thread"))) != threading.current_thread().name

    async def test_a_child_process_can_be_asked_for(self) -> None:
        """As in a real worker."""
        app = App()
        app.function("child", process=True)(process_id)
        async with running(app, processes=True) as worker:
            assert await worker.until(app.call(step("child"))) != os.getpid()

    async def test_a_function_can_cancel_its_own_job(self) -> None:
        """It is stopped as by a real worker."""
        app, _ = make_app()

        @app.function
        async def cancels(ctx: Context) -> None:
            await app.cancel(ctx.job.id)
            await asyncio.Event().wait()

        async with running(app) as worker:
            job = await app.submit("cancels", [cancels.step()])
            assert await worker.drain() == 1
            assert (await app.status(job.id)).state is State.CANCELLED

    async def test_a_function_may_wait_for_other_jobs(self) -> None:
        """They run meanwhile, whichever way it waits."""
        app = App()

        @app.function
        async def factorial(n: int) -> int:
            return n * await factorial.call(n - 1) if n else 1

        @app.function
        def twice(n: int) -> int:
            return 2 * int(app.blocking.call(factorial.step(n)))

        async with running(app) as worker:
            job = await app.submit("twice", [twice.step(10)])
            assert await worker.drain() == 12
            assert (await app.status(job.id)).result == 2 * 3628800
            await asyncio.to_thread(app.blocking.close)

    async def test_a_failure_is_raised_where_it_is_waited_for(self) -> None:
        """In the function that waits, which may go on."""
        app, _ = make_app()

        @app.function
        async def careful() -> str:
            try:
                await app.call(step("refuses"))
            except JobFailed as error:
                return str(error.problem.detail)
            return "never"

        @app.function
        async def refuses() -> None:
            raise DoNotRetry("no")

        async with running(app) as worker:
            job = await app.submit("careful", [careful.step()])
            assert await worker.drain() == 2
            assert (await app.status(job.id)).result == "no"

    async def test_a_function_that_waits_for_a_missing_one(self) -> None:
        """Does not wait for ever."""
        app, _ = make_app()

        @app.function
        async def waits() -> None:
            await app.call(step("elsewhere"))

        async with running(app) as worker:
            await app.submit("waits", [waits.step()])
            with pytest.raises(MissingFunction):
                await worker.drain()

    async def test_the_lifespan_is_entered(self) -> None:
        """Once, until the end."""
        entered: list[str] = []

        class Lifespan:
            def __init__(self, app: App) -> None:
                pass

            async def __aenter__(self) -> dict[str, str]:
                entered.append("in")
                return {"key": "value"}

            async def __aexit__(self, *exc_info: object) -> None:
                entered.append("out")

        app = App(lifespan=Lifespan)

        @app.function
        def state(ctx: Context) -> str:
            return str(ctx.state["key"])

        async with running(app) as worker:
            assert await worker.until(app.call(state.step())) == "value"
            assert await worker.until(app.call(state.step())) == "value"
        assert entered == ["in", "out"]

    async def test_progress_is_kept(self) -> None:
        """The last one, with the job."""
        app = App()

        @app.function
        def works(ctx: Context) -> None:
            ctx.progress(3, 4, "three")

        async with running(app) as worker:
            job = await app.submit("works", [works.step()])
            await worker.drain()
            (function,) = (await app.status(job.id)).functions
        assert not isinstance(function, list)
        assert function.progress == {"done": 3, "total": 4, "message": "three"}


def divide(number: int) -> float:
    """Fails."""
    return number / 0


def process_id() -> int:
    """The process that runs this."""
    return os.getpid()


def thread_name() -> str:
    """The thread that runs this."""
    return threading.current_thread().name


class TestHTTP:
    """Requests to the app's HTTP API, without a port."""

    async def test_requests_that_do_not_wait(self) -> None:
        """Submit, drain, ask."""
        app, _ = make_app()
        transport = httpx2.ASGITransport(app.asgi)
        async with (
            running(app) as worker,
            httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            body = {"name": "a", "functions": [{"name": "note", "args": ["a"]}]}
            response = await http.post("/v1/job", json=body)
            assert response.status_code == 202
            await worker.drain()
            document = (await http.get(response.headers["location"])).json()
        assert (document["state"], document["functions"][0]["result"]) == ("done", "a")

    async def test_a_request_that_waits(self) -> None:
        """The worker runs what it waits for."""
        app, _ = make_app()
        transport = httpx2.ASGITransport(app.asgi)
        async with (
            running(app) as worker,
            httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            response = await worker.until(http.post("/v1/function/note", json=["b"]))
            assert (response.status_code, response.json()["result"]) == (200, "b")

    async def test_the_client_of_raincheck(self) -> None:
        """With the transport of the app."""
        app, _ = make_app()
        async with (
            running(app) as worker,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app.asgi)) as http,
            AsyncClient("http://localhost", http=http) as client,
        ):
            assert await worker.until(client.call("note", "c")) == "c"


class TestBlocking:
    """Tests that are not async."""

    def test_the_same_without_await(self) -> None:
        """Submit, drain, ask."""
        app, log = make_app()
        with running(app, clock=Clock(START)) as worker:
            job = app.blocking.submit("later", [step("note", "a")], delay=60)
            assert worker.drain() == 0
            assert worker.run_for(60) == 1
            assert app.blocking.status(job.id).result == "a"
            assert [each.name for each in worker.jobs()] == ["later"]
            assert worker.until(lambda: app.blocking.call(step("note", "b"))) == "b"
            assert worker.clock.now == START + timedelta(seconds=60)
        assert log == ["a", "b"]
        assert not [t for t in threading.enumerate() if t.name == "raincheck-blocking"]

    def test_a_call_that_cannot_end_holds_nothing_up(self) -> None:
        """It fails when the app is closed."""
        app, _ = make_app()
        with running(app) as worker:
            for _ in range(2):
                with pytest.raises(MissingFunction):
                    worker.until(lambda: app.blocking.call(step("elsewhere")))
        assert not [t for t in threading.enumerate() if t.name == "raincheck-blocking"]

    def test_a_call_that_fails_raises_what_it_raises(self) -> None:
        """Not what the function raised."""
        app, _ = make_app()
        app.function("divide")(divide)
        with running(app) as worker, pytest.raises(JobFailed, match="division by zero"):
            worker.until(lambda: app.blocking.call(step("divide", 1)))

    def test_errors_are_those_of_the_function(self) -> None:
        """Raised in the thread of the test."""
        app, _ = make_app()
        with running(app) as worker:
            app.blocking.submit("unsteady", [step("unsteady", 9)])
            with pytest.raises(ConnectionError):
                worker.run_for(3600)

    def test_an_app_that_does_not_open_says_why(self) -> None:
        """And no thread stays."""
        app, _ = make_app()
        app.config = "absent.yaml"
        with pytest.raises(Exception, match=r"absent\.yaml"), running(app):
            pass
        assert not [t for t in threading.enumerate() if t.name == "raincheck-blocking"]
