"""Leases: kept as long as the worker lives, taken over once it does not."""

import asyncio
import ctypes
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from raincheck import App, Context, RetryOptions, Worker, step
from raincheck.core.model import WorkerInfo
from raincheck.engine.maintenance import Maintenance
from tests.worker.helpers import begun, entry, logged, seen

LEASE = 0.6

SOON = 10.0
"""Seconds within which a lost job runs again on a busy machine; two after its lease, on a quiet one."""


@pytest.fixture(autouse=True)
def unblocked_loop() -> None:
    """Here, functions block the loop on purpose."""


def block(seconds: float) -> None:
    """Hold up this thread; other threads go on."""
    ctypes.CDLL(None).usleep(int(seconds * 1e6))


def freeze(seconds: float) -> None:
    """Hold the interpreter's lock: no other thread goes on."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@pytest.mark.parametrize("hold", [block, freeze])
async def test_a_function_that_blocks_everything_keeps_its_lease(app: App, hold: object) -> None:
    """A function that blocks the loop, or the whole process, for longer than its lease is run once."""
    assert callable(hold)
    runs: list[int] = []

    @app.function
    async def blind(ctx: Context) -> str:
        runs.append(ctx.attempt)
        hold(3 * LEASE)
        return "seen"

    async with app, Worker(app, lease=LEASE):
        job = await app.submit("blind", [blind.step()])
        ended = await app.wait(job.id)
    assert runs == [1]
    assert (ended.result, entry(ended).retry_count, entry(ended).lost_count) == ("seen", 1, 0)


async def test_another_worker_leaves_a_blocked_one_its_lease(app: App) -> None:
    """While a function blocks the loop of its worker, no other worker takes its job over."""
    runs: list[str] = []
    other = App(app.url)

    @app.function("f")
    async def blind() -> str:
        await asyncio.to_thread(lambda: None)
        block(3 * LEASE)
        return "first"

    @other.function("f")
    async def eager() -> str:
        runs.append("second")
        return "second"

    async def elsewhere() -> None:
        async with other, Worker(other, lease=LEASE):
            await other.wait(job.id)

    async with app:
        job = await app.submit("blind", [blind.step()])
        async with Worker(app, lease=LEASE):
            await asyncio.to_thread(asyncio.run, elsewhere())
            assert (await app.status(job.id)).result == "first"
    assert runs == []


async def test_what_was_claimed_while_the_loop_was_blocked_is_not_run_late(app: App) -> None:
    """A claim that arrives at a blocked loop, and runs out there, is left to the worker that took it over."""
    runs: list[str] = []
    blocked, over = threading.Event(), threading.Event()
    other = App(app.url)

    @app.function
    async def blind() -> None:
        blocked.set()
        over.wait(20)

    @app.function("f")
    async def first() -> None:
        runs.append("first")

    @other.function("f")
    async def second() -> None:
        runs.append("second")

    async def elsewhere() -> None:
        async with other:
            assert await asyncio.to_thread(blocked.wait, 5)
            job = await other.submit("f", [second.step()])
            await seen(other, job.id, lambda job: job.state == "doing")
            async with Worker(other, lease=LEASE):
                await other.wait(job.id)
        over.set()

    async with app, Worker(app, lease=LEASE):
        meanwhile = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
        await blind.call()
        await meanwhile
    assert runs == ["second"]


async def test_a_blocked_loop_is_told_of(app: App) -> None:
    """A function that blocks the loop gets a line in the log."""

    @app.function
    async def blind() -> None:
        block(3 * LEASE)

    with logged("blocked the event loop for", "raincheck.worker") as line:
        async with app, Worker(app, lease=LEASE):
            await blind.call()
            await line.wait()


@asynccontextmanager
async def first_worker(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker in another process, whose only function writes a line, and returns once it reads one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.worker.waiting",
        url,
        str(LEASE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_frozen_worker_is_replaced(app: App) -> None:
    """A frozen worker loses its job to another; its result, when it goes on, changes nothing."""

    @app.function
    async def wait() -> str:
        return "second"

    async with app, first_worker(app.url) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        job = await app.submit("wait", [wait.step()])
        assert await first.stdout.readline() == b"begun\n"
        first.send_signal(signal.SIGSTOP)
        frozen = asyncio.get_running_loop().time()
        async with Worker(app, lease=LEASE):
            ended = await app.wait(job.id)
            assert asyncio.get_running_loop().time() - frozen < LEASE + SOON
        assert (ended.result, entry(ended).lost_count, entry(ended).retry_count) == ("second", 1, 1)
        first.send_signal(signal.SIGCONT)
        first.stdin.write(b"go on\n")
        await first.stdin.drain()
        assert await first.stdout.readline() == b"stopped\n"
        await first.wait()
        assert await app.status(job.id) == ended


async def test_a_killed_worker_is_replaced(app: App) -> None:
    """The job of a killed worker is run again; the lost attempt is not counted as a failure."""

    @app.function
    async def wait() -> str:
        return "second"

    async with app, first_worker(app.url) as first:
        assert first.stdout is not None
        job = await app.submit("wait", [wait.step()])
        assert await first.stdout.readline() == b"begun\n"
        first.kill()
        killed = asyncio.get_running_loop().time()
        async with Worker(app, lease=LEASE):
            ended = await app.wait(job.id)
            assert asyncio.get_running_loop().time() - killed < LEASE + SOON
        assert (ended.result, entry(ended).lost_count, entry(ended).retry_count) == ("second", 1, 1)
        assert entry(ended).worker != f"{await first.wait()}"


async def lose(app: App, times: int) -> None:
    """Claim a step, as a worker that dies at once; then recover it."""
    store = app.engine.store
    maintenance = Maintenance(app.engine)
    for _ in range(times):
        assert len(await store.claim("dying", app.functions.names, 1, 0.0)) == 1
        assert (await maintenance.do_due()).recovered == 1


@pytest.mark.parametrize(("options", "losses"), [(RetryOptions(), 4), (RetryOptions(lost_limit=0), 1)])
async def test_a_job_that_kills_its_workers_fails(app: App, options: RetryOptions, losses: int) -> None:
    """A step is run again ``lost_limit`` times, by default three; then its job fails as worker-lost."""

    @app.function(retry=options)
    async def deadly() -> None:
        raise AssertionError

    async with app:
        job = await app.submit("deadly", [deadly.step(), deadly.step()])
        await lose(app, losses)
        ended = await app.status(job.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error.name, ended.error.function) == ("worker-lost", "deadly")
    assert f"the workers of {losses} attempt(s) at deadly died" in ended.error.detail
    assert (entry(ended).lost_count, entry(ended).retry_count) == (losses, 0)


async def test_the_options_of_an_unknown_function_are_its_workers(app: App) -> None:
    """Maintenance uses the ``lost_limit`` that the function's worker registered."""
    elsewhere = App(app.url)

    @elsewhere.function(retry=RetryOptions(lost_limit=0))
    async def deadly(ctx: Context) -> None:
        raise AssertionError

    async with app, elsewhere:
        job = await app.submit("deadly", [step("deadly")])
        await asyncio.to_thread(
            app.engine.store.heartbeat,
            WorkerInfo(
                id="dying",
                host="",
                pid=1,
                version="",
                concurrency=1,
                functions=tuple(function.info for function in elsewhere.functions),
                started_at=0.0,
            ),
            [],
            60.0,
        )
        assert len(await app.engine.store.claim("dying", ("deadly",), 1, 0.0)) == 1
        assert (await Maintenance(app.engine).do_due()).recovered == 1
        assert (await app.status(job.id)).state == "failed"


async def test_the_attempt_after_a_lost_one_knows(app: App) -> None:
    """``ctx.attempt`` counts lost attempts too."""

    @app.function
    async def number(ctx: Context) -> int:
        return ctx.attempt

    async with app:
        job = await app.submit("number", [number.step()])
        await lose(app, 2)
        async with Worker(app):
            ended = await app.wait(job.id)
    assert (ended.result, entry(ended).lost_count, entry(ended).retry_count) == (3, 2, 1)


async def test_a_worker_leaves_alone_what_it_runs(app: App) -> None:
    """Maintenance leaves alone the leases of attempts in flight in its own process, even if they ran out."""

    @app.function
    async def never() -> None:
        raise AssertionError

    async with app:
        job = await app.submit("never", [never.step()])
        (claim,) = await app.engine.store.claim("slow", ("never",), 1, 0.0)
        app.engine.held.append({claim.lease.token: claim})
        assert (await Maintenance(app.engine).do_due()).recovered == 0
        assert (await app.status(job.id)).state == "doing"
        app.engine.held.clear()
        assert (await Maintenance(app.engine).do_due()).recovered == 1


async def test_a_job_that_is_no_longer_ours_is_stopped(app: App) -> None:
    """A function whose job has ended meanwhile is cancelled, and its result is discarded."""
    stopped = asyncio.Event()

    @app.function
    async def wait(ctx: Context) -> None:
        ctx.progress(0)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with app, Worker(app):
        soon = datetime.now(UTC) + timedelta(seconds=0.5)
        job = await app.submit("wait", [wait.step()], expires_at=soon)
        await begun(app, job.id)
        ended = await app.wait(job.id)
        await stopped.wait()
        assert ended.error is not None
        assert ended.error.name == "deadline-passed"
        assert await app.status(job.id) == ended
