"""Child processes: they come when needed, and never outlive what they are for."""

import asyncio
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raincheck import App, Worker
from tests.worker import functions
from tests.worker.helpers import begun, entry


async def gone(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool((await asyncio.to_thread(select.select, [fd], [], [], 10))[0])
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("function", "arguments", "word"),
    [
        (functions.die, (3,), "exit code 3"),
        (functions.die, (0,), "exit code 0"),
        (functions.shoot, (), "SIGKILL"),
    ],
)
async def test_a_child_that_dies_is_a_failure(
    app: App, function: object, arguments: tuple[int, ...], word: str
) -> None:
    """A function whose process dies has failed, saying how; the next one gets a new child."""
    assert callable(function)
    deadly = app.function(process=True)(function)
    square = app.function(process=True)(functions.square)

    async with app, Worker(app, process_slots=1):
        job = await app.submit("deadly", [deadly.step(*arguments)])
        ended = await app.wait(job.id)
        assert await square.call(3) == 9
    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error.exception, ended.error.detail) == (
        "ProcessDied",
        f"its child process died: {word}",
    )


async def test_a_child_that_died_idle_harms_nobody(app: App) -> None:
    """A child that was killed while it had nothing to do is replaced, and no job fails for it."""
    pid = app.function(process=True)(functions.pid)

    async with app, Worker(app, process_slots=1):
        first = await pid.call()
        os.kill(first, signal.SIGKILL)
        assert await gone(first)
        assert await pid.call() != first


async def test_no_more_children_than_asked_for(app: App) -> None:
    """There are never more children at work than ``processes``; what they cannot run, others may."""
    pid = app.function(process=True)(functions.pid)
    hang = app.function(process=True)(functions.hang)

    async with app, Worker(app, process_slots=1, grace=0.0):
        blocker = await app.submit("hang", [hang.step()])
        await begun(app, blocker.id)
        jobs = [await app.submit("pid", [pid.step()]) for _ in range(3)]
        async with Worker(app, process_slots=1):
            assert len({(await app.wait(job.id)).result for job in jobs}) == 1
        assert (await app.status(blocker.id)).state == "doing"


async def test_a_full_house_of_children_stops_nobody_else(app: App) -> None:
    """While every child is at work, functions on the loop and in threads are still claimed and run."""
    hang = app.function(process=True)(functions.hang)

    @app.function
    async def quick() -> int:
        return 1

    async with app, Worker(app, concurrency=1, process_slots=1, grace=0.0):
        jobs = [await app.submit("hang", [hang.step()]) for _ in range(3)]
        await begun(app, jobs[0].id)
        assert await quick.call() == 1
        for job in jobs:
            await app.cancel(job.id)


async def test_children_end_with_their_worker(app: App) -> None:
    """When a worker leaves, its children do: those at work and those that were idle."""
    pid = app.function(process=True)(functions.pid)
    hang = app.function(process=True)(functions.hang)

    async with app:
        async with Worker(app, process_slots=2, grace=0.0):
            job = await app.submit("hang", [hang.step()])
            busy = await begun(app, job.id)
            idle = await pid.call()
        assert await gone(idle)
        assert await gone(int(entry(busy).progress["done"]))
        assert entry(await app.status(job.id)).retry_count == 0


async def test_children_end_with_a_killed_worker(app: App, tmp_path: Path) -> None:
    """When a worker is killed, its children end by themselves, whatever they are at."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.worker.hanging", app.url, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    pid = int(await worker.stdout.readline())
    worker.kill()
    await worker.wait()
    assert await gone(pid)


async def test_a_child_may_leave_threads_behind(app: App) -> None:
    """Threads that a function leaves running in its child do not keep the worker from ending."""
    lives_on = app.function(process=True)(functions.lives_on)

    async with app, Worker(app):
        assert await lives_on.call() == "done"


async def test_late_progress_is_not_told_of_the_next_run(app: App) -> None:
    """What a thread left behind in a child tells is not taken for the progress of the next function."""
    haunt = app.function(process=True)(functions.haunt)
    square = app.function(process=True)(functions.square)

    async with app, Worker(app, process_slots=1):
        await haunt.call()
        job = await app.submit("square", [square.step(2)])
        assert entry(await app.wait(job.id)).progress is None


@pytest.mark.parametrize("function", [functions.mark, functions.mark_on_a_loop])
async def test_a_child_keeps_nothing_of_one_run_for_the_next(
    app: App, function: Callable[[str], Any]
) -> None:
    """A context variable set by a function in a child is not seen by the next one there."""
    mark = app.function(process=True)(function)

    async with app, Worker(app, process_slots=1):
        assert [await mark.call(word) for word in ("a", "b")] == ["nothing", "nothing"]
