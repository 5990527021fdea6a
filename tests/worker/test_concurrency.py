"""How much runs at once, and what functions see of each other."""

import asyncio
import contextvars
import threading

import pytest

from raincheck import App, Context, Worker
from raincheck.engine.validation import Stages
from raincheck.worker.claimer import Claimer
from raincheck.worker.executor import Slots
from raincheck.worker.store_dispatcher import StoreDispatcher
from tests.worker.helpers import entry


class Gauge:
    """Counts how many are inside, and how many there were at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = 0
        self.most = 0

    def enter(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def leave(self) -> None:
        with self._lock:
            self.now -= 1


async def test_the_limit_is_used_to_the_full(app: App) -> None:
    """As many attempts as allowed run at once, on the loop and in threads taken together."""
    barrier = threading.Barrier(3)
    gauge = Gauge()
    waiting = asyncio.Event()

    @app.function
    async def on_the_loop(number: int) -> None:
        gauge.enter()
        if gauge.now == 5:
            waiting.set()
        await waiting.wait()
        await asyncio.sleep(0)
        gauge.leave()

    @app.function
    def in_a_thread(number: int) -> None:
        gauge.enter()
        barrier.wait(10)
        gauge.leave()

    async with app:
        jobs = [await app.submit("loop", [on_the_loop.step(n)]) for n in range(20)]
        async with Worker(app, concurrency=5):
            for job in jobs:
                await app.wait(job.id)
            jobs = [await app.submit("thread", [in_a_thread.step(n)]) for n in range(15)]
            for job in jobs:
                assert (await app.wait(job.id)).state == "done"
    assert gauge.most == 5


async def test_one_slot_is_enough_for_every_shape(app: App) -> None:
    """With one slot, chains and parallel stages are run all the same, one function at a time."""
    gauge = Gauge()

    @app.function
    async def a(ctx: Context) -> object:
        gauge.enter()
        await asyncio.sleep(0)
        gauge.leave()
        return ctx.previous

    @app.function
    def b(ctx: Context, number: int) -> int:
        gauge.enter()
        gauge.leave()
        return number

    async with app, Worker(app, concurrency=1):
        shape: Stages = [
            a.step(),
            [b.step(1), b.step(2), a.step()],
            a.step(),
            [b.step(3), b.step(4)],
            a.step(),
        ]
        jobs = [await app.submit("shape", shape) for _ in range(5)]
        assert [(await app.wait(job.id)).result for job in jobs] == [[3, 4]] * 5
    assert gauge.most == 1


async def test_quick_functions_do_not_keep_the_loop(app: App) -> None:
    """Between very many quick functions, other tasks on the loop have a turn."""
    turns = 0

    @app.function
    async def quick() -> None:
        pass

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with app:
        jobs = await asyncio.gather(*(app.submit("quick", [quick.step()]) for _ in range(500)))
        other = asyncio.create_task(others())
        async with Worker(app, concurrency=500):
            for job in jobs:
                await app.wait(job.id)
        other.cancel()
    assert turns > 10


async def test_a_slow_function_holds_up_no_quick_one(app: App) -> None:
    """Functions that wait do not delay the functions claimed after them."""
    go = asyncio.Event()

    @app.function
    async def slow() -> None:
        await go.wait()

    @app.function
    async def quick(number: int) -> int:
        return number

    async with app:
        waiting = [await app.submit("slow", [slow.step()]) for _ in range(30)]
        jobs = [await app.submit("quick", [quick.step(n)]) for n in range(30)]
        async with Worker(app, concurrency=31):
            assert [(await app.wait(job.id)).result for job in jobs] == list(range(30))
            go.set()
            for job in waiting:
                await app.wait(job.id)


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


@pytest.mark.parametrize("mode", ["loop", "thread"])
async def test_a_context_variable_stays_with_its_function(app: App, mode: str) -> None:
    """A context variable that a function sets is not seen by those that run after it."""

    def mark_in_a_thread(word: str) -> str:
        before = variable.get()
        variable.set(word)
        return before

    async def mark_on_the_loop(word: str) -> str:
        return mark_in_a_thread(word)

    mark = app.function(mark_on_the_loop if mode == "loop" else mark_in_a_thread)
    async with app:
        jobs = [await app.submit("mark", [mark.step(str(n))]) for n in range(20)]
        async with Worker(app):
            assert {(await app.wait(job.id)).result for job in jobs} == {"nothing"}


async def test_a_function_that_cancels_its_task_cancels_no_other(app: App) -> None:
    """A function that cancels the task it runs in, and returns, does not affect the next ones."""

    @app.function
    async def vandal() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "gone"

    @app.function
    async def good() -> str:
        await asyncio.sleep(0)
        return "well"

    async with app:
        pair = [vandal.step(), good.step()]
        jobs = [await app.submit("mixed", [pair[n % 2]]) for n in range(20)]
        async with Worker(app):
            assert [(await app.wait(job.id)).result for job in jobs] == ["gone", "well"] * 10


async def test_many_members_of_a_stage_may_end_at_once(app: App) -> None:
    """A wide parallel stage whose members end in the same moment loses none of them."""

    @app.function
    async def member(ctx: Context, number: int) -> int:
        ctx.data[f"k{number}"] = number
        return number

    @app.function
    async def join(ctx: Context) -> object:
        return ctx.previous

    async with app, Worker(app):
        job = await app.submit("wide", [[member.step(n) for n in range(60)], join.step()])
        ended = await app.wait(job.id)
    assert ended.result == list(range(60))
    assert ended.data == {f"k{n}": n for n in range(60)}
    assert {entry(ended, 0, n).retry_count for n in range(60)} == {1}


async def test_a_claim_takes_at_most_half_of_the_slots(app: App) -> None:
    """A claim leaves room for the next one, which the store works on while the first is run."""

    @app.function
    async def quick() -> None:
        pass

    async with app:
        for _ in range(10):
            await app.submit("quick", [quick.step()])
        slots = Slots(5)
        claimer = Claimer(StoreDispatcher(app.engine.store, app.functions, "w", 60.0), [quick], slots)
        assert len((await claimer.claim()).claims) == 3
        slots.used = 3
        assert len((await claimer.claim()).claims) == 2


async def test_slow_functions_hold_no_more_leases_than_slots(app: App) -> None:
    """A worker whose slots are all taken leaves the other steps in the queue, for other workers."""
    go, begun = asyncio.Event(), asyncio.Event()
    running = 0

    @app.function
    async def slow() -> None:
        nonlocal running
        running += 1
        if running == 5:
            begun.set()
        await go.wait()

    async with app:
        jobs = [await app.submit("slow", [slow.step()]) for _ in range(12)]
        async with Worker(app, concurrency=5):
            await begun.wait()
            counts = await app.engine.store.counts()
            assert (counts.leased, counts.queued) == (5, {"slow": 7})
            go.set()
            for job in jobs:
                await app.wait(job.id)
