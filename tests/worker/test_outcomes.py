"""Functions that end in odd ways: each is that function's failure, and the worker goes on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from raincheck import App, Context, JobDocument, Limits, RetryOptions, Worker, step
from raincheck.functions.registry import Function
from tests.worker import functions
from tests.worker.functions import Unspeakable
from tests.worker.helpers import entry, logged

THREE = RetryOptions(retry_limit=3, delay=0.0)


async def outcome(app: App, function: Function, *args: Any) -> JobDocument:
    """How a job of one function ends; afterwards the only slot of the worker is free."""
    async with app, Worker(app, concurrency=1, lease=1.0):
        job = await app.submit("odd", [function.step(*args)])
        ended = await app.wait(job.id)
        again = await app.submit("again", [function.step(*args)])
        assert (await app.wait(again.id)).state == ended.state
        assert (await app.engine.store.counts()).leased == 0
    return ended


def raiser(error: BaseException) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Two functions that raise it: one for the loop, one for a thread."""

    async def on_the_loop() -> None:
        raise error

    def in_a_thread() -> None:
        raise error

    return on_the_loop, in_a_thread


ODD = [
    (asyncio.CancelledError(), "CancelledError"),
    (SystemExit("enough"), "SystemExit"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (GeneratorExit(), "GeneratorExit"),
    (BaseException("base"), "BaseException"),
    (StopIteration(1), ("RuntimeError", "StopIteration")),
    (StopAsyncIteration(1), ("RuntimeError", "StopAsyncIteration")),
    (ExceptionGroup("many", [ValueError("one")]), "ExceptionGroup"),
    (Unspeakable(), "Unspeakable"),
    (TimeoutError("own"), "TimeoutError"),
    (LookupError("\ud800"), "LookupError"),
    (ValueError("x" * 100_000), "ValueError"),
]


@pytest.mark.parametrize("where", [0, 1], ids=["loop", "thread"])
@pytest.mark.parametrize(("error", "names"), ODD, ids=lambda value: type(value).__name__)
async def test_whatever_is_raised_is_a_failure(
    app: App, error: BaseException, names: str | tuple[str, ...], where: int
) -> None:
    """Whatever a function raises ends its job as failed, naming the exception."""
    ended = await outcome(app, app.function(raiser(error)[where]))
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error.name == "function-failed"
    assert ended.error.exception in (names if isinstance(names, tuple) else (names,))
    assert len(ended.error.detail) <= 2000


@pytest.mark.parametrize(
    ("function", "name", "detail"),
    [
        (functions.leave, "SystemExit", "enough"),
        (functions.interrupt, "KeyboardInterrupt", ""),
        (functions.cancel, "CancelledError", ""),
        (functions.mumble, "Unspeakable", "its message cannot be read: RuntimeError"),
    ],
)
async def test_whatever_a_child_raises_is_a_failure(
    app: App, function: Callable[..., Any], name: str, detail: str
) -> None:
    """What is raised in a child process ends the job just so."""
    ended = await outcome(app, app.function(process=True)(function))
    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error.exception, ended.error.detail) == (name, detail)


async def test_an_exception_that_cannot_be_told_is_told_of(app: App) -> None:
    """Where an exception has no words of its own, its class is named."""
    ended = await outcome(app, app.function(raiser(Unspeakable())[0]))
    assert ended.error is not None
    assert (ended.error.exception, ended.error.detail) == (
        "Unspeakable",
        "its message cannot be read: RuntimeError",
    )


@pytest.mark.parametrize("process", [False, True])
async def test_a_result_that_is_no_json_says_where(app: App, process: bool) -> None:
    """A result that JSON cannot carry fails at once, with the path to what is wrong."""
    ended = await outcome(app, app.function(process=process, retry=THREE)(functions.thing))
    assert ended.state == "failed"
    assert ended.error is not None
    assert "thing returned" in ended.error.detail
    assert "$.thing" in ended.error.detail
    assert entry(ended).retry_count == 1


async def test_data_that_is_no_json_says_where(app: App) -> None:
    """A value in ``ctx.data`` that JSON cannot carry fails the attempt that put it there."""

    @app.function
    def spoil(ctx: Context) -> None:
        ctx.data["bad"] = [1, {2, 3}, float("nan")]

    ended = await outcome(app, spoil)
    assert ended.state == "failed"
    assert ended.error is not None
    assert "not JSON" in ended.error.detail
    assert ended.data == {}


async def test_a_result_that_fails_to_encode_is_a_failure(app: App) -> None:
    """A result whose attributes raise while it is encoded is a failure like any other."""

    @dataclass(slots=True)
    class Half:
        there: int
        missing: int

    @app.function
    async def half() -> object:
        made = object.__new__(Half)
        made.there = 1
        return made

    assert (await outcome(app, half)).state in ("failed", "done")


async def test_a_result_may_be_too_large(app: App) -> None:
    """A result over the limit fails the job, saying how large it was."""
    app = App(app.url, limits=Limits(result=100))

    @app.function(retry=THREE)
    async def shout() -> str:
        return "a" * 101

    ended = await outcome(app, shout)
    assert ended.error is not None
    assert (ended.error.name, entry(ended).retry_count) == ("result-too-large", 1)
    assert "103 bytes, at most 100" in ended.error.detail


async def test_data_may_be_too_large(app: App) -> None:
    """What an attempt puts into ``ctx.data`` is limited like a result."""
    app = App(app.url, limits=Limits(result=100))

    @app.function(retry=THREE)
    async def hoard(ctx: Context) -> None:
        ctx.data["heap"] = "a" * 101

    ended = await outcome(app, hoard)
    assert ended.error is not None
    assert ended.error.name == "result-too-large"
    assert "data" in ended.error.title


async def test_arguments_may_have_stopped_to_fit(app: App) -> None:
    """Arguments accepted where the function was not known fail the job, once."""

    @app.function(retry=THREE)
    async def double(number: int) -> int:
        return 2 * number

    async with App(app.url) as elsewhere:
        job = await elsewhere.submit("old", [step("double", "two")])
    async with app, Worker(app):
        ended = await app.wait(job.id)
        assert await double.call(2) == 4
    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error.exception, entry(ended).retry_count) == ("InvalidArguments", 1)
    assert "argument 'number'" in ended.error.detail


@dataclass
class Picky:
    """An argument type whose making fails in its own way."""

    word: str

    def __post_init__(self) -> None:
        raise KeyError(self.word)


async def test_an_argument_type_may_fail_in_its_own_way(app: App) -> None:
    """An exception out of an argument's own class is the function's failure, not the worker's end."""

    @app.function
    async def take(picky: Picky) -> None:
        raise AssertionError(picky)

    async with App(app.url) as elsewhere:
        job = await elsewhere.submit("picky", [step("take", {"word": "no"})])
    async with app, Worker(app):
        ended = await app.wait(job.id)
        (attempt,) = await app.attempts(job.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert "raise KeyError(self.word)" in (attempt.traceback or "")
    assert ended.error.exception == "InvalidArguments"
    assert ended.error.detail == "/args/0: argument 'picky': not a valid Picky: KeyError('no')"


async def test_what_is_raised_is_logged(app: App) -> None:
    """A failure is in the worker's log, with the job and the exception."""

    @app.function
    async def fail() -> None:
        raise ValueError("for the log")

    with logged("raised ValueError: for the log", "raincheck.attempt") as line:
        await outcome(app, fail)
    assert line.is_set()


async def test_awaiting_what_was_cancelled_is_a_failure(app: App) -> None:
    """A function that awaits a cancelled task has failed; its worker was not told to stop."""

    @app.function
    async def wait() -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task

    ended = await outcome(app, wait)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error.exception == "CancelledError"


async def test_a_function_may_cancel_its_own_task(app: App) -> None:
    """A function that cancels the task it runs in has failed, and leaves its slot in order."""

    @app.function
    async def leave() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    ended = await outcome(app, leave)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error.exception == "CancelledError"
