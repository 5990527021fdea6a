"""Where functions run, and what they are given."""

import asyncio
import logging
import os
import threading

import pytest

from raincheck import App, Context, Worker
from tests.worker import functions
from tests.worker.helpers import entry, seen


async def test_an_async_function_runs_on_the_loop(app: App) -> None:
    """An async function runs in the thread of the worker's loop."""

    @app.function
    async def where() -> int:
        return threading.get_ident()

    async with app, Worker(app):
        assert await where.call() == threading.get_ident()


async def test_a_plain_function_runs_in_a_thread(app: App) -> None:
    """A plain function does not run on the loop."""

    @app.function
    def where() -> int:
        return threading.get_ident()

    async with app, Worker(app):
        assert await where.call() != threading.get_ident()


async def test_a_process_function_runs_in_a_child(app: App) -> None:
    """A process function runs in another process, which serves the next one too."""
    pid = app.function(process=True)(functions.pid)

    async with app, Worker(app):
        first = await pid.call()
        assert first != os.getpid()
        assert await pid.call() == first


@pytest.mark.parametrize(("function", "result"), [(functions.square, 49), (functions.double, 14)])
async def test_a_process_function_may_be_plain_or_async(app: App, function: object, result: int) -> None:
    """A child runs plain functions and coroutines alike."""
    assert callable(function)
    made = app.function(process=True)(function)

    async with app, Worker(app):
        assert await made.call(7) == result


async def test_a_context_knows_its_job(app: App) -> None:
    """A context tells the job, the step and the number of the attempt."""

    @app.function
    async def look(ctx: Context, word: str) -> list[object]:
        return [ctx.job.id, ctx.job.name, ctx.step.function, ctx.attempt, word]

    async with app, Worker(app):
        job = await app.submit("my job", [look.step("hello")])
        assert (await app.wait(job.id)).result == [job.id, "my job", "look", 1, "hello"]


async def test_a_parameter_named_ctx_is_the_context(app: App) -> None:
    """A parameter named ``ctx`` needs no annotation."""

    @app.function
    def look(ctx):  # type: ignore[no-untyped-def]
        return ctx.attempt

    async with app, Worker(app):
        assert await look.call() == 1


async def test_a_step_sees_the_results_before_it(app: App) -> None:
    """``ctx.previous`` is nothing at first, then a result, then the list of a parallel stage."""

    @app.function
    async def show(ctx: Context, more: str) -> list[object]:
        return [ctx.previous, more]

    async with app, Worker(app):
        job = await app.submit("chain", [show.step("a"), [show.step("b"), show.step("c")], show.step("d")])
        a: list[object] = [None, "a"]
        assert (await app.wait(job.id)).result == [[[a, "b"], [a, "c"]], "d"]


async def test_a_step_hands_its_data_on(app: App) -> None:
    """What a step puts into ``ctx.data`` is seen by the next one, and kept."""

    @app.function
    async def put(ctx: Context, key: str) -> None:
        ctx.data[key] = [*ctx.data.values()]

    async with app, Worker(app):
        job = await app.submit("chain", [put.step("b"), put.step("c")], data={"a": 1})
        assert (await app.wait(job.id)).data == {"a": 1, "b": [1], "c": [1, [1]]}


async def test_the_later_member_of_a_stage_wins_a_key(app: App) -> None:
    """Data of parallel members is merged by key; of one key, the member that ends later has it."""
    first_is_done = asyncio.Event()

    @app.function
    async def quick(ctx: Context) -> None:
        ctx.data.update(shared="quick", quick=1)

    @app.function
    async def slow(ctx: Context) -> None:
        ctx.data.update(shared="slow", slow=2)
        await first_is_done.wait()

    async with app, Worker(app):
        job = await app.submit("pair", [[slow.step(), quick.step()]], data={"shared": "nobody", "old": 0})
        half = await seen(app, job.id, lambda job: entry(job, 0, 1).state == "done")
        assert half.data == {"shared": "quick", "quick": 1, "old": 0}
        first_is_done.set()
        ended = await app.wait(job.id)
    assert ended.data == {"shared": "slow", "quick": 1, "slow": 2, "old": 0}


async def test_the_data_of_a_failed_attempt_is_not_kept(app: App) -> None:
    """What an attempt put into ``ctx.data`` before it failed is forgotten."""

    @app.function
    async def fail(ctx: Context) -> None:
        ctx.data["left"] = "over"
        raise ValueError

    async with app, Worker(app):
        job = await app.submit("fail", [fail.step()], data={"a": 1})
        assert (await app.wait(job.id)).data == {"a": 1}


async def test_progress_is_seen_while_a_function_runs(app: App) -> None:
    """The latest progress shows on the job being done, then on the ended one."""
    seen_half, seen_more = asyncio.Event(), asyncio.Event()

    @app.function
    async def work(ctx: Context) -> None:
        ctx.progress(1, 4)
        ctx.progress(2, 4, "half")
        await seen_half.wait()
        ctx.progress(3, 4)
        await seen_more.wait()
        ctx.progress(4, 4)

    async with app, Worker(app):
        job = await app.submit("work", [work.step()])
        half = await seen(app, job.id, lambda job: entry(job).progress is not None)
        assert half.state == "doing"
        assert entry(half).progress == {"done": 2.0, "total": 4.0, "message": "half"}
        seen_half.set()
        await seen(app, job.id, lambda job: entry(job).progress == {"done": 3.0, "total": 4.0})
        seen_more.set()
        assert entry(await app.wait(job.id)).progress == {"done": 4.0, "total": 4.0}


async def test_many_threads_may_tell_progress_at_once(app: App) -> None:
    """Progress told from many threads arrives, each on its own job."""
    go = threading.Event()

    @app.function
    def work(ctx: Context, number: int) -> None:
        for i in range(200):
            ctx.progress(i, 200)
        ctx.progress(number)
        go.wait(10)

    async with app, Worker(app, concurrency=20):
        jobs = [await app.submit("work", [work.step(n)]) for n in range(20)]
        for number, job in enumerate(jobs):
            shown = {"done": float(number)}
            await seen(app, job.id, lambda job, shown=shown: entry(job).progress == shown)  # type: ignore[misc]
        go.set()
        for job in jobs:
            await app.wait(job.id)


async def test_a_log_line_names_the_job(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """``ctx.log`` puts the job's id and the function's name before its lines."""

    @app.function
    async def talk(ctx: Context) -> None:
        ctx.log.info("at %d", 7)

    caplog.set_level(logging.INFO, "raincheck.function")
    async with app, Worker(app):
        job = await app.submit("talk", [talk.step()])
        await app.wait(job.id)
    lines = [record.getMessage() for record in caplog.records if record.name == "raincheck.function"]
    assert lines == [f"[{job.id} talk] at 7"]


async def test_a_child_is_given_the_same_context(app: App) -> None:
    """A process function sees and changes the same context as any other."""
    note = app.function(process=True)(functions.note)

    async with app, Worker(app):
        job = await app.submit("noted", [note.step(1), note.step(2)], data={"old": True})
        ended = await app.wait(job.id)
    first = [None, {"old": True}, 1, "noted"]
    assert ended.result == [first, {"old": True, "value": 1}, 1, "noted"]
    assert ended.data == {"old": True, "value": 2}
    assert entry(ended, 0).progress == {"done": 1.0, "total": 2.0, "message": "half"}
