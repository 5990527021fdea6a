"""From what a caller sent to a draft of a job: every check that comes before acceptance.

Faults point into the body of ``POST /v1/job``, whichever way the job comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from raincheck import retry
from raincheck.clock import new_id
from raincheck.codec import decode_job, encode_job
from raincheck.errors import Fault, InvalidArguments, InvalidInput
from raincheck.functions import Functions, is_function_name
from raincheck.limits import Limits
from raincheck.model import LONGEST, Job, Step
from raincheck.signature import fault_of

Stages = Sequence[Step | Sequence[Step]]
"""A job's functions as callers write them: an entry that is a list is a parallel stage.

A list of one is that one: it is shown as a function, and passes on its result, not a list.
"""

MAX_PRIORITY = 1000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def draft(
    name: str,
    stages: Stages,
    *,
    data: bytes = b"{}",
    now: float,
    delay: float | None = None,
    scheduled_at: float | None = None,
    expires_at: float | None = None,
    priority: int = 0,
    result_ttl: float | None = None,
    functions: Functions,
    limits: Limits,
) -> Job:
    """A job that may be submitted. Raises `InvalidInput` with every fault found.

    It is `InvalidArguments` if all of them are arguments that do not fit.
    """
    faults: list[Fault] = []
    misfits: list[Fault] = []
    if delay is not None and scheduled_at is not None:
        faults.append(Fault("delay and scheduled_at exclude each other", "/delay"))
    if delay is not None and not 0 <= delay <= LONGEST:
        faults.append(Fault(f"lies between 0 and {LONGEST:.0f} seconds", "/delay"))
    job = Job(
        id=new_id(),
        name=name,
        steps=tuple(_steps(stages, functions, limits, faults, misfits)),
        data=data,
        priority=priority,
        scheduled_at=now + delay if delay is not None else scheduled_at,
        expires_at=expires_at,
        result_ttl=limits.result_ttl if result_ttl is None else result_ttl,
    )
    faults += _faults(job, now, limits)
    if faults:
        raise InvalidInput(*faults, *misfits)
    if misfits:
        raise InvalidArguments(*misfits)
    try:
        return decode_job(encode_job(job))
    except (msgspec.ValidationError, TypeError) as error:  # its record could not be read by anyone
        raise InvalidInput(Fault(f"something is of the wrong type: {error}")) from None


def _faults(job: Job, now: float, limits: Limits) -> Iterator[Fault]:
    """What is wrong with a job beside its steps."""
    due, latest = job.scheduled_at or now, now + LONGEST
    if not 0 < len(job.name) <= limits.name:
        yield Fault(f"a name has 1 to {limits.name} characters, got {len(job.name)}", "/name")
    elif _CONTROL.search(job.name):
        yield Fault("a name has no control characters", "/name")
    if job.data[:1] != b"{":
        yield Fault("expected an object", "/data")
    if due > latest:
        yield Fault("lies more than ten years ahead", "/scheduled_at")
    if job.expires_at is not None and job.expires_at <= now:
        yield Fault("lies in the past", "/expires_at")
    elif job.expires_at is not None and job.expires_at <= due:
        yield Fault("lies before the job is due", "/expires_at")
    elif job.expires_at is not None and job.expires_at > latest:
        yield Fault("lies more than ten years ahead", "/expires_at")
    if abs(job.priority) > MAX_PRIORITY:
        yield Fault(f"a priority lies between -{MAX_PRIORITY} and {MAX_PRIORITY}", "/priority")
    if not 0 <= job.result_ttl <= LONGEST:
        yield Fault(f"lies between 0 and {LONGEST:.0f} seconds", "/result_ttl")


def _steps(
    stages: Stages, functions: Functions, limits: Limits, faults: list[Fault], misfits: list[Fault]
) -> Iterator[Step]:
    if not stages:
        faults.append(Fault("a job has at least one function", "/functions"))
    total = 0
    for number, entry in enumerate(stages):
        at = f"/functions/{number}"
        members: Sequence[Any] = entry if isinstance(entry, list | tuple) else (entry,)
        if not members:
            faults.append(Fault("a parallel stage has at least one function", at))
        total += len(members)
        if total > limits.steps:
            faults.append(Fault(f"a job has at most {limits.steps} functions", "/functions"))
            return
        for i, step in enumerate(members):
            place = f"{at}/{i}" if members is entry else at
            if not isinstance(step, Step):
                faults.append(Fault("expected a step; lists nest one level deep", place))
                continue
            faults += _step_faults(step, place)
            yield _complete(step, number, functions, place, misfits)


def _step_faults(step: Step, at: str) -> Iterator[Fault]:
    """What is wrong with a step, whatever its function."""
    if not is_function_name(step.function):
        yield Fault(f"{step.function[:100]!r} cannot be a function's name", f"{at}/name")
    if step.timeout is not None and not 0 < step.timeout <= LONGEST:
        yield Fault(f"lies above 0, up to {LONGEST:.0f} seconds", f"{at}/timeout")
    if step.retry is not None:
        try:
            retry.check(step.retry)
        except msgspec.ValidationError as error:
            yield fault_of(error, f"{at}/retry_options")


def _complete(step: Step, stage: int, functions: Functions, at: str, misfits: list[Fault]) -> Step:
    """The step, not yet begun; with the options of its function, if that is known here."""
    fresh = Step(step.function, stage, step.args, step.kwargs, step.retry, step.timeout)
    function = functions.get(step.function)
    if function is None:
        return fresh
    try:
        function.signature.check(step.args, step.kwargs, at)
    except InvalidArguments as error:
        misfits += error.faults
    return fresh.options(retry=step.retry or function.retry, timeout=step.timeout or function.timeout)
