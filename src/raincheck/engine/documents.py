"""The documents of jobs, functions and workers: the same in every response, in the client and in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.clock import to_datetime
from raincheck.core.codec import from_json
from raincheck.core.model import (
    AttemptOutcome,
    Event,
    FunctionInfo,
    Lease,
    Problem,
    RetryOptions,
    State,
    Step,
    Stored,
    WorkerInfo,
)
from raincheck.core.options import Moment
from raincheck.core.stages import current_stage

F = TypeVar("F")
T = TypeVar("T")

SHORT_DETAIL = 200
"""Characters of the detail of an error that a listing shows."""

Decode = Callable[[bytes], Any]
"""How user values are put into a document: as Python values (`from_json`), or as JSON (`raw`)."""


Warn = Callable[[str], str | None]
"""The warning for who waits for a function; None: a live worker offers it."""


def no_warning(function: str) -> None:
    """A `Warn` for whoever does not know the workers."""


class Document(Struct, frozen=True):
    """What callers get of a job, an attempt, a run, a schedule or a worker. Web frameworks can return it."""

    def to_dict(self) -> dict[str, Any]:
        """The document as plain data that any JSON encoder can write; dates are text, as over HTTP."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """The items of `to_dict`, for ``dict(document)``: so FastAPI encodes what it does not know."""
        return iter(self.to_dict().items())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """How pydantic reads and writes it: FastAPI needs this for a response model."""
        from pydantic_core import core_schema  # here: only pydantic calls this

        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else msgspec.convert(value, cls),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.to_dict),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Its JSON Schema, without references: pydantic would not find what they refer to."""
        (schema,), definitions = msgspec.json.schema_components([cls], ref_template="{name}")
        inlined: dict[str, Any] = _inlined(schema, definitions)
        return inlined


def _inlined(value: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inlined(each, definitions) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _inlined(definitions[value["$ref"]], definitions)
    return {key: _inlined(each, definitions) for key, each in value.items()}


class FunctionDocument(Document, frozen=True, kw_only=True):
    """One entry of a job's ``functions``."""

    name: str
    args: Any
    kwargs: Any
    retry_count: int
    lost_count: int
    retry_options: RetryOptions
    timeout: float | None
    state: State
    result: Any
    error: Problem | None
    started_at: Moment | None
    finished_at: Moment | None
    worker: str | None
    progress: Any


class StepSummary(Struct, frozen=True, kw_only=True):
    """One entry of the ``functions`` of a job in a listing."""

    name: str
    state: State
    retry_count: int
    lost_count: int


class _JobFields(Document, Generic[F], frozen=True, kw_only=True):
    """What every document of a job has."""

    id: str
    name: str
    state: State
    functions: list[F | list[F]]
    current_function: int
    error: Problem | None
    priority: int
    run: int
    waiting_for: list[str]
    created_at: Moment
    updated_at: Moment
    scheduled_at: Moment | None
    finished_at: Moment | None
    expires_at: Moment | None
    cancel_requested_at: Moment | None
    result_ttl: float
    group: str | None
    schedule: str | None


class JobDocument(_JobFields[FunctionDocument], frozen=True, kw_only=True):
    """A job. ``functions`` has one entry per stage: a function, or a list of functions that run in parallel.

    A list of one function is shown as that function. ``current_function`` is the index of the stage that is
    running or waiting. ``warnings`` say why it may not go on: for each function in ``waiting_for``, that no
    worker offers it, and a function of a similar name.
    """

    data: Any
    result: Any
    warnings: list[str] = []


class JobSummary(_JobFields[StepSummary], frozen=True, kw_only=True):
    """A job in a listing: the members of `JobDocument` whose size does not depend on user values.

    The ``error`` has no ``errors``, and its ``detail`` is cut.
    """


class EventDocument(Document, frozen=True, kw_only=True):
    """A numbered change of a job; ``function`` is the index of its step."""

    number: int
    at: Moment
    kind: str
    function: int | None


class AttemptDocument(Document, frozen=True, kw_only=True):
    """An attempt that has ended, at the step with the index ``step``.

    ``number`` counts the attempts at the step from 1, in each ``run`` of the job. ``traceback`` is null if
    there is none, or if the caller may not read it.
    """

    number: int
    run: int
    step: int
    function: str
    worker: str
    started_at: Moment
    finished_at: Moment
    outcome: AttemptOutcome
    error: Problem | None
    traceback: str | None


class AttemptPage(Struct, frozen=True, kw_only=True):
    """A page of attempts, oldest first; ``cursor`` is for the next page, and null on the last page."""

    attempts: list[AttemptDocument]
    cursor: str | None


class JobPage(Struct, frozen=True, kw_only=True):
    """A page of jobs, newest first; ``cursor`` is for the next page, and null on the last page."""

    jobs: list[JobSummary]
    cursor: str | None


class CallDocument(Struct, frozen=True, kw_only=True):
    """The result of a call that ended during the wait."""

    id: str
    state: State
    result: Any


class FunctionSummary(Struct, frozen=True, kw_only=True):
    """A function: its schemas and options, the workers that offer it, and its queued steps."""

    name: str
    doc: str
    parameters: dict[str, Any]
    positional: dict[str, Any]
    returns: dict[str, Any]
    retry_options: RetryOptions
    timeout: float | None
    wait: float
    mode: str
    concurrency: int | None
    workers: list[str]
    queued: int


class WorkerDocument(Document, frozen=True, kw_only=True):
    """A worker: ``active``, ``stopping``, or ``unhealthy`` if it sends no heartbeats.

    One that connects over HTTP has a ``name``.
    """

    id: str
    name: str | None
    state: str
    host: str
    pid: int
    version: str
    functions: list[str]
    concurrency: int
    running: int
    abandoned: int
    started_at: Moment
    seen_at: Moment


class CountDocument(Struct, frozen=True, kw_only=True):
    """The number of ``jobs`` in each state.

    ``queued`` is the number of waiting steps by function, also those due later; ``running`` the number of
    running steps.
    """

    jobs: dict[State, int]
    queued: dict[str, int]
    running: int


encode = msgspec.json.Encoder().encode
"""Encodes a document as JSON."""


def job_document(
    stored: Stored, warning: Warn = no_warning, decode: Decode = from_json, *, with_result: bool = True
) -> JobDocument:
    """The document of a job, with a ``warning`` for each function that it waits for.

    Without its result, no large results need to be loaded.
    """
    job = stored.job
    state = stored.state
    leases = {lease.step: lease for lease in stored.leases if state is State.DOING}
    documents = [_function(step, leases.get(i), decode) for i, step in enumerate(job.steps)]
    has_result = with_result and job.state is State.DONE
    waiting = waiting_for(stored, warning)
    return JobDocument(
        id=job.id,
        name=job.name,
        state=state,
        functions=in_stages(job.steps, documents),
        current_function=current_stage(job),
        error=job.error,
        priority=job.priority,
        run=job.run,
        waiting_for=[*waiting],
        created_at=to_datetime(job.created_at),
        updated_at=to_datetime(job.updated_at),
        scheduled_at=_moment(job.scheduled_at),
        finished_at=_moment(job.finished_at),
        expires_at=_moment(job.expires_at),
        cancel_requested_at=_moment(job.cancel_requested_at),
        result_ttl=job.result_ttl,
        group=job.group,
        schedule=job.schedule,
        data=decode(job.data),
        result=decode(lifecycle.previous_results(job, job.steps[-1].stage + 1)) if has_result else None,
        warnings=[*waiting.values()],
    )


def job_summary(document: JobDocument) -> JobSummary:
    """The document of a job as a listing shows it."""
    summary = msgspec.convert(document, JobSummary, from_attributes=True)
    return summary if summary.error is None else replace(summary, error=_short(summary.error))


def _short(error: Problem) -> Problem:
    """An error for a listing."""
    detail = error.detail
    if len(detail) > SHORT_DETAIL:
        detail = f"{detail[: SHORT_DETAIL - 1]}…"
    return replace(error, detail=detail, errors=())


def _function(step: Step, lease: Lease | None, decode: Decode) -> FunctionDocument:
    progress = step.progress if lease is None else lease.progress
    return FunctionDocument(
        name=step.function,
        args=decode(step.args),
        kwargs=decode(step.kwargs),
        retry_count=step.retry_count,
        lost_count=step.lost_count,
        retry_options=step.retry or RetryOptions(),
        timeout=step.timeout,
        state=step.state if lease is None else State.DOING,
        result=None if step.result is None else decode(step.result),
        error=step.error,
        started_at=_moment(step.started_at if lease is None else lease.since),
        finished_at=_moment(step.finished_at) if lease is None else None,
        worker=step.worker if lease is None else lease.worker,
        progress=None if progress is None else decode(progress),
    )


def in_stages(steps: Sequence[Step], documents: Sequence[T]) -> list[T | list[T]]:
    """The documents of steps, one entry per stage: a list, or the document of a stage's only step."""
    if steps and len(steps) == steps[-1].stage + 1:
        return [*documents]
    stages: list[list[T]] = [[] for _ in range(steps[-1].stage + 1 if steps else 0)]
    for step, document in zip(steps, documents, strict=True):
        stages[step.stage].append(document)
    return [stage[0] if len(stage) == 1 else stage for stage in stages]


def waiting_for(stored: Stored, warning: Warn) -> dict[str, str]:
    """The functions without a worker, of steps that should run now and do not, each with its warning."""
    job = stored.job
    if job.state.ended:
        return {}
    stage, leased = current_stage(job), {lease.step for lease in stored.leases}
    names = {
        step.function
        for i, step in enumerate(job.steps)
        if step.stage == stage and not step.state.ended and i not in leased and step.gather is None
    }
    return {name: text for name in sorted(names) if (text := warning(name)) is not None}


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else to_datetime(seconds)


def event_documents(events: Iterable[Event]) -> list[EventDocument]:
    """The documents of events."""
    return [
        EventDocument(number=e.number, at=to_datetime(e.at), kind=e.kind, function=e.step) for e in events
    ]


def function_summary(info: FunctionInfo, workers: list[str], queued: int) -> FunctionSummary:
    """The document of a function."""
    return FunctionSummary(
        name=info.name,
        doc=info.doc,
        parameters=info.parameters,
        positional=info.positional,
        returns=info.returns,
        retry_options=info.retry,
        timeout=info.timeout,
        wait=info.wait,
        mode=info.mode,
        concurrency=info.concurrency,
        workers=workers,
        queued=queued,
    )


def worker_document(worker: WorkerInfo) -> WorkerDocument:
    """The document of a worker."""
    return WorkerDocument(
        id=worker.id,
        name=worker.name or None,
        state=worker.state,
        host=worker.host,
        pid=worker.pid,
        version=worker.version,
        functions=[function.name for function in worker.functions],
        concurrency=worker.concurrency,
        running=worker.running,
        abandoned=worker.abandoned,
        started_at=to_datetime(worker.started_at),
        seen_at=to_datetime(worker.seen_at),
    )


def raw(value: bytes) -> Raw:
    """A user value for a document that becomes JSON again: it is not decoded."""
    return Raw(value)
