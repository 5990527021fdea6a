"""From a request to the draft of a job: every check that comes before it is accepted.

Each check takes the pointer (RFC 6901) of what it looks at, so that a fault points into the request as it
was sent: a job, a call's arguments, a group's definition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from raincheck.core import retry
from raincheck.core.clock import from_datetime, new_id
from raincheck.core.codec import decode_job, encode_job
from raincheck.core.errors import Fault, InvalidArguments, InvalidInput
from raincheck.core.limits import Limits
from raincheck.core.model import MAX_SECONDS, Job, Step
from raincheck.core.options import MAX_PRIORITY, JobOptions
from raincheck.engine.requests import FunctionRequest
from raincheck.functions.registry import Function, Functions, is_function_name
from raincheck.functions.signature import Pointers, fault_of

Entry = Step | FunctionRequest
"""One function of a job, as Python and as JSON have it."""

Stages = Sequence[Step | Sequence[Step]]
"""A job's functions as callers write them: an entry that is a list is a parallel stage.

A list of one is that one: it is shown as a function, and passes on its result, not a list.
"""

AnyStages = Sequence[Entry | Sequence[Entry]]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class At(NamedTuple):
    """Where a job is in a request: the pointers of its fields' parent and of its functions."""

    job: str = ""
    functions: str = "/functions"


TOP = At()
"""The request is the job."""


class Faults:
    """What a check found: ``misfits`` are arguments that do not fit their function."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.misfits: list[Fault] = []

    def check(self) -> None:
        """Raise `InvalidInput` if there are any; `InvalidArguments` if all of them are misfits."""
        if self.faults:
            raise InvalidInput(*self.faults, *self.misfits)
        if self.misfits:
            raise InvalidArguments(*self.misfits)


class Validator:
    """The checks of one app, by its functions and limits."""

    def __init__(self, functions: Functions, limits: Limits) -> None:
        self.functions = functions
        self.limits = limits

    def draft(
        self,
        name: str,
        stages: AnyStages,
        options: JobOptions,
        now: float,
        at: At = TOP,
        *,
        fill: bool = True,
    ) -> Job:
        """A job that may be submitted. Raises `InvalidInput` with every fault found.

        It is `InvalidArguments` if all of them are arguments that do not fit. With ``fill``, steps get the
        options of their functions where they have none of their own.
        """
        found = Faults()
        job = Job(
            id=new_id(),
            name=name,
            steps=tuple(self._steps(stages, at.functions, found, fill)),
            data=bytes(options.data),
            priority=options.priority,
            scheduled_at=_due(options, now),
            expires_at=None if options.expires_at is None else from_datetime(options.expires_at),
            result_ttl=self.limits.result_ttl if options.result_ttl is None else options.result_ttl,
        )
        found.faults[:0] = _delay_faults(options, at.job)
        found.faults += _fields_faults(job, now, self.limits, at.job)
        found.check()
        return job if _is_typed(stages) else _readable(job)

    def call(self, name: str, args: bytes, kwargs: bytes) -> Job:
        """The draft of a job that calls one function; pointers lead into its arguments.

        Raises `InvalidArguments`.
        """
        function, found = self.functions.get(name), Faults()
        if function is not None:
            found.misfits += argument_faults(function, args, kwargs, Pointers("", "", ""))
        found.check()
        return Job(
            id=new_id(),
            name=name,
            steps=(_step(name, 0, args, kwargs, None, None, function),),
            result_ttl=self.limits.result_ttl,
        )

    def steps(self, stages: AnyStages, at: str) -> tuple[Step, ...]:
        """The steps of stages, ``at`` being their pointer. Raises `InvalidInput`."""
        found = Faults()
        steps = tuple(self._steps(stages, at, found, fill=True))
        found.check()
        return steps if _is_typed(stages) else _readable(Job("", "", steps)).steps

    def _steps(self, stages: AnyStages, at: str, found: Faults, fill: bool) -> Iterator[Step]:
        if not stages:
            found.faults.append(Fault("a job has at least one function", at))
        total = 0
        for number, entry in enumerate(stages):
            place = f"{at}/{number}"
            members: Sequence[Any] = entry if isinstance(entry, list | tuple) else (entry,)
            total += len(members)
            if (fault := self._size_fault(len(members), total, at, place)) is not None:
                found.faults.append(fault)
                return
            if not members:
                found.faults.append(Fault("a parallel stage has at least one function", place))
            for i, asked in enumerate(members):
                step = self._checked(
                    asked, number, f"{place}/{i}" if members is entry else place, found, fill
                )
                if step is not None:
                    yield step

    def _size_fault(self, width: int, total: int, at: str, place: str) -> Fault | None:
        """Too many functions, in a stage or in all."""
        if width > self.limits.stage:
            return Fault(
                f"a parallel stage has at most {self.limits.stage} functions, got {width}: "
                "for wider fan-out use a group, whose jobs run in parallel and may have a follow-up",
                place,
            )
        if total > self.limits.steps:
            return Fault(
                f"a job has at most {self.limits.steps} functions: use a group, which has many jobs", at
            )
        return None

    def _checked(self, asked: Any, stage: int, at: str, found: Faults, fill: bool) -> Step | None:
        """The step of one function; None if it is not understood."""
        if isinstance(asked, FunctionRequest):  # its decoder has checked the options
            name, args, kwargs = asked.name, bytes(asked.args), bytes(asked.kwargs)
            own, timeout = asked.retry_options, asked.timeout
        elif isinstance(asked, Step):
            name, args, kwargs = asked.function, asked.args, asked.kwargs
            own, timeout = asked.retry, asked.timeout
            found.faults += _option_faults(asked, at)
        else:
            found.faults.append(Fault("expected a step; lists nest one level deep", at))
            return None
        if not is_function_name(name):
            found.faults.append(Fault(f"{name[:100]!r} cannot be a function's name", f"{at}/name"))
        wrong = [*container_faults(args, kwargs, at)]
        function = self.functions.get(name)
        if function is not None and not wrong:
            pointers = Pointers(at, f"{at}/args", f"{at}/kwargs")
            found.misfits += argument_faults(function, args, kwargs, pointers)
        found.faults += wrong
        return _step(name, stage, args, kwargs, own, timeout, function if fill else None)


def argument_faults(function: Function, args: bytes, kwargs: bytes, at: Pointers) -> Sequence[Fault]:
    """The arguments that do not fit a function."""
    try:
        function.signature.check(args, kwargs, at)
    except InvalidArguments as error:
        return error.faults
    return ()


def is_object(value: bytes | Raw) -> bool:
    """Whether JSON bytes without leading space are an object."""
    return bytes(value)[:1] == b"{"


def object_faults(value: bytes | Raw, at: str) -> Iterator[Fault]:
    """The fault of JSON that should be an object."""
    if not is_object(value):
        yield Fault("expected an object", at)


def container_faults(args: bytes, kwargs: bytes, at: str) -> Iterator[Fault]:
    """Arguments that are no array, or no object: decoders leave them as they came."""
    if args[:1] != b"[":
        yield Fault("expected an array", f"{at}/args")
    yield from object_faults(kwargs, f"{at}/kwargs")


def split_arguments(given: bytes, at: str = "") -> tuple[bytes, bytes]:
    """Arguments by position (an array) or by name (an object), as ``args`` and ``kwargs``.

    No bytes are no arguments. Raises `InvalidInput` for other JSON.
    """
    given = given.strip()
    if given[:1] not in (b"", b"[", b"{"):
        raise InvalidInput(Fault("expected an array (arguments by position) or an object (by name)", at))
    return (b"[]", given) if is_object(given) else (given or b"[]", b"{}")


def _step(
    name: str,
    stage: int,
    args: bytes,
    kwargs: bytes,
    own: Any,
    timeout: float | None,
    function: Function | None,
) -> Step:
    """A step that has not begun, with the options of its function where it has none of its own."""
    if function is not None:
        own, timeout = own or function.retry, timeout or function.timeout
    return Step(name, stage, args, kwargs, own, timeout)


def _option_faults(step: Step, at: str) -> Iterator[Fault]:
    """What is wrong with the options of a step made in Python."""
    if step.timeout is not None and not 0 < step.timeout <= MAX_SECONDS:
        yield Fault(f"lies above 0, up to {MAX_SECONDS:.0f} seconds", f"{at}/timeout")
    if step.retry is not None:
        try:
            retry.check(step.retry)
        except msgspec.ValidationError as error:
            yield fault_of(error, f"{at}/retry_options")


def _due(options: JobOptions, now: float) -> float | None:
    if options.delay is not None:
        return now + options.delay
    return None if options.scheduled_at is None else from_datetime(options.scheduled_at)


def _delay_faults(options: JobOptions, at: str) -> Iterator[Fault]:
    if options.delay is not None and options.scheduled_at is not None:
        yield Fault("delay and scheduled_at exclude each other", f"{at}/delay")
    if options.delay is not None and not 0 <= options.delay <= MAX_SECONDS:
        yield Fault(f"lies between 0 and {MAX_SECONDS:.0f} seconds", f"{at}/delay")


def _fields_faults(job: Job, now: float, limits: Limits, at: str) -> Iterator[Fault]:
    """What is wrong with a job beside its steps."""
    due, latest = job.scheduled_at or now, now + MAX_SECONDS
    if not 0 < len(job.name) <= limits.name:
        yield Fault(f"a name has 1 to {limits.name} characters, got {len(job.name)}", f"{at}/name")
    elif _CONTROL.search(job.name):
        yield Fault("a name has no control characters", f"{at}/name")
    yield from object_faults(job.data, f"{at}/data")
    if due > latest:
        yield Fault("lies more than ten years ahead", f"{at}/scheduled_at")
    if job.expires_at is not None and job.expires_at <= now:
        yield Fault("lies in the past", f"{at}/expires_at")
    elif job.expires_at is not None and job.expires_at <= due:
        yield Fault("lies before the job is due", f"{at}/expires_at")
    elif job.expires_at is not None and job.expires_at > latest:
        yield Fault("lies more than ten years ahead", f"{at}/expires_at")
    if abs(job.priority) > MAX_PRIORITY:
        yield Fault(f"a priority lies between -{MAX_PRIORITY} and {MAX_PRIORITY}", f"{at}/priority")
    yield from ttl_faults(job.result_ttl, at)


def ttl_faults(result_ttl: float, at: str = "") -> Iterator[Fault]:
    """The fault of a time to keep results for."""
    if not 0 <= result_ttl <= MAX_SECONDS:
        yield Fault(f"lies between 0 and {MAX_SECONDS:.0f} seconds", f"{at}/result_ttl")


def _is_typed(stages: AnyStages) -> bool:
    """Whether a decoder made these functions, and with them their options."""
    first = stages[0]
    return isinstance(first[0] if isinstance(first, list | tuple) else first, FunctionRequest)


def _readable(job: Job) -> Job:
    """A job made in Python, as it will be read. Raises `InvalidInput` if its record could not be."""
    try:
        return decode_job(encode_job(job))
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidInput(Fault(f"something is of the wrong type: {error}")) from None
