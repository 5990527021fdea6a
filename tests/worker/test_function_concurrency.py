"""How many attempts of one function run at once: `@app.function(concurrency=...)`."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from raincheck import App, Context, Worker
from raincheck.core.errors import RegistrationError
from tests.worker import functions
from tests.worker.helpers import begun


async def test_no_more_attempts_than_allowed_run_at_once(app: App) -> None:
    """All steps of a limited function run, two at a time, while the worker has free slots."""
    running, most = 0, 0
    pair = asyncio.Barrier(2)

    @app.function(concurrency=2)
    async def limited(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await pair.wait()
        running -= 1
        return number

    async with app, Worker(app, concurrency=10):
        jobs = [await app.submit("limited", [limited.step(n)]) for n in range(40)]
        assert [(await app.wait(job.id)).result for job in jobs] == [*range(40)]
    assert most == 2


async def test_a_worker_claims_no_step_that_it_cannot_run(app: App) -> None:
    """The steps over the limit stay in the queue, for other workers."""
    go, both = asyncio.Event(), asyncio.Event()
    running = 0

    @app.function(concurrency=2)
    async def limited() -> None:
        nonlocal running
        running += 1
        if running == 2:
            both.set()
        await go.wait()

    @app.function
    async def other() -> None:
        pass

    async with app, Worker(app, concurrency=10):
        jobs = [await app.submit("limited", [limited.step()]) for _ in range(5)]
        await both.wait()
        await app.call(other.step())  # the worker claims on
        counts = await app.engine.store.counts()
        assert (counts.leased, counts.queued) == (2, {"limited": 3})
        go.set()
        for job in jobs:
            await app.wait(job.id)


@pytest.mark.parametrize("mode", ["thread", "process"])
async def test_a_limited_function_in_a_thread_or_a_process(app: App, mode: str) -> None:
    """One after the other, as on the loop."""
    limited = app.function(concurrency=1, process=mode == "process")(functions.square)
    async with app, Worker(app, concurrency=4, process_slots=4):
        jobs = [await app.submit("limited", [limited.step(n)]) for n in range(5)]
        assert [(await app.wait(job.id)).result for job in jobs] == [0, 1, 4, 9, 16]


async def test_a_full_function_keeps_no_other_waiting(app: App) -> None:
    """Others run while it is full, also those that are submitted later."""
    go = asyncio.Event()

    @app.function(concurrency=1)
    async def full() -> None:
        await go.wait()

    @app.function
    async def other(number: int) -> int:
        return number

    async with app, Worker(app, concurrency=2):
        jobs = [await app.submit("full", [full.step()], priority=100) for _ in range(10)]
        assert [await app.call(other.step(n)) for n in range(5)] == [0, 1, 2, 3, 4]
        go.set()
        for job in jobs:
            await app.wait(job.id)


async def test_a_function_that_was_full_gets_its_share(app: App) -> None:
    """While another function always has steps that wait, a limited one is claimed as soon as it has room."""
    order: list[str] = []

    @app.function(concurrency=1)
    async def limited() -> None:
        order.append("limited")

    @app.function
    async def busy() -> None:
        order.append("busy")
        await asyncio.sleep(0)

    async with app:
        for _ in range(200):
            await app.submit("busy", [busy.step()])
        jobs = [await app.submit("limited", [limited.step()]) for _ in range(10)]
        async with Worker(app, concurrency=4):
            for job in jobs:
                await app.wait(job.id)
    assert Counter(order)["busy"] < 200


async def test_an_attempt_that_is_cancelled_makes_room(app: App) -> None:
    """Also while the worker waits for a step of another function."""

    @app.function(concurrency=1)
    async def limited(ctx: Context) -> None:
        ctx.progress(0)
        await asyncio.Event().wait()

    async with app, Worker(app, concurrency=10):
        first, second = [await app.submit("limited", [limited.step()]) for _ in range(2)]
        await begun(app, first.id)
        await app.cancel(first.id)
        await begun(app, second.id)
        await app.cancel(second.id)


@pytest.mark.parametrize("concurrency", [0, -1, True, 1.5, "2"])
def test_the_limit_is_a_positive_integer(concurrency: object) -> None:
    """All else is an error at registration."""
    app = App()
    with pytest.raises(RegistrationError, match="concurrency must be an integer of at least 1"):
        app.function(concurrency=concurrency)(functions.square)  # type: ignore[call-overload]
