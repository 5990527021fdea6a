"""Large results: kept beside the record, passed on in every mode, and limited in all."""

from __future__ import annotations

from pathlib import Path

import pytest

from raincheck import App, Context, Gone, GroupJob, Limits, Worker
from raincheck.core.model import Stored
from tests.worker import functions
from tests.worker.helpers import entry

MEGABYTE = 1024 * 1024


@pytest.mark.parametrize("mode", ["async", "thread", "process"])
async def test_a_large_result_is_passed_on(app: App, mode: str) -> None:
    """Each function gets the result of the one before, whole; the record has none of them."""

    async def enlarge(ctx: Context, size: int) -> str:
        return functions.enlarge(ctx, size)

    function = app.function("enlarge", process=mode == "process")(
        enlarge if mode == "async" else functions.enlarge
    )
    assert function.mode == mode
    async with app, Worker(app, process_slots=1):
        job = await app.submit("chain", [function.step(size) for size in (200_000, 5_000, 300_000, 10)])
        ended = await app.wait(job.id, timeout=20)
        assert [str(entry(ended, i).result).split()[0] for i in range(4)] == ["0", "200000", "5000", "300000"]
        assert [len(str(entry(ended, i).result)) for i in range(3)] == [200_000, 5_000, 300_000]
        stored = await app.engine.jobs.find(job.id)
        assert [step.result is None for step in stored.job.steps] == [True, True, True, False]


async def test_a_stage_of_large_results_is_passed_on_as_a_list(app: App) -> None:
    """In order, to each of the functions that follow."""

    @app.function
    async def letters(letter: str, size: int) -> str:
        return letter * size

    @app.function
    async def look(ctx: Context) -> list[list[object]]:
        return [[result[:1], len(result)] for result in ctx.previous]

    async with app, Worker(app):
        steps = [letters.step("a", 100_000), letters.step("b", 3), letters.step("c", 70_000)]
        job = await app.submit("wide", [steps, [look.step(), look.step()]])
        ended = await app.wait(job.id, timeout=20)
        assert ended.result == [[["a", 100_000], ["b", 3], ["c", 70_000]]] * 2


async def test_a_very_large_result_goes_through_a_chain(tmp_path: Path) -> None:
    """20 MiB, under a raised limit."""
    app = App(f"sqlite:///{tmp_path / 'jobs.db'}", limits=Limits(result=32 * MEGABYTE))

    @app.function
    async def large() -> str:
        return "x" * (20 * MEGABYTE)

    @app.function
    async def measure(ctx: Context) -> int:
        return len(ctx.previous)

    async with app, Worker(app):
        job = await app.submit("chain", [large.step(), measure.step()])
        ended = await app.wait(job.id, timeout=25)
        assert (ended.result, len(entry(ended).result)) == (20 * MEGABYTE, 20 * MEGABYTE)


async def test_results_over_the_limit_of_a_job_fail_it(tmp_path: Path) -> None:
    """With an error that says how large they are, how large they may be, and what to do."""
    app = App(f"sqlite:///{tmp_path / 'jobs.db'}", limits=Limits(results=250_000))

    @app.function
    async def large() -> str:
        return "x" * 100_000

    async with app, Worker(app):
        job = await app.submit("chain", [large.step()] * 5)
        ended = await app.wait(job.id, timeout=20)
    assert (ended.state, [entry(ended, i).state for i in range(4)]) == (
        "failed",
        ["done", "done", "failed", "pending"],
    )
    assert ended.error is not None
    assert (ended.error.name, ended.error.function) == ("results-too-large", "large")
    assert "300006 bytes, the limit is 250000" in ended.error.detail
    assert "return smaller results" in ended.error.detail


async def test_a_call_gives_a_large_result(app: App) -> None:
    """It has just been seen to end here, and its result is read."""

    @app.function
    async def large() -> str:
        return "x" * 100_000

    async with app, Worker(app):
        assert await large.call() == "x" * 100_000
        job = await app.submit("large", [large.step()])
        shown = [document async for document in app.watch(job.id)]
        assert shown[-1].result == "x" * 100_000


async def test_a_group_gathers_large_results(app: App) -> None:
    """The follow-up has those of all jobs."""

    @app.function
    async def large(letter: str) -> str:
        return letter * 50_000

    @app.function
    async def look(ctx: Context) -> list[str]:
        return [result[:1] + str(len(result)) for result in ctx.previous]

    jobs = [GroupJob(letter, [large.step(letter)]) for letter in "abc"]
    app.group("letters", jobs, then=[look.step()])
    app.group("alone", jobs)
    async with app, Worker(app):
        run = await app.trigger("letters")
        assert (await app.wait(run.id, timeout=20)).result == ["a50000", "b50000", "c50000"]
        run = await app.trigger("alone")
        await app.wait(run.id, timeout=20)
        shown = await app.run("alone", run.id)
        assert [len(result) for result in shown.result] == [50_000] * 3


async def test_a_group_whose_results_are_too_large_fails(tmp_path: Path) -> None:
    """Though none of its jobs did; their results are not even read."""
    app = App(f"sqlite:///{tmp_path / 'jobs.db'}", limits=Limits(result=200_000))

    @app.function
    async def large() -> str:
        return "x" * 90_000

    app.group("large", [GroupJob(f"{i}", [large.step()]) for i in range(3)])
    async with app, Worker(app):
        run = await app.trigger("large")
        ended = await app.wait(run.id, timeout=20)
        assert ended.error is not None
        assert ended.error.name == "result-too-large"


async def test_what_a_job_removed_meanwhile_returned_is_gone(app: App) -> None:
    """Whoever has found the job, and reads its results too late, is told so."""

    @app.function
    async def large() -> str:
        return "x" * 5_000

    async with app:
        async with Worker(app):
            job = await app.submit("large", [large.step()])
            await app.wait(job.id, timeout=20)
        found: Stored = await app.engine.jobs.find(job.id)
        await app.engine.jobs.forget(job.id)
        with pytest.raises(Gone, match="removed"):
            await app.engine.document(found)
