"""From what a caller sent to a draft of a job: every check that comes before acceptance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from raincheck.clock import new_id
from raincheck.errors import Fault, InvalidArguments, InvalidInput
from raincheck.functions import Functions, is_function_name
from raincheck.limits import Limits
from raincheck.model import Job, Step

Stages = Sequence[Step | Sequence[Step]]
"""A job's functions as callers write them: an entry that is a list is a parallel stage."""

MAX_PRIORITY = 1000


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
    """A job that may be submitted. Raises `InvalidInput` with every fault found."""
    faults: list[Fault] = []
    if not 0 < len(name) <= limits.name:
        faults.append(Fault(f"a name has 1 to {limits.name} characters, got {len(name)}", "/name"))
    if delay is not None and scheduled_at is not None:
        faults.append(Fault("delay and scheduled_at exclude each other", "/delay"))
    if expires_at is not None and expires_at <= now:
        faults.append(Fault("lies in the past", "/expires_at"))
    if abs(priority) > MAX_PRIORITY:
        faults.append(Fault(f"a priority lies between -{MAX_PRIORITY} and {MAX_PRIORITY}", "/priority"))
    steps = tuple(_steps(stages, functions, limits, faults))
    if faults:
        kind = (
            InvalidArguments
            if all("/args" in f.pointer or "argument" in f.detail for f in faults)
            else InvalidInput
        )
        raise kind(*faults)
    return Job(
        id=new_id(),
        name=name,
        steps=steps,
        data=data,
        priority=priority,
        scheduled_at=now + delay if delay is not None else scheduled_at,
        expires_at=expires_at,
        result_ttl=limits.result_ttl if result_ttl is None else result_ttl,
    )


def _steps(stages: Stages, functions: Functions, limits: Limits, faults: list[Fault]) -> Iterable[Step]:
    if not stages:
        faults.append(Fault("a job has at least one function", "/functions"))
    total = 0
    for number, entry in enumerate(stages):
        members = (entry,) if isinstance(entry, Step) else entry
        if not members:
            faults.append(Fault("a parallel stage has at least one function", f"/functions/{number}"))
        total += len(members)
        if total > limits.steps:
            faults.append(Fault(f"a job has at most {limits.steps} functions", "/functions"))
            return
        for i, step in enumerate(members):
            at = f"/functions/{number}" if isinstance(entry, Step) else f"/functions/{number}/{i}"
            yield replace(_checked(step, functions, at, faults), stage=number)


def _checked(step: Step, functions: Functions, at: str, faults: list[Fault]) -> Step:
    """The step with the options of its function, if that is known here; its arguments fit."""
    function = functions.get(step.function)
    if function is None:
        if not is_function_name(step.function):
            faults.append(Fault(f"{step.function[:100]!r} cannot be a function's name", f"{at}/name"))
        return step
    try:
        function.signature.check(step.args, step.kwargs, at)
    except InvalidArguments as error:
        faults.extend(error.faults)
    if step.retry is not None and step.timeout is not None:
        return step
    return step.options(retry=step.retry or function.retry, timeout=step.timeout or function.timeout)
