"""Runs attempts, and gives those that have ended.

Async functions are run by a few coroutines that take attempts off a deque, so that a quick function
costs no task of its own; sync functions by threads; ``process=True`` by child processes.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections import deque
from collections.abc import Sequence
from contextvars import copy_context
from typing import Any

from raincheck.core.clock import monotonic
from raincheck.worker.attempt import Finished, Reason, RunningAttempt
from raincheck.worker.inbox import Inbox
from raincheck.worker.processes import Processes
from raincheck.worker.threads import Threads

STRETCH = 0.001
"""Seconds for which a runner takes attempt after attempt before others have the loop."""

ABANDON = 1.0
"""Seconds that an attempt has to stop once it was told to; then it is abandoned."""

BURST = 16
"""How many runners are started at once."""


class Executor:
    """Runs up to ``concurrency`` attempts at once on the loop and in threads, and up to ``processes`` more
    in child processes."""

    def __init__(self, concurrency: int, processes: int) -> None:
        self._concurrency = concurrency
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._finished: Inbox[Finished] = Inbox()
        self._ended = asyncio.Event()
        self._counts = {"async": 0, "thread": 0, "process": 0}
        self._waiting: deque[RunningAttempt] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._starting_runners = False
        self._threads = Threads(concurrency, self._context, self._finished)
        self._processes = Processes(processes)
        self._children: set[asyncio.Task[None]] = set()
        self._stuck: set[asyncio.Task[None]] = set()
        self._closed = False
        self.abandoned = 0
        """How many threads still run the function of an attempt that was abandoned."""

    def room(self, *, processes: bool = False) -> int:
        """How many more attempts can be run on the loop and in threads, or else in ``processes``."""
        if processes:
            return self._processes.size - self._counts["process"]
        return self._concurrency - self._counts["async"] - self._counts["thread"]

    async def wait_for_room(self, *, processes: bool = False) -> int:
        """The room, once there is any."""
        while (room := self.room(processes=processes)) <= 0:
            self._ended.clear()
            await self._ended.wait()
        return room

    def start(self, attempts: Sequence[RunningAttempt]) -> None:
        """Begin these."""
        threaded: list[RunningAttempt] = []
        for attempt in attempts:
            mode = attempt.function.mode
            self._counts[mode] += 1
            if mode == "async":
                self._waiting.append(attempt)
            elif mode == "thread":
                self._set_timer(attempt)
                threaded.append(attempt)
            else:
                self._keep(self._children, asyncio.create_task(self._run_in_process(attempt)))
        if threaded:
            self._threads.start(threaded, self._counts["thread"])
        if self._waiting:
            self._start_runners(1)

    async def finished(self) -> list[Finished]:
        """The attempts that have ended since the last call, each once; waits for one.

        None, if what came is the end of a thread whose attempt was abandoned: that is discarded.
        """
        ended: list[Finished] = []
        for each in await self._finished.take():
            if not each.attempt.ended:
                self._end(each.attempt)
                ended.append(each)
            elif each.attempt.abandoned and each.attempt.function.mode == "thread":
                self.abandoned -= 1
        return ended

    def stop(self, attempt: RunningAttempt, reason: Reason) -> None:
        """Tell an attempt to stop; if it does not, it is abandoned a while later."""
        if attempt.ended or attempt.has_returned or attempt.reason is not None:
            return
        attempt.reason = reason
        if attempt.task is not None:
            attempt.task.cancel()
        elif attempt.function.mode != "thread":  # it has not begun
            attempt.has_returned = True
            self._finished.put(Finished(attempt, None, CancelledError()))
            return
        self._loop.call_later(ABANDON, self._abandon, attempt)

    def take_waiting(self) -> list[RunningAttempt]:
        """Take back the attempts that have not begun."""
        attempts = [attempt for attempt in self._waiting if not attempt.has_returned]
        attempts += self._threads.take_waiting()
        self._waiting.clear()
        for attempt in attempts:
            self._end(attempt)
        return attempts

    async def close(self) -> None:
        """Stop everything; functions that do not stop are left behind."""
        self._closed = True
        tasks = self._runners | self._children | self._stuck
        for task in tasks:
            task.cancel()
        if tasks:
            _, hung = await asyncio.wait(tasks, timeout=ABANDON)
            for task in hung:
                end_task(task)
        self._threads.close()
        await self._processes.close()

    def _end(self, attempt: RunningAttempt) -> None:
        attempt.ended = True
        if attempt.timer is not None:
            attempt.timer.cancel()
        self._counts[attempt.function.mode] -= 1
        self._ended.set()

    def _keep(self, tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _start_runners(self, most: int = BURST) -> None:
        """Start runners for attempts that wait."""
        self._starting_runners = False
        if self._closed:
            return
        for _ in range(min(most, len(self._waiting), self._concurrency - len(self._runners))):
            runner = self._loop.create_task(self._run_waiting(), context=self._context.copy())
            self._keep(self._runners, runner)

    async def _run_waiting(self) -> None:
        """Run what waits until nothing does; if an attempt takes its time, other runners are started."""
        since = monotonic()
        runner = asyncio.current_task()
        assert runner is not None  # noqa: S101 - it is one
        while self._waiting:
            attempt = self._waiting.popleft()
            if attempt.has_returned:
                continue
            if self._waiting and not self._starting_runners:
                self._starting_runners = True
                self._loop.call_soon(self._start_runners)
            await self._run(attempt, runner)
            if runner.cancelling() or copy_context() != self._context:
                break  # what the function left behind must not reach the next: another runner goes on
            if monotonic() - since > STRETCH:
                await asyncio.sleep(0)
                since = monotonic()
        self._runners.discard(runner)
        self._start_runners(1)

    async def _run(self, attempt: RunningAttempt, runner: asyncio.Task[None]) -> None:
        args, kwargs = attempt.arguments
        self._set_timer(attempt)
        attempt.task = runner
        result, error = None, None
        try:
            result = await attempt.function.function(*args, **kwargs)
        except BaseException as raised:
            if self._closed:
                raise
            error = raised  # whatever a function raises is its outcome
        attempt.task = None
        attempt.returned()
        self._finished.put(Finished(attempt, result, error))

    async def _run_in_process(self, attempt: RunningAttempt) -> None:
        if attempt.has_returned:
            return
        attempt.task = asyncio.current_task()
        result: Any = None
        error: BaseException | None = None
        try:
            child = await self._processes.child()
            self._set_timer(attempt)
            result = await self._processes.run(child, attempt)
        except BaseException as raised:
            if self._closed:
                raise
            error = raised
        attempt.task = None
        if not attempt.has_returned:
            attempt.returned()
        self._finished.put(Finished(attempt, result, error))

    def _set_timer(self, attempt: RunningAttempt) -> None:
        if (seconds := attempt.timeout) is not None:
            attempt.deadline = monotonic() + seconds
            attempt.timer = self._loop.call_later(seconds, self.stop, attempt, Reason.TIMEOUT)

    def _abandon(self, attempt: RunningAttempt) -> None:
        """It was told to stop, and did not: its slot is free for another."""
        if attempt.ended or attempt.has_returned:
            return
        attempt.abandoned = True
        if attempt.task in self._runners:
            self._runners.discard(attempt.task)
            self._keep(self._stuck, attempt.task)
        self._finished.put(Finished(attempt, None, CancelledError()))
        if attempt.function.mode == "thread":
            self.abandoned += 1
            self._threads.replace(self._counts["thread"] - 1)
        self._start_runners(1)


def end_task(task: asyncio.Task[None]) -> None:
    """End a task that swallows every cancel: else `asyncio.run` would wait for it for ever.

    Its coroutine is closed, which raises `GeneratorExit` where it waits; then the task has nothing to go on
    with. A coroutine that swallows even that is taken off the list of tasks, by the function that Python
    documents for programs with tasks of their own ("Extending asyncio").
    """
    coroutine = task.get_coro()
    try:
        if coroutine is not None:
            coroutine.close()
    except RuntimeError:
        asyncio._unregister_task(task)
        return
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    task.cancel()
