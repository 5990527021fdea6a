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

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from raincheck import retry
from raincheck.codec import merge
from raincheck.errors import IllegalTransition
from raincheck.model import (
    Attempt,
    Change,
    Event,
    Gather,
    Job,
    Key,
    Lease,
    Place,
    Problem,
    Release,
    State,
    Step,
    Stored,
)
from raincheck.stages import (
    alarm_of,
    current_stage,
    gathering,
    place_of,
    places_of,
    ready,
    resting,
    settled,
    waits,
    with_step,
)
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
    Gathered,
    Lost,
    Opened,
    Retry,
    Stopped,
    Succeeded,
    Trigger,
)

MAX_EVENTS = 100
"""How many of a job's latest events are kept; their numbers go on."""


def submit(draft: Job, now: float, key: Key | None = None) -> Change:
    """A new job, with the places of its first stage. It is never run before ``scheduled_at``.

    One that a schedule makes keeps the moment it was made for, though that has passed.
    """
    due = max(now, draft.scheduled_at or now)
    at = due if draft.schedule is None else draft.scheduled_at or now
    job = replace(ready(draft, 0, due, now), rev=1, created_at=now, updated_at=now, scheduled_at=at)
    job = _event(replace(job, state=resting(job), events=()), now, "submitted")
    return Change(job=job, put=places_of(job, 0), alarm=alarm_of(job), key=key)


def advance(job: Job, trigger: Trigger, now: float) -> Change:
    """What ``trigger`` makes of ``job`` at ``now``. Raises `IllegalTransition` if it may not be."""
    name = type(trigger).__name__.lower()
    attempts = _attempts(trigger)
    before = DOING if attempts and not job.state.ended else job.state
    allowed = TRANSITIONS.get((before, name))
    if allowed is None:
        raise IllegalTransition(f"{name}: not possible for a job that is {before}")
    stage, moment = current_stage(job), now
    for attempt in attempts:
        if not waits(job.steps[attempt.step], stage) or job.steps[attempt.step].gather is not None:
            raise IllegalTransition(f"{name}: step {attempt.step} is not being done")
        moment = max(moment, attempt.started_at)  # the clock may have been set back
    change = _RULES[type(trigger)](settled(job, stage, moment), trigger, now)
    if change.job.state not in allowed:
        raise IllegalTransition(f"{name}: {before} must not become {change.job.state}")
    return change


def state_of(job: Job, leases: tuple[Lease, ...]) -> State:
    """The state to show: ``doing`` while any step is leased."""
    return DOING if leases and not job.state.ended else job.state


def previous_results(job: Job, stage: int) -> bytes:
    """What ``ctx.previous`` is in ``stage``, as JSON: a result, a list of them, or null."""
    before = [step for step in job.steps if step.stage == stage - 1]
    if not before:
        return b"null"
    results = [step.result or b"null" for step in before]
    return results[0] if len(results) == 1 else b"[" + b",".join(results) + b"]"


def cancel_of(stored: Stored) -> Cancel | None:
    """What a request to cancel a job means: its trigger; None if it is cancelled, or being cancelled."""
    job = stored.job
    being_stopped = stored.leases or gathering(job) is not None
    if job.state is CANCELLED or (job.cancel_requested_at is not None and being_stopped):
        return None
    return Cancel(stored.leases)


def reopen_of(member: Job, retried_at: float) -> Retry | None:
    """What a retry of a group's run means for a member: its trigger; None if it stays as it is.

    It is retried once: not if it has failed again since the run was retried.
    """
    ended_badly = member.state in (FAILED, CANCELLED)
    return Retry() if ended_badly and (member.finished_at or 0.0) <= retried_at else None


def attempt_of(lease: Lease) -> Attempt:
    """The attempt that ``lease`` stands for."""
    return Attempt(lease.step, lease.token, lease.worker, lease.since, lease.progress)


def _attempts(trigger: Trigger) -> tuple[Attempt, ...]:
    """The attempts being made at the job, as far as the trigger tells of them."""
    attempt = getattr(trigger, "attempt", None)
    if attempt is not None:
        return (attempt,)
    return tuple(map(attempt_of, getattr(trigger, "leases", ())))


def _succeeded(job: Job, trigger: Succeeded, now: float) -> Change:
    if job.cancel_requested_at is not None:
        return _stopped(job, Stopped(trigger.attempt), now)
    step = _ended(job, trigger.attempt, now, DONE, result=trigger.result)
    job = with_step(job, trigger.attempt.step, step)
    if trigger.data is not None:
        job = replace(job, data=merge(job.data, trigger.data))
    job = _event(job, now, "step-done", trigger.attempt.step)
    return _go_on(job, step.stage, now, (_release(trigger.attempt),))


def _go_on(job: Job, stage: int, now: float, release: tuple[Release, ...] = ()) -> Change:
    """A step of a stage is done: once all of them are, the next one begins, or the job is done."""
    if any(waits(s, stage) for s in job.steps):
        return _change(job, now, release=release)
    if stage == job.steps[-1].stage:
        return _change(_event(replace(job, state=DONE, finished_at=now), now, "done"), now, release=release)
    job = ready(job, stage + 1, now, now)
    return _change(job, now, release=release, put=places_of(job, stage + 1))


def _failed(job: Job, trigger: Failed, now: float) -> Change:
    if job.cancel_requested_at is not None:
        return _stopped(job, Stopped(trigger.attempt), now)
    index = trigger.attempt.step
    step = job.steps[index]
    options = step.retry or trigger.options
    attempts = step.retry_count + 1
    wait = retry.pause(options, attempts, trigger.chance, trigger.retry_after)
    due = now + wait
    again = (
        not trigger.fatal
        and attempts < options.retry_limit
        and retry.retryable(options, trigger.names)
        and (job.expires_at is None or due < job.expires_at)
    )
    error = replace(
        trigger.error,
        function=step.function,
        attempt=attempts + step.lost_count,
        retryable=again,
        retry_after=wait if again else None,
    )
    if not again:
        step = _ended(job, trigger.attempt, now, FAILED, error=error)
        return _fail(with_step(job, index, step), error, now, (_release(trigger.attempt),), index)
    state = RETRYING if due > now else PENDING
    step = _ended(job, trigger.attempt, now, state, error=error)
    job = _event(with_step(job, index, replace(step, due=due)), now, "retrying", index)
    return _change(job, now, release=(_release(trigger.attempt),), put=(place_of(job, index),))


def _lost(job: Job, trigger: Lost, now: float) -> Change:
    index = trigger.attempt.step
    step = job.steps[index]
    count = step.lost_count + 1
    release = (_release(trigger.attempt, expired=True),)
    if job.cancel_requested_at is not None:
        step = _ended(job, trigger.attempt, now, CANCELLED, error=step.error, lost=1)
        return _cancelled(with_step(job, index, step), now, release, index)
    if count > (step.retry or trigger.options).lost_limit:
        error = Problem(
            type="worker-lost",
            title="The worker was lost",
            detail=f"{count} attempt(s) at {step.function} ended without a word of their worker",
            function=step.function,
            attempt=step.retry_count + count,
            retryable=False,
        )
        step = _ended(job, trigger.attempt, now, FAILED, error=error, lost=1)
        return _fail(with_step(job, index, step), error, now, release, index)
    job = with_step(job, index, replace(step, state=PENDING, lost_count=count, due=now))
    job = _event(job, now, "lost", index)
    return _change(job, now, release=release, put=(place_of(job, index),))


def _stopped(job: Job, trigger: Stopped, now: float) -> Change:
    if job.cancel_requested_at is None:
        raise IllegalTransition("stopped: nobody asked for this job to be cancelled")
    index = trigger.attempt.step
    step = _ended(job, trigger.attempt, now, CANCELLED, error=job.steps[index].error)
    return _cancelled(with_step(job, index, step), now, (_release(trigger.attempt),), index)


def _opened(job: Job, trigger: Opened, now: float) -> Change:
    index = gathering(job)
    if index is None or job.steps[index].state is not PENDING:
        raise IllegalTransition("opened: the job does not wait for the jobs of a group to be there")
    step = job.steps[index]
    gather = None if step.gather is None else replace(step.gather, members=())
    job = with_step(job, index, replace(step, state=DOING, gather=gather, started_at=now))
    return _change(_event(job, now, "opened", index), now)


def _gathered(job: Job, trigger: Gathered, now: float) -> Change:
    index = gathering(job)
    if index is None or job.steps[index].state is not DOING:
        raise IllegalTransition("gathered: the job does not wait for the jobs of a group to end")
    step = replace(job.steps[index], finished_at=now)
    if job.cancel_requested_at is not None:
        job = with_step(job, index, replace(step, state=CANCELLED))
        return _change(_event(replace(job, state=CANCELLED, finished_at=now), now, "cancelled"), now)
    gather = replace(step.gather or Gather(0), failed=trigger.failed)
    error = _ungathered(gather, trigger)
    if error is not None:
        job = with_step(job, index, replace(step, state=FAILED, error=error, gather=gather))
        return _fail(job, error, now, index=index)
    job = with_step(job, index, replace(step, state=DONE, result=trigger.result, gather=gather))
    return _go_on(_event(job, now, "gathered", index), step.stage, now)


def _ungathered(gather: Gather, trigger: Gathered) -> Problem | None:
    """Why a group's run fails once its jobs have ended."""
    if gather.failed and gather.on_failure == "fail":
        return Problem(
            type="members-failed",
            title="Jobs of the group have no result",
            detail=f"{len(gather.failed)} of {gather.size} jobs failed, were cancelled or removed",
            errors=trigger.errors,
            retryable=False,
        )
    if trigger.result is None:
        return Problem(
            type="result-too-large",
            title="The results are too large",
            detail="the results of all jobs together are over the limit: let them return less, or keep "
            "elsewhere what they made and return where it is",
            retryable=False,
        )
    return None


def _cancel(job: Job, trigger: Cancel, now: float) -> Change:
    again = job.cancel_requested_at is not None
    if job.state is not SCHEDULED and gathering(job) is not None:  # it ends when the jobs of its group have
        job = replace(job, cancel_requested_at=job.cancel_requested_at or now)
        return _change(job if again else _event(job, now, "cancel-requested"), now)
    job, take = _struck(job, but=[lease.step for lease in trigger.leases])
    job = replace(job, cancel_requested_at=job.cancel_requested_at or now)
    if not trigger.leases:
        job = _event(replace(job, state=CANCELLED, finished_at=now), now, "cancelled")
        return _change(job, now, take=take)
    hold = tuple(Release(lease.step, lease.token) for lease in trigger.leases)
    return _change(job if again else _event(job, now, "cancel-requested"), now, take=take, hold=hold)


def _alarm_rang(job: Job, trigger: Alarm, now: float) -> Change:
    if job.expires_at is not None and job.expires_at <= now:
        error = Problem(
            type="deadline-passed",
            title="The deadline passed",
            detail="the job did not end before its expires_at",
            function=next(step.function for step in job.steps if not step.state.ended),
            retryable=False,
        )
        return _fail(job, error, now)
    if job.cancel_requested_at is not None:
        return _cancel(job, Cancel(trigger.leases), now)
    return _change(job, now)


def _retry(job: Job, trigger: Retry, now: float) -> Change:
    fresh: dict[str, Any] = {"state": PENDING, "retry_count": 0, "lost_count": 0, "error": None}
    fresh |= {"started_at": None, "finished_at": None, "worker": None, "progress": None}
    job = replace(
        job,
        steps=tuple(s if s.state is DONE else replace(s, **fresh) for s in job.steps),
        state=PENDING,
        run=job.run + 1,
        error=None,
        finished_at=None,
        cancel_requested_at=None,
        expires_at=None if job.expires_at is not None and job.expires_at <= now else job.expires_at,
    )
    stage = current_stage(job)
    job = _event(ready(job, stage, max(now, job.scheduled_at or now), now), now, "retry")
    return _change(job, now, put=places_of(job, stage))


_RULES: dict[type, Callable[[Job, Any, float], Change]] = {
    Succeeded: _succeeded,
    Failed: _failed,
    Lost: _lost,
    Stopped: _stopped,
    Cancel: _cancel,
    Alarm: _alarm_rang,
    Retry: _retry,
    Opened: _opened,
    Gathered: _gathered,
}


def _change(
    job: Job,
    now: float,
    *,
    take: tuple[Place, ...] = (),
    release: tuple[Release, ...] = (),
    hold: tuple[Release, ...] = (),
    drop: tuple[Place, ...] = (),
    put: tuple[Place, ...] = (),
) -> Change:
    """The change that leads to ``job``: its revision, its state at rest and its alarm set."""
    state = job.state if job.state.ended else resting(job)
    job = replace(job, rev=job.rev + 1, state=state, updated_at=now)
    return Change(job=job, take=take, release=release, hold=hold, drop=drop, put=put, alarm=alarm_of(job))


def _fail(
    job: Job, error: Problem, now: float, release: tuple[Release, ...] = (), index: int | None = None
) -> Change:
    """End the job as failed: nothing of it stays in the queue or in a worker's hands."""
    job, drop = _struck(job)
    job = _event(replace(job, state=FAILED, error=error, finished_at=now), now, "failed", index)
    return _change(job, now, release=release, drop=drop)


def _cancelled(job: Job, now: float, release: tuple[Release, ...], index: int) -> Change:
    """One running step of a job that is to be cancelled has ended; the last one ends the job."""
    if any(waits(step, current_stage(job)) for step in job.steps):
        return _change(_event(job, now, "stopped", index), now, release=release)
    job = _event(replace(job, state=CANCELLED, finished_at=now), now, "cancelled")
    return _change(job, now, release=release)


def _struck(job: Job, but: Sequence[int] = ()) -> tuple[Job, tuple[Place, ...]]:
    """The job with the waiting steps of its stage cancelled, except those in ``but``; their places."""
    struck = tuple(place for place in places_of(job, current_stage(job)) if place.step not in but)
    for place in struck:
        job = with_step(job, place.step, replace(job.steps[place.step], state=CANCELLED))
    if (index := gathering(job)) is not None:
        job = with_step(job, index, replace(job.steps[index], state=CANCELLED, finished_at=job.updated_at))
    return job, struck


def _ended(
    job: Job,
    attempt: Attempt,
    now: float,
    state: State,
    *,
    result: bytes | None = None,
    error: Problem | None = None,
    lost: int = 0,
) -> Step:
    """The step after an attempt at it, which counts, as made or as ``lost``."""
    step = job.steps[attempt.step]
    return replace(
        step,
        state=state,
        retry_count=step.retry_count + 1 - lost,
        lost_count=step.lost_count + lost,
        result=result,
        error=error,
        started_at=attempt.started_at,
        finished_at=now,
        worker=attempt.worker,
        progress=attempt.progress,
    )


def _release(attempt: Attempt, expired: bool = False) -> Release:
    return Release(attempt.step, attempt.token, expired)


def _event(job: Job, now: float, kind: str, step: int | None = None) -> Job:
    number = job.events[-1].number + 1 if job.events else 1
    return replace(job, events=(*job.events[-MAX_EVENTS + 1 :], Event(number, now, kind, step)))
