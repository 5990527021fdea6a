"""What is in the log: a line for each start and end of an attempt, and the job on the lines of functions."""

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from raincheck import App, Context, Limits, RetryLater, RetryOptions, Worker, step
from raincheck.engine.maintenance import Maintenance
from raincheck.logs import JobContextFilter, JSONFormatter, current_attempt
from raincheck.worker.attempt_log import PER_SECOND
from tests.worker import functions
from tests.worker.helpers import begun

log = logging.getLogger("tests.own")


class Log:
    """What was logged, as JSON."""

    def __init__(self) -> None:
        self.stream = StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.addFilter(JobContextFilter())
        self.handler.setFormatter(JSONFormatter())

    def lines(self, logger: str) -> list[dict[str, Any]]:
        """The lines of a logger."""
        records = map(json.loads, self.stream.getvalue().splitlines())
        return [record for record in records if record["logger"] == logger]

    def events(self) -> list[tuple[str, str]]:
        """What happened to attempts: its level and its name."""
        return [(line["level"], line["event"]) for line in self.lines("raincheck.attempt")]


@pytest.fixture
def logged() -> Iterator[Log]:
    """The log at INFO; `raincheck.attempt` and others have that level unless a test changes it."""
    logged, level = Log(), logging.root.level
    logging.root.addHandler(logged.handler)
    logging.root.setLevel(logging.INFO)
    yield logged
    logging.root.setLevel(level)
    logging.root.removeHandler(logged.handler)
    logging.getLogger("raincheck.attempt").setLevel(logging.NOTSET)


class TestAttempts:
    """The logger ``raincheck.attempt``."""

    async def test_a_success_is_one_line(self, app: App, logged: Log) -> None:
        """With the job, the function, the attempt, the worker and the duration, in the text and as fields."""

        @app.function
        async def add(a: int, b: int) -> int:
            return a + b

        async with app, Worker(app) as worker:
            job = await app.submit("sum", [add.step(1, 2)])
            await app.wait(job.id)
        (line,) = logged.lines("raincheck.attempt")
        assert line["message"] == f"job {job.id}, add: done in {line['duration']:.3f} s"
        expected = {"job": job.id, "function": "add", "attempt": 1, "worker": worker.id, "event": "done"}
        assert {name: line[name] for name in expected} == expected

    async def test_debug_has_the_start_too(self, app: App, logged: Log) -> None:
        """Before the end."""

        @app.function
        def nothing() -> None:
            pass

        logging.getLogger("raincheck.attempt").setLevel(logging.DEBUG)
        async with app, Worker(app):
            await app.wait((await app.submit("n", [nothing.step()])).id)
        assert logged.events() == [("debug", "started"), ("info", "done")]

    async def test_a_failure_is_one_line(self, app: App, logged: Log) -> None:
        """A warning; in JSON, the traceback is a field and not a part of the message."""

        @app.function
        def fail() -> None:
            raise ValueError("too bad")

        async with app, Worker(app) as worker:
            job = await app.submit("f", [fail.step()])
            await app.wait(job.id)
        (line,) = logged.lines("raincheck.attempt")
        assert (line["level"], line["message"]) == (
            "warning",
            f"job {job.id}, fail raised ValueError: too bad",
        )
        expected = {"job": job.id, "function": "fail", "attempt": 1, "worker": worker.id, "event": "failed"}
        assert {name: line[name] for name in expected} == expected
        assert line["error"] == "ValueError"
        assert line["exception"].rstrip().endswith("ValueError: too bad")

    async def test_a_retry_says_when_and_of_how_many(self, app: App, logged: Log) -> None:
        """The last attempt says that it was the last."""

        @app.function(retry=RetryOptions(retry_limit=2, delay=0.01, jitter=0))
        async def fail() -> None:
            raise ValueError("too bad")

        async with app, Worker(app):
            job = await app.submit("f", [fail.step()])
            await app.wait(job.id)
        retrying, failed = logged.lines("raincheck.attempt")
        assert (retrying["event"], retrying["attempt"], retrying["pause"]) == ("retrying", 1, 0.01)
        assert retrying["message"].endswith("too bad (attempt 1 of 2, the next in 0.010 s)")
        assert (failed["event"], failed["attempt"]) == ("failed", 2)
        assert failed["message"].endswith("too bad (attempt 2 of 2, the last one)")

    async def test_a_retry_that_was_asked_for_is_no_warning(self, app: App, logged: Log) -> None:
        """A function that polls asks for it many times."""

        @app.function(retry=RetryOptions(retry_limit=2))
        async def poll(ctx: Context) -> None:
            if ctx.attempt == 1:
                raise RetryLater("not yet", retry_after=0.0)

        async with app, Worker(app):
            await app.wait((await app.submit("p", [poll.step()])).id)
        assert logged.events() == [("info", "retrying"), ("info", "done")]

    async def test_a_result_that_is_too_large_is_a_failure(self, app: App, logged: Log) -> None:
        """Though the function returned it."""

        @app.function
        async def large() -> str:
            return "x" * 100

        small = App(app.url, limits=Limits(result=50))
        small.function(large.function)
        async with small, Worker(small):
            await small.wait((await small.submit("l", [step("large")])).id)
        (line,) = logged.lines("raincheck.attempt")
        assert (line["level"], line["event"], line["error"]) == ("warning", "failed", "result-too-large")
        assert "102 bytes" in line["message"]

    async def test_a_lost_attempt_is_a_line(self, app: App, logged: Log) -> None:
        """It names the worker that died."""

        @app.function
        async def nothing() -> None:
            pass

        async with app:
            job = await app.submit("n", [nothing.step()])
            assert await app.engine.store.claim("dead", ("nothing",), 1, 0.0)
            await Maintenance(app.engine).do_due()
        (line,) = logged.lines("raincheck.attempt")
        expected = {"job": job.id, "function": "nothing", "attempt": 1, "worker": "dead", "event": "lost"}
        assert {name: line[name] for name in expected} == expected

    async def test_a_timeout_is_told_apart(self, app: App, logged: Log) -> None:
        """As an event of its own."""

        @app.function(timeout=0.01)
        async def hang() -> None:
            await asyncio.Event().wait()

        async with app, Worker(app):
            await app.wait((await app.submit("h", [hang.step()])).id)
        assert [event for _, event in logged.events()] == ["timed-out"]

    async def test_a_cancelled_attempt_is_a_line(self, app: App, logged: Log) -> None:
        """No failure."""

        @app.function
        async def hang(ctx: Context) -> None:
            ctx.progress(0)
            await asyncio.Event().wait()

        async with app, Worker(app):
            job = await app.submit("h", [hang.step()])
            await begun(app, job.id)
            await app.cancel(job.id)
            await app.wait(job.id)
        assert logged.events() == [("info", "cancelled")]

    async def test_very_many_successes_are_counted(self, app: App, logged: Log) -> None:
        """At INFO, twenty a second are lines of their own; at the end, every one was logged or counted."""

        @app.function
        async def nothing() -> None:
            pass

        many = 10 * PER_SECOND
        async with app:
            jobs = [await app.submit("n", [nothing.step()]) for _ in range(many)]
            async with Worker(app):
                for job in jobs:
                    await app.wait(job.id)
        lines = logged.lines("raincheck.attempt")
        counted = [line for line in lines if line["event"] == "more-done"]
        assert counted
        assert len(lines) - len(counted) + sum(line["count"] for line in counted) == many
        assert all(line["functions"] == {"nothing": line["count"]} for line in counted)

    async def test_nothing_is_written_if_the_level_is_off(self, app: App, logged: Log) -> None:
        """Not even counted."""

        @app.function
        async def nothing() -> None:
            pass

        logging.getLogger("raincheck.attempt").setLevel(logging.WARNING)
        async with app, Worker(app):
            await app.wait((await app.submit("n", [nothing.step()])).id)
        assert logged.lines("raincheck.attempt") == []


class TestLinesOfFunctions:
    """What functions write to loggers of their own."""

    async def test_a_line_names_its_job(self, app: App, logged: Log) -> None:
        """On the loop, in a task, in a thread: also if functions run at the same time."""
        both = asyncio.Barrier(2)

        async def subtask(word: str) -> None:
            log.info("subtask of %s", word)

        @app.function
        async def on_the_loop(word: str) -> None:
            await both.wait()
            log.info("loop %s", word)
            await asyncio.create_task(subtask(word))

        @app.function
        def in_a_thread(word: str) -> None:
            log.info("thread %s", word)

        async with app, Worker(app) as worker:
            submitted = {}
            for word in ("a", "b"):
                steps = [on_the_loop.step(word), in_a_thread.step(word)]
                submitted[word] = await app.submit(word, steps)
            for job in submitted.values():
                await app.wait(job.id)
        lines = logged.lines("tests.own")
        assert len(lines) == 6
        for line in lines:
            assert (line["job"], line["worker"]) == (submitted[line["message"][-1]].id, worker.id)
            assert line["function"] == ("in_a_thread" if "thread" in line["message"] else "on_the_loop")

    async def test_other_lines_name_no_job(self, app: App, logged: Log) -> None:
        """Nothing of an attempt is left behind, in a runner or in a thread."""
        seen = []

        @app.function
        async def on_the_loop() -> None:
            pass

        @app.function
        def in_a_thread() -> None:
            pass

        async with app, Worker(app):
            await app.wait((await app.submit("n", [on_the_loop.step(), in_a_thread.step()])).id)
            seen.append(current_attempt())
            log.info("outside")
        assert seen == [None]
        assert "job" not in logged.lines("tests.own")[0]

    async def test_the_number_of_the_attempt_counts(self, app: App, logged: Log) -> None:
        """As in the context."""

        @app.function(retry=RetryOptions(retry_limit=2, delay=0.0))
        def twice(ctx: Context) -> None:
            log.info("attempt")
            ctx.log.info("attempt")
            if ctx.attempt == 1:
                raise ValueError

        async with app, Worker(app):
            await app.wait((await app.submit("t", [twice.step()])).id)
        assert [line["attempt"] for line in logged.lines("tests.own")] == [1, 2]
        assert [line["attempt"] for line in logged.lines("raincheck.function")] == [1, 2]
        assert {line["message"] for line in logged.lines("raincheck.function")} == {"attempt"}


class TestChildProcesses:
    """Lines from child processes come to the handlers of the worker, once."""

    async def test_they_are_lines_like_others(self, app: App, logged: Log) -> None:
        """With their fields, their exception and their job, at the level of the parent, in order."""
        talk = app.function(process=True)(functions.talk)
        async with app, Worker(app, process_slots=1) as worker:
            job = await app.submit("t", [talk.step(2)])
            pid = (await app.wait(job.id)).result
        assert pid != os.getpid()
        lines = logged.lines("tests.child")
        assert [line["message"] for line in lines] == ["line 0", "line 1", "caught"]
        assert [line["level"] for line in lines] == ["info", "info", "error"]
        for line in lines:
            named = {"job": job.id, "function": "talk", "attempt": 1, "worker": worker.id}
            assert {name: line[name] for name in named} == named
        assert (lines[1]["number"], lines[1]["odd"]) == (1, [1])
        assert lines[2]["exception"].endswith("ValueError: too bad")

    async def test_levels_are_those_of_the_parent(self, app: App, logged: Log) -> None:
        """Also those of single loggers."""
        talk = app.function(process=True)(functions.talk)
        logging.getLogger("tests.child").setLevel(logging.ERROR)
        try:
            async with app, Worker(app, process_slots=1):
                await app.wait((await app.submit("t", [talk.step(3)])).id)
        finally:
            logging.getLogger("tests.child").setLevel(logging.NOTSET)
        assert [line["message"] for line in logged.lines("tests.child")] == ["caught"]

    async def test_a_module_configures_only_the_parent(self, app: App, logged: Log) -> None:
        """The handlers that it adds get the lines of child processes in the parent, and not twice."""
        count = app.function(process=True)(functions.count_handlers)
        async with app, Worker(app, process_slots=1):
            job = await app.submit("c", [count.step()])
            assert (await app.wait(job.id)).result == 0
        assert functions.count_handlers() == 1

    async def test_ten_thousand_lines_are_all_there(self, app: App, logged: Log) -> None:
        """The child waits for the parent; nothing is dropped."""
        talk = app.function(process=True)(functions.talk)
        async with app, Worker(app, process_slots=1):
            await app.wait((await app.submit("t", [talk.step(10_000)])).id, timeout=60)
        numbers = [line["number"] for line in logged.lines("tests.child") if "number" in line]
        assert numbers == list(range(10_000))

    async def test_the_last_line_before_a_crash_is_there(self, app: App, logged: Log) -> None:
        """It was sent as soon as it was logged."""
        die = app.function(process=True)(functions.log_and_die)
        async with app, Worker(app, process_slots=1):
            assert (await app.wait((await app.submit("d", [die.step()])).id)).state == "failed"
        assert [line["message"] for line in logged.lines("tests.child")] == ["last words"]

    async def test_a_broken_handler_fails_no_attempt(
        self, app: App, logged: Log, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What it raises is printed, as `logging` does."""

        def broken(record: logging.LogRecord) -> bool:
            raise OSError("a broken filter")

        talk = app.function(process=True)(functions.talk)
        logging.getLogger("tests.child").addFilter(broken)
        try:
            async with app, Worker(app, process_slots=1):
                assert (await app.wait((await app.submit("t", [talk.step(1)])).id)).state == "done"
        finally:
            logging.getLogger("tests.child").removeFilter(broken)
        assert "a broken filter" in capsys.readouterr().err

    async def test_a_function_may_have_a_log_of_its_own(self, app: App, logged: Log, tmp_path: Path) -> None:
        """A handler that it adds gets its lines, beside those of the worker."""
        keep = app.function(process=True)(functions.keep_own_log)
        file = tmp_path / "own.log"
        async with app, Worker(app, process_slots=1):
            await app.wait((await app.submit("k", [keep.step(str(file))])).id)
        assert file.read_text("utf-8") == "for both\n"
        assert [line["message"] for line in logged.lines("tests.child")] == ["for both"]
