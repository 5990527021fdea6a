"""The App: functions and a store, and what can be asked of them in Python."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Self, overload

from raincheck import config
from raincheck.clock import from_datetime
from raincheck.codec import from_json, to_json
from raincheck.directory import Directory
from raincheck.documents import JobDocument, job_document
from raincheck.errors import JobCancelled, JobFailed
from raincheck.functions import DEFAULT_WAIT, Function, Functions
from raincheck.groups.declared import Groups
from raincheck.groups.definition import GroupJob, from_code
from raincheck.groups.documents import RunDocument
from raincheck.groups.members import size_of
from raincheck.groups.runs import Runs
from raincheck.jobs import Jobs, fingerprint
from raincheck.lifecycle import previous_results
from raincheck.limits import Limits
from raincheck.model import CatchUp, Job, OnFailure, RetryOptions, State, Step, Stored
from raincheck.results import load_one
from raincheck.schedules import Schedules
from raincheck.schedules.definition import GRACE
from raincheck.schedules.scheduler import Scheduler
from raincheck.store import make_store
from raincheck.submission import Stages, draft
from raincheck.yamlfile import Document

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from raincheck.auth import Auth
    from raincheck.blocking import BlockingApp

DEFAULT_STORE = "sqlite:///raincheck.db"
WATCH_INTERVAL = 0.25
"""Seconds between looks at a job being done, whose progress is not a change of its record."""

Lifespan = Callable[["App"], AbstractAsyncContextManager[Mapping[str, Any] | None]]


class App:
    """Functions, and the store their jobs live in.

    ``store`` is a URL; without one ``RAINCHECK_STORE``, else ``sqlite:///raincheck.db``. ``config`` is
    the file that declares groups; without one ``RAINCHECK_CONFIG``, else ``raincheck.yaml``, if it is
    there. ``lifespan``
    is an async context manager around everything a worker process runs; what it yields (a
    mapping) is ``ctx.state``. ``auth`` is who may call the HTTP API; without one, what the environment
    says of it. The store is opened by the first call, or by ``async with app``.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        config: str | os.PathLike[str] | None = None,
        title: str = "raincheck",
        limits: Limits = Limits(),
        lifespan: Lifespan | None = None,
        auth: Auth | None = None,
    ) -> None:
        self.url = store or os.environ.get("RAINCHECK_STORE") or DEFAULT_STORE
        self.config = config
        self.title = title
        self.limits = limits
        self.lifespan = lifespan
        self.auth = auth
        self.functions = Functions()
        self.groups = Groups()
        self.schedules = Schedules(self)
        self.held_here: list[Callable[[], Iterable[int]]] = []
        """Tells the tokens of the leases that workers of this process look after."""
        self._lock = Lock()
        self._opening: Future[None] | None = None
        self._open = False

    @cached_property
    def jobs(self) -> Jobs:
        """The jobs in the store; making it settles which store that is."""
        return Jobs(make_store(self.url), self.limits)

    @cached_property
    def directory(self) -> Directory:
        """Who offers which function."""
        return Directory(self.jobs.store, self.functions)

    @cached_property
    def runs(self) -> Runs:
        """The runs of its groups."""
        return Runs(self.jobs, self.groups, self.functions)

    @cached_property
    def scheduler(self) -> Scheduler:
        """The schedules in the store."""
        return Scheduler(self.jobs.store, self.runs.draft)

    @overload
    def function(self, name: Callable[..., Any], /) -> Function: ...
    @overload
    def function(
        self,
        name: str | None = None,
        /,
        *,
        retry: RetryOptions = ...,
        timeout: float | None = ...,
        process: bool = ...,
        wait: float = ...,
    ) -> Callable[[Callable[..., Any]], Function]: ...
    def function(
        self,
        name: Any = None,
        /,
        *,
        retry: RetryOptions = RetryOptions(),
        timeout: float | None = None,
        process: bool = False,
        wait: float = DEFAULT_WAIT,
    ) -> Any:
        """Register a function, under its own name or the one given.

        ``retry`` and ``timeout`` (seconds an attempt) hold unless a step has its own. ``async def``
        runs on the worker's loop, ``def`` in a thread, either in a process of its own with ``process``.
        ``wait`` is how long a call over HTTP waits for the result, unless it says otherwise.
        Raises `RegistrationError`, or `RegisteredTooLate` once the app has started.
        """

        def register(function: Callable[..., Any]) -> Function:
            made = Function(
                function,
                name if isinstance(name, str) else function.__name__,
                retry=retry,
                timeout=timeout,
                process=process,
                wait=wait,
                caller=self.call,
            )
            self.functions.add(made)
            return made

        return register(name) if callable(name) else register

    def group(
        self,
        name: str,
        jobs: Sequence[GroupJob],
        *,
        then: Stages = (),
        on_failure: OnFailure = "fail",
        data: Mapping[str, Any] | None = None,
        priority: int = 0,
        result_ttl: float | None = None,
    ) -> None:
        """Declare a group: jobs that are triggered together, and the functions that follow them.

        The first function of ``then`` has the jobs' results, in order, as ``ctx.previous``. A job without a
        result fails the run, or with ``on_failure="continue"`` leaves null there. What is wrong with a
        group is told when it is triggered. Raises `RegistrationError` or `NotJSON`.
        """
        self.groups.add(name, from_code(jobs, then, on_failure, data, priority, result_ttl))

    def schedule(
        self,
        name: str,
        functions: Stages = (),
        *,
        group: str | None = None,
        cron: str | None = None,
        zone: str | None = None,
        every: float | None = None,
        data: Mapping[str, Any] | None = None,
        priority: int = 0,
        expires_in: float | None = None,
        result_ttl: float | None = None,
        catch_up: str = CatchUp.LATEST,
        grace: float = GRACE,
    ) -> None:
        """Declare a schedule: servers and workers of the app put it when they start, if it is new or changed.

        It submits a job of its name and these functions, or triggers a ``group``, by a ``cron`` expression
        in the IANA ``zone`` (UTC), or ``every`` so many seconds. Each job may take ``expires_in`` seconds. A
        firing more than ``grace`` seconds late was missed; of those the ``latest`` is made up for, or
        ``all``, or ``none``. Raises `InvalidInput`.
        """
        self.schedules.declare(
            name,
            functions,
            group=group,
            cron=cron,
            zone=zone,
            every=every,
            data=data,
            priority=priority,
            expires_in=expires_in,
            result_ttl=result_ttl,
            catch_up=catch_up,
            grace=grace,
        )

    @property
    def opened(self) -> bool:
        """Whether the store is open."""
        return self._open

    async def open(self) -> None:
        """Open the store; from now on no function can be registered. Calling it again does nothing."""
        while not self._open:  # several loops may ask at once: one does it, the others wait for it
            with self._lock:
                mine = self._opening is None
                opening = self._opening = self._opening or Future()
            if not mine:
                await asyncio.shield(asyncio.wrap_future(opening))
                continue
            try:
                document = await asyncio.to_thread(self._read_config)
                self.functions.close()
                self.groups.check(document, self.functions, self.limits)
                await asyncio.to_thread(self.schedules.read, document)
                await self.jobs.store.open()
                self._open = True
            finally:
                self._opening = None
                opening.set_result(None)

    def _read_config(self) -> Document | None:
        path = config.find(self.config)
        return None if path is None else config.read(path)

    async def close(self) -> None:
        """Close the store. The app can be opened again."""
        if self._open:
            self._open = False
            await self.jobs.store.close()
            self.__dict__.pop("jobs")
            self.__dict__.pop("directory", None)
            self.__dict__.pop("runs", None)
            self.__dict__.pop("scheduler", None)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def submit(
        self,
        name: str,
        functions: Stages,
        *,
        data: Mapping[str, Any] | None = None,
        delay: float | None = None,
        scheduled_at: datetime | None = None,
        expires_at: datetime | None = None,
        priority: int = 0,
        result_ttl: float | None = None,
        idempotency_key: str | None = None,
    ) -> JobDocument:
        """Submit a job: its functions in order, a list among them being a parallel stage.

        Durable when this returns. ``delay`` and ``result_ttl`` are seconds; higher ``priority`` goes
        first. Raises `InvalidInput` or `NotJSON`, and then nothing was stored.
        """
        await self.open()
        now = self.jobs.store.now()
        job = draft(
            name,
            functions,
            data=to_json(data or {}),
            now=now,
            delay=delay,
            scheduled_at=None if scheduled_at is None else from_datetime(scheduled_at),
            expires_at=None if expires_at is None else from_datetime(expires_at),
            priority=priority,
            result_ttl=result_ttl,
            functions=self.functions,
            limits=self.limits,
        )
        stored = await self.jobs.submit(job, idempotency_key, _fingerprint(job) if idempotency_key else b"")
        return await self.document(Stored(stored))

    async def trigger(
        self,
        group: str,
        *,
        data: Mapping[str, Any] | None = None,
        args: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> RunDocument:
        """Start a run of a group. Durable when this returns; it goes on whoever dies.

        ``data`` goes over that of every job and of the follow-up. ``args`` gives jobs, by name, other
        arguments for their first function: a list by position, a mapping by name. A run is a job, too:
        ``app.wait(run.id)`` gives its end. Raises `NotFound`, `InvalidInput` or `NotJSON`.
        """
        await self.open()
        shared, given = to_json(data or {}), {name: to_json(each) for name, each in (args or {}).items()}
        draft = self.runs.draft(group, shared, given)
        mark = fingerprint(group.encode(), shared, to_json(args or {})) if idempotency_key else b""
        return await self.run_document(await self.runs.trigger(draft, idempotency_key, mark))

    async def run(self, group: str, run_id: str) -> RunDocument:
        """A run of a group as it is now, with its jobs. Raises `NotFound` or `Gone`."""
        await self.open()
        return await self.run_document(await self.runs.find(group, run_id))

    async def run_document(self, stored: Stored) -> RunDocument:
        """A run as callers see it."""
        return await self.runs.document(await self.document(stored), size_of(stored.job))

    async def status(self, job_id: str) -> JobDocument:
        """The job as it is now. Raises `NotFound` or `Gone`."""
        await self.open()
        return await self.document(await self.jobs.find(job_id))

    async def wait(self, job_id: str, timeout: float | None = None) -> JobDocument:
        """The job once it has ended, or as it is after ``timeout`` seconds."""
        await self.open()
        return await self.document(await self.jobs.wait(job_id, timeout))

    async def call(self, step: Step) -> Any:
        """Submit a job of one step, wait for its end and return its result.

        Raises `JobFailed` or `JobCancelled` if it ends otherwise.
        """
        await self.open()
        job = draft(
            step.function, [step], now=self.jobs.store.now(), functions=self.functions, limits=self.limits
        )
        return result_of((await load_one(self.jobs.store, await self.jobs.submit_and_wait(job))).job)

    async def cancel(self, job_id: str) -> JobDocument:
        """Stop a job; one being run is stopped soon. Raises `NotFound` or `WrongState`."""
        await self.open()
        return await self.document(await self.jobs.cancel(job_id))

    async def retry(self, job_id: str) -> JobDocument:
        """Let a failed or cancelled job go on where it ended. Raises `NotFound` or `WrongState`."""
        await self.open()
        return await self.document(await self.jobs.retry(job_id))

    async def watch(self, job_id: str) -> AsyncGenerator[JobDocument, None]:
        """The job now, and again whenever it has changed or come further, until it has ended."""
        await self.open()
        seen: JobDocument | None = None
        while True:
            stored = await self.jobs.find(job_id)
            document = await self.document(stored)
            if document != seen:
                yield document
            seen = document
            if document.state.ended:
                return
            await self.jobs.watches.changed(job_id, stored.job.rev, WATCH_INTERVAL)

    async def document(self, stored: Stored) -> JobDocument:
        """A stored job as callers see it."""
        await self.directory.refresh()
        return job_document(await load_one(self.jobs.store, stored), self.directory.offered)

    @cached_property
    def blocking(self) -> BlockingApp:
        """The same calls for code that is not async: ``app.blocking.submit(...)``."""
        from raincheck.blocking import BlockingApp

        return BlockingApp(self)

    @cached_property
    def asgi(self) -> ASGIApp:
        """The HTTP API, an ASGI application to be served or mounted in another."""
        from raincheck.server import create_server

        return create_server(self)


def result_of(job: Job) -> Any:
    """The result of an ended job. Raises `JobFailed` or `JobCancelled` if it has none."""
    if job.state is State.DONE:
        return from_json(previous_results(job, job.steps[-1].stage + 1))
    if job.state is State.CANCELLED:
        raise JobCancelled(f"job {job.id} was cancelled", job_id=job.id)
    detail = f"{job.error.title}: {job.error.detail}" if job.error else "no reason is known"
    raise JobFailed(f"job {job.id} failed: {detail}", job_id=job.id, problem=job.error)


def _fingerprint(job: Job) -> bytes:
    parts = [job.name.encode(), job.data]
    for step in job.steps:
        parts += [step.function.encode(), b"%d" % step.stage, step.args, step.kwargs]
    return fingerprint(*parts)
