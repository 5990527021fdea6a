"""The calls for code that is not async."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from raincheck import App, Context, InvalidInput, JobFailed, NotFound, Worker, step
from tests.worker.helpers import entry


@pytest.fixture
def worked(app: App) -> Iterator[App]:
    """An app whose worker runs on a loop in another thread."""
    started, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    @app.function
    async def add(a: int, b: int) -> int:
        return a + b

    @app.function
    def days(number: int) -> set[date]:
        return {date(2026, 1, day + 1) for day in range(number)}

    @app.function
    def fail() -> None:
        raise ValueError("too bad")

    @app.function
    async def wait(ctx: Context) -> None:
        ctx.progress(1, 2)
        await asyncio.Event().wait()

    async def work() -> None:
        loops.append(asyncio.get_running_loop())
        async with Worker(app, grace=0.0):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    assert started.wait(10)
    yield app
    loops[0].call_soon_threadsafe(stop.set)
    thread.join(10)
    app.blocking.close()


def test_submit_and_wait(worked: App) -> None:
    """Plain code submits a job and waits for its end."""
    job = worked.blocking.submit("sum", [step("add", 1, 2)], data={"a": 1})
    ended = worked.blocking.wait(job.id)
    assert (ended.state, ended.result, ended.data) == ("done", 3, {"a": 1})
    assert worked.blocking.status(job.id) == ended


def test_call(worked: App) -> None:
    """Plain code calls a function and gets its result, or what went wrong."""
    assert worked.blocking.call(step("add", 1, 2)) == 3
    assert worked.blocking.call(step("days", 2)) == {date(2026, 1, 1), date(2026, 1, 2)}
    with pytest.raises(JobFailed, match="too bad"):
        worked.blocking.call(step("fail"))
    with pytest.raises(NotFound):
        worked.blocking.status("01990000-0000-7000-8000-000000000000")


def test_watch_cancel_retry(worked: App) -> None:
    """Plain code watches a job, cancels it and lets it go on."""
    job = worked.blocking.submit("wait", [step("wait")])
    for shown in worked.blocking.watch(job.id):
        if entry(shown).progress is not None:
            break
    for shown in worked.blocking.watch(job.id):
        if shown.state == "doing" and shown.cancel_requested_at is None:
            worked.blocking.cancel(job.id)
    assert shown.state == "cancelled"
    assert worked.blocking.retry(job.id).run == 2
    worked.blocking.cancel(job.id)
    assert worked.blocking.wait(job.id).state == "cancelled"


def test_jobs_are_listed(worked: App) -> None:
    """All that match, newest first or oldest first, as short documents."""
    made = [worked.blocking.submit(f"listed {i % 2}", [step("later")], delay=60).id for i in range(60)]
    assert [job.id for job in worked.blocking.jobs()] == made[::-1]
    found = worked.blocking.jobs(name="listed 1", state=["scheduled", "done"], since="1h", sort="oldest")
    assert [job.id for job in found] == made[1::2]
    assert next(iter(worked.blocking.jobs())).id == made[-1]
    with pytest.raises(InvalidInput, match="/since"):
        list(worked.blocking.jobs(since="yesterday"))


def test_many_threads_at_once(worked: App) -> None:
    """Any number of threads may ask at the same time."""
    with ThreadPoolExecutor(10) as threads:
        results = threads.map(lambda n: worked.blocking.call(step("add", n, n)), range(100))
        assert list(results) == [2 * n for n in range(100)]


def test_it_opens_once(app: App) -> None:
    """The first calls of many threads open the store once between them."""
    with ThreadPoolExecutor(10) as threads:
        jobs = list(threads.map(lambda n: app.blocking.submit("x", [step("x", n)]), range(20)))
    assert len({job.id for job in jobs}) == 20
    app.blocking.close()


def test_a_closed_app_opens_again(app: App) -> None:
    """After ``close`` the next call opens the store anew."""
    job = app.blocking.submit("x", [step("x")])
    app.blocking.close()
    app.blocking.close()
    assert app.blocking.status(job.id).state == "pending"
    app.blocking.close()


def test_closing_leaves_no_thread(app: App) -> None:
    """Nothing that was started for the calls is left when it is closed."""
    before = set(threading.enumerate())
    app.blocking.submit("x", [step("x")])
    app.blocking.close()
    assert set(threading.enumerate()) <= before


async def test_not_from_a_loop(app: App) -> None:
    """On an event loop the blocking calls say what to use instead."""
    with pytest.raises(RuntimeError, match="await"):
        app.blocking.status("x")


async def test_several_loops_may_open_it_at_once(app: App) -> None:
    """An app may be opened by several loops in the same moment."""
    jobs = await asyncio.gather(
        *(asyncio.to_thread(asyncio.run, app.submit("x", [step("x")])) for _ in range(5)),
        app.submit("x", [step("x")]),
    )
    assert len({job.id for job in jobs}) == 6
    await app.close()
