"""The way of a step through a worker: claim -> prepare -> execute -> judge -> complete.

`Pipe` is that way. Each part takes values and gives values: the claimer gives claims, `prepare` attempts,
the executor those that have finished, `judge` their outcomes, and the completer writes them. `InFlight` holds
every attempt meanwhile. Beside the pipe, the heartbeat extends leases from a thread of its own,
`Cancellation` finds attempts that have to stop, and `send_progress` tells how far they have come.
`raincheck.engine.maintenance` recovers what other workers lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from types import MappingProxyType
from typing import Any, Self

from msgspec.structs import replace

from raincheck.app import App
from raincheck.core.clock import monotonic, new_id, now
from raincheck.core.errors import StoreError
from raincheck.core.limits import Limits
from raincheck.core.model import WorkerInfo
from raincheck.engine.maintenance import Maintenance
from raincheck.functions.registry import Functions
from raincheck.store.base import Store
from raincheck.version import VERSION
from raincheck.worker.attempt import InFlight, Outcome, Reason, RunningAttempt, judge, prepare
from raincheck.worker.cancellation import Cancellation
from raincheck.worker.claimer import Claimed, Claimer, give_back
from raincheck.worker.completer import Completer
from raincheck.worker.executor import ABANDON, Executor
from raincheck.worker.heartbeat import Heartbeat
from raincheck.worker.inbox import Inbox
from raincheck.worker.progress import send_progress

logger = logging.getLogger("raincheck.worker")

LAST_TRIES = 2.0
"""Seconds for which a worker that leaves tries to write outcomes, if the store is away."""

PATIENCE = 1.0
"""Seconds that a worker which leaves gives its heartbeat to end, if the store is slow."""

STRETCH = 0.01
"""Seconds for which outcomes are judged before others have the loop."""


class Worker:
    """Runs the functions of ``app``: up to ``concurrency`` attempts at once on the loop and in threads,
    and up to ``processes`` (by default one a core) in child processes.

    ``lease`` is how many seconds after this process has died others may take over what it ran; ``grace``
    how many seconds running attempts get when it is stopped. Use it as an async context manager, or
    ``await run(stop)``.
    """

    def __init__(
        self,
        app: App,
        *,
        concurrency: int = 100,
        processes: int | None = None,
        lease: float = 15.0,
        grace: float = 30.0,
    ) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self._app = app
        self._concurrency = concurrency
        self._processes = processes or os.cpu_count() or 1
        self._lease = lease
        self._grace = grace
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

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

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then take no more, let running attempts end within the grace
        period, give back the rest, and leave. Cancelled, it leaves without the grace."""
        await self._app.open()
        engine = self._app.engine
        store = engine.store
        async with AsyncExitStack() as stack:
            state: Mapping[str, Any] | None = None
            if self._app.lifespan is not None:
                state = await stack.enter_async_context(self._app.lifespan(self._app))
            executor = Executor(self._concurrency, self._processes)
            pipe = Pipe(store, engine.functions, executor, engine.limits, state or {})
            cancellation = Cancellation(store, pipe.in_flight)
            heartbeat = Heartbeat(store, self._lease, self._info(), pipe.in_flight, cancellation.beats)
            stack.push_async_callback(self._leave, pipe, cancellation, heartbeat)
            await asyncio.to_thread(store.heartbeat, self._info(), [], self._lease)
            heartbeat.start()
            engine.held.append(pipe.in_flight)
            await stack.enter_async_context(Maintenance(engine))
            self._ready.set()
            ways = [
                asyncio.create_task(way)
                for way in (
                    pipe.finish(),
                    pipe.stop(cancellation),
                    send_progress(store, pipe.reports),
                )
            ]
            try:
                await self._claim(stop, pipe, ways)
                heartbeat.tell(state="stopping")
                await pipe.wind_up(self._grace)
            finally:
                await pipe.abort()
                await cancel_all(ways)

    async def _claim(self, stop: asyncio.Event, pipe: Pipe, ways: list[asyncio.Task[None]]) -> None:
        """Claim and run until told to stop; a cancelled claim gives back what it brings.

        Each kind of slot that has functions has a claimer: full ones must not keep the others from work.
        """
        functions = list(self._app.functions)
        kinds = {
            processes: [f for f in functions if (f.mode == "process") is processes]
            for processes in (False, True)
        }
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(pipe.claim(Claimer(pipe.store, self.id, each, self._lease), processes))
            for processes, each in kinds.items()
            if each
        ]
        tasks.append(asyncio.create_task(stop.wait()))
        try:
            done, _ = await asyncio.wait([*tasks, *ways], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_all(tasks)
        for task in done:
            task.result()  # all but the one that waits for the stop end only if they fail

    async def _leave(self, pipe: Pipe, cancellation: Cancellation, heartbeat: Heartbeat) -> None:
        cancellation.close()
        await pipe.close()
        heartbeat.stop()
        if heartbeat.ident is not None:  # it was started; its last word must not come after the farewell
            await asyncio.to_thread(heartbeat.join, PATIENCE)
            held = self._app.engine.held
            held[:] = [table for table in held if table is not pipe.in_flight]
        with suppress(StoreError):
            stopped = replace(self._info(), state="stopped")
            await asyncio.to_thread(pipe.store.heartbeat, stopped, [], self._lease)

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=VERSION,
            concurrency=self._concurrency,
            functions=tuple(function.info for function in self._app.functions),
            started_at=now(),
        )


class Pipe:
    """Takes steps from the store through this process. ``state`` is what functions get as ``ctx.state``."""

    def __init__(
        self, store: Store, functions: Functions, executor: Executor, limits: Limits, state: Mapping[str, Any]
    ) -> None:
        self.store = store
        self.executor = executor
        self.in_flight = InFlight()
        self.reports: Inbox[RunningAttempt] = Inbox()
        self._functions = functions
        self._limits = limits
        self._state = MappingProxyType(dict(state))
        self._completer = Completer(store, self.in_flight)
        self._releases: set[asyncio.Task[None]] = set()

    async def claim(self, claimer: Claimer, processes: bool) -> None:
        """Claim as much as there is room for, and begin it, until cancelled."""
        while True:
            room = await self.executor.wait_for_room(processes=processes)
            self.begin(await claimer.claim(room))

    def begin(self, claimed: Claimed) -> None:
        """Prepare what was claimed, and run it; not what is old because the loop was blocked when it came."""
        now = self.store.now()
        late: list[RunningAttempt] = []
        ready: list[RunningAttempt] = []
        outcomes: list[Outcome] = []
        for claim in claimed.claims:
            previous = claimed.previous.get(claim.lease.token, b"null")
            if previous is None:
                logger.warning("job %s was removed before its %s began", claim.job.id, claim.step.function)
                continue
            function = self._functions.get(claim.step.function)
            if function is None:  # a worker claims only what it offers
                raise LookupError(claim.step.function)
            attempt = RunningAttempt.of(claim, function, self.reports, previous)
            self.in_flight.add(attempt)
            if claim.lease.until <= now:
                late.append(attempt)
            elif (trigger := prepare(attempt, self._state)) is not None:
                self.in_flight.end(attempt)
                outcomes.append(Outcome(attempt, trigger))
            else:
                ready.append(attempt)
        self._give_back(late)
        self._completer.complete(outcomes)
        self.executor.start(ready)

    async def finish(self) -> None:
        """Judge what has finished, and complete it, until cancelled."""
        while True:
            finished = await self.executor.finished()
            self.in_flight.abandoned = self.executor.abandoned
            returned: list[RunningAttempt] = []
            outcomes: list[Outcome] = []
            since = monotonic()
            for each in finished:
                self.in_flight.end(each.attempt)
                trigger = judge(each, self._limits)
                if trigger is not None:
                    outcomes.append(Outcome(each.attempt, trigger))
                elif each.attempt.reason is Reason.LOST:
                    self.in_flight.remove(each.attempt)
                else:
                    returned.append(each.attempt)
                if monotonic() - since > STRETCH:  # large results, or very many
                    self._completer.complete(outcomes)
                    await asyncio.sleep(0)
                    outcomes, since = [], monotonic()
            self._completer.complete(outcomes)
            self._give_back(returned)

    async def stop(self, cancellation: Cancellation) -> None:
        """Stop attempts whose job is to be cancelled or whose lease is lost, until cancelled."""
        while True:
            for attempt, reason in await cancellation.next():
                self.executor.stop(attempt, reason)

    async def wind_up(self, grace: float) -> None:
        """Give back what has not begun, and let the rest end within ``grace`` seconds."""
        self._give_back(self.executor.take_waiting())
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.in_flight.emptied()

    async def abort(self) -> None:
        """Stop what still runs, and give it back: another worker runs it again."""
        for attempt in self.in_flight.held():
            self.executor.stop(attempt, Reason.GIVEN_BACK)
        with suppress(TimeoutError):
            async with asyncio.timeout(ABANDON + LAST_TRIES):
                await self.in_flight.emptied()

    async def close(self) -> None:
        """Write no more, and leave behind what does not stop."""
        await self.executor.close()
        await self._completer.close()
        await cancel_all(self._releases)

    def _give_back(self, attempts: list[RunningAttempt]) -> None:
        for attempt in attempts:
            self.in_flight.end(attempt)
        if attempts:
            release = asyncio.create_task(self._release(attempts))
            self._releases.add(release)
            release.add_done_callback(self._releases.discard)

    async def _release(self, attempts: list[RunningAttempt]) -> None:
        await give_back(self.store, [attempt.held for attempt in attempts])
        for attempt in attempts:
            self.in_flight.remove(attempt)


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
