"""Schedules in Python: declared in code and in a file, put, paused, run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from raincheck import App, Context, InvalidInput, NotFound, Worker, step
from raincheck.core.errors import InvalidFile, RegisteredTooLate, RegistrationError
from raincheck.engine.maintenance import Maintenance
from raincheck.engine.schedules.documents import ScheduleDocument
from raincheck.testing import running

FILE = """
schedules:
  nightly:
    cron: 0 3 * * *
    zone: Europe/Paris
    functions: [add]
  often:
    every: 90
    functions:
      - name: add
        args: [1, 2]
      - [add, add]
    paused: true
"""


def in_file(tmp_path: Path, text: str) -> App:
    """An app with a configuration file."""
    path = tmp_path / "raincheck.yaml"
    path.write_text(text)
    return App(f"sqlite:///{tmp_path / 'jobs.db'}", config=path)


async def put_by_upkeep(app: App) -> dict[str, ScheduleDocument]:
    """The schedules that are there once a server or worker has started."""
    await Maintenance(app.engine).do_due()
    return {each.name: each for each in await app.schedules.everything()}


async def test_a_worker_fires_what_its_app_declares(app: App) -> None:
    """And runs the jobs: the whole of it, in one process."""
    done: list[str | None] = []
    twice = asyncio.Event()

    @app.function
    async def beat(word: str) -> str:
        done.append(word)
        if len(done) == 2:
            twice.set()
        return word

    app.schedule("heart", [beat.step("thump")], every=1)
    async with app, Worker(app), asyncio.timeout(50):
        await twice.wait()
        async with asyncio.timeout(30):
            while (schedule := await app.schedules.find("heart")).last_job is None:
                pass
        job = await app.wait(schedule.last_job)
    assert (job.name, job.schedule, job.result) == ("heart", "heart", "thump")
    assert job.scheduled_at == schedule.last_fired_at


@pytest.fixture
def nightly_app(app: App) -> App:
    """An app that declares a schedule, as a module does when it is imported."""
    app.schedule("nightly", [step("add", 1)], cron="30 2 * * *", zone="America/New_York", expires_in=60)
    return app


async def test_a_declaration_is_put_when_the_app_starts(nightly_app: App) -> None:
    """What it does not say is as everywhere."""
    async with nightly_app:
        nightly = (await put_by_upkeep(nightly_app))["nightly"]
    assert (nightly.cron, nightly.zone, nightly.source) == ("30 2 * * *", "America/New_York", "code")
    assert (nightly.catch_up, nightly.grace, nightly.expires_in) == ("latest", 60.0, 60.0)
    assert len(nightly.next) == 5


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"cron": "x"}, "/cron"),
        ({"cron": "0 3 * * *", "zone": "Paris"}, "/zone"),
        ({"every": 0.1}, "/every"),
        ({}, "/cron"),
        ({"every": 5, "catch_up": "maybe"}, "/catch_up"),
        ({"every": 5, "priority": 10**6}, "/priority"),
    ],
)
def test_a_bad_declaration_is_refused_where_it_stands(
    app: App, options: dict[str, object], pointer: str
) -> None:
    """With every fault, before anything runs."""
    with pytest.raises(InvalidInput) as refused:
        app.schedule("bad", [step("add")], **options)  # type: ignore[arg-type]
    assert [fault.pointer for fault in refused.value.faults] == [pointer]


async def test_a_name_is_declared_once_and_in_time(app: App) -> None:
    """Twice is a mistake, and so is when nobody looks any more."""
    app.schedule("a", [step("add")], every=5)
    with pytest.raises(RegistrationError, match="is already declared"):
        app.schedule("a", [step("add")], every=6)
    async with app:
        with pytest.raises(RegisteredTooLate):
            app.schedule("b", [step("add")], every=5)


async def test_what_is_declared_no_more_stays(app: App, tmp_path: Path) -> None:
    """Until somebody deletes it: another app may declare it."""
    app.schedule("a", [step("add")], every=5)
    async with app:
        await put_by_upkeep(app)
    other = App(app.url)
    async with other:
        assert list(await put_by_upkeep(other)) == ["a"]
        await other.schedules.delete("a")
        assert await other.schedules.everything() == []
        with pytest.raises(NotFound):
            await other.schedules.find("a")


class TestFile:
    """The section ``schedules`` of the configuration file."""

    async def test_its_schedules_are_put(self, tmp_path: Path) -> None:
        """As they stand there; a function may be its name alone."""
        app = in_file(tmp_path, FILE)
        async with app:
            found = await put_by_upkeep(app)
        nightly, often = found["nightly"], found["often"]
        assert (nightly.cron, nightly.zone, nightly.source) == ("0 3 * * *", "Europe/Paris", "file")
        assert (often.every, often.paused, often.next) == (90.0, True, [])
        assert [len(entry) if isinstance(entry, list) else entry.args for entry in often.functions] == [
            [1, 2],
            2,
        ]

    async def test_a_change_of_the_file_is_put_at_the_next_start(self, tmp_path: Path) -> None:
        """A pause that somebody made stays."""
        async with in_file(tmp_path, FILE) as app:
            await put_by_upkeep(app)
            await app.schedules.resume("often")
            await app.schedules.pause("nightly")
        async with in_file(tmp_path, FILE.replace("0 3", "0 4")) as app:
            found = await put_by_upkeep(app)
        assert (found["nightly"].cron, found["nightly"].paused) == ("0 4 * * *", True)
        assert found["often"].paused is False

    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            (FILE.replace("0 3", "0 99"), 4, "/schedules/nightly/cron: is not a cron expression"),
            (FILE.replace("Paris", "Nowhere"), 5, "/schedules/nightly/zone: Europe/Nowhere is unknown"),
            (FILE.replace("every:", "each:"), 8, "/schedules/often/each: "),
            (FILE.replace("90", "a while"), 8, "/schedules/often/every: "),
            (FILE.replace("nightly", "every night"), 3, "/schedules/every night/name: "),
            ("schedules: [a]", 1, "/schedules: expected a mapping"),
        ],
    )
    async def test_a_mistake_is_told_with_its_place(
        self, tmp_path: Path, text: str, line: int, words: str
    ) -> None:
        """File, line and field; the app does not start."""
        with pytest.raises(InvalidFile) as refused:
            await in_file(tmp_path, text).open()
        assert f"raincheck.yaml:{line}: {words}" in str(refused.value)

    async def test_a_name_in_code_and_in_the_file_is_refused(self, tmp_path: Path) -> None:
        """One of the two must go."""
        app = in_file(tmp_path, FILE)
        app.schedule("often", [step("add")], every=5)
        with pytest.raises(InvalidFile, match="is also declared in code"):
            await app.open()


async def test_schedules_can_be_handled_in_python(app: App) -> None:
    """Put, pause, resume, run, delete: what can be done over HTTP."""
    async with app:
        made = await app.schedules.put("often", [step("add", 1)], every=3600, data={"a": 1})
        left = made.next[0] - datetime.now(UTC)
        assert timedelta(minutes=59) < left < timedelta(hours=1, seconds=1)  # dates are rounded
        assert (await app.schedules.pause("often")).next == []
        assert len((await app.schedules.resume("often")).next) == 5
        job = await app.schedules.run("often")
        assert (job.schedule, job.data, job.state) == ("often", {"a": 1}, "pending")
        with pytest.raises(InvalidInput):
            await app.schedules.put("often", [], every=3600)
        assert await app.schedules.find("often") == (await app.schedules.everything())[0]


GROUP_FILE = """
groups:
  sums:
    jobs:
      - {name: one, functions: [{name: add, args: [1, 2]}]}
      - {name: two, functions: [{name: add, args: [3, 4]}]}
    then: [total]
schedules:
  hourly:
    every: 3600
    group: sums
    data: {by: the hour}
"""


class TestGroups:
    """A schedule that triggers a group."""

    async def test_each_firing_is_a_run(self, tmp_path: Path) -> None:
        """With an id of its own, its jobs, and what follows them."""
        app = in_file(tmp_path, GROUP_FILE)

        @app.function
        async def add(a: int, b: int) -> int:
            return a + b

        @app.function
        async def total(ctx: Context) -> list[object]:
            return [ctx.data["by"], *ctx.previous]

        async with running(app) as worker:
            await worker.run_for(3600)
            hourly = await app.schedules.find("hourly")
            run = await app.wait(hourly.last_job or "")
            by_hand = await app.schedules.run("hourly")
            await worker.drain()
            again = await app.wait(by_hand.id)
        assert (run.group, run.schedule, run.name) == ("sums", "hourly", "sums")
        assert run.result == again.result == ["the hour", 3, 7]
        assert run.scheduled_at == run.finished_at == hourly.last_fired_at
        assert (hourly.group, hourly.functions) == ("sums", [])

    async def test_a_group_that_nobody_declares_is_a_mistake(self, tmp_path: Path) -> None:
        """In the file with its line, in code by its name."""
        with pytest.raises(
            InvalidFile, match=r"yaml:11: /schedules/hourly/group: this app has no group named 'some'"
        ):
            await in_file(tmp_path, GROUP_FILE.replace("group: sums", "group: some")).open()
        app = App(f"sqlite:///{tmp_path / 'jobs.db'}", config=tmp_path / "empty.yaml")
        (tmp_path / "empty.yaml").write_text("groups: {}")
        app.schedule("hourly", group="some", every=3600)
        with pytest.raises(RegistrationError, match="schedule hourly: this app has no group named 'some'"):
            await app.open()
