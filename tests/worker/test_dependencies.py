"""Dependencies: what functions get by the types of their parameters, and callers do not pass."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from raincheck import App, Context, InvalidInput, JobFailed, Worker, injected
from raincheck.core.errors import RegistrationError
from raincheck.testing import running
from tests.worker import pools
from tests.worker.pools import Blocked, Pool, Session

Lines = Callable[[], list[str]]


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """The lines that were written into the diary of this test, here and in child processes."""
    file = tmp_path / "diary"
    file.touch()
    monkeypatch.setenv("RAINCHECK_TEST_DIARY", str(file))
    return lambda: file.read_text("utf-8").splitlines()


@pytest.fixture
def shared(app: App, lines: Lines) -> App:
    """An app with dependencies."""
    app.dependency(pools.open_diary)
    app.dependency(pools.open_pool)
    app.dependency(scope="attempt")(pools.open_session)
    app.dependency(scope="attempt")(pools.open_blocked)
    return app


async def test_attempts_share_what_was_opened_once(shared: App, lines: Lines) -> None:
    """A thousand attempts, on the loop and in threads, share a pool; it is closed when all have ended."""
    use = shared.function(pools.use)
    use_blocking = shared.function(pools.use_blocking)

    async with shared:
        async with Worker(shared):
            steps = [use.step() for _ in range(500)] + [use_blocking.step(i) for i in range(500)]
            job = await shared.submit("many", [steps])
            counts = {each[1] for each in (await shared.wait(job.id)).result}
            assert lines() == ["open pool"]
        assert counts == {*range(1, 1001)}
    assert lines() == ["open pool", "close pool"]


async def test_each_child_process_opens_its_own(shared: App, lines: Lines) -> None:
    """A child process opens what its functions need once, and closes it when the worker stops."""
    use = shared.function(process=True)(pools.use)
    use_blocking = shared.function(process=True)(pools.use_blocking)

    async with shared:
        async with Worker(shared, process_slots=1):
            child, count = await use.call()
            assert (child != os.getpid(), count) == (True, 1)
            assert await use_blocking.call(7, factor=2) == (14, 2)
            assert lines() == ["open pool"]
        assert lines() == ["open pool", "close pool"]


@pytest.mark.parametrize("process", [False, True])
async def test_an_attempt_has_its_own(shared: App, lines: Lines, process: bool) -> None:
    """It is opened before the function and closed after it; the exception of the function is raised in it."""
    transact = shared.function("async", process=process)(pools.transact)
    blocking = shared.function("sync", process=process)(pools.transact_blocking)

    async with shared, Worker(shared, process_slots=1):
        assert await transact.call() == "async"
        assert await blocking.call() == "syncblocked"
        for function in (transact, blocking):
            with pytest.raises(JobFailed, match="not this one"):
                await function.call(ok=False)
    assert lines() == [
        *("open pool", "begin async", "commit", "begin sync", "lock", "unlock", "commit"),
        *("begin async", "rollback ValueError", "begin sync", "lock", "rollback ValueError", "close pool"),
    ]


async def test_what_no_function_needs_is_not_opened(shared: App, lines: Lines) -> None:
    """A worker opens only what its functions need."""

    @shared.function
    async def plain() -> int:
        return 1

    async with shared, Worker(shared):
        assert await plain.call() == 1
    assert lines() == []


async def test_what_only_functions_of_other_workers_need_is_not_opened(shared: App, lines: Lines) -> None:
    """A worker that offers some of the functions opens what these need."""
    shared.function(pools.use)

    @shared.function
    async def plain() -> int:
        return 1

    async with shared, Worker(shared, functions=["pl*"]):
        assert await plain.call() == 1
    assert lines() == []


async def test_a_dependency_that_does_not_open_stops_the_worker(app: App) -> None:
    """The worker does not start: it claims nothing, and closes what was open."""
    diary: list[str] = []

    @app.dependency
    async def open_session() -> AsyncIterator[Session]:
        diary.append("open")
        yield Session("")
        diary.append("close")

    app.dependency(pools.refuse)

    @app.function
    async def use(session: Session, pool: Pool) -> None:
        raise AssertionError

    async with app:
        job = await app.submit("use", [use.step()])  # type: ignore[call-arg]
        with pytest.raises(ConnectionError, match="no database there") as caught:
            await Worker(app).__aenter__()
        assert (await app.status(job.id)).state == "pending"
        assert await app.engine.store.workers() == []
    assert caught.value.__notes__ == ["raised while the dependency refuse was opened"]
    assert diary == ["open", "close"]


async def test_a_dependency_that_does_not_open_in_a_child_is_a_failed_attempt(app: App) -> None:
    """The attempt has failed with the exception, and the next one tries to open it again."""
    app.dependency(pools.refuse)
    use = app.function(process=True)(pools.use)

    async with app, Worker(app, process_slots=1):
        for _ in range(2):
            job = await app.submit("use", [use.step()])
            ended = await app.wait(job.id)
            assert ended.error is not None
            assert (ended.error.exception, ended.error.detail) == ("ConnectionError", "no database there")


async def test_a_dependency_that_fails_to_close_in_a_child_is_printed(
    app: App, lines: Lines, capfd: pytest.CaptureFixture[str]
) -> None:
    """The others are closed, and the worker stops as usual."""
    app.dependency(pools.open_diary)
    app.dependency(pools.open_pool)
    app.dependency(pools.open_unclosable)
    use = app.function(process=True)(pools.use_both)

    async with app, Worker(app, process_slots=1):
        assert await use.call() == "unclosable"
    assert lines() == ["open pool", "fail to close", "close pool"]
    assert "ConnectionError: lost it" in capfd.readouterr().err


async def test_a_child_that_is_killed_is_replaced(shared: App, lines: Lines) -> None:
    """An attempt that is stopped takes its child with it, which closes nothing; the next child opens anew."""
    hang = shared.function(process=True)(pools.hang)
    use = shared.function(process=True)(pools.use_blocking)

    async with shared, Worker(shared, process_slots=1):
        job = await shared.submit("hang", [hang.step().options(timeout=0.2)])
        assert (await shared.wait(job.id)).state == "failed"
        assert await use.call(1) == (1, 1)
        assert lines() == ["open pool", "open pool"]
    assert lines() == ["open pool", "open pool", "close pool"]


async def test_a_child_that_is_replaced_closes_what_it_opened(shared: App, lines: Lines) -> None:
    """A child that has run as many attempts as it may ends as at the stop of its worker."""
    use = shared.function(process=True)(pools.use)

    async with shared, Worker(shared, process_slots=1, max_jobs_per_child=1):
        first, second = await use.call(), await use.call()
    assert first[0] != second[0]
    assert first[1] == second[1] == 1
    while lines().count("close pool") < 2:  # noqa: ASYNC110 - nobody waits for the end of the first
        await asyncio.sleep(0)
    assert lines().count("open pool") == 2


async def test_an_attempt_whose_dependency_does_not_open_has_failed(app: App) -> None:
    """The function is not called. The traceback names the dependency."""
    app.dependency(scope="attempt")(pools.refuse)

    @app.dependency(scope="attempt")
    def lock() -> Blocked:
        raise ConnectionError("locked")

    @app.function
    async def use(pool: Pool = injected) -> None:
        raise AssertionError

    @app.function
    def use_blocking(blocked: Blocked = injected) -> None:
        raise AssertionError

    async with app, Worker(app):
        for step, name in ((use.step(), "refuse"), (use_blocking.step(), "lock")):
            job = await app.submit("use", [step])
            ended = await app.wait(job.id)
            assert ended.error is not None
            assert ended.error.exception == "ConnectionError"
            (attempt,) = await app.attempts(job.id)
            assert f"raised while the dependency {name}" in (attempt.traceback or "").replace(
                "test_an_attempt_whose_dependency_does_not_open_has_failed.<locals>.", ""
            )


async def test_what_is_opened_while_an_attempt_is_cancelled_is_closed(app: App) -> None:
    """A dependency that a thread opens cannot be interrupted: it is closed once it is open."""
    opening, go_on, closed = asyncio.Event(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.dependency(scope="attempt")
    def lock() -> Iterator[Blocked]:
        loop.call_soon_threadsafe(opening.set)
        go_on.wait()
        try:
            yield Blocked("")
        finally:
            loop.call_soon_threadsafe(closed.set)

    @app.function
    async def use(blocked: Blocked = injected) -> None:
        raise AssertionError

    async with app, Worker(app):
        job = await app.submit("use", [use.step()])
        await opening.wait()
        await app.cancel(job.id)
        loop.call_later(0.05, go_on.set)
        assert (await app.wait(job.id)).state == "cancelled"
        await closed.wait()


async def test_a_dependency_that_fails_to_close_is_said(app: App) -> None:
    """Its exception comes out of the worker, when all is written and the others are closed."""
    diary: list[str] = []

    @app.dependency
    async def open_pool() -> AsyncIterator[Pool]:
        yield Pool()
        diary.append("close")

    @app.dependency
    def open_session(pool: Pool) -> Iterator[Session]:
        yield Session("")
        raise ConnectionError("lost it")

    @app.function
    async def use(session: Session) -> int:
        return 1

    async with app:
        with pytest.raises(ConnectionError, match="lost it"):
            async with Worker(app):
                assert await use.call() == 1  # type: ignore[call-arg]
        assert await app.engine.store.workers() == []
    assert diary == ["close"]


async def test_an_attempt_whose_commit_fails_has_failed(app: App) -> None:
    """What a dependency raises after its yield is the failure of the attempt."""

    @app.dependency(scope="attempt")
    async def begin() -> AsyncIterator[Session]:
        yield Session("")
        raise ConnectionError("not committed")

    @app.function
    async def use(session: Session) -> int:
        return 1

    async with app, Worker(app):
        with pytest.raises(JobFailed, match="not committed"):
            await use.call()  # type: ignore[call-arg]


async def test_a_dependency_does_not_undo_a_failure(app: App) -> None:
    """One that catches the exception of an attempt does not make it a success."""

    @app.dependency(scope="attempt")
    async def begin() -> AsyncIterator[Session]:
        with suppress(ValueError):
            yield Session("")

    @app.dependency(scope="attempt")
    def lock() -> Iterator[Blocked]:
        with suppress(ValueError):
            yield Blocked("")

    @app.function
    async def fail(session: Session) -> int:
        raise ValueError("no")

    @app.function
    def fail_blocking(blocked: Blocked) -> int:
        raise ValueError("no")

    async with app, Worker(app):
        for function in (fail, fail_blocking):
            with pytest.raises(JobFailed, match="ValueError: no"):
                await function.call()  # type: ignore[call-arg]


async def test_a_sync_dependency_of_an_attempt_is_in_the_thread_of_its_function(app: App) -> None:
    """Opened, used and closed in one thread, as connections of sqlite3 demand it."""
    threads: list[int] = []

    @app.dependency(scope="attempt")
    def lock() -> Iterator[Blocked]:
        threads.append(threading.get_ident())
        yield Blocked("")
        threads.append(threading.get_ident())

    @app.function
    def use(blocked: Blocked) -> None:
        threads.append(threading.get_ident())

    @app.function
    async def use_async(blocked: Blocked) -> None: ...

    async with app, Worker(app):
        await use.call()  # type: ignore[call-arg]
        assert len(set(threads)) == 1
        threads.clear()
        await use_async.call()  # type: ignore[call-arg]
        assert threading.get_ident() not in threads


@pytest.mark.parametrize("blocking", [False, True])
async def test_an_attempt_that_is_cancelled_is_rolled_back(app: App, blocking: bool) -> None:
    """Also one in a thread, when the function has returned: what it did does not count."""
    ended: asyncio.Queue[str] = asyncio.Queue()
    began, loop = asyncio.Event(), asyncio.get_running_loop()

    @app.dependency(scope="attempt")
    async def begin() -> AsyncIterator[Session]:
        try:
            yield Session("")
        except BaseException as error:
            ended.put_nowait(type(error).__name__)
            raise
        ended.put_nowait("commit")

    @app.dependency(scope="attempt")
    def lock() -> Iterator[Blocked]:
        try:
            yield Blocked("")
        except BaseException as error:
            loop.call_soon_threadsafe(ended.put_nowait, type(error).__name__)
            raise

    @app.function
    async def wait(session: Session) -> None:
        began.set()
        await asyncio.Event().wait()

    @app.function
    def wait_in_thread(ctx: Context, session: Session, blocked: Blocked) -> None:
        loop.call_soon_threadsafe(began.set)
        while not ctx.cancelled:
            pass

    async with app, Worker(app):
        function = wait_in_thread if blocking else wait
        job = await app.submit("wait", [function.step()])  # type: ignore[call-arg]
        await began.wait()
        await app.cancel(job.id)
        assert (await app.wait(job.id)).state == "cancelled"
        assert await ended.get() == "CancelledError"
        if blocking:
            assert await ended.get() == "CancelledError"


async def test_dependencies_get_the_state(app: App) -> None:
    """A parameter named ``state`` is what the lifespan yielded."""

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[Mapping[str, Any]]:
        yield {"name": "ours"}

    app.lifespan = lifespan

    @app.dependency
    def session(state: Mapping[str, Any]) -> Session:
        return Session(state["name"])

    @app.function
    async def name(session: Session) -> str:
        return session.name

    async with app, Worker(app):
        assert await name.call() == "ours"  # type: ignore[call-arg]


async def test_callers_pass_none(app: App) -> None:
    """A dependency is no argument: neither by position nor by name, nor in the description of a function."""

    @app.dependency
    def make() -> Pool:
        return Pool()

    @app.function
    def use(
        first: int, pool: Pool, ctx: Context, *rest: int, session: Pool = injected, **more: int
    ) -> list[Any]:
        return [first, pool is session, ctx.attempt, rest, more]

    assert use.info.parameters["properties"].keys() == {"first"}
    assert use.info.positional["prefixItems"] == [{"type": "integer"}]
    with pytest.raises(InvalidInput, match="has no argument named 'pool'"):
        use.step(1, pool=3)  # type: ignore[arg-type, call-arg]
    async with app, Worker(app):
        assert await use.call(1, 2, 3, a=4) == [1, True, 1, [2, 3], {"a": 4}]  # type: ignore[arg-type]
        assert await use.call(first=5) == [5, True, 1, [], {}]  # type: ignore[call-arg]


def test_a_direct_call_passes_them(app: App) -> None:
    """It is plain Python. A parameter that got nothing says so when it is used."""

    @app.dependency
    def make() -> Pool:
        return Pool()

    @app.function
    def use(number: int, pool: Pool = injected) -> int:
        return pool.use()[1] + number

    assert use(1, Pool()) == 2
    assert make().count == 0
    with pytest.raises(AttributeError, match=r"no 'use'.* In a direct call, pass it yourself"):
        use(1)
    assert repr(injected) == "injected"


class TestOverride:
    """Dependencies that a test replaces."""

    async def test_a_value_replaces_a_dependency(self, shared: App, lines: Lines) -> None:
        """Neither the dependency nor what only it needs is opened."""
        use = shared.function(pools.use_blocking)
        with shared.override(Pool, Pool()):
            async with running(shared) as worker:
                job = await shared.submit("use", [use.step(3)])
                await worker.drain()
                assert (await shared.status(job.id)).result == [3, 1]
        assert lines() == []
        async with running(shared) as worker:
            await shared.submit("use", [use.step(3)])
            await worker.drain()
        assert lines() == ["open pool", "close pool"]

    def test_one_of_an_attempt_is_replaced_too(self, shared: App, lines: Lines) -> None:
        """In a test that is not async, of a function that runs in a process elsewhere."""
        transact = shared.function(process=True)(pools.transact)
        with shared.override(Session, Session("fake")), running(shared) as worker:
            job = shared.blocking.submit("use", [transact.step()])
            worker.drain()
            assert shared.blocking.status(job.id).result == "fake"
        assert lines() == []

    async def test_a_child_process_cannot_get_it(self, shared: App) -> None:
        """A value stays in its process: the worker does not start, and says why."""
        shared.function(process=True)(pools.use)
        with (
            shared.override(Pool, Pool()),
            pytest.raises(
                RegistrationError, match="open_pool is overridden by a value, which cannot be sent"
            ),
        ):
            async with running(shared, processes=True):
                raise AssertionError

    def test_it_needs_a_dependency(self, shared: App) -> None:
        """Of exactly this type."""
        with (
            pytest.raises(
                RegistrationError, match=r"no dependency returns int; the dependencies are: .*Pool"
            ),
            shared.override(int, 3),
        ):
            raise AssertionError
