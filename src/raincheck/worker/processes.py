"""Child processes for ``process=True`` functions: spawned when needed, killed to stop an attempt."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from raincheck.core.codec import encode_job
from raincheck.core.model import Job
from raincheck.core.stages import INLINE_RESULT
from raincheck.functions.dependencies import Dependency
from raincheck.store import CHILD
from raincheck.worker import child
from raincheck.worker.attempt import RunningAttempt
from raincheck.worker.child import Opening, Order, Place, Reply
from raincheck.worker.child_logging import ForwardedRecords, levels
from raincheck.worker.lifetime import NO_LIMITS, ChildLimits
from raincheck.worker.outcome import ChildError, Encoded

T = TypeVar("T")

CLOSING = 5.0
"""Seconds that a child has to close its dependencies; then it is killed."""

_decode = msgspec.msgpack.Decoder(Reply).decode
_encode = msgspec.msgpack.Encoder().encode


class Child:
    """A child process that is ready, and the pipe to it."""

    def __init__(self, dependencies: Sequence[Opening]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, levels(), _encode(dependencies))
        self.process = context.Process(target=child.main, args=arguments, name=CHILD, daemon=True)
        self._has_to_close = len(dependencies) > 0
        self._records = ForwardedRecords()
        self.jobs = 0
        """The attempts that it has run."""
        self.memory = 0
        """The bytes that it used after the last one."""
        self.process.start()
        theirs.close()
        with self._child_errors("did not start"):
            reply = self._reply()
        if reply.kind == "failed":
            self.end()
            raise error_of(reply)

    def run(self, attempt: RunningAttempt) -> Reply:
        """Run an attempt and note its progress; blocks. Raises `ChildError` if the child dies."""
        with self._child_errors("died"):
            self.pipe.send_bytes(_encode(_order(attempt)))
            while (reply := self._reply()).kind == "progress":
                if reply.token == attempt.token:
                    attempt.report(reply.value)
        if attempt.around is None:
            attempt.mark_returned()
        return reply

    def _reply(self) -> Reply:
        """The next reply; the log records before it are handled."""
        while (reply := _decode(self.pipe.recv_bytes())).kind == "log":
            self._records.handle(reply.value)
        return reply

    @contextmanager
    def _child_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError):
            self.end()
            code = self.process.exitcode or 0
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            raise ChildError(("ProcessDied",), f"its child process {what}: {how}") from None

    def kill(self) -> None:
        """Kill it; does not wait for its end."""
        with suppress(OSError):
            self.process.kill()

    def end(self) -> None:
        """Close the pipe, which ends it, and wait until it has ended.

        It has a few seconds to close its dependencies.
        """
        self.pipe.close()
        if self._has_to_close:
            self.process.join(CLOSING)
        self.kill()
        self.process.join()


class Processes:
    """Child processes for up to ``size`` attempts at once; each opens the ``dependencies`` when it starts.

    One that has reached ``limits`` is replaced.
    """

    def __init__(
        self, size: int, dependencies: Sequence[Dependency] = (), limits: ChildLimits = NO_LIMITS
    ) -> None:
        self.size = size
        self._limits = limits
        self._dependencies = [Opening(_place(each.function), each.scope) for each in dependencies]
        self._idle: list[Child] = []
        self._closed = False
        # some threads wait for a reply of a child, others for the end of one
        self._threads = ThreadPoolExecutor(2 * size, thread_name_prefix="raincheck-process")

    async def run(self, child: Child, attempt: RunningAttempt) -> Encoded:
        """Run an attempt in a child; the child is idle again afterwards.

        Raises `ChildError` if the function raised. If the call is cancelled, the child is killed.
        """
        pending = self._call(child.run, attempt)
        try:
            reply = await asyncio.shield(pending)
        except BaseException:
            child.kill()
            pending.add_done_callback(asyncio.Future.exception)  # it failed because the child was killed
            raise
        child.jobs += 1
        child.memory = reply.memory
        self.keep(child)
        if reply.kind == "failed":
            raise error_of(reply)
        return Encoded(reply.value, reply.data)

    def keep(self, child: Child) -> None:
        """Keep a child that is idle, for the next attempt; one that has reached its limits is ended."""
        if self._limits.are_reached(child.jobs, child.memory):
            self._call(child.end)
        else:
            self._idle.append(child)

    async def child(self) -> Child:
        """An idle child, or a new one. Raises `ChildError` if it does not start."""
        while self._idle:
            child = self._idle.pop()
            if child.process.is_alive():
                return child
        starting = self._call(Child, self._dependencies)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._keep_started)
            raise

    def _keep_started(self, starting: asyncio.Future[Child]) -> None:
        """Keep a child whose attempt was cancelled before it was ready."""
        if not starting.cancelled() and starting.exception() is None:
            self.keep(starting.result())
            if self._closed:
                starting.result().kill()

    def _call(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    async def close(self) -> None:
        """End the children, which are all idle."""
        self._closed = True
        await asyncio.gather(*(self._call(idle.end) for idle in self._idle))
        self._idle.clear()
        self._threads.shutdown(wait=False)


def error_of(reply: Reply) -> ChildError:
    """The exception that a child has sent."""
    return ChildError(
        reply.names,
        reply.message,
        traceback=reply.traceback,
        fatal=reply.fatal,
        retry_after=reply.retry_after,
    )


def _order(attempt: RunningAttempt) -> Order:
    claim, values = attempt.claim, attempt.function.signature.values
    return Order(
        attempt.token,
        _place(attempt.function.function),
        values.encode and _place(values.encode),
        values.decode and _place(values.decode),
        encode_job(_slim(claim.job)),
        claim.lease.step,
        attempt.previous,
        attempt.current,
    )


def _place(function: Callable[..., Any]) -> Place:
    module = sys.modules.get(function.__module__)
    return Place(function.__module__, getattr(module, "__file__", None), function.__qualname__)


def _slim(job: Job) -> Job:
    """The job without large results, which were part of the record before version 4."""
    if not any(step.result is not None and len(step.result) > INLINE_RESULT for step in job.steps):
        return job
    steps = (
        replace(step, result=None) if len(step.result or b"") > INLINE_RESULT else step for step in job.steps
    )
    return replace(job, steps=tuple(steps))
