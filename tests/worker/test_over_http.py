"""A worker that gets its attempts from a server, over HTTP, and has no store."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from raincheck import (
    App,
    AsyncClient,
    Context,
    DoNotRetry,
    JobDocument,
    Limits,
    NotAllowed,
    NotSignedIn,
    RetryOptions,
    StoreError,
    Unreachable,
    Worker,
    injected,
    step,
)
from raincheck.auth import Auth
from raincheck.client.asynchronous.client import AsyncJobHandle
from raincheck.store.base import Held
from tests.auth import forging
from tests.client.servers import gateway
from tests.servers import free_port, server
from tests.worker import functions, own_types, pools
from tests.worker.helpers import entry, logged
from tests.worker.sites import Site, site
from tests.worker.test_leases import block

LEASE = 1.0
"""Seconds, the shortest that a server gives."""


@pytest.fixture
def app(tmp_path: Path) -> App:
    """The app of the worker. Its store cannot be opened."""
    return App(f"sqlite:///{tmp_path / 'no such folder' / 'jobs.db'}")


@pytest.fixture
async def near(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with a SQLite store."""
    async with site(f"sqlite:///{tmp_path / 'jobs.db'}") as running:
        yield running


@pytest.fixture(params=["sqlite", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'jobs.db'}"
    else:
        with server(tmp_path) as valkey:
            yield valkey.url


def worker(app: App, url: str, **options: float) -> Worker:
    """A worker of the app, on a server."""
    return Worker(app, server=url, lease=LEASE, process_slots=1, grace=options.get("grace", 30.0))


async def seen(client: AsyncClient, job: AsyncJobHandle, state: str) -> JobDocument:
    """The job as soon as it is in a state, and a running attempt has reported progress."""
    async for shown in client.watch(job.id):
        running = entry(shown.document, shown.document.current_function)
        if shown.state == state and (state != "doing" or running.progress is not None):
            return shown.document
    raise AssertionError("the job ended before that")


async def test_functions_find_what_they_find_with_a_store(app: App, store: str) -> None:
    """Data, the previous result, progress, the number of the attempt and the job are there in every mode."""

    @app.function(retry=RetryOptions(retry_limit=2, delay=0.0))
    async def first(ctx: Context, number: int) -> int:
        if ctx.attempt == 1:
            raise ValueError("once")
        ctx.data["first"] = [ctx.attempt, ctx.job.name, ctx.step.args.decode()]
        ctx.progress(1, 2, "half")
        return number

    @app.function
    def second(ctx: Context) -> list[object]:
        ctx.data["second"] = ctx.data["first"][1]
        return [ctx.previous, threading.current_thread() is threading.main_thread()]

    square = app.function(process=True)(functions.square)
    async with site(store) as near, worker(app, near.url), AsyncClient(near.url) as client:
        together = [step("second"), square.step(5)]
        job = await client.submit("chain", [step("first", 7), together], data={"given": True}, wait=30.0)
        assert job.result() == [[7, False], 25]
        assert job.document.data == {"given": True, "first": [2, "chain", "[7]"], "second": "chain"}
        assert entry(job.document, 0).progress == {"done": 1.0, "total": 2.0, "message": "half"}
        assert (entry(job.document, 0).retry_count, entry(job.document, 0).lost_count) == (2, 0)
        ended = await job.attempts()
        assert [attempt.outcome for attempt in ended] == ["retried", "done", "done", "done"]
        assert "ValueError: once" in (ended[0].traceback or "")


async def test_dependencies_and_middleware(
    app: App, near: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of the worker, as with a store; the middleware knows the previous result."""
    monkeypatch.setenv("RAINCHECK_TEST_DIARY", str(tmp_path / "diary"))

    async def look(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        return [ctx.previous, await call_next()]

    app = App(app.url, middleware=[look])
    app.dependency(pools.open_diary)
    app.dependency(pools.open_pool)
    app.dependency(scope="attempt")(pools.open_session)

    @app.function
    async def first(pool: pools.Pool = injected) -> Any:
        return pool.use()[1]

    @app.function
    def second(session: pools.Session = injected) -> Any:
        return session.name

    app.function(process=True)(pools.anything)
    async with worker(app, near.url), AsyncClient(near.url) as client:
        job = await client.submit("chain", [step("first"), step("second"), step("anything")], wait=30.0)
        assert job.result() == [[[None, 1], "chain"], 1]
    lines = (tmp_path / "diary").read_text("utf-8").splitlines()
    assert lines == ["open pool", "begin chain", "commit", "open pool", "close pool", "close pool"]


async def test_values_of_own_types(tmp_path: Path, near: Site) -> None:
    """Arguments and results of the types of the app are decoded and encoded."""
    app = App(encode=own_types.encode, decode=own_types.decode)
    app.function(own_types.double)
    async with worker(app, near.url), AsyncClient(near.url) as client:
        assert await client.call("double", {"cents": 3}) == {"cents": 6}


async def test_errors(app: App, near: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Failures are recorded as those of a worker with a store, and a result over the limit fails its job."""

    @app.function(retry=5)
    async def never_again() -> None:
        raise DoNotRetry("no use")

    @app.function(timeout=0.05)
    async def slow() -> None:
        await asyncio.Event().wait()

    @app.function
    async def large() -> str:
        return "x" * (near_limit + 1)

    async with worker(app, near.url), AsyncClient(near.url) as client:
        near_limit = app.limits.result
        jobs = [await client.submit(name, [name], wait=30.0) for name in ("never_again", "slow", "large")]
        errors = [job.document.error for job in jobs]
        assert [(error.name, error.exception) for error in errors if error is not None] == [
            ("function-failed", "DoNotRetry"),
            ("timeout", "TimeoutError"),
            ("function-failed", "result-too-large"),
        ]
        assert [entry(job.document).retry_count for job in jobs] == [1, 1, 1]
    told = [record.getMessage() for record in caplog.records if record.name == "raincheck.attempt"]
    for line, told_of in zip(told, ("raised DoNotRetry", "its timeout of 0.05 s", "too large"), strict=True):
        assert told_of in line


async def test_a_result_that_only_the_server_finds_too_large(near: Site) -> None:
    """A result over the limit of the server fails its job; others that come with it are done."""
    lenient = App(limits=Limits(result=64 * 2**20))

    @lenient.function
    async def large(size: int) -> str:
        return "x" * size

    async with worker(lenient, near.url), AsyncClient(near.url) as client:
        sizes = (5 * 2**20, 20 * 2**20, 10)
        jobs = [await client.submit("large", [step("large", size)]) for size in sizes]
        states = [(await client.wait(job.id)).state for job in jobs]
        assert states == ["failed", "failed", "done"]
        error = (await client.status(jobs[0].id)).document.error
        assert error is not None
        assert "at most 4194304 are kept" in error.detail


async def test_results_of_more_than_one_request(app: App, near: Site) -> None:
    """Outcomes that do not fit into one request go in several."""
    everyone = asyncio.Event()
    begun = 0

    @app.function
    async def megabytes() -> str:
        nonlocal begun
        begun += 1
        if begun == 8:
            everyone.set()
        await everyone.wait()
        return "x" * (3 * 2**20)

    async with worker(app, near.url), AsyncClient(near.url) as client:
        job = await client.submit("large", [["megabytes"] * 8], wait=30.0)
        assert job.state == "done"


async def test_the_concurrency_of_a_function(app: App, near: Site) -> None:
    """A function runs as often at once as it allows, and holds up no other."""
    go, most, running = asyncio.Event(), 0, 0

    @app.function(concurrency=2)
    async def few(number: int) -> int:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1
        return number

    @app.function
    async def many() -> None:
        go.set()

    async with worker(app, near.url), AsyncClient(near.url) as client:
        job = await client.submit("few", [[step("few", number) for number in range(5)]])
        await client.call("many")
        assert (await job.wait()).result() == list(range(5))
    assert most == 2


async def test_a_cancelled_job_is_stopped(app: App, near: Site) -> None:
    """Cancelling a running job stops its function."""
    stopped = asyncio.Event()

    @app.function
    async def wait(ctx: Context) -> None:
        ctx.progress(0)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with worker(app, near.url), AsyncClient(near.url) as client:
        job = await client.submit("wait", ["wait"])
        await seen(client, job, "doing")
        await job.cancel()
        await stopped.wait()
        assert (await job.wait()).state == "cancelled"


async def test_a_blocked_loop_keeps_its_leases(app: App, near: Site) -> None:
    """A function that blocks the event loop for longer than its lease is run once."""
    runs: list[int] = []

    @app.function
    async def blind(ctx: Context) -> int:
        runs.append(ctx.attempt)
        block(2.5 * LEASE)
        return ctx.attempt

    async with worker(app, near.url), AsyncClient(near.url) as client:
        assert await client.call("blind") == 1
    assert runs == [1]


async def test_outcomes_survive_a_restart_of_the_server(app: App, near: Site) -> None:
    """What ends while the server is away is sent once it is back; nothing runs again."""
    go, runs = asyncio.Event(), list[int]()

    @app.function
    async def work(ctx: Context, number: int) -> int:
        ctx.progress(0)
        await go.wait()
        runs.append(number)
        return number

    async with worker(app, near.url), AsyncClient(near.url) as client:
        jobs = [await client.submit("work", [step("work", n)]) for n in range(5)]
        for job in jobs:
            await seen(client, job, "doing")
        await near.stop()
        with logged("wait for the server") as waiting:
            go.set()
            await waiting.wait()
        await near.start()
        ended = [await client.wait(job.id) for job in jobs]
        assert [job.result() for job in ended] == [0, 1, 2, 3, 4]
        assert await client.call("work", 5) == 5
    assert sorted(runs) == [0, 1, 2, 3, 4, 5]


async def test_a_lost_response_doubles_nothing(
    app: App, near: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """A result whose response is lost is sent again; the server has it once."""
    caplog.set_level(logging.INFO, "raincheck.worker")
    runs: list[int] = []

    @app.function
    async def work(ctx: Context) -> int:
        runs.append(ctx.attempt)
        front.handlers.append(lose_finish)
        return ctx.attempt

    async def lose_finish(request: Request) -> Response:
        if request.url.path.endswith("/finish"):
            return await front.lose_response(request)
        front.handlers.append(lose_finish)
        return await front.forward(request)

    with gateway(near.url) as front:
        async with worker(app, front.url), AsyncClient(near.url) as client:
            with logged("has arrived before") as line:
                job = await client.submit("work", ["work"], wait=30.0)
                await line.wait()
            assert job.result() == 1
    assert runs == [1]


async def test_a_proxy_that_refuses_large_requests(app: App, near: Site) -> None:
    """A result that a proxy does not let through fails its job; others are done."""

    @app.function
    async def letters(number: int) -> str:
        return "x" * number

    async def refuse_large(request: Request) -> Response:
        front.handlers.append(refuse_large)
        large = len(await request.body()) > 100_000
        return Response("too large", 413) if large else await front.forward(request)

    with gateway(near.url) as front:
        front.handlers.append(refuse_large)
        async with worker(app, front.url), AsyncClient(near.url) as client:
            job = await client.submit("letters", [[step("letters", n) for n in (1, 200_000, 2)]], wait=30.0)
    assert [entry(job.document, 0, n).state for n in range(3)] == ["done", "failed", "done"]
    assert job.document.error is not None
    assert "413" in job.document.error.detail


async def test_a_worker_that_the_server_forgot_registers_again(app: App, near: Site) -> None:
    """Its attempts are dropped and run anew; their late results change nothing."""
    dropped, runs = asyncio.Event(), list[int]()

    @app.function
    async def work(ctx: Context) -> int:
        runs.append(ctx.attempt)
        ctx.progress(0)
        if ctx.attempt == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                dropped.set()
        return ctx.attempt

    async with worker(app, near.url), AsyncClient(near.url) as client:
        job = await client.submit("work", ["work"])
        await seen(client, job, "doing")
        async with App(near.store) as other:
            await near.stop()
            (before,) = await other.engine.store.workers()
            await asyncio.to_thread(other.engine.store.heartbeat, replace(before, state="stopped"), [], 1.0)
            await near.start()
            await dropped.wait()
            ended = await job.wait()
            (after,) = await other.engine.store.workers()
        assert (ended.result(), entry(ended.document).lost_count) == (2, 1)
        assert before.id != after.id
    assert runs == [1, 2]


async def test_a_lost_lease_stops_its_attempt(app: App, near: Site) -> None:
    """An attempt whose lease another process has ended is stopped."""
    dropped, runs = asyncio.Event(), list[int]()

    @app.function
    async def work(ctx: Context) -> int:
        runs.append(ctx.attempt)
        ctx.progress(0)
        if len(runs) == 1:
            try:
                await asyncio.Event().wait()
            finally:
                dropped.set()
        return len(runs)

    async with worker(app, near.url), AsyncClient(near.url) as client, App(near.store) as other:
        job = await client.submit("work", ["work"])
        await seen(client, job, "doing")
        stored = await other.engine.jobs.find(job.id)
        await other.engine.store.release([Held(job.id, 0, stored.leases[0].token)])
        await dropped.wait()
        assert (await job.wait()).result() == 2


async def test_a_stop_gives_back_what_has_not_begun(app: App, near: Site) -> None:
    """A worker that stops lets what runs end, gives back the rest, and leaves the register."""
    go, running = threading.Event(), threading.Event()

    @app.function
    def work(number: int) -> int:
        running.set()
        go.wait(30)
        return number

    async with AsyncClient(near.url) as client:
        leaving = Worker(app, server=near.url, lease=LEASE, concurrency=2)
        await leaving.__aenter__()
        jobs = [await client.submit("work", [step("work", n)]) for n in range(4)]
        await asyncio.to_thread(running.wait, 30)
        stopping = asyncio.create_task(leaving.__aexit__())
        await asyncio.sleep(0)
        go.set()
        await stopping
        states = [(await client.status(job.id)).document for job in jobs]
        assert {job.state for job in states} <= {"done", "pending"}
        assert "done" in {job.state for job in states}
        assert [entry(job).lost_count for job in states] == [0, 0, 0, 0]
        assert await client.workers() == []


async def test_a_function_has_no_store(app: App, near: Site) -> None:
    """A function that calls its app learns that there is no store, and what to call instead."""

    @app.function
    async def submits() -> str:
        with pytest.raises(StoreError) as refused:
            await app.submit("x", [step("submits")])
        return str(refused.value)

    async with worker(app, near.url), AsyncClient(near.url) as client:
        assert f"it gets its attempts from {near.url}" in await client.call("submits")


@pytest.mark.long  # it tries for ten seconds
async def test_no_such_server(app: App) -> None:
    """A worker whose server cannot be reached ends after some seconds, and says so."""
    with pytest.raises(Unreachable, match="Is the server running"):
        async with worker(app, f"http://127.0.0.1:{free_port()}"):
            raise AssertionError


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with sign-in."""
    auth = Auth(secret=forging.SECRET, users=tmp_path / "users.json")
    async with site(f"sqlite:///{tmp_path / 'jobs.db'}", auth) as running:
        yield running


def token(scope: str) -> str:
    return forging.token(forging.claims(scope=scope))


async def test_scopes(app: App, guarded: Site) -> None:
    """A worker runs the functions that its scope names; without a token or the scope it does not start."""

    @app.function("mail/send")
    async def send() -> str:
        return "sent"

    allowed = Worker(app, server=guarded.url, token=token("worker:mail/*"))
    async with allowed, AsyncClient(guarded.url, token=token("job:write job:read")) as client:
        assert await client.call("mail/send") == "sent"
    with pytest.raises(NotSignedIn):
        async with worker(app, guarded.url):
            raise AssertionError
    with pytest.raises(NotAllowed, match="mail/send"):
        async with Worker(app, server=guarded.url, token=token("worker:other")):
            raise AssertionError


async def test_a_token_is_read_again_when_it_is_refused(app: App, near: Site, tmp_path: Path) -> None:
    """The token file may change while the worker runs: nothing is lost."""
    file = tmp_path / "token"
    file.write_text("old")
    go = asyncio.Event()

    @app.function
    async def work(ctx: Context) -> int:
        ctx.progress(0)
        await go.wait()
        return ctx.attempt

    with gateway(near.url, {}) as front:
        front.tokens.add("old")
        async with (
            AsyncClient(near.url) as client,
            Worker(app, server=front.url, token=file.read_text, lease=LEASE),
        ):
            job = await client.submit("work", ["work"])
            await seen(client, job, "doing")
            with logged("could not be extended") as line:
                front.revoke()
                await line.wait()
            front.tokens.add("new")
            file.write_text("new")
            go.set()
            assert (await job.wait()).result() == 1
