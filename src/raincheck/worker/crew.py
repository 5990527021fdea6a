"""The crew: every run this worker has, from its claim to its outcome.

Async functions are run by a few coroutines that take runs off a deque, so that a quick function
costs no task of its own; sync functions by threads; ``process=True`` by child processes.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from raincheck.clock import monotonic
from raincheck.worker.processes import Processes
from raincheck.worker.run import Reason, Run
from raincheck.worker.threads import Threads

Over = Callable[[Run, Any, BaseException | None], None]

STRETCH = 0.001
"""Seconds for which a runner may take run after run without letting others have the loop."""

ABANDON = 1.0
"""Seconds that a run which was told to stop is given to do so, before its slot is given up."""

BURST = 16
"""How many runners are started at once."""


class Crew:
    """Runs up to ``size`` attempts at once, and as many in child processes as there may be of them.

    ``over`` is told of each end, exactly once, on the loop.
    """

    def __init__(self, size: int, processes: Processes, over: Over) -> None:
        self._size = size
        self._told = over
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._waiting: deque[Run] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._hiring = False
        self._threads = Threads(size, self._context, self._end)
        self._processes = processes
        self._children: set[asyncio.Task[None]] = set()
        self._stuck: set[asyncio.Task[None]] = set()
        self._in_processes = 0
        self._closed = False
        self.runs: dict[int, Run] = {}

    def room(self) -> int:
        """How many more attempts could be run on the loop and in threads."""
        return self._size - len(self.runs) + self._in_processes

    def children(self) -> int:
        """How many more could be run in child processes."""
        return self._processes.size - self._in_processes

    def start(self, runs: list[Run]) -> None:
        """Begin these."""
        threaded: list[Run] = []
        for run in runs:
            self.runs[run.token] = run
            if run.function.mode == "async":
                self._waiting.append(run)
            elif run.function.mode == "thread":
                self._time(run)
                threaded.append(run)
            else:
                self._in_processes += 1
                self._keep(self._children, asyncio.create_task(self._run_in_process(run)))
        if threaded:
            self._threads.start(threaded)
        if self._waiting:
            self._hire(1)

    def stop(self, run: Run, reason: Reason) -> None:
        """Tell a run to stop; if it does not, it is given up a while later."""
        if run.over or run.reason is not None:
            return
        run.reason = reason
        if run.task is not None:
            run.task.cancel()
        elif run.function.mode != "thread":  # it has not begun
            self._end(run, None, CancelledError())
            return
        self._loop.call_later(ABANDON, self._abandon, run)

    def take_waiting(self) -> list[Run]:
        """Take back the runs that have not begun."""
        runs = [run for run in self._waiting if not run.over] + self._threads.take_waiting()
        self._waiting.clear()
        for run in runs:
            self._close(run)
        return runs

    async def close(self) -> None:
        """Let go of everything; functions that do not stop are left alone."""
        self._closed = True
        tasks = self._runners | self._children | self._stuck
        for task in tasks:
            task.cancel()
        if tasks:
            _, hung = await asyncio.wait(tasks, timeout=ABANDON)
            for task in hung:  # else asyncio.run would wait for it, for ever
                asyncio._unregister_task(task)
        self._threads.close()
        await self._processes.close()

    def _keep(self, tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _hire(self, most: int = BURST) -> None:
        """See that there are runners for what waits."""
        self._hiring = False
        if self._closed:
            return
        for _ in range(min(most, len(self._waiting), self._size - len(self._runners))):
            runner = self._loop.create_task(self._run_all(), context=self._context.copy())
            self._keep(self._runners, runner)

    async def _run_all(self) -> None:
        """Run what waits until nothing does; if a run takes its time, others are hired meanwhile."""
        since = monotonic()
        runner = asyncio.current_task()
        assert runner is not None  # noqa: S101 - it is one
        while self._waiting:
            run = self._waiting.popleft()
            if run.over:
                continue
            if self._waiting and not self._hiring:
                self._hiring = True
                self._loop.call_soon(self._hire)
            await self._run(run, runner)
            if runner.cancelling() or copy_context() != self._context:
                break  # what the function left behind must not reach the next: another runner goes on
            if monotonic() - since > STRETCH:
                await asyncio.sleep(0)
                since = monotonic()
        self._runners.discard(runner)
        self._hire(1)

    async def _run(self, run: Run, runner: asyncio.Task[None]) -> None:
        args, kwargs = run.arguments
        self._time(run)
        run.task = runner
        result, error = None, None
        try:
            result = await run.function.function(*args, **kwargs)
        except BaseException as raised:
            if self._closed:
                raise
            error = raised  # whatever a function raises is its outcome
        run.task = None
        self._end(run, result, error)

    async def _run_in_process(self, run: Run) -> None:
        if run.over:
            return
        run.task = asyncio.current_task()
        result, error = None, None
        try:
            result = await self._processes.run(run, lambda: self._time(run))
        except BaseException as raised:
            if self._closed:
                raise
            error = raised
        run.task = None
        self._end(run, result, error)

    def _time(self, run: Run) -> None:
        if (seconds := run.timeout) is not None:
            run.handle = self._loop.call_later(seconds, self.stop, run, Reason.TIMEOUT)

    def _abandon(self, run: Run) -> None:
        """It was told to stop, and did not: its slot is given up."""
        if run.over:
            return
        if run.task in self._runners:
            self._runners.discard(run.task)
            self._keep(self._stuck, run.task)
        self._end(run, None, CancelledError())
        if run.function.mode == "thread":
            self._threads.give_up()
        self._hire(1)

    def _end(self, run: Run, result: Any, error: BaseException | None) -> None:
        if not run.over:
            self._close(run)
            self._told(run, result, error)

    def _close(self, run: Run) -> None:
        run.over = True
        if run.handle is not None:
            run.handle.cancel()
        del self.runs[run.token]
        self._in_processes -= run.function.mode == "process"
