"""Functions that block the event loop: they cannot be stopped in time, but the log names them."""

import asyncio
import ctypes
import logging
import re
import threading

import pytest

from raincheck import App, JobDocument, RetryOptions, Worker
from tests.worker.helpers import entry

LEASE = 0.6


@pytest.fixture(autouse=True)
def unblocked_loop() -> None:
    """Here, functions block the loop on purpose."""


def block(seconds: float) -> None:
    """Hold up this thread; other threads go on."""
    ctypes.CDLL(None).usleep(int(seconds * 1e6))


def timed_out(job: JobDocument) -> bool:
    return job.state == "failed" and job.error is not None and job.error.name == "timeout"


async def test_a_function_that_blocks_the_loop_times_out(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """An attempt that took longer than its timeout has timed out, whatever it returned."""

    @app.function(timeout=0.1)
    async def blind() -> str:
        block(0.3)
        return "too late"

    async with app, Worker(app):
        job = await app.submit("blind", [blind.step()])
        ended = await app.wait(job.id)
    assert timed_out(ended)
    assert entry(ended).result is None
    assert (
        f"job {job.id}, blind took longer than its timeout of 0.1 s and blocked the event loop" in caplog.text
    )


async def test_it_is_tried_again_like_any_timeout(app: App) -> None:
    """A retry that does not block the loop succeeds."""
    runs: list[int] = []

    @app.function(timeout=0.5, retry=RetryOptions(retry_limit=2, delay=0.0, retry_on=("TimeoutError",)))
    async def learning() -> int:
        runs.append(1)
        if len(runs) == 1:
            block(0.7)
        return len(runs)

    async with app, Worker(app):
        assert await learning.call() == 2


async def test_the_log_says_where_it_blocks(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """While the loop is blocked, the log names the function, its file and the line that it is at."""

    @app.function
    async def blind() -> None:
        block(4 * LEASE)

    async with app, Worker(app, lease=LEASE):
        await blind.call()
    (line,) = [r.getMessage() for r in caplog.records if "has blocked the event loop" in r.getMessage()]
    at = blind.function.__code__.co_firstlineno + 2
    assert re.match(rf"blind \({re.escape(__file__)}:{at}, at {re.escape(__file__)}:\d+\) has blocked", line)
    assert all(r.levelno == logging.WARNING for r in caplog.records if "blocked" in r.getMessage())


async def test_a_thread_that_was_in_time_is_not_blamed(app: App) -> None:
    """A function in a thread that returned in time is done, though the loop was blocked until after that."""
    begun, returned = threading.Event(), threading.Event()

    @app.function
    async def blind() -> None:
        begun.set()
        returned.wait(10)
        block(1.2)

    @app.function(timeout=1)
    def quick() -> str:
        begun.wait(10)
        returned.set()
        return "in time"

    async with app:
        jobs = [await app.submit("mixed", [each.step()]) for each in (quick, blind)]
        async with Worker(app):
            ended = [await app.wait(job.id) for job in jobs]
    assert [(job.state, job.result) for job in ended] == [("done", "in time"), ("done", None)]


async def test_the_others_go_on_afterwards(app: App) -> None:
    """What waited behind a function that blocks the loop is run, within the time it may take itself."""

    @app.function
    async def blind() -> None:
        block(1.2)

    @app.function(timeout=1)
    async def quick() -> int:
        await asyncio.sleep(0)
        return 1

    async with app, Worker(app, concurrency=1):
        job = await app.submit("blind", [blind.step()])
        assert await quick.call() == 1
        assert (await app.wait(job.id)).state == "done"
