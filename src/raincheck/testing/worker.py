"""A worker that a test drives: it runs what is ready when the test says so, one step at a time.

It uses the parts of a `Worker`: the pipe prepares, executes, judges and completes.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar

from raincheck.app import App
from raincheck.calls import failure_of
from raincheck.core.errors import RaincheckError, StoreError
from raincheck.core.model import MAX_SECONDS, Claim, Job, State, Stored, WorkerInfo
from raincheck.core.stages import current_stage, is_open
from raincheck.engine.documents import JobDocument
from raincheck.engine.groups.gatherer import Gatherer
from raincheck.engine.listings import matching_jobs
from raincheck.engine.maintenance import Maintenance
from raincheck.engine.results import load_previous
from raincheck.functions.registry import Functions
from raincheck.store.base import Filter, Held
from raincheck.testing.clock import Clock
from raincheck.version import VERSION
from raincheck.worker.dispatcher import Claimed
from raincheck.worker.executor import Executor
from raincheck.worker.injector import Injector
from raincheck.worker.outcome import ChildError
from raincheck.worker.store_dispatcher import StoreDispatcher
from raincheck.worker.worker import Pipe, cancel_all

logger = logging.getLogger("raincheck.testing")

T = TypeVar("T")

WORKER = "test"
"""The id of the worker, in documents of jobs."""

HINT = 1.0
"""Seconds between looks for calls that wait while nothing runs."""

POLL = 0.01
"""Seconds between looks for ready steps, while `ManualWorker.until` or a function waits for a job."""

ATTEMPTS = 100
"""How many attempts may wait for other jobs, each for the next."""


class MissingFunction(RaincheckError, LookupError):
    """A step is ready that calls a function which the app does not have."""


class ManualWorker:
    """Runs what is ready when a test says so. `running` makes it.

    ``clock`` is the time of the store. The order is: higher priority first, then the earlier due time, then
    the job that was submitted first; steps of a parallel stage in their order. A step is run to its end, and
    its outcome is written, before the next one begins.
    """

    def __init__(self, app: App, clock: Clock, functions: Functions, injector: Injector) -> None:
        self.app = app
        self.clock = clock
        self._engine = app.engine
        self._store = app.engine.store
        self._functions = functions
        self._injector = injector
        self._maintenance = Maintenance(app.engine)
        self._gatherer = Gatherer(app.engine.jobs)
        self._times = _Times()
        self._pipe: Pipe | None = None
        self._errors: dict[int, BaseException | None] = {}
        """What attempts raised, by token, until their outcomes are written."""
        self._is_idle = False
        """Whether a function waits for a job that cannot run now."""
        self._hint: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register the worker, and put the schedules that the app declares."""
        self._gatherer.listen()
        self._unlisten = self._store.listen(self._times.note)
        await self._register("active")
        await self._maintenance.do_due()
        self._hint = asyncio.create_task(self._warn_of_waiting())

    async def stop(self) -> None:
        """Remove the worker from the register."""
        if self._hint is not None:
            await cancel_all([self._hint])
        self._unlisten()
        self._gatherer.close()
        with suppress(StoreError):  # the test may have closed the app, as the lifespan of a server does
            await self._register("stopped")

    async def drain(self, *, raise_errors: bool = True) -> int:
        """Run steps until none is ready. Returns how many attempts were made.

        Also does what is due at the time of the clock: firings, deadlines, results of groups. A step that
        waits for a retry or a date stays until the clock has moved. If a job fails, the exception of its
        function is raised at once, with its traceback, and the rest stays ready; `JobFailed` if there is no
        exception, such as after a timeout. If a call waits for the job, it is raised there instead. With
        ``raise_errors=False`` the job only ends as failed. Raises `MissingFunction` if a step is ready whose
        function the app does not have.
        """
        __tracebackhide__ = True
        async with self._working() as pipe:
            return await self._drain(pipe, raise_errors)

    async def run_for(self, by: float | timedelta, *, raise_errors: bool = True) -> int:
        """Let ``by`` seconds pass, and run what becomes ready, each at its time. Returns how many attempts.

        The clock moves from one due time to the next, so a schedule fires as often as it would have. A jump
        of ``clock`` followed by `drain` is different: then no process ran meanwhile. Raises as `drain` does.
        """
        __tracebackhide__ = True
        end = self.clock.after(by)
        async with self._working() as pipe:
            count = await self._drain(pipe, raise_errors)
            while (moment := await self._next_due()) is not None and moment <= end:
                self.clock.seconds = moment
                count += await self._drain(pipe, raise_errors)
            self.clock.seconds = end
            return count + await self._drain(pipe, raise_errors)

    async def until(self, awaitable: Awaitable[T]) -> T:
        """Run what becomes ready until ``awaitable`` is done, and return its result.

        For code that waits for a job: a call of a function, or a request that waits for its result. A job
        that fails raises nothing here; the code that waits for it gets to know. Raises `MissingFunction`.
        """
        __tracebackhide__ = True
        waiting = asyncio.ensure_future(awaitable)
        try:
            async with self._working() as pipe:
                while not waiting.done():
                    await self._drain(pipe, raise_errors=False)
                    await asyncio.wait([waiting], timeout=POLL)
        finally:
            await cancel_all([waiting])
        return waiting.result()

    async def jobs(self, *, name: str | None = None, function: str | None = None) -> list[JobDocument]:
        """The jobs, oldest first: all, or those with this name or with a step of this function."""
        which = Filter(name=name, function=function, oldest_first=True)
        return [
            await self._engine.document(stored) async for stored in matching_jobs(self._engine.jobs, which)
        ]

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[Pipe]:
        """A pipe for the running loop; the parts beside it stop attempts of cancelled jobs."""
        if self._pipe is not None:
            raise RuntimeError("this worker is running already: wait for its call to return")
        executor = Executor(ATTEMPTS, 1, self._injector.of_children)
        dispatcher = StoreDispatcher(self._store, self._functions, WORKER, MAX_SECONDS)
        pipe = Pipe(dispatcher, self._functions, executor, self._engine.limits, self._injector)
        self._engine.held.append(pipe.in_flight)
        tasks = [asyncio.create_task(part) for part in (pipe.stop(), pipe.send_progress())]
        self._pipe = pipe
        try:
            yield pipe
        finally:
            self._pipe = None
            await cancel_all(tasks)
            await pipe.close()
            await dispatcher.close()
            held = self._engine.held
            held[:] = [table for table in held if table is not pipe.in_flight]

    async def _drain(self, pipe: Pipe, raise_errors: bool) -> int:
        __tracebackhide__ = True
        count = 0
        while (made := await self._pass(pipe, raise_errors)) is not None:
            count += made
        return count

    async def _pass(self, pipe: Pipe, raise_errors: bool) -> int | None:
        """Do what is due, and run the first of the steps that are ready.

        Returns how many attempts were made; None: there was nothing to do.
        """
        __tracebackhide__ = True
        due = await self._maintenance.do_due()
        claim = await self._claim()  # after it, the gatherer knows of all changes before it
        gathered = await self._gatherer.check_noted()
        if claim is not None:
            return await self._run(pipe, claim, raise_errors)
        if gathered or any(due):
            return 0
        await self._check_functions()
        return None

    async def _claim(self) -> Claim | None:
        """Claim the first of the steps that are ready.

        The claim takes the first step of each function, as the order between functions is the store's; those
        that come later go back to their place.
        """
        names = self._functions.names
        claims = await self._store.claim(WORKER, names, max(1, len(names)), MAX_SECONDS) if names else []
        claims.sort(key=_order)
        await self._store.release([Held(c.job.id, c.lease.step, c.lease.token) for c in claims[1:]])
        return claims[0] if claims else None

    async def _run(self, pipe: Pipe, claim: Claim, raise_errors: bool) -> int:
        """Run a step until its outcome is written. Returns how many attempts were made.

        If the function itself waits for jobs, those run meanwhile: else it would wait for ever.
        """
        __tracebackhide__ = True
        job_id, token, count = claim.job.id, claim.lease.token, 1
        waited_for = set(self._engine.jobs.watches.watched)
        previous = await load_previous(self._store, [claim]) if claim.step.stage > 0 else [b"null"]
        pipe.begin(Claimed([claim], {token: previous[0]}))
        while (attempt := pipe.in_flight.get(token)) is not None:
            if attempt.has_ended:
                await asyncio.sleep(0)  # its outcome is being written
            elif not await self._settle(pipe) and set(self._engine.jobs.watches.watched) - waited_for:
                made = await self._pass(pipe, raise_errors)
                self._is_idle = made is None
                count += made or 0
        self._is_idle = False
        error = self._errors.pop(token, None)
        if raise_errors and job_id not in waited_for:
            (stored,) = await self._store.find([job_id])
            if isinstance(stored, Stored) and stored.job.state is State.FAILED:
                raise _failure(stored.job, error)
        return count

    async def _settle(self, pipe: Pipe) -> bool:
        """Judge and complete the attempts that have finished. False: none has, for a moment."""
        try:
            async with asyncio.timeout(POLL):
                batch = deque(await pipe.executor.finished())
        except TimeoutError:
            return False
        self._errors |= {each.attempt.token: each.error for each in batch}
        while batch:
            pipe.settle(batch)
        return True

    async def _check_functions(self) -> None:
        """Raise `MissingFunction` if a step is ready that nothing here can run."""
        missing = (await self._store.counts()).queued.keys() - set(self._functions.names)
        if not missing:
            return
        for job in await self._unfinished():
            for step in _open_steps(job):
                if step.function in missing and step.due <= self.clock():
                    known = ", ".join(self._functions.names) or "none"
                    raise MissingFunction(
                        f"job {job.id} ({job.name}) calls {step.function!r}, which the app does not have. "
                        f"Its functions: {known}. Import the module that registers it"
                    )

    async def _next_due(self) -> float | None:
        """The next time after now at which something is due; None: nothing waits for a time."""
        now = self.clock()
        schedules = [schedule.due for schedule in await self._store.schedules() if schedule.due is not None]
        if (times := self._times.by_job) is None:
            times = self._times.by_job = {}  # before the jobs are read: what changes meanwhile is newer
            for job in await self._unfinished():
                times.setdefault(job.id, _times_of(job))
        of_jobs = chain.from_iterable(list(times.values()))
        return min((time for time in chain(schedules, of_jobs) if time > now), default=None)

    async def _unfinished(self) -> list[Job]:
        """The jobs that have not ended, oldest first."""
        states = tuple(state for state in State if not state.ended)
        which = Filter(states=states, oldest_first=True)
        return [stored.job async for stored in matching_jobs(self._engine.jobs, which)]

    async def _warn_of_waiting(self) -> None:
        """Log a warning, once, if a call waits for a job and nothing runs: it would wait for ever."""
        before: set[str] = set()
        while True:
            await asyncio.sleep(HINT)
            idle = self._pipe is None or self._is_idle
            waiting = set(self._engine.jobs.watches.watched) if idle else set()
            if both := waiting & before:
                logger.warning(
                    "a call waits for job %s, and nothing runs it: run the call with worker.until(...), or "
                    "move the clock if the job waits for a time",
                    min(both),
                )
                return
            before = waiting

    async def _register(self, state: str) -> None:
        """Register the worker for as long as a clock may be moved, so that its functions are offered."""
        info = WorkerInfo(
            id=WORKER,
            host="localhost",
            pid=0,
            version=VERSION,
            concurrency=1,
            functions=tuple(function.info for function in self.app.functions),
            started_at=self.clock(),
            state=state,
        )
        await asyncio.to_thread(self._store.heartbeat, info, [], MAX_SECONDS)


def in_this_process(functions: Functions) -> Functions:
    """The functions with those of child processes as ones of this process."""
    local = Functions(functions.values)
    for function in functions:
        here = copy.copy(function)
        if here.mode == "process":
            here.mode = "async" if asyncio.iscoroutinefunction(here.function) else "thread"
        local.add(here)
    return local


def _order(claim: Claim) -> tuple[int, float, float, str, int]:
    job = claim.job
    return -job.priority, claim.step.due, job.created_at, job.id, claim.lease.step


class _Times:
    """When something of unfinished jobs is due, so that the jobs are not read again for each time."""

    def __init__(self) -> None:
        self.by_job: dict[str, list[float]] | None = None
        """By job id; None: the jobs have to be read."""

    def note(self, jobs: Mapping[str, Job | None]) -> None:
        """Note changed jobs; called from any thread."""
        times = self.by_job
        if times is None:
            return
        if not jobs:  # another process may have changed any
            self.by_job = None
        for job_id, job in jobs.items():
            if job is None:
                self.by_job = None
            elif job.state.ended:
                times.pop(job_id, None)
            else:
                times[job_id] = _times_of(job)


def _times_of(job: Job) -> list[float]:
    times = [step.due for step in _open_steps(job)]
    return times if job.expires_at is None else [*times, job.expires_at]


def _open_steps(job: Job) -> list[Any]:
    stage = current_stage(job)
    return [step for step in job.steps if is_open(step, stage)]


def _failure(job: Job, error: BaseException | None) -> BaseException:
    """What to raise for a failed job: the exception of its function, or `JobFailed`.

    The job may have failed for another reason than the exception, such as a timeout. One that would end the
    program, or that is in another process, is not raised.
    """
    name = "" if job.error is None else (job.error.exception or "").rpartition(".")[2]
    if type(error).__name__ == name and not isinstance(error, SystemExit | KeyboardInterrupt | None):
        trace = error.__traceback__
        return error.with_traceback(trace and trace.tb_next)  # from the user's function on
    failed = failure_of(job)
    if isinstance(error, ChildError):
        failed.add_note(error.traceback)
    return failed
