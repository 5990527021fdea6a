"""A tour of raincheck: one idea a test, to be read from top to bottom.

You turn a function into one that is run by a worker, durably: what was submitted is not lost, whatever
dies. Here the worker runs beside the caller; most often it is a process of its own (`raincheck worker`),
and callers use HTTP (`raincheck server`). The functions are the same.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from raincheck import (
    App,
    Context,
    DoNotRetry,
    InvalidInput,
    JobFailed,
    RetryLater,
    RetryOptions,
    State,
    Worker,
    WrongState,
    injected,
    step,
)


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An app is functions and a store: here, a SQLite database of its own for each test."""
    return App(f"sqlite:///{tmp_path / 'tour.db'}")


async def test_01_a_function(app: App) -> None:
    """Decorate a function; call it; a worker runs it and you get what it returns."""

    @app.function
    async def add(a: int, b: int) -> int:
        return a + b

    async with app, Worker(app):
        assert await add.call(1, 2) == 3

    assert await add(1, 2) == 3  # without a worker it is still the function that it was


async def test_02_a_job(app: App) -> None:
    """A job is a name and the functions to run. Submit it now, redeem its result later."""

    @app.function
    async def add(a: int, b: int) -> int:
        return a + b

    async with app:
        job = await app.submit("a sum", [add.step(1, 2)])
        assert (job.state, job.result) == (State.PENDING, None)  # stored; no worker has come yet

        async with Worker(app):
            job = await app.wait(job.id)
        assert (job.state, job.result) == (State.DONE, 3)
        assert await app.status(job.id) == job


async def test_03_wrong_arguments(app: App) -> None:
    """Signatures are the contract: what does not fit is refused at once, and nothing is stored."""

    @app.function
    async def greet(name: str, times: int = 1) -> str:
        return " ".join([f"hello {name}"] * times)

    with pytest.raises(InvalidInput, match="argument 'times': expected `int`, got `str`"):
        greet.step("you", times="twice")  # type: ignore[arg-type] # a type checker sees it, too


async def test_04_where_functions_run(app: App) -> None:
    """``async def`` runs on the worker's loop, ``def`` in a thread: block there as you like.

    With ``@app.function(process=True)`` a function runs in a process of its own, for heavy computing.
    """

    @app.function
    async def on_the_loop() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    @app.function
    def in_a_thread() -> str:
        return threading.current_thread().name

    async with app, Worker(app):
        here = threading.current_thread().name
        assert await on_the_loop.call() == here
        assert await in_a_thread.call() != here


async def test_05_a_chain(app: App) -> None:
    """Functions of a job run one after the other; ``ctx.previous`` is the result of the one before."""

    @app.function
    async def fetch(city: str) -> float:
        return {"Oslo": -3.5, "Rome": 18.0}[city]

    @app.function
    async def describe(ctx: Context) -> str:
        return "warm" if ctx.previous > 10 else "cold"

    async with app, Worker(app):
        job = await app.submit("weather", [fetch.step("Rome"), describe.step()])
        assert (await app.wait(job.id)).result == "warm"


async def test_06_in_parallel(app: App) -> None:
    """A list among the functions runs at the same time; the next one gets all the results."""

    @app.function
    async def square(number: int) -> int:
        return number * number

    @app.function
    async def total(ctx: Context) -> int:
        return sum(ctx.previous)

    async with app, Worker(app):
        job = await app.submit("squares", [[square.step(n) for n in (1, 2, 3)], total.step()])
        assert (await app.wait(job.id)).result == 14


async def test_07_data(app: App) -> None:
    """``ctx.data`` is shared by all functions of a job. Changes are kept when the function succeeds."""

    @app.function
    async def visit(ctx: Context, place: str) -> None:
        ctx.data["places"] = [*ctx.data.get("places", []), place]

    async with app, Worker(app):
        job = await app.submit("trip", [visit.step("Oslo"), visit.step("Rome")], data={"who": "you"})
        assert (await app.wait(job.id)).data == {"who": "you", "places": ["Oslo", "Rome"]}


async def test_08_failing(app: App) -> None:
    """An exception ends the job as failed. A call raises `JobFailed`; the job keeps the reason."""

    @app.function
    async def divide(a: int, b: int) -> float:
        return a / b

    async with app, Worker(app):
        with pytest.raises(JobFailed, match="division by zero") as failure:
            await divide.call(1, 0)
        job = await app.status(failure.value.job_id)
        assert job.state == State.FAILED
        assert job.error is not None
        assert (job.error.function, job.error.exception) == ("divide", "ZeroDivisionError")


async def test_09_retries(app: App) -> None:
    """With retry options a function is tried again, after a pause that grows."""

    @app.function(retry=RetryOptions(retry_limit=5, delay=0.01, backoff=2.0, retry_on=("OSError",)))
    async def flaky(ctx: Context) -> str:
        if ctx.attempt < 3:
            raise ConnectionError("try again")  # a subclass of OSError
        return f"at attempt {ctx.attempt}"

    async with app, Worker(app):
        assert await flaky.call() == "at attempt 3"


async def test_10_a_say_in_retries(app: App) -> None:
    """A function itself can say when to try again, or that it is no use."""

    @app.function(retry=RetryOptions(retry_limit=5, delay=3600))
    async def order(ctx: Context, dish: str) -> str:
        if dish == "unicorn":
            raise DoNotRetry("there are none")
        if ctx.attempt == 1:
            raise RetryLater("the kitchen is full", retry_after=0.01)
        return f"{dish}, please"

    async with app, Worker(app):
        assert await order.call("soup") == "soup, please"
        with pytest.raises(JobFailed, match="there are none"):
            await order.call("unicorn")


async def test_11_progress(app: App) -> None:
    """A function tells how far it has come; whoever watches the job sees it."""
    seen_half = asyncio.Event()

    @app.function
    async def work(ctx: Context) -> None:
        ctx.progress(1, 2, "half way")
        await seen_half.wait()

    async with app, Worker(app):
        job = await app.submit("work", [work.step()])
        messages: list[Any] = []
        async for now in app.watch(job.id):  # until it ends
            progress = now.functions[0].progress  # type: ignore[union-attr]
            if progress is not None:
                messages.append(progress["message"])
                seen_half.set()
        assert set(messages) == {"half way"}


async def test_12_cancelling(app: App) -> None:
    """A job can be cancelled at any time. What runs on the loop is cancelled where it waits."""
    begun = asyncio.Event()
    cleaned_up = asyncio.Event()

    @app.function
    async def dig() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()

    async with app, Worker(app):
        job = await app.submit("dig", [dig.step()])
        await begun.wait()
        await app.cancel(job.id)
        assert (await app.wait(job.id)).state == State.CANCELLED
        assert cleaned_up.is_set()


async def test_13_cancelling_a_thread(app: App) -> None:
    """A function in a thread cannot be interrupted: it looks at ``ctx.cancelled`` now and then."""
    begun, moment = threading.Event(), threading.Event()

    @app.function
    def dig(ctx: Context) -> None:
        begun.set()
        while not ctx.cancelled:
            moment.wait(0.01)

    async with app, Worker(app):
        job = await app.submit("dig", [dig.step()])
        await asyncio.to_thread(begun.wait)
        await app.cancel(job.id)
        assert (await app.wait(job.id)).state == State.CANCELLED


async def test_14_again(app: App) -> None:
    """A job that failed or was cancelled goes on where it ended; what was done is not done again."""
    broken = True
    bought: list[str] = []

    @app.function
    async def buy(thing: str) -> None:
        bought.append(thing)

    @app.function
    async def deliver() -> str:
        if broken:
            raise RuntimeError("the van broke down")
        return "delivered"

    async with app, Worker(app):
        job = await app.submit("order", [buy.step("a chair"), deliver.step()])
        assert (await app.wait(job.id)).state == State.FAILED

        broken = False
        await app.retry(job.id)
        job = await app.wait(job.id)
        assert (job.state, job.result, bought) == (State.DONE, "delivered", ["a chair"])
        with pytest.raises(WrongState):
            await app.retry(job.id)  # only one that ended badly can be retried


async def test_15_later(app: App) -> None:
    """A job may wait: ``delay`` in seconds, or a date. It is never run before."""

    @app.function
    async def now() -> float:
        return datetime.now(UTC).timestamp()

    async with app, Worker(app):
        soon = datetime.now(UTC) + timedelta(seconds=0.1)
        job = await app.submit("later", [now.step()], scheduled_at=soon)
        assert job.state == State.SCHEDULED
        assert (await app.wait(job.id)).result >= soon.timestamp()


async def test_16_timeouts_and_deadlines(app: App) -> None:
    """``timeout`` limits each attempt, ``expires_at`` the whole job."""

    @app.function(timeout=0.05)
    async def sleepy() -> None:
        await asyncio.Event().wait()

    async with app, Worker(app):
        job = await app.wait((await app.submit("sleepy", [sleepy.step()])).id)
        assert job.error is not None
        assert job.error.name == "timeout"

        soon = datetime.now(UTC) + timedelta(seconds=0.05)
        nobody = await app.submit("nobody", [step("nobody-runs-this")], expires_at=soon)
        job = await app.wait(nobody.id)
        assert job.error is not None
        assert job.error.name == "deadline-passed"


async def test_17_priority(app: App) -> None:
    """Higher priority goes first; among equals, who came first."""
    served: list[str] = []

    @app.function
    async def serve(guest: str) -> None:
        served.append(guest)

    async with app:
        for guest, priority in (("first", 0), ("second", 0), ("the queen", 10)):
            job = await app.submit("serve", [serve.step(guest)], priority=priority)
        async with Worker(app, concurrency=1):
            await app.wait(job.id)
            await serve.call("last")
    assert served == ["the queen", "first", "second", "last"]


async def test_18_once(app: App) -> None:
    """Submit again with the same idempotency key, after a lost answer say, and it is the same job."""

    @app.function
    async def pay(amount: int) -> str:
        return f"paid {amount}"

    async with app:
        first = await app.submit("pay", [pay.step(5)], idempotency_key="invoice 7")
        again = await app.submit("pay", [pay.step(5)], idempotency_key="invoice 7")
        assert again.id == first.id


async def test_19_functions_of_others(app: App) -> None:
    """A caller needs no code of the functions it uses: ``step`` names them."""
    caller = App(app.url)  # in another program, on the same store

    @app.function("/v1/greet")
    async def greet(name: str) -> str:
        return f"hello {name}"

    async with caller:
        job = await caller.submit("greeting", [step("/v1/greet", name="you")])
        assert job.waiting_for == ["/v1/greet"]  # accepted; no worker offers it yet
        async with app, Worker(app):
            assert (await caller.wait(job.id)).result == "hello you"


class Rates(dict[str, float]):
    """What one unit of a currency is worth."""


async def test_20_what_functions_need(app: App) -> None:
    """A dependency opens what functions need, once a worker. They get it by type; callers do not pass it."""

    @app.dependency
    async def rates() -> AsyncIterator[Rates]:
        yield Rates(EUR=1.0, NOK=11.5)  # a connection pool, a model, a client; after the yield, close it

    @app.function
    async def convert(amount: float, currency: str, rates: Rates = injected) -> float:
        return amount * rates[currency]

    async with app, Worker(app):
        assert await convert.call(2, "NOK") == 23.0

    assert await convert(2, "NOK", Rates(NOK=10)) == 20.0  # called directly, you pass it


async def test_21_around_every_attempt(tmp_path: Path) -> None:
    """Middleware runs around each attempt, wherever the function runs: to measure, to trace, to report."""
    seen: list[str] = []

    async def watch(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        result = await call_next()
        seen.append(f"{ctx.step.function}: {result}")
        return result

    app = App(f"sqlite:///{tmp_path / 'tour.db'}", middleware=[watch])

    @app.function
    def add(a: int, b: int) -> int:
        return a + b

    async with app, Worker(app):
        assert await add.call(1, 2) == 3
    assert seen == ["add: 3"]


def test_22_without_async(app: App) -> None:
    """Programs that are not async use ``app.blocking``: the same calls, from any thread."""
    job = app.blocking.submit("later", [step("nobody-runs-this")])
    assert app.blocking.status(job.id).state == State.PENDING
    assert app.blocking.cancel(job.id).state == State.CANCELLED
    assert [seen.state for seen in app.blocking.watch(job.id)] == [State.CANCELLED]
    app.blocking.close()
