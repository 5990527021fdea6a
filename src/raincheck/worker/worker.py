"""The way of a step through a worker: claim -> prepare -> execute -> judge -> complete.

`Pipe` is that way. Each part takes values and returns values: a claimer returns claims, which `begin` makes
attempts and hands to the executor; the executor returns those that have finished, `judge` returns their
outcomes, and the dispatcher writes them. The `raincheck.worker.dispatcher` is all that a worker asks from
outside; its `InFlight` holds every attempt meanwhile. Beside the pipe, the heartbeat extends leases from a
thread of its own. `raincheck.engine.maintenance` recovers what other workers lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, Self

from msgspec.structs import replace

from raincheck.app import App
from raincheck.core.clock import monotonic, new_id, now
from raincheck.core.errors import RaincheckError
from raincheck.core.limits import Limits
from raincheck.core.model import WorkerInfo
from raincheck.engine.engine import Engine
from raincheck.engine.maintenance import Maintenance
from raincheck.functions.registry import Function, Functions
from raincheck.version import VERSION
from raincheck.worker.attempt import Inbox, Reason, RunningAttempt
from raincheck.worker.attempt_log import log_started
from raincheck.worker.claimer import WAIT, Claimer
from raincheck.worker.dispatcher import Claimed, Dispatcher
from raincheck.worker.executor import ABANDON, Executor
from raincheck.worker.heartbeat import Heartbeat
from raincheck.worker.injector import Injector, injecting
from raincheck.worker.lifetime import Cause, ChildLimits, Lifetime, Report
from raincheck.worker.outcome import Finished, Outcome, judge, prepare
from raincheck.worker.store_dispatcher import StoreDispatcher

logger = logging.getLogger("raincheck.worker")

LAST_TRIES = 2.0
"""Seconds for which a worker that leaves tries to write outcomes, if the store is away."""

PATIENCE = 1.0
"""Seconds for which a worker that leaves waits for its heartbeat to end, if the store is slow."""

BURST_WAIT = 0.1
"""Seconds for which a claim of a worker with ``burst`` waits for a ready step."""

STRETCH = 0.01
"""Seconds for which outcomes are judged before the loop goes on with other tasks."""

REPORT_EVERY = 0.1
"""Seconds between two reports of progress."""


class Worker:
    """Runs the functions of ``app``: up to ``concurrency`` attempts at once on the loop and in threads,
    and up to ``process_slots`` (default: the CPU count) in child processes.

    It offers the functions whose names match one of the patterns ``functions`` (``*`` matches any characters;
    default: all), without those that match a pattern after ``!``. `run` raises `ConfigError` for a pattern
    that matches no function.

    If this process dies, other workers take over its steps after ``lease`` seconds. When it is stopped,
    running attempts have ``grace`` seconds to end. Use it with ``async with``, or ``await run(stop)``.

    With ``server``, the URL of a server, it gets its attempts from there and needs no store. ``token`` is the
    token to send, or a function that reads it, also again when the server refuses it.

    It ends by itself: with ``burst`` once nothing is ready or running; after ``max_jobs`` attempts; when its
    process uses more than ``max_memory`` MiB. The two last let running attempts end, however long they take.
    A child process is replaced after ``max_jobs_per_child`` attempts, or over ``max_memory_per_child`` MiB.
    """

    def __init__(
        self,
        app: App,
        *,
        concurrency: int = 100,
        process_slots: int | None = None,
        functions: Sequence[str] = (),
        lease: float = 15.0,
        grace: float = 30.0,
        burst: bool = False,
        max_jobs: int | None = None,
        max_memory: float | None = None,
        max_jobs_per_child: int | None = None,
        max_memory_per_child: float | None = None,
        server: str | None = None,
        token: str | Callable[[], str] | None = None,
    ) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self._app = app
        self._concurrency = concurrency
        self._process_slots = process_slots or os.cpu_count() or 1
        self._patterns = functions
        self._lease = lease
        self._grace = grace
        self._burst = burst
        self._lifetime = Lifetime(max_jobs, max_memory)
        self._child_limits = ChildLimits(max_jobs_per_child, max_memory_per_child)
        self._server = server
        self._token = token
        self._functions: list[Function] = []
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[Report] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(self._stop))
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait([self._task, ready], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        finally:
            ready.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    async def run(self, stop: asyncio.Event | None = None) -> Report:
        """Work until ``stop`` is set; then claim no more, let running attempts end within the grace period,
        give back the rest, and return. If the call is cancelled, it returns without the grace period.

        Returns why it has ended, and what it did. Raises `ConfigError` if no function matches, or if the
        process is larger than ``max_memory`` at its start.
        """
        stop = stop or self._stop
        engine = self._app.engine
        async with AsyncExitStack() as stack:
            if self._server is None:
                await self._app.open()
            else:
                await asyncio.to_thread(engine.read_config)
                stack.enter_context(_without_store(engine, self._server))
            self._functions = engine.functions.select(self._patterns)  # also those of the file
            injector = await stack.enter_async_context(injecting(self._app, self._functions))
            await stack.enter_async_context(engine.push.running(self._functions))
            dispatcher = self._dispatcher()
            await asyncio.to_thread(self._lifetime.check_start)
            executor = Executor(
                self._concurrency,
                self._process_slots,
                injector.of_children,
                lifetime=self._lifetime,
                child_limits=self._child_limits,
            )
            pipe = Pipe(dispatcher, engine.functions, executor, engine.limits, injector)
            heartbeat = Heartbeat(dispatcher, self._info())
            stack.push_async_callback(self._leave, pipe, heartbeat)
            await dispatcher.open(self._info())
            heartbeat.start()
            maintenance: Maintenance | None = None  # that of a store
            if self._server is None:
                engine.held.append(pipe.in_flight)
                maintenance = await stack.enter_async_context(Maintenance(engine))
            self._ready.set()
            ways = [asyncio.create_task(way) for way in (pipe.finish(), pipe.stop(), pipe.send_progress())]
            try:
                cause = await self._claim(stop, pipe, ways, maintenance)
                heartbeat.update(state="stopping")
                if cause is not Cause.STOPPED:
                    await first_of(ways, pipe.in_flight.emptied(), stop.wait())
                await pipe.wind_up(self._grace)
            finally:
                await pipe.abort()
                await cancel_all(ways)
            return Report(cause, dict(pipe.dispatcher.attempts))

    def _dispatcher(self) -> Dispatcher:
        if self._server is None:
            engine = self._app.engine
            return StoreDispatcher(engine.store, engine.functions, self.id, self._lease)
        from raincheck.worker.server_dispatcher import ServerDispatcher  # here: others need no HTTP client

        return ServerDispatcher(self._server, self._token, self._lease)

    async def _claim(
        self, stop: asyncio.Event, pipe: Pipe, ways: list[asyncio.Task[None]], maintenance: Maintenance | None
    ) -> Cause:
        """Claim and run until the worker has to end; returns why. A cancelled claim gives back its steps.

        Each kind of slot that has functions has a claimer: if one kind is full, the other goes on.
        """
        claimers: list[Claimer] = []
        for processes in (False, True):
            functions = [f for f in self._functions if (f.mode == "process") is processes]
            slots = pipe.executor.slots(processes=processes)
            if functions:
                wait = BURST_WAIT if self._burst else WAIT
                claimers.append(Claimer(pipe.dispatcher, functions, slots, wait))
        if self._burst:
            claiming = [self._drain(pipe, claimers, maintenance)]
        else:
            claiming = [pipe.claim(claimer) for claimer in claimers]
        ended = await first_of(ways, stop.wait(), self._lifetime.ended(), *claiming)
        return Cause.STOPPED if stop.is_set() else ended

    async def _drain(self, pipe: Pipe, claimers: list[Claimer], maintenance: Maintenance | None) -> Cause:
        """Claim and run until nothing is ready or running, and nothing is due."""
        while True:
            begun = pipe.begun
            await asyncio.gather(*(pipe.claim_until_idle(claimer) for claimer in claimers))
            did = maintenance is not None and await maintenance.do_now()
            if not did and pipe.begun == begun:
                return Cause.IDLE

    async def _leave(self, pipe: Pipe, heartbeat: Heartbeat) -> None:
        await pipe.close()
        heartbeat.stop()
        if heartbeat.ident is not None:  # it was started; its last heartbeat must not register it again
            await asyncio.to_thread(heartbeat.join, PATIENCE)
            held = self._app.engine.held
            held[:] = [table for table in held if table is not pipe.in_flight]
        with suppress(RaincheckError):
            await asyncio.to_thread(pipe.dispatcher.extend, replace(self._info(), state="stopped"), [])
        await pipe.dispatcher.close()

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=VERSION,
            concurrency=self._concurrency,
            functions=tuple(function.info for function in self._functions),
            started_at=now(),
        )


class Pipe:
    """Claims, prepares, executes, judges and completes steps."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        functions: Functions,
        executor: Executor,
        limits: Limits,
        injector: Injector,
    ) -> None:
        self.dispatcher = dispatcher
        self.executor = executor
        self.in_flight = dispatcher.in_flight
        self.begun = 0
        """How many steps were claimed."""
        self.reports: Inbox[RunningAttempt] = Inbox()
        self._functions = functions
        self._limits = limits
        self._injector = injector
        self._releases: set[asyncio.Task[None]] = set()

    async def claim(self, claimer: Claimer) -> Cause:
        """Claim steps and begin them, until cancelled."""
        while True:
            self.begin(await claimer.claim())

    async def claim_until_idle(self, claimer: Claimer) -> None:
        """Claim steps and begin them, until none is ready while none runs."""
        while True:
            was_idle = not self.in_flight
            claimed = await claimer.claim()
            self.begin(claimed)
            if was_idle and not claimed.claims and not claimer.is_failing:
                return

    def begin(self, claimed: Claimed) -> None:
        """Prepare the steps of a claim and run them.

        Those whose lease has run out are given back: they waited for a loop that was blocked.
        """
        self.begun += len(claimed.claims)
        now = self.dispatcher.now()
        late: list[RunningAttempt] = []
        ready: list[RunningAttempt] = []
        outcomes: list[Outcome] = []
        for attempt in self._attempts(claimed):
            self.in_flight.add(attempt)
            if attempt.claim.lease.until <= now:
                late.append(attempt)
            elif (trigger := prepare(attempt, self._injector)) is not None:
                self.in_flight.end(attempt)
                outcomes.append(Outcome(attempt, trigger))
            else:
                ready.append(attempt)
        self._give_back(late)
        self.dispatcher.complete(outcomes)
        log_started(ready)
        self.executor.start(ready)

    def _attempts(self, claimed: Claimed) -> Iterator[RunningAttempt]:
        for claim in claimed.claims:
            previous = claimed.previous.get(claim.lease.token, b"null")
            if previous is None:
                logger.warning("job %s was removed before its %s began", claim.job.id, claim.step.function)
                continue
            function = self._functions.get(claim.step.function)
            if function is None:  # a worker claims only what it offers
                raise LookupError(claim.step.function)
            yield RunningAttempt.of(claim, function, self.reports, previous)

    async def finish(self) -> None:
        """Judge the attempts that have finished, and complete them, until cancelled."""
        while True:
            finished = deque(await self.executor.finished())
            self.in_flight.abandoned = self.executor.abandoned
            while finished:
                self.settle(finished)
                if finished:  # large results, or very many
                    await asyncio.sleep(0)

    def settle(self, finished: deque[Finished]) -> None:
        """Judge and complete as many attempts that have finished as fit into `STRETCH`."""
        returned: list[RunningAttempt] = []
        outcomes: list[Outcome] = []
        until = monotonic() + STRETCH
        while finished and monotonic() < until:
            each = finished.popleft()
            attempt = each.attempt
            self.in_flight.end(attempt)
            trigger = judge(each, self._limits)
            if trigger is not None:
                outcomes.append(Outcome(attempt, trigger))
            elif attempt.reason is Reason.LOST:
                self.in_flight.remove(attempt)
            else:
                returned.append(attempt)
        self.dispatcher.complete(outcomes)
        self._give_back(returned)

    async def stop(self) -> None:
        """Stop attempts whose job is to be cancelled or whose lease is lost, until cancelled."""
        while True:
            for attempt, reason in await self.dispatcher.stopping():
                self.executor.stop(attempt, reason)

    async def send_progress(self) -> None:
        """Send the latest progress of attempts, a few times per second, until cancelled."""
        while True:
            taken = [(attempt, attempt.take_progress()) for attempt in await self.reports.take()]
            progress = [(attempt, value) for attempt, value in taken if value is not None]
            if progress:
                await self.dispatcher.report(progress)
            await asyncio.sleep(REPORT_EVERY)

    async def wind_up(self, grace: float) -> None:
        """Give back what has not begun, and let the rest end within ``grace`` seconds."""
        self._give_back(self.executor.take_waiting())
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.in_flight.emptied()

    async def abort(self) -> None:
        """Stop what still runs, and give it back: another worker runs it again."""
        for attempt in self.in_flight.all():
            self.executor.stop(attempt, Reason.GIVEN_BACK)
        with suppress(TimeoutError):
            async with asyncio.timeout(ABANDON + LAST_TRIES):
                await self.in_flight.emptied()

    async def close(self) -> None:
        """Leave behind what does not stop."""
        await self.executor.close()
        await cancel_all(self._releases)

    def _give_back(self, attempts: list[RunningAttempt]) -> None:
        for attempt in attempts:
            self.in_flight.end(attempt)
        if attempts:
            release = asyncio.create_task(self.dispatcher.release(attempts))
            self._releases.add(release)
            release.add_done_callback(self._releases.discard)


async def first_of(ways: Iterable[asyncio.Task[None]], *calls: Coroutine[Any, Any, Any]) -> Any:
    """The result of the call that ends first; cancels the others. Raises what one of ``ways`` raises."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        done, _ = await asyncio.wait([*tasks, *ways], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_all(tasks)
    results = [task.result() for task in done]  # two can end at once, and one can have failed
    return results[0]


@contextmanager
def _without_store(engine: Engine, server: str) -> Iterator[None]:
    """Let nothing more be declared, and let calls of the app say that its worker has no store."""
    engine.functions.close()
    engine.no_store = (
        f"this worker has no store: it gets its attempts from {server}. Call the server with raincheck.Client"
    )
    try:
        yield
    finally:
        engine.no_store = None


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
