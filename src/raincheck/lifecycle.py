"""The life of a job: every transition there is, and nothing but transitions.

Two rules hold this file together:

1. It is pure. `submit` and `advance` take a job, a trigger and the time, and return the `Change`
   to be written. No I/O, no clock, no chance: what they need of those is handed in.
2. It is the only place. Stores write what a `Change` says; they never decide.

``claim`` and ``give back`` change who holds a step and nothing in its record: a job is *doing* while
a lease on one of its steps is in force. `advance` checks every result against the table in
`raincheck.triggers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from raincheck import retry
from raincheck.codec import merge
from raincheck.errors import IllegalTransition
from raincheck.model import Attempt, Change, Event, Job, Key, Lease, Place, Problem, Release, State, Step
from raincheck.triggers import (
    CANCELLED,
    DOING,
    DONE,
    FAILED,
    PENDING,
    RETRYING,
    SCHEDULED,
    TRANSITIONS,
    Alarm,
    Cancel,
    Failed,
    Lost,
    Retry,
    Stopped,
    Succeeded,
    Trigger,
)

MAX_EVENTS = 100
"""How many of a job's latest events are kept; their numbers go on."""


def submit(draft: Job, now: float, key: Key | None = None) -> Change:
    """A new job, with the places of its first stage. It is never run before ``scheduled_at``."""
    later = draft.scheduled_at is not None and draft.scheduled_at > now
    due = draft.scheduled_at if later and draft.scheduled_at is not None else now
    state = SCHEDULED if later else PENDING
    steps = tuple(replace(step, state=state, due=due) if step.stage == 0 else step for step in draft.steps)
    job = replace(
        draft,
        steps=steps,
        state=state,
        rev=1,
        created_at=now,
        updated_at=now,
        scheduled_at=due,
        events=(Event(1, now, "submitted"),),
    )
    return Change(job=job, put=_places(job, 0), alarm=_alarm(job), key=key)


def advance(job: Job, trigger: Trigger, now: float) -> Change:
    """What ``trigger`` makes of ``job`` at ``now``. Raises `IllegalTransition` if it may not be."""
    name = type(trigger).__name__.lower()
    before = state_of(job, getattr(trigger, "leases", ())) if _asked(trigger) else DOING
    allowed = TRANSITIONS.get((before, name))
    if allowed is None or (job.state.ended and name != "retry"):
        raise IllegalTransition(f"{name}: not possible for a job that is {job.state}")
    change = _RULES[type(trigger)](job, trigger, now)
    if change.job.state not in allowed:
        raise IllegalTransition(f"{name}: {before} must not become {change.job.state}")
    return change


def state_of(job: Job, leases: tuple[Lease, ...]) -> State:
    """The state to show: ``doing`` while any step is leased."""
    return DOING if leases and not job.state.ended else job.state


def current_stage(job: Job) -> int:
    """The first stage that is not done, or the last one."""
    for step in job.steps:
        if step.state is not DONE:
            return step.stage
    return job.steps[-1].stage


def previous_results(job: Job, stage: int) -> bytes:
    """What ``ctx.previous`` is in ``stage``, as JSON: a result, a list of them, or null."""
    before = [step for step in job.steps if step.stage == stage - 1]
    if not before:
        return b"null"
    results = [step.result or b"null" for step in before]
    return results[0] if len(results) == 1 else b"[" + b",".join(results) + b"]"


def attempt_of(lease: Lease) -> Attempt:
    """The attempt that ``lease`` stands for."""
    return Attempt(lease.step, lease.token, lease.worker, lease.since, lease.progress)


def _asked(trigger: Trigger) -> bool:
    """Whether the trigger comes from outside, not from the end of an attempt."""
    return isinstance(trigger, Cancel | Alarm | Retry)


def _succeeded(job: Job, trigger: Succeeded, now: float) -> Change:
    if job.cancel_requested_at is not None:
        return _stopped(job, Stopped(trigger.attempt), now)
    step = _ended(job, trigger.attempt, now, state=DONE, result=trigger.result, error=None)
    data = job.data if trigger.data is None else merge(job.data, trigger.data)
    job = replace(_with(job, trigger.attempt.step, step), data=data)
    job = _event(job, now, "step-done", trigger.attempt.step)
    release = (_release(trigger.attempt),)
    if current_stage(job) == step.stage and any(s.state is not DONE for s in _stage(job, step.stage)):
        return _change(job, now, release=release)
    if step.stage == job.steps[-1].stage:
        return _change(_event(replace(job, state=DONE, finished_at=now), now, "done"), now, release=release)
    job = replace(job, steps=_ready(job, step.stage + 1, now))
    return _change(job, now, release=release, put=_places(job, step.stage + 1))


def _failed(job: Job, trigger: Failed, now: float) -> Change:
    if job.cancel_requested_at is not None:
        return _stopped(job, Stopped(trigger.attempt), now)
    index = trigger.attempt.step
    options = job.steps[index].retry or trigger.options
    attempts = job.steps[index].retry_count + 1
    again = not trigger.fatal and attempts < options.retry_limit and retry.retryable(options, trigger.names)
    wait = trigger.retry_after
    due = now + (retry.pause(options, attempts, trigger.chance) if wait is None else max(0.0, wait))
    again = again and (job.expires_at is None or due < job.expires_at)
    error = replace(trigger.error, function=job.steps[index].function, attempt=attempts, retryable=again)
    if not again:
        step = _ended(job, trigger.attempt, now, state=FAILED, error=error)
        return _fail(_with(job, index, step), error, now, trigger.attempt)
    step = _ended(job, trigger.attempt, now, state=RETRYING, due=due, error=error)
    job = _event(_with(job, index, step), now, "retrying", index)
    put = (Place(index, step.function, job.priority, due),)
    return _change(job, now, release=(_release(trigger.attempt),), put=put)


def _lost(job: Job, trigger: Lost, now: float) -> Change:
    index = trigger.attempt.step
    options = job.steps[index].retry or trigger.options
    release = (_release(trigger.attempt, expired=True),)
    count = job.steps[index].lost_count + 1
    if job.cancel_requested_at is not None:
        return _cancelled(_with(job, index, replace(job.steps[index], lost_count=count)), index, now, release)
    if count > options.lost_limit:
        error = Problem(
            type="worker-lost",
            title="The worker was lost",
            detail=f"{count} attempt(s) at {job.steps[index].function} ended without a word of their worker",
            function=job.steps[index].function,
            attempt=job.steps[index].retry_count,
            retryable=False,
        )
        step = replace(job.steps[index], state=FAILED, lost_count=count, error=error, finished_at=now)
        return _fail(_with(job, index, step), error, now, trigger.attempt, expired=True)
    step = replace(job.steps[index], state=PENDING, lost_count=count, due=now)
    job = _event(_with(job, index, step), now, "lost", index)
    put = (Place(index, step.function, job.priority, now),)
    return _change(job, now, release=release, put=put)


def _stopped(job: Job, trigger: Stopped, now: float) -> Change:
    if job.cancel_requested_at is None:
        raise IllegalTransition("stopped: nobody asked for this job to be cancelled")
    index = trigger.attempt.step
    step = _ended(job, trigger.attempt, now, state=CANCELLED)
    return _cancelled(_with(job, index, step), index, now, (_release(trigger.attempt),))


def _cancel(job: Job, trigger: Cancel, now: float) -> Change:
    stage = current_stage(job)
    leased = {lease.step for lease in trigger.leases}
    waiting = [i for i, s in enumerate(job.steps) if _waits(s, stage) and i not in leased]
    take = tuple(_place(job, i) for i in waiting)
    for i in waiting:
        job = _with(job, i, replace(job.steps[i], state=CANCELLED))
    if trigger.leases:
        hold = tuple(Release(lease.step, lease.token) for lease in trigger.leases)
        job = replace(job, cancel_requested_at=job.cancel_requested_at or now)
        return _change(_event(job, now, "cancel-requested"), now, take=take, hold=hold)
    job = replace(job, state=CANCELLED, finished_at=now, cancel_requested_at=job.cancel_requested_at or now)
    return _change(_event(job, now, "cancelled"), now, take=take)


def _alarm_rang(job: Job, trigger: Alarm, now: float) -> Change:
    if job.expires_at is not None and job.expires_at <= now:
        error = Problem(
            type="deadline-passed",
            title="The deadline passed",
            detail="the job did not end before its expires_at",
            function=job.steps[_first_open(job)].function,
            retryable=False,
        )
        return _fail(job, error, now)
    stage = current_stage(job)
    for i, step in enumerate(job.steps):
        if _waits(step, stage) and step.due <= now and step.state is not PENDING:
            job = _with(job, i, replace(step, state=PENDING))
    return _change(job, now)


def _retry(job: Job, trigger: Retry, now: float) -> Change:
    fresh: dict[str, Any] = {"state": PENDING, "retry_count": 0, "lost_count": 0, "error": None}
    fresh |= {"started_at": None, "finished_at": None, "worker": None, "progress": None}
    steps = tuple(s if s.state is DONE else replace(s, **fresh) for s in job.steps)
    job = replace(
        job,
        steps=steps,
        state=PENDING,
        run=job.run + 1,
        error=None,
        finished_at=None,
        cancel_requested_at=None,
        expires_at=None if job.expires_at is not None and job.expires_at <= now else job.expires_at,
    )
    stage = current_stage(job)
    job = _event(replace(job, steps=_ready(job, stage, now)), now, "retry")
    return _change(job, now, put=_places(job, stage))


_RULES: dict[type, Callable[[Job, Any, float], Change]] = {
    Succeeded: _succeeded,
    Failed: _failed,
    Lost: _lost,
    Stopped: _stopped,
    Cancel: _cancel,
    Alarm: _alarm_rang,
    Retry: _retry,
}


def _change(job: Job, now: float, **moves: Any) -> Change:
    """The change that leads to ``job``: its revision, its state at rest and its alarm set."""
    state = job.state if job.state.ended else _resting(job)
    job = replace(job, rev=job.rev + 1, state=state, updated_at=now)
    return Change(job=job, alarm=_alarm(job), **moves)


def _fail(
    job: Job, error: Problem, now: float, attempt: Attempt | None = None, expired: bool = False
) -> Change:
    """End the job as failed: nothing of it stays in the queue or in a worker's hands."""
    index = attempt.step if attempt else None
    open_ = [i for i, s in enumerate(job.steps) if _waits(s, current_stage(job)) and i != index]
    drop = tuple(_place(job, i) for i in open_)
    for i in open_:
        job = _with(job, i, replace(job.steps[i], state=CANCELLED))
    job = _event(replace(job, state=FAILED, error=error, finished_at=now), now, "failed", index)
    release = (_release(attempt, expired),) if attempt else ()
    return _change(job, now, release=release, drop=drop)


def _cancelled(job: Job, index: int, now: float, release: tuple[Release, ...]) -> Change:
    """One running step of a job that is to be cancelled has ended; the last one ends the job."""
    job = _with(job, index, replace(job.steps[index], state=CANCELLED))
    if any(_waits(step, current_stage(job)) for step in job.steps):
        return _change(_event(job, now, "stopped", index), now, release=release)
    job = _event(replace(job, state=CANCELLED, finished_at=now), now, "cancelled")
    return _change(job, now, release=release)


def _ended(job: Job, attempt: Attempt, now: float, **changes: Any) -> Step:
    step = job.steps[attempt.step]
    return replace(
        step,
        retry_count=step.retry_count + 1,
        started_at=attempt.started_at,
        finished_at=now,
        worker=attempt.worker,
        progress=attempt.progress,
        **changes,
    )


def _release(attempt: Attempt, expired: bool = False) -> Release:
    return Release(attempt.step, attempt.token, expired)


def _event(job: Job, now: float, kind: str, step: int | None = None) -> Job:
    number = job.events[-1].number + 1 if job.events else 1
    return replace(job, events=(*job.events[-MAX_EVENTS + 1 :], Event(number, now, kind, step)))


def _with(job: Job, index: int, step: Step) -> Job:
    return replace(job, steps=(*job.steps[:index], step, *job.steps[index + 1 :]))


def _stage(job: Job, stage: int) -> list[Step]:
    return [step for step in job.steps if step.stage == stage]


def _waits(step: Step, stage: int) -> bool:
    """Whether a step of the current stage is in the queue or in a worker's hands."""
    return step.stage == stage and not step.state.ended


def _first_open(job: Job) -> int:
    return next(i for i, step in enumerate(job.steps) if step.state is not DONE)


def _ready(job: Job, stage: int, now: float) -> tuple[Step, ...]:
    return tuple(
        replace(s, state=PENDING, due=now) if s.stage == stage and s.state is not DONE else s
        for s in job.steps
    )


def _place(job: Job, index: int) -> Place:
    step = job.steps[index]
    return Place(index, step.function, job.priority, step.due)


def _places(job: Job, stage: int) -> tuple[Place, ...]:
    return tuple(_place(job, i) for i, step in enumerate(job.steps) if _waits(step, stage))


def _resting(job: Job) -> State:
    """The state of an unfinished job when nobody works on it: that of its most forward step."""
    states = {step.state for step in _stage(job, current_stage(job))}
    return next((s for s in (PENDING, RETRYING, SCHEDULED) if s in states), job.state)


def _alarm(job: Job) -> float | None:
    if job.state.ended:
        return (job.finished_at or 0.0) + job.result_ttl
    stage = current_stage(job)
    times = [s.due for s in job.steps if _waits(s, stage) and s.state is not PENDING]
    if job.expires_at is not None:
        times.append(job.expires_at)
    return min(times, default=None)
