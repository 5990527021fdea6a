"""Groups in Python: declared in code and in a file, triggered, waited for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from raincheck import App, Context, Gone, GroupJob, InvalidInput, NotFound, Worker, step
from raincheck.core.errors import InvalidFile, RegisteredTooLate
from raincheck.engine.maintenance import Maintenance

FILE = """\
groups:
  filed:
    on_failure: continue
    jobs:
      - {name: good, functions: [{name: double, args: [4]}]}
      - {name: bad, functions: [{name: fail}]}
    then: [report]
  broken:
    jobs:
      - {name: one, functions: [{name: double, args: [x]}]}
"""


@pytest.fixture
def functions(app: App) -> App:
    """An app with some functions and a group in code."""

    @app.function
    async def double(number: int) -> int:
        return 2 * number

    @app.function
    async def fail() -> None:
        raise ValueError("always")

    @app.function
    def report(ctx: Context) -> dict[str, Any]:
        return {"results": ctx.previous, "failed": ctx.failed, "data": ctx.data}

    jobs = [GroupJob(f"job {i}", [double.step(i), step("report")]) for i in range(3)]
    app.group("coded", jobs, then=[report.step()], data={"a": 1})
    return app


async def test_a_group_in_code_runs_to_its_end(functions: App) -> None:
    """The last results of its jobs come to the follow-up, in order."""
    async with functions as app, Worker(app):
        run = await app.trigger("coded", data={"b": 2}, args={"job 1": {"number": 10}})
        assert [job.name for job in run.jobs] == ["job 0", "job 1", "job 2"]
        ended = await app.wait(run.id, timeout=30)
        assert [each["results"] for each in ended.result["results"]] == [0, 20, 4]
        assert ended.result["data"] == {"a": 1, "b": 2}
        assert (await app.run("coded", run.id)).counts == {"done": 3}


async def test_a_group_in_a_file_runs_to_its_end(
    functions: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is named by the environment; with continue, the follow-up learns which job failed."""
    (tmp_path / "groups.yaml").write_text(FILE)
    monkeypatch.setenv("RAINCHECK_CONFIG", str(tmp_path / "groups.yaml"))
    async with functions as app, Worker(app):
        run = await app.trigger("filed")
        ended = await app.wait(run.id, timeout=30)
        assert ended.result == {"results": [8, None], "failed": [1], "data": {}}


async def test_a_group_that_is_not_valid_leaves_the_others(functions: App, tmp_path: Path) -> None:
    """It says where it is wrong when it is triggered: file, line and field."""
    functions.config = tmp_path / "raincheck.yaml"
    (tmp_path / "raincheck.yaml").write_text(FILE)
    async with functions as app:
        with pytest.raises(InvalidInput) as raised:
            await app.trigger("broken")
        (fault,) = raised.value.faults
        assert fault.pointer == "/groups/broken/jobs/0/functions/0/args/0"
        assert fault.detail.startswith("raincheck.yaml:10: argument 'number': ")
        assert (await app.trigger("coded")).counts == {"pending": 3}
        with pytest.raises(NotFound):
            await app.trigger("other")


async def test_a_file_that_cannot_be_understood_stops_the_app(functions: App, tmp_path: Path) -> None:
    """Once it is mended, the app opens."""
    functions.config = tmp_path / "raincheck.yaml"
    (tmp_path / "raincheck.yaml").write_text("groups: [")
    with pytest.raises(InvalidFile, match=r"raincheck.yaml:2: not YAML"):
        await functions.open()
    (tmp_path / "raincheck.yaml").write_text("groups: 3")
    with pytest.raises(InvalidFile, match=r"raincheck.yaml:1: /groups: expected a mapping"):
        await functions.open()
    (tmp_path / "raincheck.yaml").write_text("")
    async with functions as app:
        assert [declared.name for declared in app.groups] == ["coded"]


async def test_a_name_in_code_and_in_a_file_is_a_fault(functions: App, tmp_path: Path) -> None:
    """Nobody could tell which was meant."""
    functions.config = tmp_path / "raincheck.yaml"
    (tmp_path / "raincheck.yaml").write_text(FILE.replace("filed", "coded"))
    async with functions as app:
        with pytest.raises(InvalidInput, match=r"raincheck.yaml:2: is also declared in code"):
            await app.trigger("coded")


async def test_a_group_is_declared_before_the_app_starts(functions: App) -> None:
    """As functions are."""
    async with functions as app:
        with pytest.raises(RegisteredTooLate):
            app.group("late", [])


async def test_results_wait_for_the_slowest_job(app: App) -> None:
    """Jobs are kept long enough, however short the group's result_ttl is."""

    @app.function
    async def one() -> int:
        return 1

    app.group("short", [GroupJob("a", [one.step()]), GroupJob("b", [step("elsewhere")])], result_ttl=0.0)
    async with app, Worker(app):
        run = await app.trigger("short")
        assert (await app.wait(run.jobs[0].id, timeout=30)).result == 1
        assert (await Maintenance(app.engine).do_due()).pruned == 0
        await app.cancel(run.jobs[1].id)
        with suppress(Gone):
            ended = await app.wait(run.id, timeout=30)
            assert ended.error is not None
            assert ended.error.detail == "1 of 2 jobs failed, were cancelled or removed"


async def test_a_key_gives_the_same_run(functions: App) -> None:
    """Whatever became of it meanwhile."""
    async with functions as app:
        runs = [await app.trigger("coded", idempotency_key="k") for _ in range(2)]
        assert runs[0].id == runs[1].id


async def test_thousands_of_jobs_have_one_follow_up(app: App) -> None:
    """Run by a worker as they come."""

    @app.function
    async def square(number: int) -> int:
        return number * number

    @app.function
    async def total(ctx: Context) -> int:
        return sum(ctx.previous)

    size = 3000
    app.group("squares", [GroupJob("square", [square.step(i)]) for i in range(size)], then=[total.step()])
    async with app, Worker(app):
        run = await app.trigger("squares")
        ended = await app.wait(run.id, timeout=50)
        assert ended.result == sum(i * i for i in range(size))
        kinds = [event.kind for event in (await app.engine.jobs.find(run.id)).job.events]
        assert kinds == ["submitted", "opened", "gathered", "step-done", "done"]


def test_without_a_loop(functions: App) -> None:
    """Triggered and looked at by code that is not async."""
    try:
        run = functions.blocking.trigger("coded")
        assert functions.blocking.run("coded", run.id).counts == {"pending": 3}
    finally:
        functions.blocking.close()
