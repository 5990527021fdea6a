"""Child processes for ``process=True`` functions: spawned when needed, killed to stop what they run."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from raincheck.codec import encode_job
from raincheck.lifecycle import previous_results
from raincheck.worker import child
from raincheck.worker.attempt import Encoded
from raincheck.worker.child import Order, Reply
from raincheck.worker.run import ChildError, Run

_decode = msgspec.msgpack.Decoder(Reply).decode
_encode = msgspec.msgpack.Encoder().encode


class Child:
    """One process and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=child.main, args=(theirs,), name="raincheck-child", daemon=True)
        self.process.start()
        theirs.close()

    def run(self, order: Order, progress: Callable[[bytes], None]) -> Reply:
        """Have it run a function, blocking until it is done. Raises `ChildError` if it dies."""
        try:
            self.pipe.send_bytes(_encode(order))
            while (reply := _decode(self.pipe.recv_bytes())).kind == "progress":
                progress(reply.value)
        except (EOFError, OSError):
            self.process.join()
            raise ChildError(
                ("ProcessDied",), f"the process that ran it died (exit code {self.process.exitcode})"
            ) from None
        return reply

    def kill(self) -> None:
        """End it now."""
        with suppress(OSError):
            self.process.kill()
        self.process.join()
        with suppress(OSError):
            self.pipe.close()


class Processes:
    """At most ``size`` children at work at once, by default one a core."""

    def __init__(self, report: Callable[[Run, bytes], None], size: int | None = None) -> None:
        self._size = size or os.cpu_count() or 1
        self._report = report
        self._idle: list[Child] = []
        self._room = asyncio.Semaphore(self._size)
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, run: Run, started: Callable[[], None]) -> Encoded:
        """The result of a run; ``started`` is called when it really begins.

        Raises `ChildError` with what the function raised. Cancelling it kills the child.
        """
        async with self._room:
            worker = self._idle.pop() if self._idle else await self._call(Child)
            started()
            pending = self._call(worker.run, _order(run), lambda value: self._report(run, value))
            try:
                reply: Reply = await asyncio.shield(pending)
            except BaseException:
                await self._call(worker.kill)
                with suppress(ChildError):
                    await pending
                raise
            self._idle.append(worker)
        if reply.kind == "failed":
            raise ChildError(reply.names, reply.message, fatal=reply.fatal, retry_after=reply.retry_after)
        return Encoded(reply.value, reply.data)

    def _call(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        if self._executor is None:  # twice as many: those that wait for a child, those that end one
            self._executor = ThreadPoolExecutor(2 * self._size, thread_name_prefix="raincheck-process")
        return asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    async def close(self) -> None:
        """End the children; none of them is at work any more."""
        for worker in self._idle:
            await self._call(worker.kill)
        self._idle.clear()
        if self._executor is not None:
            self._executor.shutdown(wait=False)


def _order(run: Run) -> Order:
    claim, function = run.claim, run.function.function
    module = sys.modules.get(function.__module__)
    return Order(
        function.__module__,
        getattr(module, "__file__", None),
        function.__qualname__,
        encode_job(claim.job),
        claim.lease.step,
        previous_results(claim.job, claim.step.stage),
    )
