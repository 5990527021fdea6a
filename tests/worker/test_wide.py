"""Wide stages: a stage of n steps costs about n, and holds up neither the loop nor a stop."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from raincheck import App, Worker, step
from tests.worker.helpers import entry

STEPS = 1000


async def test_the_steps_of_a_stage_are_completed_together(app: App) -> None:
    """Hundreds of quick steps cost their job some dozen changes, not one each, and none is lost."""

    @app.function
    async def quick(number: int) -> int:
        return number

    async with app, Worker(app):
        job = await app.submit("wide", [[quick.step(n) for n in range(300)]])
        ended = await app.wait(job.id)
        stored = await app.engine.jobs.find(job.id)
    assert ended.result == list(range(300))
    assert {step.retry_count for step in stored.job.steps} == {1}
    assert stored.job.rev < 100


async def test_two_workers_complete_one_stage(app: App) -> None:
    """What two workers complete at the same time is read and decided anew; nothing is run twice."""
    other = App(app.url)
    runs: list[int] = []

    @app.function("f")
    async def here(number: int) -> int:
        runs.append(number)
        return number

    @other.function("f")
    async def there(number: int) -> int:
        runs.append(number)
        return number

    async with app, other:
        job = await app.submit("wide", [[here.step(n) for n in range(200)]])
        async with Worker(app, concurrency=10), Worker(other, concurrency=10):
            ended = await app.wait(job.id)
    assert ended.result == list(range(200))
    assert sorted(runs) == list(range(200))


async def test_a_thousand_ends_do_not_hold_the_loop(app: App) -> None:
    """While a thousand steps of one job end in the same moment, others have the loop."""
    all_begun, go = asyncio.Event(), asyncio.Event()
    begun = 0

    @app.function
    async def wait() -> str:
        nonlocal begun
        begun += 1
        if begun == STEPS:
            all_begun.set()
        await go.wait()
        return "x" * 1000

    async with app, Worker(app, concurrency=STEPS):
        job = await app.submit("wide", [[wait.step() for _ in range(STEPS)]])
        await all_begun.wait()
        go.set()
        ended = asyncio.create_task(app.wait(job.id))
        loop, longest, before = asyncio.get_running_loop(), 0.0, asyncio.get_running_loop().time()
        while not ended.done():
            await asyncio.sleep(0)
            now = loop.time()
            longest, before = max(longest, now - before), now
    assert ended.result().state == "done"
    assert longest < 1.0


@asynccontextmanager
async def wide_worker(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker in another process, with a grace of half a second, that says how many steps it has begun."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.worker.slow", url, str(STEPS), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("mode", ["async", "thread"])
async def test_a_stop_is_obeyed_in_the_middle_of_a_wide_stage(app: App, mode: str) -> None:
    """A worker that runs a thousand slow steps of one job stops after its grace; all go back, uncounted."""

    async with app:
        job = await app.submit("wide", [[step(mode) for _ in range(STEPS)]])
        async with wide_worker(app.url) as process:
            assert process.stdout is not None
            assert json.loads(await process.stdout.readline()) == STEPS
            process.send_signal(signal.SIGTERM)
            told = asyncio.get_running_loop().time()
            await process.wait()
            assert asyncio.get_running_loop().time() - told < 15.0
        left = await app.status(job.id)
        assert left.state == "pending"
        assert {(entry(left, 0, n).retry_count, entry(left, 0, n).lost_count) for n in range(STEPS)} == {
            (0, 0)
        }
        assert (await app.engine.store.counts()).leased == 0
