"""The calls of a Python program on jobs, groups and schedules, as coroutines.

`App` inherits `Calls`, and `App.schedules` is a `Schedules`. `App.blocking` has the same calls for code that
is not async: it is a `BlockingApp`, which runs the coroutines of a `Calls` on an event loop in a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any, TypeVar, Unpack

from raincheck.core.codec import from_json
from raincheck.core.errors import (
    Fault,
    InvalidInput,
    JobCancelled,
    JobFailed,
    RegisteredTooLate,
    UnexpectedResult,
)
from raincheck.core.lifecycle import previous_results
from raincheck.core.model import Job, Schedule, State, Step, Stored
from raincheck.core.options import NO_OPTIONS, JobKeywords, job_options, object_of
from raincheck.engine.attempts import read_all
from raincheck.engine.bulk import change_jobs
from raincheck.engine.documents import (
    AttemptDocument,
    JobDocument,
    JobSummary,
    job_document,
    job_summary,
    raw,
    waiting_for,
)
from raincheck.engine.engine import Engine
from raincheck.engine.filters import (
    BulkKeywords,
    BulkResult,
    FilterKeywords,
    Operation,
    Order,
    bulk_of,
    filter_of,
)
from raincheck.engine.groups.documents import RunDocument
from raincheck.engine.idempotency import key_of_job, key_of_run
from raincheck.engine.listings import matching_jobs, store_filter
from raincheck.engine.results import load_one
from raincheck.engine.schedules.definitions import ScheduleKeywords, define, schedule_options
from raincheck.engine.schedules.documents import ScheduleDocument, schedule_document
from raincheck.engine.validation import Stages
from raincheck.functions.registry import Function, step_detail

logger = logging.getLogger("raincheck.calls")

R = TypeVar("R")

PATIENCE = 1.0
"""Seconds after which who waits for a job is warned if no worker offers its functions."""

WATCH_INTERVAL = 0.25
"""Seconds between reads of a running job: its progress is not a change of its record."""


class Calls:
    """The calls on jobs and groups. The first call opens the engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def submit(
        self,
        name: str,
        functions: Stages,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[JobKeywords],
    ) -> JobDocument:
        """Submit a job: its functions in order; a list among them is a parallel stage.

        The job is durable when this returns. Options are ``data``, ``delay``, ``scheduled_at``,
        ``expires_at``, ``priority`` and ``result_ttl``: ``delay`` and ``result_ttl`` are seconds; a higher
        ``priority`` runs first. Raises `InvalidInput` or `NotJSON`; then nothing was stored.
        """
        engine = await self._opened()
        await engine.workers.refresh()  # arguments are checked by the schemas that workers have registered
        typed = job_options(options, engine.functions.values.to_json)
        draft = engine.validator.draft(name, functions, typed, engine.store.now())
        key = key_of_job(idempotency_key, name, functions, typed)
        return await engine.document(await engine.jobs.submit(draft, key))

    async def trigger(
        self,
        group: str,
        *,
        data: Mapping[str, Any] | None = None,
        args: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> RunDocument:
        """Start a run of a group. It is durable when this returns, and continues if this process dies.

        ``data`` is merged over the data of every job and of the functions that follow. ``args`` replaces the
        arguments of the first function of jobs, by job name: a list by position, a mapping by name. A run is
        a job too: ``app.wait(run.id)`` waits for its end. Raises `NotFound`, `InvalidInput` or `NotJSON`.
        """
        engine = await self._opened()
        values = engine.functions.values
        data_json = bytes(object_of(data, values.to_json))
        args_json = {name: values.arguments_to_json(each) for name, each in (args or {}).items()}
        draft = engine.runs.draft(group, data_json, args_json)
        key = key_of_run(idempotency_key, group, data_json, args_json)
        return await self._run_document(await engine.runs.trigger(draft, key))

    async def run(self, group: str, run_id: str) -> RunDocument:
        """A run of a group as it is now, with its jobs. Raises `NotFound` or `Gone`."""
        engine = await self._opened()
        return await self._run_document(await engine.runs.find(group, run_id))

    async def status(self, job_id: str) -> JobDocument:
        """The job as it is now. Raises `NotFound` or `Gone`."""
        engine = await self._opened()
        return await _document(engine, await engine.jobs.find(job_id))

    async def wait(self, job_id: str, timeout: float | None = None) -> JobDocument:
        """The job when it has ended, or as it is after ``timeout`` seconds. Raises `NotFound` or `Gone`."""
        engine = await self._opened()
        is_short = timeout is not None and timeout <= PATIENCE
        stored = await engine.jobs.wait(job_id, timeout if is_short else PATIENCE)
        if not (is_short or stored.job.state.ended):
            await _warn_if_not_offered(engine, stored)
            stored = await engine.jobs.wait(job_id, None if timeout is None else timeout - PATIENCE)
        return await _document(engine, stored)

    async def call(self, step: Step[R]) -> R:
        """Submit a job of one step, wait for its end and return its result.

        The result has the annotated type if this app has the function, else it is plain data. Raises
        `JobFailed` or `JobCancelled` if the job has no result, and `UnexpectedResult` if it has another type.
        """
        if not isinstance(step, Step):
            raise InvalidInput(Fault(f"expected a step; {step_detail(step)}"))
        engine = await self._opened()
        await engine.workers.refresh()
        draft = engine.validator.draft(step.function, [step], NO_OPTIONS, engine.store.now())
        stored = await engine.jobs.submit(draft, wait=PATIENCE)
        if not stored.job.state.ended:
            await _warn_if_not_offered(engine, stored)
            stored = await load_one(engine.store, await engine.jobs.wait(draft.id))
        result: R = result_of(stored.job, engine.functions.get(step.function))
        return result

    async def cancel(self, job_id: str) -> JobDocument:
        """Cancel a job; a running step is stopped soon. Raises `NotFound` or `WrongState`."""
        engine = await self._opened()
        return await _document(engine, await engine.jobs.cancel(job_id))

    async def retry(self, job_id: str) -> JobDocument:
        """Continue a failed or cancelled job where it ended. Raises `NotFound` or `WrongState`."""
        engine = await self._opened()
        return await _document(engine, await engine.jobs.retry(job_id))

    async def attempts(self, job_id: str) -> list[AttemptDocument]:
        """The attempts of a job that have ended, oldest first, with errors and tracebacks.

        Of each function, the first attempt and the latest 20 are kept. Raises `NotFound` or `Gone`.
        """
        engine = await self._opened()
        stored = await engine.jobs.find(job_id)
        return await read_all(engine.store, stored.job, max_bytes=engine.limits.page_bytes)

    async def jobs(
        self, *, sort: Order = "newest", **filters: Unpack[FilterKeywords]
    ) -> AsyncGenerator[JobSummary, None]:
        """The jobs that match all given filters, newest or oldest first, as short documents.

        Filters are ``state`` (one or several), ``name``, ``function``, ``group``, ``schedule``, ``error``
        (type or exception), and ``since`` and ``until``: dates, or a timedelta or a text such as ``1h``
        counted back from now. Raises `InvalidInput`.
        """
        engine = await self._opened()
        which = store_filter(filter_of(filters), engine.store.now(), oldest_first=sort == "oldest")
        await engine.workers.refresh()
        async for stored in matching_jobs(engine.jobs, which):
            yield job_summary(job_document(stored, engine.workers.warning, raw, with_result=False))

    async def retry_jobs(self, **options: Unpack[BulkKeywords]) -> BulkResult:
        """Resume all failed or cancelled jobs that match the filters of `jobs`; returns their numbers.

        Options are ``every_job``, which an empty filter needs; ``dry_run``: only count the jobs; and
        ``progress``, which is called with the result so far after each part. Raises `InvalidInput`.
        """
        return await self._change_jobs(Operation.RETRY, options)

    async def cancel_jobs(self, **options: Unpack[BulkKeywords]) -> BulkResult:
        """Cancel all unfinished jobs that match; the options are those of `retry_jobs`."""
        return await self._change_jobs(Operation.CANCEL, options)

    async def forget_jobs(self, **options: Unpack[BulkKeywords]) -> BulkResult:
        """Delete all ended jobs that match; the options are those of `retry_jobs`."""
        return await self._change_jobs(Operation.DELETE, options)

    async def _change_jobs(self, operation: Operation, options: BulkKeywords) -> BulkResult:
        bulk, progress = bulk_of(options)
        engine = await self._opened()
        which = store_filter(bulk.filter, engine.store.now())
        result = BulkResult(dry_run=bulk.dry_run)
        while True:
            part = await change_jobs(
                engine.jobs, operation, which, bulk.limit, result.cursor, dry_run=bulk.dry_run
            )
            result = result.plus(part)
            if progress is not None:
                progress(result)
            if result.cursor is None:
                return result

    async def watch(self, job_id: str) -> AsyncGenerator[JobDocument, None]:
        """The job now, and again after each change of its state or progress, until it has ended."""
        engine = await self._opened()
        seen: JobDocument | None = None
        while True:
            stored = await engine.jobs.find(job_id)
            document = await _document(engine, stored)
            if document != seen:
                yield document
            seen = document
            if document.state.ended:
                return
            await engine.jobs.changed(job_id, stored.job.rev, WATCH_INTERVAL)

    async def _opened(self) -> Engine:
        if not self.engine.opened:
            await self.engine.open()
        return self.engine

    async def _run_document(self, stored: Stored) -> RunDocument:
        return await self.engine.runs.document(stored, await _document(self.engine, stored))


class Schedules:
    """The calls on schedules. `declare` is a plain function; the first of the others opens the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def declare(self, name: str, functions: Stages = (), **options: Unpack[ScheduleKeywords]) -> None:
        """Declare a schedule that servers and workers put when they start.

        Raises `InvalidInput`, or `RegistrationError` if its name is taken or the app has started.
        """
        if self._engine.opened:
            raise RegisteredTooLate(
                f"schedule {name}: the app has started: declare schedules before that, or use schedules.put"
            )
        typed = schedule_options(options, self._engine.functions.values.to_json)
        schedule = define(name, functions, typed, self._engine.validator, self._engine.now(), "code")
        self._engine.schedules.add(schedule)

    async def put(
        self,
        name: str,
        functions: Stages = (),
        *,
        paused: bool | None = None,
        **options: Unpack[ScheduleKeywords],
    ) -> ScheduleDocument:
        """Create or replace a schedule; the options are those of `App.schedule`. Raises `InvalidInput`."""
        engine = await self._opened()
        typed = schedule_options(options, engine.functions.values.to_json)
        make = partial(define, name, functions, typed, engine.validator, engine.store.now())
        schedule = await asyncio.to_thread(make)  # reads files of time zones
        engine.schedules.check(schedule)
        schedule, _ = await engine.scheduler.put(schedule, paused)
        return await self._document(schedule)

    async def find(self, name: str) -> ScheduleDocument:
        """The schedule as it is now. Raises `NotFound`."""
        engine = await self._opened()
        return await self._document(await engine.scheduler.find(name))

    async def everything(self) -> list[ScheduleDocument]:
        """All schedules, by name."""
        engine = await self._opened()
        return [await self._document(schedule) for schedule in await engine.scheduler.list_schedules()]

    async def pause(self, name: str) -> ScheduleDocument:
        """Stop a schedule from firing until it is resumed. Raises `NotFound`."""
        engine = await self._opened()
        return await self._document(await engine.scheduler.pause(name))

    async def resume(self, name: str) -> ScheduleDocument:
        """Resume a paused schedule; it skips the firings of the pause. Raises `NotFound`."""
        engine = await self._opened()
        return await self._document(await engine.scheduler.resume(name))

    async def run(self, name: str) -> JobDocument:
        """Submit the job of a schedule now; its firings do not change. Raises `NotFound`."""
        engine = await self._opened()
        return await _document(engine, await engine.jobs.submit(await engine.scheduler.draft_now(name)))

    async def delete(self, name: str) -> None:
        """Delete a schedule; its jobs stay. Raises `NotFound`."""
        engine = await self._opened()
        await engine.scheduler.delete(name)

    async def _opened(self) -> Engine:
        await self._engine.open()
        return self._engine

    async def _document(self, schedule: Schedule) -> ScheduleDocument:
        (upcoming,) = await self._engine.scheduler.upcoming(schedule)
        return schedule_document(schedule, upcoming)


async def _document(engine: Engine, stored: Stored) -> JobDocument:
    """The document of a job, after the registry of workers was refreshed."""
    await engine.workers.refresh()
    return await engine.document(stored)


async def _warn_if_not_offered(engine: Engine, stored: Stored) -> None:
    """Log a warning if a job that is waited for needs functions that no live worker offers."""
    await engine.workers.refresh()
    if waiting_for(stored, engine.workers.warning):
        await engine.workers.read()  # a worker may just have started
        for warning in waiting_for(stored, engine.workers.warning).values():
            logger.warning("job %s waits: %s", stored.job.id, warning)


def result_of(job: Job, function: Function | None) -> Any:
    """The result of an ended job that called ``function``; None: a function of another app.

    Raises `JobFailed` or `JobCancelled` if it has none, and `UnexpectedResult` if it does not have the
    annotated type.
    """
    if job.state is State.DONE:
        result = previous_results(job, job.steps[-1].stage + 1)
        try:
            return from_json(result) if function is None else function.signature.returns.read(result)
        except UnexpectedResult as error:
            raise UnexpectedResult(f"job {job.id}: {error}") from None
    if job.state is State.CANCELLED:
        raise JobCancelled(f"job {job.id} was cancelled", job_id=job.id)
    raise failure_of(job)


def failure_of(job: Job) -> JobFailed:
    """The exception for a failed job."""
    detail = f"{job.error.title}: {job.error.detail}" if job.error else "the job has no error"
    return JobFailed(f"job {job.id} failed: {detail}", job_id=job.id, problem=job.error)
