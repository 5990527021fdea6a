"""A worker that ends by itself, and child processes that are replaced."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from raincheck import App, Context, GroupJob, State, Worker, step
from raincheck.core.errors import ConfigError
from raincheck.worker.lifetime import MIB, Cause, Report, resident_memory
from tests.worker import functions


class TestBurst:
    """`Worker(burst=True)`."""

    async def test_it_ends_when_nothing_is_left_to_run(self, app: App) -> None:
        """Whole jobs are run, on the loop, in threads and in child processes."""

        @app.function
        async def first() -> int:
            return 3

        @app.function
        def second(ctx: Context) -> object:
            return ctx.previous

        square = app.function("square", process=True)(functions.square)
        async with app:
            job = await app.submit(
                "job", [first.step(), [second.step(), square.step(2)], first.step(), second.step()]
            )
            report = await Worker(app, burst=True, process_slots=1).run()
            assert report == Report(Cause.IDLE, {State.DONE: 5})
            assert (await app.status(job.id)).result == 3

    async def test_nothing_to_run(self, app: App) -> None:
        """It ends at once; another one can follow."""
        app.function("square")(functions.square)
        async with app:
            for _ in range(2):
                assert await Worker(app, burst=True).run() == Report(Cause.IDLE, {})

    async def test_what_is_due_later_is_left(self, app: App) -> None:
        """It waits neither for a date nor for a retry."""

        @app.function(retry=3)
        async def fail() -> None:
            raise ValueError

        async with app:
            later = await app.submit(
                "later", [fail.step()], scheduled_at=datetime.now(UTC) + timedelta(hours=1)
            )
            failed = await app.submit("failed", [fail.step()])
            report = await Worker(app, burst=True).run()
            assert report.attempts == {State.RETRYING: 1}
            assert (await app.status(later.id)).state == "scheduled"
            assert (await app.status(failed.id)).state == "retrying"

    async def test_a_group_is_run_to_its_end(self, app: App) -> None:
        """Also the functions that follow when all its jobs have ended."""
        app.function("square")(functions.square)
        app.function("note")(functions.note)
        jobs = [GroupJob(str(n), [step("square", n)]) for n in range(5)]
        app.group("squares", jobs, then=[step("note", 1)])
        async with app:
            run = await app.trigger("squares")
            await Worker(app, burst=True).run()
            assert (await app.status(run.id)).state == "done"

    async def test_a_schedule_that_is_due_fires(self, app: App) -> None:
        """So a burst every hour by cron is enough to run schedules."""
        time = 1e9
        app.engine.now = lambda: time
        square = app.function("square")(functions.square)
        app.schedule("hourly", [square.step(3)], every=3600)
        async with app:
            assert (await Worker(app, burst=True).run()).attempts == {}
            time += 3601
            assert (await Worker(app, burst=True).run()).attempts == {State.DONE: 1}

    async def test_a_function_that_is_full_is_waited_for(self, app: App) -> None:
        """All steps of a limited function are run."""
        limited = app.function("square", concurrency=1)(functions.square)
        async with app:
            for n in range(5):
                await app.submit("limited", [limited.step(n)])
            report = await Worker(app, burst=True).run()
            assert report.attempts == {State.DONE: 5}


class TestLimits:
    """`Worker(max_jobs=, max_memory=)`."""

    async def test_a_worker_ends_after_its_number_of_attempts(self, app: App) -> None:
        """Exactly, and what it has claimed is done; the others are left for its successor."""
        square = app.function("square")(functions.square)
        async with app:
            for n in range(25):
                await app.submit("square", [square.step(n)])
            reports = [await Worker(app, max_jobs=10, concurrency=8, burst=True).run() for _ in range(3)]
            assert [report.cause for report in reports] == [Cause.MAX_JOBS, Cause.MAX_JOBS, Cause.IDLE]
            assert [report.attempts[State.DONE] for report in reports] == [10, 10, 5]

    async def test_running_attempts_end_first(self, app: App) -> None:
        """However long they take: the grace period is for a worker that is stopped."""

        @app.function
        async def wait_for_the_other(ctx: Context, number: int) -> None:
            if number == 0:
                await app.wait(jobs[1].id)

        async with app:
            jobs = [await app.submit("job", [wait_for_the_other.step(n)]) for n in range(2)]
            report = await Worker(app, max_jobs=2, grace=0.0).run()
            assert report == Report(Cause.MAX_JOBS, {State.DONE: 2})

    async def test_a_worker_ends_when_it_uses_too_much_memory(self, app: App) -> None:
        """What it runs is done."""
        kept: list[bytes] = []

        @app.function
        def leak() -> None:
            kept.append(b"x" * 64 * MIB)

        async with app:
            job = await app.submit("leak", [leak.step()])
            before = await asyncio.to_thread(resident_memory)
            report = await Worker(app, max_memory=before / MIB + 32).run()
            assert report == Report(Cause.MAX_MEMORY, {State.DONE: 1})
            assert (await app.status(job.id)).state == "done"

    @pytest.mark.parametrize(
        ("limits", "told"),
        [
            ({"max_memory": 1}, "max_memory is 1 MiB, and the worker uses .* before its first attempt"),
            ({"max_jobs": 0}, "max_jobs must be at least 1"),
        ],
    )
    async def test_a_limit_with_which_nothing_would_run_is_an_error(
        self, app: App, limits: dict[str, int], told: str
    ) -> None:
        """The worker does not start."""
        app.function("square")(functions.square)
        async with app:
            with pytest.raises(ConfigError, match=told):
                await Worker(app, **limits).run()  # type: ignore[arg-type]


class TestChildren:
    """`Worker(max_jobs_per_child=, max_memory_per_child=)`."""

    @pytest.mark.parametrize(
        ("limits", "processes"),
        [({}, 1), ({"max_jobs_per_child": 2}, 2), ({"max_memory_per_child": 1}, 3)],
    )
    async def test_a_child_process_is_replaced_at_its_limit(
        self, app: App, limits: dict[str, int], processes: int
    ) -> None:
        """After so many attempts, or when it uses too much memory; no attempt fails."""
        pid = app.function("pid", process=True)(functions.pid)
        async with app, Worker(app, process_slots=1, **limits):  # type: ignore[arg-type]
            pids = [await app.call(pid.step()) for _ in range(3)]
        assert len(set(pids)) == processes
