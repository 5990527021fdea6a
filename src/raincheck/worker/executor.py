"""Runs attempts, and returns those that have finished.

Async functions, and those behind a URL, are run by a few coroutines (runners) that take attempts off a deque,
so that a quick function costs no task of its own; sync functions by threads; ``process=True`` functions by
child processes.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from raincheck.core.clock import monotonic
from raincheck.functions.dependencies import Dependency
from raincheck.functions.registry import Function
from raincheck.logs import running
from raincheck.store.listeners import call_into
from raincheck.worker.attempt import Inbox, Reason, RunningAttempt, ThreadCall
from raincheck.worker.lifetime import NO_LIMITS, ChildLimits, Lifetime
from raincheck.worker.outcome import Encoded, Finished
from raincheck.worker.processes import Processes

STRETCH = 0.001
"""Seconds for which a runner runs attempt after attempt before it yields to the loop."""

ABANDON = 1.0
"""Seconds that an attempt has to return after it was stopped; then it is abandoned."""

BURST = 16
"""How many runners are started at once."""


class Executor:
    """Runs up to ``concurrency`` attempts at once on the loop and in threads, and up to ``processes`` more
    in child processes, each of which opens the dependencies ``of_children`` and is replaced at
    ``child_limits``; in all as many as ``lifetime`` allows."""

    def __init__(
        self,
        concurrency: int,
        processes: int,
        of_children: Sequence[Dependency] = (),
        *,
        lifetime: Lifetime | None = None,
        child_limits: ChildLimits = NO_LIMITS,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._finished: Inbox[Finished] = Inbox()
        self._slots = Slots(concurrency, lifetime)
        self._process_slots = Slots(processes, lifetime)
        self._waiting: deque[RunningAttempt] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._starting_runners = False
        self._threads = Threads(concurrency, self._context, self._finished)
        self._in_threads = 0
        self._processes = Processes(processes, of_children, child_limits)
        self._tasks: set[asyncio.Task[None]] = set()
        """Those of attempts in child processes, and of attempts in threads with something around them."""
        self._stuck: set[asyncio.Task[None]] = set()
        self._closed = False
        self._left: set[RunningAttempt] = set()

    def slots(self, *, processes: bool = False) -> Slots:
        """The slots for attempts on the loop and in threads, or those in ``processes``."""
        return self._process_slots if processes else self._slots

    @property
    def abandoned(self) -> int:
        """How many threads still run the function of an abandoned attempt."""
        return len(self._left)

    def start(self, attempts: Sequence[RunningAttempt]) -> None:
        """Start these."""
        threaded: list[RunningAttempt] = []
        for attempt in attempts:
            mode = attempt.function.mode
            slots = self._process_slots if mode == "process" else self._slots
            slots.take(attempt.function)
            if mode in ("async", "push"):
                self._waiting.append(attempt)
            elif mode == "thread":
                self._set_deadline(attempt)
                if attempt.around is None:
                    threaded.append(attempt)
                else:
                    self._in_threads += 1
                    self._start_task(self._run_around_thread(attempt))
            else:
                self._start_task(self._run_in_process(attempt))
        if threaded:
            self._in_threads += len(threaded)
            self._threads.start(threaded, self._in_threads)
        if self._waiting:
            self._start_runners(1)

    async def finished(self) -> list[Finished]:
        """The attempts that have finished since the last call, each once; waits for the first.

        Empty, if a thread has returned whose attempt was abandoned: its result is discarded.
        """
        finished: list[Finished] = []
        for each in await self._finished.take():
            attempt = each.attempt
            if not attempt.has_ended:
                self._end(attempt)
                finished.append(each)
            else:
                self._left.discard(attempt)
        return finished

    def stop(self, attempt: RunningAttempt, reason: Reason) -> None:
        """Stop an attempt; if it does not return within a second, it is abandoned."""
        if not attempt.stop(reason):
            return
        if attempt.has_returned:  # it waited for its turn
            self._finished.put(Finished(attempt, None, CancelledError()))
        else:
            self._loop.call_later(ABANDON, self._abandon, attempt)

    def take_waiting(self) -> list[RunningAttempt]:
        """Remove the attempts that have not begun, and return them."""
        attempts = [attempt for attempt in self._waiting if not attempt.has_returned]
        attempts += self._threads.take_waiting()
        self._waiting.clear()
        for attempt in attempts:
            self._end(attempt)
        return attempts

    async def close(self) -> None:
        """Stop everything; functions that do not stop are left behind."""
        self._closed = True
        tasks = self._runners | self._tasks | self._stuck
        for task in tasks:
            task.cancel()
        if tasks:
            _, hung = await asyncio.wait(tasks, timeout=ABANDON)
            for task in hung:
                end_task(task)
        self._threads.close()
        await self._processes.close()

    def _end(self, attempt: RunningAttempt) -> None:
        attempt.end()
        mode = attempt.function.mode
        if mode == "thread":
            self._in_threads -= 1
        slots = self._process_slots if mode == "process" else self._slots
        slots.release(attempt.function)

    def _keep(self, tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._keep(self._tasks, self._loop.create_task(coroutine, context=self._context.copy()))

    def _start_runners(self, most: int = BURST) -> None:
        """Start runners for attempts that wait."""
        self._starting_runners = False
        if self._closed:
            return
        for _ in range(min(most, len(self._waiting), self._slots.size - len(self._runners))):
            runner = self._loop.create_task(self._run_waiting(), context=self._context.copy())
            self._keep(self._runners, runner)

    async def _run_waiting(self) -> None:
        """Run the attempts that wait until none does; while one of them awaits, other runners go on."""
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
        self._set_deadline(attempt)
        attempt.begin(runner)
        result, error = None, None
        named = running.set(attempt.current)
        try:
            if attempt.around is None:
                result = await attempt.function.function(*args, **kwargs)
            else:
                result = await attempt.around.on_loop(attempt.arguments, attempt.context)
        except BaseException as raised:
            if self._closed:
                raise
            error = raised  # any exception is an outcome
        running.reset(named)
        attempt.mark_returned()
        self._finished.put(Finished(attempt, result, error))

    async def _run_around_thread(self, attempt: RunningAttempt) -> None:
        assert attempt.around is not None  # noqa: S101 - for these only
        run = partial(self._call_in_thread, attempt)
        around = attempt.around.in_thread
        await self._finish(
            attempt, partial(around, attempt.arguments, attempt.context, run, attempt.is_stopping)
        )

    async def _call_in_thread(self, attempt: RunningAttempt, call: Callable[[], Any]) -> Any:
        """Call this in a thread, and wait for it. If the attempt is stopped or the call is cancelled, that is
        raised when the thread has returned: what is around the call must not be closed before."""
        task, is_cancelled = attempt.task, False
        returned: asyncio.Future[tuple[Any, BaseException | None]] = self._loop.create_future()
        attempt.wait_for_thread(ThreadCall(call, copy_context(), returned))
        self._threads.start([attempt], self._in_threads)
        while not returned.done():
            try:
                await asyncio.shield(returned)
            except CancelledError:
                if self._closed:
                    raise
                is_cancelled = True
        attempt.leave_thread(task)
        result, error = returned.result()
        if is_cancelled or attempt.is_stopping():
            raise CancelledError from error
        if error is not None:
            raise error
        return result

    async def _run_in_process(self, attempt: RunningAttempt) -> None:
        if not attempt.has_returned:
            await self._finish(attempt, partial(self._call_in_process, attempt))

    async def _call_in_process(self, attempt: RunningAttempt) -> Any:
        children = [await self._processes.child()]  # before the time of the attempt begins
        self._set_deadline(attempt)

        async def call() -> Encoded:
            child = children.pop() if children else await self._processes.child()
            return await self._processes.run(child, attempt)

        if attempt.around is None or attempt.context is None:
            return await call()
        try:
            return await attempt.around.in_process(attempt.context, call)
        finally:
            for child in children:  # the middleware did not call
                self._processes.keep(child)

    async def _finish(self, attempt: RunningAttempt, call: Callable[[], Awaitable[Any]]) -> None:
        """Run an attempt in a task of its own: whatever ``call`` raises is an outcome."""
        attempt.begin(asyncio.current_task())
        running.set(attempt.current)
        result: Any = None
        error: BaseException | None = None
        try:
            if attempt.is_stopping():  # it was stopped before it began
                raise CancelledError
            result = await call()
        except BaseException as raised:
            if self._closed:
                raise
            error = raised
        attempt.mark_returned()
        self._finished.put(Finished(attempt, result, error))

    def _set_deadline(self, attempt: RunningAttempt) -> None:
        if (seconds := attempt.timeout) is not None:
            timer = self._loop.call_later(seconds, self.stop, attempt, Reason.TIMEOUT)
            attempt.set_deadline(seconds, timer)

    def _abandon(self, attempt: RunningAttempt) -> None:
        """Free the slot of an attempt that was stopped and has not returned."""
        if not attempt.abandon():
            return
        if attempt.task in self._runners:
            self._runners.discard(attempt.task)
            self._keep(self._stuck, attempt.task)
        self._finished.put(Finished(attempt, None, CancelledError()))
        if attempt.function.mode == "thread" and attempt.task is None:
            self._left.add(attempt)
            self._threads.replace(self._in_threads - 1)
        self._start_runners(1)


class Slots:
    """Room for ``size`` attempts at once, and for as many of a function as its ``concurrency`` allows.

    ``lifetime`` is how many attempts may begin, of all slots of a worker.
    """

    def __init__(self, size: int, lifetime: Lifetime | None = None) -> None:
        self.size = size
        self._lifetime = lifetime or Lifetime()
        self.used = 0
        self.full: set[str] = set()
        """The functions that have no room for another attempt."""
        self._running: Counter[str] = Counter()
        """The numbers of attempts of functions that limit them."""
        self._released = asyncio.Event()
        self._waiting: asyncio.Timeout | None = None

    @property
    def free(self) -> int:
        """How many more attempts there is room for."""
        return int(min(self.size - self.used, self._lifetime.left))

    def room(self, functions: Iterable[Function], limit: int) -> dict[str, int]:
        """For how many attempts these functions have room: those that have some, but less than ``limit``."""
        room = {f.name: f.concurrency - self._running[f.name] for f in functions if f.concurrency is not None}
        return {name: left for name, left in room.items() if 0 < left < limit}

    def take(self, function: Function) -> None:
        """Use a slot for an attempt of a function."""
        self.used += 1
        self._lifetime.count()
        if function.concurrency is not None:
            self._running[function.name] += 1
            if self._running[function.name] >= function.concurrency:
                self.full.add(function.name)

    def release(self, function: Function) -> None:
        """Free the slot of an attempt that has ended."""
        self.used -= 1
        self._released.set()
        if function.concurrency is not None:
            self._running[function.name] -= 1
            if function.name in self.full:
                self.full.remove(function.name)
                self._end_wait()

    @asynccontextmanager
    async def until_room(self, seconds: float) -> AsyncIterator[None]:
        """Cancel the block after ``seconds``, or once a function that was full has room."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as self._waiting:
                try:
                    yield
                finally:
                    self._waiting = None

    def _end_wait(self) -> None:
        if self._waiting is not None:
            self._waiting.reschedule(0.0)
            self._waiting = None

    async def wait(self) -> int:
        """How many are free, once any is."""
        while self.free <= 0:
            self._released.clear()
            await self._released.wait()
        return self.free


class Threads:
    """At most ``size`` threads, started as they are needed; what has returned is put into ``finished``.

    They are fed through one queue (`asyncio.to_thread` costs some 40 µs per call, this a few). Each function
    runs in a copy of ``context``: the next one does not see the variables that it sets.
    """

    def __init__(self, size: int, context: Context, finished: Inbox[Finished]) -> None:
        self._size = size
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._finished = finished
        self._queue: SimpleQueue[RunningAttempt | None] = SimpleQueue()
        self._threads = 0

    def start(self, attempts: Sequence[RunningAttempt], running: int) -> None:
        """Start these; with them, ``running`` attempts need a thread."""
        for attempt in attempts:
            self._queue.put(attempt)
        self._start_threads(running)

    def replace(self, running: int) -> None:
        """Replace a thread whose attempt was abandoned, if ``running`` others need one."""
        self._threads -= 1
        self._start_threads(running)

    def take_waiting(self) -> list[RunningAttempt]:
        """Remove the attempts that no thread has begun, and return them."""
        attempts: list[RunningAttempt] = []
        with suppress(Empty):
            while True:
                attempt = self._queue.get_nowait()
                if attempt is not None and not attempt.has_ended:
                    attempts.append(attempt)
        begun = [attempt for attempt in attempts if attempt.thread_call is not None]
        for attempt in begun:
            self._queue.put(attempt)
        return [attempt for attempt in attempts if attempt.thread_call is None]

    def close(self) -> None:
        """Let each thread end once its function has returned."""
        self._queue.put(None)

    def _start_threads(self, running: int) -> None:
        while self._threads < min(self._size, running):
            self._threads += 1
            Thread(target=self._work, name=f"raincheck-function-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while (attempt := self._queue.get()) is not None:
            if attempt.thread_call is not None:
                self._run_call(attempt, attempt.thread_call)
            else:
                self._run_function(attempt)
            if attempt.is_abandoned:  # another thread has taken the place of this one
                return
        self._queue.put(None)  # for the next thread

    def _run_function(self, attempt: RunningAttempt) -> None:
        result, error = None, None
        if attempt.reason is None:  # else it was stopped before it began
            args, kwargs = attempt.arguments
            attempt.enter_thread()
            context = self._context.copy()
            context.run(running.set, attempt.current)
            try:
                result = context.run(attempt.function.function, *args, **kwargs)
            except BaseException as raised:  # noqa: BLE001 - any exception is an outcome
                error = raised
        attempt.mark_returned()
        self._finished.put_from_thread(Finished(attempt, result, error))

    def _run_call(self, attempt: RunningAttempt, call: ThreadCall) -> None:
        """Run what has something around it, which goes on afterwards: the attempt has not yet returned."""
        result, error = None, None
        if attempt.reason is None:
            attempt.enter_thread()
            try:
                result = call.context.run(call.call)
            except BaseException as raised:  # noqa: BLE001 - any exception is an outcome
                error = raised
        call_into(self._loop, partial(_set_returned, call.returned, result, error))


def _set_returned(
    returned: asyncio.Future[tuple[Any, BaseException | None]], result: Any, error: BaseException | None
) -> None:
    if not returned.done():  # the worker stops, and waits no longer
        returned.set_result((result, error))


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
