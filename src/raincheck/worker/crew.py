"""The crew: every run this worker has, from its claim to its outcome.

Async functions are run by a few coroutines that take runs off a deque, so that a quick function
costs no task of its own; sync functions by threads; ``process=True`` by child processes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from raincheck.clock import monotonic
from raincheck.worker.processes import Processes
from raincheck.worker.run import Reason, Run
from raincheck.worker.threads import Threads

Over = Callable[[Run, Any, BaseException | None], None]

STRETCH = 0.005
"""Seconds for which a runner may take run after run without letting others have the loop."""

ABANDON = 1.0
"""Seconds that a run which was told to stop is given to do so, before its slot is given up."""

BURST = 16
"""How many runners are started at once."""


class Crew:
    """Runs up to ``size`` attempts at once; ``over`` is told of each end, exactly once, on the loop."""

    def __init__(self, size: int, over: Over, processes: Processes) -> None:
        self._size = size
        self._told = over
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Run] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._threads = Threads(size, self._loop, self._end)
        self._processes = processes
        self._children: set[asyncio.Task[None]] = set()
        self._idle = 0
        self._hiring = False
        self._closed = False
        self.runs: dict[int, Run] = {}

    def start(self, runs: list[Run]) -> None:
        """Begin these."""
        threaded: list[Run] = []
        for run in runs:
            self.runs[run.claim.lease.token] = run
            if run.function.mode == "async":
                self._waiting.append(run)
            elif run.function.mode == "thread":
                self._time(run)
                threaded.append(run)
            else:
                self._spawn(run)
        if threaded:
            self._threads.start(threaded)
        if self._waiting:
            self._hire()

    def stop(self, run: Run, reason: Reason) -> None:
        """Tell a run to stop. One in a thread can only be told; its slot is freed where that is due."""
        if run.over or run.reason is not None:
            return
        run.reason = reason
        if run.task is not None:
            run.task.cancel()
            self._loop.call_later(ABANDON, self._abandon, run)
        elif run.function.mode == "thread":
            if reason is not Reason.CANCELLED:
                self._abandon(run)
        else:
            self._end(run, None, None)

    def take_waiting(self) -> list[Run]:
        """Take back the runs that have not begun."""
        runs = [*self._waiting, *self._threads.take_waiting()]
        self._waiting.clear()
        for run in runs:
            self._close(run)
        return runs

    async def close(self) -> None:
        """Let go of everything that still runs."""
        self._closed = True
        for task in [*self._runners, *self._children]:
            task.cancel()
        await asyncio.gather(*self._runners, *self._children, return_exceptions=True)
        self._threads.close()
        await self._processes.close()

    def _hire(self) -> None:
        """See that there are runners for what waits."""
        self._hiring = False
        if self._closed:
            return
        for _ in range(min(BURST, len(self._waiting), self._size - len(self._runners))):
            runner = asyncio.create_task(self._run_all())
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)

    async def _run_all(self) -> None:
        """Run what waits until nothing does; if a run takes its time, others are hired meanwhile."""
        since = monotonic()
        task = asyncio.current_task()
        while self._waiting:
            run = self._waiting.popleft()
            if self._waiting and not self._hiring:
                self._hiring = True
                self._loop.call_soon(self._hire)
            await self._run(run, task)
            if monotonic() - since > STRETCH:
                await asyncio.sleep(0)
                since = monotonic()

    async def _run(self, run: Run, task: asyncio.Task[Any] | None) -> None:
        if run.over:
            return
        args, kwargs = run.arguments
        self._time(run)
        run.task = task
        try:
            result = await run.function.function(*args, **kwargs)
        except asyncio.CancelledError as error:
            run.task = None
            if run.reason is None:  # the runner itself is cancelled, or the function cancels itself
                self._end(run, None, error)
                if self._closed:
                    raise
            elif task is not None:
                task.uncancel()
            self._end(run, None, None)
        except Exception as error:  # noqa: BLE001 - whatever a function raises is its outcome
            run.task = None
            self._end(run, None, error)
        else:
            run.task = None
            self._end(run, result, None)

    def _time(self, run: Run) -> None:
        if (seconds := run.timeout) is not None:
            run.handle = self._loop.call_later(seconds, self.stop, run, Reason.TIMEOUT)

    def _spawn(self, run: Run) -> None:
        child = asyncio.create_task(self._run_in_process(run))
        self._children.add(child)
        child.add_done_callback(self._children.discard)

    async def _run_in_process(self, run: Run) -> None:
        run.task = asyncio.current_task()
        try:
            result = await self._processes.run(run, lambda: self._time(run))
        except asyncio.CancelledError:
            self._end(run, None, None)
        except Exception as error:  # noqa: BLE001 - whatever a function raises is its outcome
            self._end(run, None, error)
        else:
            self._end(run, result, None)

    def _abandon(self, run: Run) -> None:
        if not run.over:
            self._end(run, None, None)
            if run.function.mode == "thread":
                self._threads.replace_one()

    def _end(self, run: Run, result: Any, error: BaseException | None) -> None:
        if not run.over:
            self._close(run)
            self._told(run, result, error)

    def _close(self, run: Run) -> None:
        run.over = True
        if run.handle is not None:
            run.handle.cancel()
        self.runs.pop(run.claim.lease.token, None)
