"""Middleware: what runs around every attempt."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from raincheck import App, Context, JobFailed, Step, Worker, injected
from raincheck.core.errors import RegistrationError
from raincheck.functions.registry import Middleware
from raincheck.worker.attempt import InFlight
from tests.worker import functions, own_types
from tests.worker.pools import Pool

CallNext = Callable[[], Awaitable[Any]]

user: ContextVar[str] = ContextVar("user")


def app_with(folder: Path, *middleware: Middleware) -> App:
    return App(f"sqlite:///{folder / 'jobs.db'}", middleware=middleware)


def three_ways(app: App, function: Callable[[int], int]) -> list[Step]:
    """A step of each kind of function; their results are the same."""

    async def on_loop(number: int) -> int:
        return function(number)

    return [
        app.function("loop")(on_loop).step(3),
        app.function("thread")(function).step(3),
        app.function("process", process=True)(function).step(3),
    ]


async def test_it_runs_around_each_attempt(tmp_path: Path) -> None:
    """The first of the list is the outermost, for functions of each kind; it may replace the result."""
    diary: list[str] = []

    async def outer(ctx: Context, call_next: CallNext) -> Any:
        diary.append(f"outer {ctx.step.function} {ctx.attempt}")
        result = await call_next()
        diary.append(f"outer got {result}")
        return result

    async def inner(ctx: Context, call_next: CallNext) -> Any:
        diary.append("inner")
        return await call_next() + 1

    app = app_with(tmp_path, outer, inner)
    steps = three_ways(app, functions.square)
    async with app, Worker(app, process_slots=1):
        for step in steps:
            diary.clear()
            assert await app.call(step) == 10
            assert diary == [f"outer {step.function} 1", "inner", "outer got 10"]


async def test_what_it_raises_is_the_failure_of_the_attempt(tmp_path: Path) -> None:
    """It sees what functions raise, and may raise something else."""

    async def translate(ctx: Context, call_next: CallNext) -> Any:
        try:
            return await call_next()
        except Exception as error:
            raise LookupError(f"{ctx.step.function}: {error}") from error

    app = app_with(tmp_path, translate)

    @app.function(retry=2)
    async def fail() -> None:
        raise ValueError("no")

    @app.function(retry=2)
    def fail_in_thread() -> None:
        raise ValueError("no")

    process = app.function(process=True)(functions.leave)
    async with app, Worker(app, process_slots=1):
        for step in (fail.step(), fail_in_thread.step(), process.step()):
            with pytest.raises(JobFailed, match=rf"raised LookupError: {step.function}: "):
                await app.call(step.options(retry=1))


async def test_it_knows_what_a_child_process_raised(tmp_path: Path) -> None:
    """By the names of the class and its bases. Raised again, it is the failure that it was."""
    seen: list[Any] = []

    async def look(ctx: Context, call_next: CallNext) -> Any:
        try:
            return await call_next()
        except Exception as error:
            seen.append((str(error), getattr(error, "names", None)))
            raise

    app = app_with(tmp_path, look)
    fail = app.function(process=True)(functions.refuse)
    async with app, Worker(app, process_slots=1):
        with pytest.raises(JobFailed, match="raised DoNotRetry"):
            await fail.call()
    ((message, names),) = seen
    assert "DoNotRetry" in names[0]
    assert message


async def test_it_may_not_call(tmp_path: Path) -> None:
    """Then what it returns is the result, and the function does not run."""

    async def answer(ctx: Context, call_next: CallNext) -> Any:
        return 7

    app = app_with(tmp_path, answer)
    steps = three_ways(app, functions.square)
    async with app, Worker(app, process_slots=1):
        for step in [*steps, *steps]:
            assert await app.call(step) == 7


async def test_it_may_call_again(tmp_path: Path) -> None:
    """For example after an exception."""

    async def again(ctx: Context, call_next: CallNext) -> Any:
        return [await call_next(), await call_next()]

    app = app_with(tmp_path, again)

    @app.function
    async def on_loop() -> Any:
        return 1

    @app.function
    def in_thread() -> Any:
        return 1

    in_process = app.function(process=True)(functions.pid)
    async with app, Worker(app, process_slots=1):
        assert await on_loop.call() == [1, 1]
        assert await in_thread.call() == [1, 1]
        with pytest.raises(JobFailed, match=r"UnexpectedResult.*pid promises int, and returned list"):
            await in_process.call()


async def test_context_variables_reach_the_function(tmp_path: Path) -> None:
    """On the loop and in a thread; the next attempt does not see them."""
    seen: list[str] = []

    async def sign_in(ctx: Context, call_next: CallNext) -> Any:
        seen.append(user.get("nobody"))
        user.set(ctx.job.name)
        return await call_next()

    app = app_with(tmp_path, sign_in)

    @app.function
    async def on_loop() -> str:
        return user.get()

    @app.function
    def in_thread() -> str:
        return user.get()

    async with app, Worker(app):
        for _ in range(2):
            assert await on_loop.call() == "on_loop"
            assert await in_thread.call() == "in_thread"
    assert set(seen) == {"nobody"}


async def test_it_has_the_context_of_the_attempt(tmp_path: Path) -> None:
    """The data that it changes are stored, and it knows the previous result, whatever the function takes."""

    async def note(ctx: Context, call_next: CallNext) -> Any:
        result = await call_next()
        ctx.data[ctx.step.function] = [ctx.previous, ctx.data.get("square")]
        return result

    app = app_with(tmp_path, note)

    @app.function
    async def on_loop() -> int:
        return 1

    @app.function
    def in_thread(ctx: Context) -> int:
        ctx.data["square"] = 4
        return int(ctx.previous) + 1

    in_process = app.function(process=True)(functions.square)
    async with app, Worker(app, process_slots=1):
        job = await app.submit("data", [on_loop.step(), in_thread.step(), in_process.step(3)])
        ended = await app.wait(job.id)
    assert ended.data == {"on_loop": [None, None], "in_thread": [1, 4], "square": [2, 4]}


async def test_it_sees_what_a_child_process_returned(tmp_path: Path) -> None:
    """The result has the annotated type, or is plain data if the app can only write it."""
    seen: list[Any] = []

    async def look(ctx: Context, call_next: CallNext) -> Any:
        result = await call_next()
        seen.append((type(result).__name__, ctx.data))
        return result

    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    for decode in (own_types.decode, None):
        app = App(url, middleware=[look], encode=own_types.encode, decode=decode)
        price = app.function(process=True)(own_types.price)
        note = app.function("note", process=True)(functions.note)
        async with app, Worker(app, process_slots=1):
            job = await app.submit("look", [price.step(), note.step(3)])
            ended = await app.wait(job.id)
            assert (ended.state, ended.data) == ("done", {"value": 3})
            assert ended.functions[0].result == {"cents": 250}  # type: ignore[union-attr]
    assert [name for name, _ in seen] == ["Money", "list", "dict", "list"]
    assert [data for _, data in seen] == [{}, {"value": 3}] * 2


@pytest.mark.parametrize("kind", ["loop", "thread", "process"])
async def test_a_cancel_passes_through(tmp_path: Path, kind: str) -> None:
    """It is raised where the middleware waits; a thread is waited for first."""
    began, diary, loop = asyncio.Event(), list[str](), asyncio.get_running_loop()

    async def watch(ctx: Context, call_next: CallNext) -> Any:
        try:
            return await call_next()
        except BaseException as error:
            diary.append(type(error).__name__)
            raise

    app = app_with(tmp_path, watch)

    async def on_loop() -> None:
        began.set()
        await asyncio.Event().wait()

    def in_thread(ctx: Context) -> None:
        loop.call_soon_threadsafe(began.set)
        while not ctx.cancelled:
            pass
        diary.append("returned")

    made: dict[str, Callable[..., Any]] = {"loop": on_loop, "thread": in_thread, "process": functions.hang}
    function = app.function(process=kind == "process")(made[kind])
    async with app, Worker(app, process_slots=1):
        job = await app.submit("hang", [function.step()])
        if kind == "process":
            async for document in app.watch(job.id):
                if document.functions[0].progress is not None:  # type: ignore[union-attr]
                    break
        else:
            await began.wait()
        await app.cancel(job.id)
        assert (await app.wait(job.id)).state == "cancelled"
    assert diary == (["returned"] if kind == "thread" else []) + ["CancelledError"]


@pytest.mark.parametrize("by_task", [False, True])
async def test_a_timeout_of_its_own_waits_for_a_thread(tmp_path: Path, by_task: bool) -> None:
    """What is around a thread is not left while the thread runs, and the next attempt gets a thread."""
    timed_out, diary = threading.Event(), list[str]()

    async def limit(ctx: Context, call_next: CallNext) -> Any:
        asyncio.get_running_loop().call_later(0.1, timed_out.set)
        try:
            if by_task:
                return await asyncio.wait_for(call_next(), 0.02)
            async with asyncio.timeout(0.02):
                return await call_next()
        finally:
            diary.append("left")

    app = app_with(tmp_path, limit)

    @app.function
    def slow() -> None:
        timed_out.wait()
        diary.append("returned")

    @app.function
    def quick() -> int:
        return 1

    async with app, Worker(app, concurrency=1):
        with pytest.raises(JobFailed, match="slow raised TimeoutError"):
            await slow.call()
        assert diary == ["returned", "left"]
        assert await quick.call() == 1


async def test_a_cancel_reaches_it_after_its_thread(tmp_path: Path) -> None:
    """Also if it called the function in a task of its own."""
    returned, diary = asyncio.Event(), list[str]()

    async def wait(ctx: Context, call_next: CallNext) -> Any:
        await asyncio.wait_for(call_next(), 60)
        returned.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            diary.append("cancelled")
            raise

    app = app_with(tmp_path, wait)

    @app.function
    def quick() -> int:
        return 1

    async with app, Worker(app):
        job = await app.submit("quick", [quick.step()])
        await returned.wait()
        await app.cancel(job.id)
        assert (await app.wait(job.id)).state == "cancelled"
        assert diary == ["cancelled"]


@pytest.mark.parametrize("kind", ["loop", "thread", "process"])
async def test_its_time_counts(tmp_path: Path, kind: str) -> None:
    """An attempt whose middleware takes too long has timed out."""

    async def slow(ctx: Context, call_next: CallNext) -> Any:
        await call_next()
        await asyncio.Event().wait()

    app = app_with(tmp_path, slow)

    async def on_loop() -> int:
        return 1

    def in_thread() -> int:
        return 1

    made = {"loop": on_loop, "thread": in_thread, "process": functions.pid}
    function = app.function(timeout=0.05, process=kind == "process")(made[kind])
    async with app, Worker(app, process_slots=1):
        job = await app.submit("slow", [function.step()])
        ended = await app.wait(job.id)
    assert ended.error is not None
    assert ended.error.type.endswith("timeout")


async def test_what_does_not_stop_is_abandoned(tmp_path: Path) -> None:
    """The slot is free for the next attempt; only a thread that goes on counts as abandoned."""
    release = threading.Event()

    async def stubborn(ctx: Context, call_next: CallNext) -> Any:
        result = await call_next()
        while ctx.job.name == "stuck in middleware" and not release.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return result

    app = app_with(tmp_path, stubborn)

    @app.function
    def in_thread(ctx: Context) -> int:
        if ctx.job.name == "stuck in thread":
            release.wait()
        return 1

    async with app, Worker(app, concurrency=2):
        try:
            step = in_thread.step().options(timeout=0.05)
            names = ("stuck in middleware", "stuck in thread")
            for job in [await app.submit(name, [step]) for name in names]:
                assert (await app.wait(job.id)).state == "failed"
            assert [await in_thread.call() for _ in range(3)] == [1, 1, 1]
            (held,) = app.engine.held
            assert isinstance(held, InFlight)
            assert held.abandoned == 1
        finally:
            release.set()
        while held.abandoned:
            assert await in_thread.call() == 1


async def test_it_is_around_the_dependencies_of_the_attempt(tmp_path: Path) -> None:
    """So it sees what they raise."""
    diary: list[str] = []

    async def watch(ctx: Context, call_next: CallNext) -> Any:
        diary.append("before")
        result = await call_next()
        diary.append("after")
        return result

    app = app_with(tmp_path, watch)

    @app.dependency(scope="attempt")
    async def open_pool(ctx: Context) -> Pool:
        diary.append(f"open for {ctx.job.name}")
        return Pool()

    @app.function
    async def use(pool: Pool = injected) -> int:
        return pool.use()[1]

    async with app, Worker(app):
        assert await use.call() == 1
    assert diary == ["before", "open for use", "after"]


async def test_a_drain_waits_for_it(tmp_path: Path) -> None:
    """A worker that stops lets attempts in threads end with what is around them."""
    began, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def double(ctx: Context, call_next: CallNext) -> Any:
        return 2 * await call_next()

    app = app_with(tmp_path, double)

    @app.function
    def in_thread() -> int:
        loop.call_soon_threadsafe(began.set)
        go_on.wait()
        return 4

    async with app:
        async with Worker(app):
            job = await app.submit("last", [in_thread.step()])
            await began.wait()
            loop.call_later(0.05, go_on.set)
        assert (await app.status(job.id)).result == 8


class Passing:
    async def __call__(self, ctx: Context, call_next: CallNext) -> Any:
        return await call_next()


@pytest.mark.parametrize(
    ("middleware", "message"),
    [
        (lambda ctx, call_next: call_next(), "is no async function"),
        (functions.double, r"double cannot be called with two arguments \(too many positional arguments\)"),
        (3, "is no async function"),
    ],
)
def test_what_cannot_be_middleware(middleware: Any, message: str) -> None:
    """It is refused where the app is made."""
    with pytest.raises(
        RegistrationError, match=rf"{message}.*: middleware is async def NAME\(ctx, call_next\)"
    ):
        App("sqlite://", middleware=[middleware])


async def test_an_object_can_be_middleware(tmp_path: Path) -> None:
    """One whose call is a coroutine."""
    app = app_with(tmp_path, Passing())

    @app.function
    async def one() -> int:
        return 1

    async with app, Worker(app):
        assert await one.call() == 1
