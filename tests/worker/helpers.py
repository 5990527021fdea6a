"""Waiting for what a job or a log says, and a look at one function of a job."""

import asyncio
import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raincheck import App, JobDocument
from raincheck.core.model import WorkerInfo
from raincheck.engine.documents import FunctionDocument


def entry(job: JobDocument, *at: int) -> FunctionDocument:
    """One function of a job: the first, or the one at ``at`` (stage, and member of a parallel one)."""
    found = job.functions[at[0] if at else 0]
    if isinstance(found, list):
        found = found[at[1] if len(at) > 1 else 0]
    return found


async def seen(app: App, job_id: str, what: Callable[[JobDocument], object]) -> JobDocument:
    """The job as soon as ``what`` is true of it."""
    async for job in app.watch(job_id):
        if what(job):
            return job
    raise AssertionError("the job ended before that")


async def begun(app: App, job_id: str) -> JobDocument:
    """The job once its current function has told progress: it is running."""
    return await seen(app, job_id, lambda job: entry(job, job.current_function).progress is not None)


async def known(app: App, what: Callable[[list[WorkerInfo]], object]) -> None:
    """Wait until ``what`` is true of the workers known."""
    async with asyncio.timeout(30):
        while not what(await app.engine.store.workers()):
            pass


@contextmanager
def logged(text: str, name: str = "raincheck") -> Iterator[asyncio.Event]:
    """An event that is set when a line with ``text`` is logged, by any thread."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                loop.call_soon_threadsafe(event.set)

    handler = Handler()
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield event
    finally:
        logger.removeHandler(handler)


@contextmanager
def no_room_on_disk(app: App) -> Iterator[None]:
    """Let every write to a file of this process fail beyond some bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
