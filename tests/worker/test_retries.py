"""What is tried again, and when."""

import pytest
from msgspec.structs import replace

from raincheck import App, Context, DoNotRetry, JobFailed, RetryLater, RetryOptions, Worker, step
from raincheck.testing import running
from tests.worker import functions
from tests.worker.helpers import entry, seen

QUICK = RetryOptions(retry_limit=3, delay=0.01)


async def test_a_failed_attempt_is_tried_again(app: App) -> None:
    """A function with attempts left runs again until it succeeds; each attempt knows its number."""

    @app.function(retry=QUICK)
    async def third_time(ctx: Context) -> int:
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.attempt

    async with app, Worker(app):
        job = await app.submit("lucky", [third_time.step()])
        ended = await app.wait(job.id)
    assert (ended.state, ended.result, entry(ended).retry_count) == ("done", 3, 3)
    assert entry(ended).error is None


async def test_the_last_failure_is_the_error_of_the_job(app: App) -> None:
    """With no attempts left a job fails, saying what was raised and how often it was tried."""

    @app.function(retry=QUICK)
    def never(ctx: Context) -> None:
        raise ValueError(f"attempt {ctx.attempt}")

    async with app, Worker(app):
        job = await app.submit("never", [never.step(), never.step()])
        ended = await app.wait(job.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error.name, ended.error.exception, ended.error.detail) == (
        "function-failed",
        "ValueError",
        "attempt 3",
    )
    assert (ended.error.function, ended.error.attempt, ended.error.retryable) == ("never", 3, False)
    assert entry(ended, 1).retry_count == 0


async def test_one_attempt_is_all_without_options(app: App) -> None:
    """A function without retry options is tried once, even if it asks for more."""
    attempts: list[int] = []

    async def later(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise RetryLater("soon", retry_after=0.0)

    with pytest.warns(UserWarning, match="later uses RetryLater, but has one attempt"):
        function = app.function(later)
    async with app, Worker(app):
        with pytest.raises(JobFailed, match=r"soon\. It is not retried.* write @app.function\(retry=5\)"):
            await function.call()
    assert attempts == [1]


async def test_retry_later_needs_no_entry_in_retry_on(app: App) -> None:
    """The function asks for the retry; ``fail_on`` still prevents it."""
    attempts: list[tuple[str, int]] = []

    async def later(ctx: Context) -> None:
        attempts.append((ctx.step.function, ctx.attempt))
        raise RetryLater("soon", retry_after=0.0)

    retry = RetryOptions(retry_limit=3, retry_on=(OSError,))
    app.function("asks", retry=retry)(later)
    app.function("never", retry=replace(retry, fail_on=(RetryLater,)))(later)
    async with app, Worker(app):
        for name in ("asks", "never"):
            with pytest.raises(JobFailed):
                await app.call(step(name))
    assert attempts == [("asks", 1), ("asks", 2), ("asks", 3), ("never", 1)]


async def test_exceptions_can_be_classes(app: App) -> None:
    """Also those defined in the program; subclasses match."""

    class Busy(Exception):
        """The other side asks for patience."""

    class VeryBusy(Busy):
        """More patience."""

    @app.function(retry=RetryOptions(retry_limit=3, delay=0.0, retry_on=(Busy,)))
    async def work(ctx: Context) -> int:
        if ctx.attempt < 3:
            raise VeryBusy
        return ctx.attempt

    @app.function(retry=3)
    async def always() -> None:
        raise ValueError("no")

    async with app, Worker(app):
        assert await work.call() == 3
        step_with = always.step().options(retry=RetryOptions(retry_limit=9, fail_on=(ValueError,)))
        job = await app.submit("always", [step_with])
        assert entry(await app.wait(job.id)).retry_count == 1


async def test_retry_later_says_when(app: App) -> None:
    """``RetryLater`` sets the pause before the next attempt, and it is kept."""

    @app.function(retry=RetryOptions(retry_limit=2, delay=3600.0))
    async def later(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise RetryLater("soon", retry_after=20.0)

    async with running(app) as worker:
        job = await app.submit("later", [later.step()])
        assert await worker.run_for(19.9) == 1
        waiting = await app.status(job.id)
        error = entry(waiting).error
        assert error is not None
        assert (waiting.state, error.detail, error.retryable) == ("retrying", "soon", True)
        assert await worker.run_for(0.1) == 1
        assert (await app.status(job.id)).state == "done"


@pytest.mark.parametrize("wait", [float("inf"), float("nan"), -1.0, 1e300, "soon", True])
async def test_an_absurd_pause_harms_nothing(app: App, wait: object) -> None:
    """A ``retry_after`` that is not a time is ignored or limited, on any exception."""

    class Odd(Exception):
        retry_after = wait

    @app.function(retry=RetryOptions(retry_limit=2, delay=0.0))
    async def odd(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise Odd

    async with app, Worker(app):
        job = await app.submit("odd", [odd.step()])
        tried = await seen(app, job.id, lambda job: entry(job).retry_count > 0)
        assert tried.state != "failed"


async def test_do_not_retry_ends_it(app: App) -> None:
    """``DoNotRetry`` fails a job that has attempts left."""
    attempts: list[int] = []

    @app.function(retry=QUICK)
    async def stop(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise DoNotRetry("it is hopeless")

    async with app, Worker(app):
        job = await app.submit("stop", [stop.step()])
        ended = await app.wait(job.id)
    assert attempts == [1]
    assert ended.error is not None
    assert (ended.error.detail, ended.error.retryable) == ("it is hopeless", False)


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        (RetryOptions(retry_limit=2, delay=0.0, retry_on=("LookupError",)), 2),
        (RetryOptions(retry_limit=2, delay=0.0, retry_on=("OSError",)), 1),
        (RetryOptions(retry_limit=2, delay=0.0, fail_on=("KeyError",)), 1),
        (RetryOptions(retry_limit=2, delay=0.0, fail_on=("OSError",)), 2),
        (RetryOptions(retry_limit=2, delay=0.0, retry_on=("LookupError",), fail_on=("KeyError",)), 1),
    ],
)
async def test_options_choose_by_exception(app: App, options: RetryOptions, attempts: int) -> None:
    """``retry_on`` and ``fail_on`` choose by the class of the exception or a base of it."""

    @app.function(retry=options)
    def look() -> None:
        raise KeyError("key")

    async with app, Worker(app):
        job = await app.submit("look", [look.step()])
        assert entry(await app.wait(job.id)).retry_count == attempts


async def test_the_options_of_a_step_go_first(app: App) -> None:
    """A step's own options hold instead of its function's."""

    @app.function(retry=QUICK)
    async def fail() -> None:
        raise ValueError

    async with app, Worker(app):
        job = await app.submit("fail", [fail.step().options(retry=RetryOptions(retry_limit=1))])
        assert entry(await app.wait(job.id)).retry_count == 1


async def test_a_child_can_ask_for_a_retry(app: App) -> None:
    """``RetryLater`` and ``DoNotRetry`` mean the same in a child process."""
    once_more = app.function(process=True, retry=QUICK)(functions.once_more)
    refuse = app.function(process=True, retry=QUICK)(functions.refuse)

    async with app, Worker(app):
        assert await once_more.call() == 2
        job = await app.submit("refuse", [refuse.step()])
        assert entry(await app.wait(job.id)).retry_count == 1


async def test_a_retried_job_goes_on_where_it_ended(app: App) -> None:
    """``app.retry`` runs the failed step again, with a fresh count, and not those that were done."""
    runs: list[str] = []
    broken = True

    @app.function
    async def work(name: str) -> str:
        runs.append(name)
        if name == "b" and broken:
            raise ValueError("broken")
        return name

    async with app, Worker(app):
        job = await app.submit("chain", [work.step("a"), work.step("b"), work.step("c")])
        assert (await app.wait(job.id)).state == "failed"
        broken = False
        assert (await app.retry(job.id)).state in ("pending", "doing")
        ended = await app.wait(job.id)
    assert (ended.state, ended.result, ended.run, ended.error) == ("done", "c", 2, None)
    assert runs == ["a", "b", "b", "c"]
    assert entry(ended, 1).retry_count == 1
