"""The traceback of a failed attempt, wherever its function runs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from raincheck import App, Context, RetryLater, RetryOptions, Worker, step
from raincheck.core.text import TRACEBACK_LIMIT as LIMIT
from tests.worker import functions

MODES = [
    pytest.param(functions.middle_on_a_loop, False, id="loop"),
    pytest.param(functions.middle, False, id="thread"),
    pytest.param(functions.middle, True, id="process"),
    pytest.param(functions.middle_on_a_loop, True, id="loop in a process"),
]


async def warning(
    app: App, caplog: pytest.LogCaptureFixture, function: Callable[..., Any], *args: Any, **options: Any
) -> str:
    """What a worker logs at WARNING about a job that fails."""
    failing = app.function(**options)(function)
    async with app, Worker(app, process_slots=1):
        job = await app.submit("failing", [failing.step(*args)])
        assert (await app.wait(job.id)).state == "failed"
    (record,) = [
        record
        for record in caplog.records
        if record.levelno == logging.WARNING and record.name == "raincheck.attempt"
    ]
    return record.getMessage()


@pytest.mark.parametrize(("function", "process"), MODES)
async def test_the_log_has_the_frames_of_the_user(
    app: App, caplog: pytest.LogCaptureFixture, function: Callable[..., Any], process: bool
) -> None:
    """A failure is logged with its traceback, whose first frame is the user's function."""
    message = await warning(app, caplog, function, "it", process=process)
    first, *traceback = message.splitlines()
    assert first.endswith(f"{function.__name__} raised LookupError: no such word")
    assert traceback[-1] == "LookupError: no such word"
    frames = [line.split(", in ")[1] for line in traceback if line.startswith("  File ")]
    called = [] if function is functions.middle else ["middle_on_a_loop"]
    assert frames == ["middle", "low", *called, "middle"]
    assert "raincheck/worker" not in message


@pytest.mark.parametrize(("function", "process"), MODES[::2])
async def test_the_log_has_the_cause_and_the_notes(
    app: App, caplog: pytest.LogCaptureFixture, function: Callable[..., Any], process: bool
) -> None:
    """The exception that caused a failure comes with its own traceback and notes."""
    message = await warning(app, caplog, function, "it", process=process)
    assert "ValueError: cannot read it\nwords only\n" in message
    assert "The above exception was the direct cause of the following exception:" in message


@pytest.mark.parametrize("process", [False, True])
async def test_the_log_has_the_exceptions_of_a_group(
    app: App, caplog: pytest.LogCaptureFixture, process: bool
) -> None:
    """Each exception of a group has its traceback."""
    message = await warning(app, caplog, functions.gather_errors, process=process)
    assert message.count("in low") == 2
    assert "ValueError: cannot read one" in message
    assert "ValueError: cannot read two" in message


@pytest.mark.parametrize(
    ("function", "size", "head", "tail", "process"),
    [
        pytest.param(functions.shout, 10_000, "in shout", "last line", False, id="message"),
        pytest.param(functions.dive, 300, "<depth 300>", "ValueError: at the bottom", False, id="frames"),
        pytest.param(functions.shout, 4_000, "first line", "last line", True, id="message in a process"),
    ],
)
async def test_a_long_traceback_keeps_its_head_and_its_tail(
    app: App,
    caplog: pytest.LogCaptureFixture,
    function: Callable[..., Any],
    size: int,
    head: str,
    tail: str,
    process: bool,
) -> None:
    """The middle of a traceback of more than 16 KiB is left out."""
    message = await warning(app, caplog, function, size, process=process)
    _, _, traceback = message.partition("Traceback (most recent call last):")
    assert len(traceback.encode()) <= LIMIT
    assert head in traceback
    assert tail in traceback[-200:]
    assert "bytes left out" in traceback


async def test_a_timeout_shows_where_the_function_was(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """The traceback of an attempt that timed out leads to what it waited for."""

    async def wait_for_nothing() -> None:
        await asyncio.Event().wait()

    message = await warning(app, caplog, wait_for_nothing, timeout=0.05)
    assert "took longer than its timeout of 0.05 s" in message
    assert "await asyncio.Event().wait()" in message


async def test_a_timeout_shows_where_a_thread_was(app: App) -> None:
    """A thread cannot be stopped, but its stack can be read; also if it returns soon after."""
    begun, never = threading.Event(), threading.Event()

    @app.function(timeout=0.05, retry=RetryOptions(retry_limit=1000, delay=0.0))
    def wait_until_cancelled(ctx: Context) -> None:
        if begun.is_set():  # else the attempt may have timed out before its thread began
            return
        begun.set()
        while not ctx.cancelled:
            never.wait(0.01)

    async with app, Worker(app):
        job = await app.submit("slow", [wait_until_cancelled.step()])
        assert (await app.wait(job.id)).state == "done"
        stacks = [each.traceback for each in await app.attempts(job.id) if each.traceback is not None]
    (stack,) = stacks
    head, first, *_ = stack.splitlines()
    assert head == "Stack (most recent call last):"
    assert first.endswith(", in wait_until_cancelled")
    assert "raincheck/worker" not in stack


async def test_arguments_that_do_not_fit_have_no_traceback(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of raincheck's own checks says all itself."""

    def take(number: int) -> None:
        raise AssertionError(number)

    app.function(take)
    async with App(app.url) as elsewhere:
        job = await elsewhere.submit("misfit", [step("take", "x")])
    async with app, Worker(app):
        assert (await app.wait(job.id)).state == "failed"
    (line,) = [r.getMessage() for r in caplog.records if "InvalidArguments" in r.getMessage()]
    assert "\n" not in line


async def test_a_retry_that_was_asked_for_has_no_traceback(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """`RetryLater` is logged on one line: a function that polls raises it many times."""

    unfinished = RetryLater("not there yet", retry_after=0.0)

    async def poll() -> None:
        raise unfinished

    message = await warning(app, caplog, poll, retry=RetryOptions(retry_limit=1))
    assert "poll raised RetryLater: not there yet" in message
    assert "\n" not in message


@pytest.mark.parametrize(("function", "process"), MODES[1:3])
async def test_every_attempt_is_kept_with_its_job(
    app: App, function: Callable[..., Any], process: bool
) -> None:
    """With its error and its traceback, wherever the function ran."""
    failing = app.function(process=process, retry=RetryOptions(retry_limit=3, delay=0.0))(function)
    async with app, Worker(app, process_slots=1) as worker:
        job = await app.submit("failing", [failing.step("it")])
        assert (await app.wait(job.id)).state == "failed"
        attempts = await app.attempts(job.id)
    assert [(each.number, each.outcome) for each in attempts] == [
        (1, "retried"),
        (2, "retried"),
        (3, "failed"),
    ]
    for each in attempts:
        assert (each.function, each.worker) == (function.__name__, worker.id)
        assert each.error is not None
        assert (each.error.exception, each.error.attempt) == ("LookupError", each.number)
        assert each.traceback is not None
        assert each.traceback.startswith("Traceback (most recent call last):")
        assert "in low" in each.traceback
        assert each.traceback.endswith("LookupError: no such word")


async def test_a_timeout_is_an_outcome_of_its_own(app: App) -> None:
    """Its error says whether the function was retried."""

    @app.function(timeout=0.05, retry=RetryOptions(retry_limit=2, delay=0.0))
    async def wait_for_nothing() -> None:
        await asyncio.Event().wait()

    async with app, Worker(app):
        job = await app.submit("late", [wait_for_nothing.step()])
        assert (await app.wait(job.id)).state == "failed"
        attempts = await app.attempts(job.id)
    assert [(each.outcome, each.error and each.error.retryable) for each in attempts] == [
        ("timed-out", True),
        ("timed-out", False),
    ]


def test_attempts_are_read_without_a_loop(app: App) -> None:
    """By code that is not async."""

    @app.function
    def fine() -> None:
        return None

    job = app.blocking.submit("waits", [fine.step()])
    assert app.blocking.attempts(job.id) == []
    app.blocking.close()
