"""Child processes for ``process=True`` functions: spawned when needed, killed to stop what they run."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from raincheck.codec import encode_job
from raincheck.lifecycle import INLINE_RESULT
from raincheck.model import Job
from raincheck.worker import child
from raincheck.worker.attempt import Encoded
from raincheck.worker.child import Order, Reply
from raincheck.worker.run import ChildError, Run

T = TypeVar("T")

_decode = msgspec.msgpack.Decoder(Reply).decode
_encode = msgspec.msgpack.Encoder().encode


class Child:
    """One process, ready to work, and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=child.main, args=(theirs,), name="raincheck-child", daemon=True)
        self.process.start()
        theirs.close()
        with self._mourned("did not begin"):
            self.pipe.recv_bytes()

    def run(self, order: Order, progress: Callable[[bytes], None]) -> Reply:
        """Have it run a function, blocking until it is done. Raises `ChildError` if it dies."""
        with self._mourned("died"):
            self.pipe.send_bytes(_encode(order))
            while (reply := _decode(self.pipe.recv_bytes())).kind == "progress":
                if reply.token == order.token:
                    progress(reply.value)
        return reply

    @contextmanager
    def _mourned(self, what: str) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError):
            self.end()
            code = self.process.exitcode or 0
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            raise ChildError(("ProcessDied",), f"the process that was to run it {what}: {how}") from None

    def kill(self) -> None:
        """Have it end now, without waiting for that."""
        with suppress(OSError):
            self.process.kill()

    def end(self) -> None:
        """Wait until it has ended, which it does when the pipe is closed."""
        self.pipe.close()
        self.process.join()


class Processes:
    """At most ``size`` children at work at once."""

    def __init__(self, size: int, report: Callable[[Run, bytes], None]) -> None:
        self.size = size
        self._report = report
        self._idle: list[Child] = []
        self._closed = False
        # twice as many: those that wait for a child, and those that see one off
        self._threads = ThreadPoolExecutor(2 * size, thread_name_prefix="raincheck-process")

    async def run(self, run: Run, started: Callable[[], None]) -> Encoded:
        """The result of a run; ``started`` is called when it really begins.

        Raises `ChildError` with what the function raised. Cancelling it kills the child.
        """
        worker = await self._child()
        started()
        pending = self._call(worker.run, _order(run), lambda value: self._report(run, value))
        try:
            reply = await asyncio.shield(pending)
        except BaseException:
            worker.kill()
            pending.add_done_callback(asyncio.Future.exception)  # that it was killed is no news
            raise
        self._idle.append(worker)
        if reply.kind == "failed":
            raise ChildError(reply.names, reply.message, fatal=reply.fatal, retry_after=reply.retry_after)
        return Encoded(reply.value, reply.data)

    async def _child(self) -> Child:
        while self._idle:
            worker = self._idle.pop()
            if worker.process.is_alive():
                return worker
        starting = self._call(Child)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._put_aside)
            raise

    def _put_aside(self, starting: asyncio.Future[Child]) -> None:
        """Keep a child that nobody waited for."""
        if not starting.cancelled() and starting.exception() is None:
            self._idle.append(starting.result())
            if self._closed:
                starting.result().kill()

    def _call(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    async def close(self) -> None:
        """End the children; none of them is at work any more."""
        self._closed = True
        for worker in self._idle:
            worker.kill()
        await asyncio.gather(*(self._call(worker.end) for worker in self._idle))
        self._idle.clear()
        self._threads.shutdown(wait=False)


def _order(run: Run) -> Order:
    claim, function = run.claim, run.function.function
    module = sys.modules.get(function.__module__)
    return Order(
        run.token,
        function.__module__,
        getattr(module, "__file__", None),
        function.__qualname__,
        encode_job(_slim(claim.job)),
        claim.lease.step,
        run.previous,
    )


def _slim(job: Job) -> Job:
    """The job without large results, which records had within them before version 4."""
    if not any(step.result is not None and len(step.result) > INLINE_RESULT for step in job.steps):
        return job
    steps = (
        replace(step, result=None) if len(step.result or b"") > INLINE_RESULT else step for step in job.steps
    )
    return replace(job, steps=tuple(steps))
