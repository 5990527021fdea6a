"""Validation: turns the request for a job into a draft, or raises every fault of the request.

Each check gets the pointer (RFC 6901) of the value that it checks, so that a fault points into the request as
it was sent: a job, the arguments of a call, the definition of a group.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from raincheck.core import retry as retries
from raincheck.core.clock import from_datetime, new_id
from raincheck.core.codec import decode_job, encode_job
from raincheck.core.errors import Fault, InvalidArguments, InvalidInput
from raincheck.core.limits import Limits
from raincheck.core.model import MAX_SECONDS, Job, Step
from raincheck.core.options import MAX_PRIORITY, NO_OPTIONS, JobOptions
from raincheck.core.text import short
from raincheck.engine.requests import FunctionRequest
from raincheck.functions.offered import OfferedFunctions
from raincheck.functions.registry import (
    Function,
    Functions,
    is_function_name,
    stages_detail,
    step_detail,
)
from raincheck.functions.signature import Pointers, fault_of

Entry = Step | FunctionRequest
"""One function of a job, made in Python or decoded from JSON."""

Stages = Sequence[Step | Sequence[Step]]
"""A job's functions as callers write them: an entry that is a list is a parallel stage.

A list of one function is the same as that function: its result is passed on, not a list.
"""

AnyStages = Sequence[Entry | Sequence[Entry]]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class At(NamedTuple):
    """Where a job is in a request: the pointers to the job and to its functions."""

    job: str = ""
    functions: str = "/functions"


TOP = At()
"""The request is the job."""


class Faults:
    """The faults of a request, those of ``arguments`` apart: of the arguments that do not fit a function."""

    __slots__ = ("arguments", "faults")

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.arguments: list[Fault] = []

    def check(self) -> None:
        """Raise `InvalidInput` if there are faults; `InvalidArguments` if they are all of arguments."""
        if self.faults:
            raise InvalidInput(*self.faults, *self.arguments)
        if self.arguments:
            raise InvalidArguments(*self.arguments)


class Validator:
    """The checks of one app, with its functions, its limits, and the functions that workers offer."""

    def __init__(self, functions: Functions, limits: Limits, offered: OfferedFunctions | None = None) -> None:
        self.functions = functions
        self.offered = offered or OfferedFunctions()
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
        """A job that can be submitted. Raises `InvalidInput` with every fault.

        Raises `InvalidArguments` if only arguments do not fit. With ``fill``, a step without options of its
        own gets those of its function.
        """
        faults = Faults()
        job = Job(
            id=new_id(),
            name=name,
            steps=tuple(self._steps(stages, at.functions, faults, fill)),
            data=bytes(options.data),
            priority=options.priority,
            scheduled_at=_due(options, now),
            expires_at=None if options.expires_at is None else from_datetime(options.expires_at),
            result_ttl=self.limits.result_ttl if options.result_ttl is None else options.result_ttl,
        )
        if options.delay is not None:
            faults.faults[:0] = _delay_faults(options, options.delay, at.job)
        faults.faults += _name_faults(name, self.limits, at.job)
        if options is not NO_OPTIONS:
            faults.faults += _field_faults(job, now, at.job)
        faults.check()
        return job if _is_typed(stages) else _readable(job)

    def call(self, name: str, args: bytes, kwargs: bytes) -> Job:
        """The draft of a job that calls one function; pointers point into its arguments.

        Raises `InvalidArguments`.
        """
        faults = Faults()
        faults.arguments += self.argument_faults(name, args, kwargs, Pointers("", "", ""))
        faults.check()
        return Job(
            id=new_id(),
            name=name,
            steps=(_new_step(name, 0, args, kwargs, None, None, self.functions.get(name)),),
            result_ttl=self.limits.result_ttl,
        )

    def steps(self, stages: AnyStages, at: str) -> tuple[Step, ...]:
        """The steps of stages; ``at`` is their pointer. Raises `InvalidInput`."""
        faults = Faults()
        steps = tuple(self._steps(stages, at, faults, fill=True))
        faults.check()
        return steps if _is_typed(stages) else _readable(Job("", "", steps)).steps

    def argument_faults(self, name: str, args: bytes, kwargs: bytes, at: Pointers) -> Sequence[Fault]:
        """The faults of arguments that do not fit a function.

        They are checked by its signature if it is of this process, else by the schemas that workers have
        registered.
        """
        function = self.functions.get(name)
        if function is None:
            return self.offered.faults(name, args, kwargs, at)
        try:
            function.signature.check(args, kwargs, at)
        except InvalidArguments as error:
            return error.faults
        return ()

    def _steps(self, stages: AnyStages, at: str, faults: Faults, fill: bool) -> Iterator[Step]:
        if detail := stages_detail(stages):
            faults.faults.append(Fault(detail, at))
            return
        if not stages:
            faults.faults.append(Fault("a job needs at least one function", at))
        total = 0
        for number, entry in enumerate(stages):
            stage_at = f"{at}/{number}"
            members: Sequence[Any] = entry if isinstance(entry, list | tuple) else (entry,)
            total += len(members)
            if len(members) > self.limits.stage or total > self.limits.steps:
                faults.faults.append(self._size_fault(len(members), at, stage_at))
                return
            if not members:
                faults.faults.append(Fault("a parallel stage needs at least one function", stage_at))
            for i, member in enumerate(members):
                member_at = f"{stage_at}/{i}" if members is entry else stage_at
                step = self._step(member, number, member_at, faults, fill)
                if step is not None:
                    yield step

    def _size_fault(self, width: int, at: str, stage_at: str) -> Fault:
        """The fault of too many functions, in a stage or else in the job."""
        if width > self.limits.stage:
            return Fault(
                f"a parallel stage can have at most {self.limits.stage} functions (got {width}): "
                "for more use a group, whose jobs run in parallel and which can have functions that follow",
                stage_at,
            )
        return Fault(f"a job can have at most {self.limits.steps} functions: use a group of several jobs", at)

    def _step(self, entry: Any, stage: int, at: str, faults: Faults, fill: bool) -> Step | None:
        """The step of one function; None if the entry is not a function."""
        if isinstance(entry, FunctionRequest):  # its decoder has checked the options
            name, args, kwargs = entry.name, bytes(entry.args), bytes(entry.kwargs)
            retry, timeout = entry.retry_options, entry.timeout
        elif isinstance(entry, Step):
            name, args, kwargs = entry.function, entry.args, entry.kwargs
            retry, timeout = entry.retry, entry.timeout
            if retry is not None or timeout is not None:
                faults.faults += _option_faults(entry, at)
        else:
            is_list = isinstance(entry, list | tuple)
            detail = "lists nest one level deep" if is_list else step_detail(entry)
            faults.faults.append(Fault(f"expected a step; {detail}", at))
            return None
        function = self.functions.get(name)
        if function is None and not is_function_name(name):
            faults.faults.append(Fault(f"{name[:100]!r} is not a valid function name", f"{at}/name"))
        if args[:1] != b"[" or kwargs[:1] != b"{":
            faults.faults += container_faults(args, kwargs, at)
        elif function is not None:
            try:
                function.signature.check(args, kwargs)
            except InvalidArguments:  # only now are the pointers needed
                pointers = Pointers(at, f"{at}/args", f"{at}/kwargs")
                faults.arguments += self.argument_faults(name, args, kwargs, pointers)
        else:
            pointers = Pointers(at, f"{at}/args", f"{at}/kwargs")
            faults.arguments += self.offered.faults(name, args, kwargs, pointers)
        return _new_step(name, stage, args, kwargs, retry, timeout, function if fill else None)


def is_object(value: bytes | Raw) -> bool:
    """Whether JSON without leading spaces is an object."""
    return bytes(value)[:1] == b"{"


def object_faults(value: bytes | Raw, at: str) -> list[Fault]:
    """The fault of JSON that is not an object."""
    return [] if is_object(value) else [Fault("expected an object", at)]


def container_faults(args: bytes, kwargs: bytes, at: str) -> list[Fault]:
    """The faults of ``args`` and ``kwargs`` of another type, which the decoders do not check."""
    faults = [] if args[:1] == b"[" else [Fault("expected an array", f"{at}/args")]
    faults += object_faults(kwargs, f"{at}/kwargs")
    return faults


def split_arguments(arguments: bytes, at: str = "") -> tuple[bytes, bytes]:
    """Arguments by position (an array) or by name (an object), as ``args`` and ``kwargs``.

    Empty bytes are no arguments. Raises `InvalidInput` for other JSON.
    """
    arguments = arguments.strip()
    if arguments[:1] not in (b"", b"[", b"{"):
        raise InvalidInput(Fault("expected an array (arguments by position) or an object (by name)", at))
    return (b"[]", arguments) if is_object(arguments) else (arguments or b"[]", b"{}")


def _new_step(
    name: str,
    stage: int,
    args: bytes,
    kwargs: bytes,
    retry: Any,
    timeout: float | None,
    function: Function | None,
) -> Step:
    """A new step, with the options of ``function`` if it has none of its own."""
    if function is not None:
        retry, timeout = retry or function.retry, timeout or function.timeout
    return Step(name, stage, args, kwargs, retry, timeout)


def _option_faults(step: Step, at: str) -> Iterator[Fault]:
    """The faults of the options of a step made in Python."""
    if step.timeout is not None and not 0 < step.timeout <= MAX_SECONDS:
        yield Fault(f"must be above 0 and at most {MAX_SECONDS:.0f} seconds", f"{at}/timeout")
    if step.retry is not None:
        try:
            retries.check(step.retry)
        except msgspec.ValidationError as error:
            yield fault_of(error, f"{at}/retry_options")


def _due(options: JobOptions, now: float) -> float | None:
    if options.delay is not None:
        return now + options.delay
    return None if options.scheduled_at is None else from_datetime(options.scheduled_at)


def _delay_faults(options: JobOptions, delay: float, at: str) -> Iterator[Fault]:
    if options.scheduled_at is not None:
        yield Fault("delay and scheduled_at exclude each other", f"{at}/delay")
    if not 0 <= delay <= MAX_SECONDS:
        yield Fault(f"must be between 0 and {MAX_SECONDS:.0f} seconds", f"{at}/delay")


def _name_faults(name: str, limits: Limits, at: str) -> list[Fault]:
    """The fault of the name of a job."""
    if not isinstance(name, str):
        return [Fault(f"a name must be a string, got {short(name)}", f"{at}/name")]
    if not 0 < len(name) <= limits.name:
        return [Fault(f"a name must have 1 to {limits.name} characters (got {len(name)})", f"{at}/name")]
    if _CONTROL.search(name):
        return [Fault("a name must not contain control characters", f"{at}/name")]
    return []


def _field_faults(job: Job, now: float, at: str) -> Iterator[Fault]:
    """The faults of what options set in a job."""
    due, latest = job.scheduled_at or now, now + MAX_SECONDS
    yield from object_faults(job.data, f"{at}/data")
    if due > latest:
        yield Fault("must be within the next ten years", f"{at}/scheduled_at")
    if job.expires_at is not None and job.expires_at <= now:
        yield Fault("must be in the future", f"{at}/expires_at")
    elif job.expires_at is not None and job.expires_at <= due:
        yield Fault("must be after the start of the job", f"{at}/expires_at")
    elif job.expires_at is not None and job.expires_at > latest:
        yield Fault("must be within the next ten years", f"{at}/expires_at")
    if abs(job.priority) > MAX_PRIORITY:
        yield Fault(
            f"a priority must be between -{MAX_PRIORITY} and {MAX_PRIORITY} (got {job.priority})",
            f"{at}/priority",
        )
    yield from ttl_faults(job.result_ttl, at)


def ttl_faults(result_ttl: float, at: str = "") -> Iterator[Fault]:
    """The fault of a ``result_ttl`` that is out of range."""
    if not 0 <= result_ttl <= MAX_SECONDS:
        yield Fault(f"must be between 0 and {MAX_SECONDS:.0f} seconds", f"{at}/result_ttl")


def _is_typed(stages: AnyStages) -> bool:
    """Whether a decoder made these functions and checked their options."""
    first = stages[0]
    return isinstance(first[0] if isinstance(first, list | tuple) else first, FunctionRequest)


def _readable(job: Job) -> Job:
    """A job made in Python, encoded and decoded. Raises `InvalidInput` if its record could not be read."""
    try:
        return decode_job(encode_job(job))
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidInput(Fault(f"a value is of the wrong type: {error}")) from None
