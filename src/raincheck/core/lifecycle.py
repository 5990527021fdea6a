"""The lifecycle of a job: all transitions.

Two rules:

1. This module is pure. `submit` and `advance` take a job, triggers and the time, and return the `Change` to
   write. No I/O, no clock, no randomness: the caller passes these values in.
2. No other module decides about states. Stores write what a `Change` contains; workers call `on_claim` and
   `on_late_finish`.

``claim`` and ``give back`` move a lease and do not change the record: a job is *doing* while a lease on one
of its steps is in force. `advance` checks each transition against the table in `raincheck.core.triggers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

from msgspec.structs import replace

from raincheck.core import retry
from raincheck.core.errors import IllegalTransition
from raincheck.core.model import (
    Attempt,
    AttemptOutcome,
    Change,
    FailureType,
    Gather,
    Job,
    Key,
    Lease,
    Problem,
    Release,
    State,
    Stored,
)
from raincheck.core.stages import ChangeBuilder, gathering_step, is_open
from raincheck.core.triggers import (
    CANCELLED,
    DOING,
    DONE,
    FAILED,
    PENDING,
    RETRYING,
    SCHEDULED,
    TRANSITIONS,
    Cancel,
    Check,
    Failed,
    Gathered,
    Lost,
    Opened,
    Retry,
    Stopped,
    Succeeded,
    Trigger,
)


def submit(draft: Job, now: float, key: Key | None = None) -> Change:
    """Create a job, with queue entries for its first stage. It never runs before ``scheduled_at``.

    The job of a schedule keeps the time of its firing as ``scheduled_at``, even if that time has passed.
    """
    due = max(now, draft.scheduled_at or now)
    at = due if draft.schedule is None else draft.scheduled_at or now
    change = ChangeBuilder(replace(draft, rev=0, created_at=now, scheduled_at=at, events=()), now)
    change.make_ready(0, due)
    change.add_event("submitted")
    change.state = change.resting_state()
    return change.build(key=key)


def advance(job: Job, triggers: Sequence[Trigger], now: float) -> Change:
    """Apply ``triggers`` to ``job`` at ``now``, in this order, as one change.

    A trigger that does not apply after the previous ones (a success after the job has failed) is skipped;
    `Change.not_applied` has its position. Triggers name the leases in force before the change; a lease that
    one trigger ends is not in force for the next triggers. The cost grows with the number of steps plus the
    number of triggers. Raises `IllegalTransition` if no trigger applies.
    """
    change = ChangeBuilder(job, now)
    not_applied: list[int] = []
    refused: IllegalTransition | None = None
    for position, trigger in enumerate(triggers):
        try:
            (name, write, _), before, allowed, moment = _permit(change, trigger)
        except IllegalTransition as error:
            refused = refused or error
            not_applied.append(position)
            continue
        if change.next_due <= moment:
            change.settle(moment)
        write(change, trigger)
        after = change.resting_state()
        if after not in allowed:
            raise IllegalTransition(f"{name}: {before} must not become {after}")
        change.state = after
    if refused is not None and len(not_applied) == len(triggers):
        raise refused
    return change.build(not_applied=not_applied)


def on_claim(job: Job, lease: Lease) -> Trigger | None:
    """The trigger that ends a new claim before its function is called; None: call the function.

    A worker does not run a job that is being cancelled or whose deadline has passed.
    """
    if job.cancel_requested_at is not None:
        return Stopped(attempt_of(lease))
    if job.expires_at is not None and job.expires_at <= lease.since:
        return Check((lease,))
    return None


class LateFinish(Enum):
    """What to do with the end of an attempt if the change made from it conflicted."""

    DISCARD = auto()
    """The lease was lost: discard the result."""
    ADVANCE = auto()
    """The job has changed: apply the trigger to the new revision."""
    GIVE_BACK = auto()
    """The trigger does not apply, and the job has not changed: release the step, so that it runs again."""


def on_late_finish(attempts: Sequence[Attempt], rev: int, found: Stored | None) -> list[LateFinish]:
    """What to do with the ends of attempts whose change conflicted with the stored job; one value for each.

    The change was made from revision ``rev``; ``found`` is the job now (None: it was removed). If one of the
    leases was lost, that caused the conflict, so the other ends are applied again.
    """
    in_force = frozenset(lease.token for lease in found.leases) if found is not None else frozenset[int]()
    lost = [attempt.token not in in_force for attempt in attempts]
    same = found is not None and found.job.rev == rev and not any(lost)
    others = LateFinish.GIVE_BACK if same else LateFinish.ADVANCE
    return [LateFinish.DISCARD if each else others for each in lost]


def previous_results(job: Job, stage: int) -> bytes:
    """The value of ``ctx.previous`` in ``stage``, as JSON: a result, a list of results, or null.

    Raises `ValueError` if large results of the previous stage were not loaded (`raincheck.engine.results`).
    """
    before = [step for step in job.steps if step.stage == stage - 1]
    if not before:
        return b"null"
    if any(step.result is None and step.result_size is not None for step in before):
        raise ValueError(f"job {job.id}: large results of stage {stage - 1} were not loaded")
    results = [step.result or b"null" for step in before]
    return results[0] if len(results) == 1 else b"[" + b",".join(results) + b"]"


def cancel_of(stored: Stored) -> Cancel | None:
    """The trigger of a request to cancel a job; None: it is cancelled or being cancelled already."""
    job = stored.job
    being_stopped = stored.leases or gathering_step(job) is not None
    if job.state is CANCELLED or (job.cancel_requested_at is not None and being_stopped):
        return None
    return Cancel(stored.leases)


def reopen_of(member: Job, retried_at: float) -> Retry | None:
    """The trigger for a job of a group's run when the run is retried; None: the job stays as it is.

    A job is retried once: not if it failed again after the run was retried.
    """
    has_no_result = member.state in (FAILED, CANCELLED)
    return Retry() if has_no_result and (member.finished_at or 0.0) <= retried_at else None


def attempt_of(lease: Lease) -> Attempt:
    """The attempt that a lease is for."""
    return Attempt(lease.step, lease.token, lease.worker, lease.since, lease.progress)


def _permit(change: ChangeBuilder, trigger: Trigger) -> tuple[_Rule, State, frozenset[State], float]:
    """The rule of a trigger, the state it finds, the states it may lead to, and the time up to which steps
    are due.

    Raises `IllegalTransition` if the trigger may not be applied; the change stays as it was.
    """
    rule = _RULES[type(trigger)]
    name, _, need = rule
    attempt: Attempt | None = getattr(trigger, "attempt", None)
    attempts = (attempt,) if attempt is not None else _leased(trigger)
    before = DOING if attempts and not change.state.ended else change.state
    allowed = TRANSITIONS.get((before, name))
    if allowed is None:
        raise IllegalTransition(f"{name}: not possible for a job that is {before}")
    moment = change.now
    for attempt in attempts:
        step = change.steps[attempt.step]
        if not is_open(step, change.stage) or step.gather is not None or change.has_ended_lease(attempt.step):
            raise IllegalTransition(f"{name}: step {attempt.step} is not running")
        if attempt.started_at > moment:  # the clock may have been set back
            moment = attempt.started_at
    if need is not None and not need.is_met(change):
        raise IllegalTransition(f"{name}: {need.otherwise}")
    return rule, before, allowed, moment


def _leased(trigger: Trigger) -> tuple[Attempt, ...]:
    """The running attempts, if the trigger names their leases."""
    return tuple(map(attempt_of, getattr(trigger, "leases", ())))


def _is_cancelling(change: ChangeBuilder) -> bool:
    return change.job.cancel_requested_at is not None


def _waits_to_open(change: ChangeBuilder) -> bool:
    return change.gathering_step is not None and change.steps[change.gathering_step].state is PENDING


def _waits_to_gather(change: ChangeBuilder) -> bool:
    return change.gathering_step is not None and change.steps[change.gathering_step].state is DOING


def _is_check_due(change: ChangeBuilder) -> bool:
    expires_at = change.job.expires_at
    waits = change.state is SCHEDULED or change.state is RETRYING
    return not waits or change.is_due(change.now) or (expires_at is not None and expires_at <= change.now)


def _succeeded(change: ChangeBuilder, trigger: Succeeded) -> None:
    if change.job.cancel_requested_at is not None:
        return _stopped(change, trigger)
    index = trigger.attempt.step
    limit = trigger.limit
    if limit is not None and (total := change.result_bytes + len(trigger.result)) > limit:
        error = _results_too_large(change.steps[index].function, total, limit)
        change.add_attempt(trigger.attempt, AttemptOutcome.FAILED, error)
        _end(change, trigger.attempt, FAILED, error=error)
        return _fail(change, error, index)
    if change.has_journal:
        change.add_attempt(trigger.attempt, AttemptOutcome.DONE)
    _end(change, trigger.attempt, DONE, result=trigger.result)
    if trigger.data is not None:
        change.add_data(trigger.data)
    change.add_event("step-done", trigger.attempt.step)
    _finish_stage(change)
    return None


def _results_too_large(function: str, total: int, limit: int) -> Problem:
    return Problem(
        type=FailureType.RESULTS_TOO_LARGE,
        title="The results of the job are too large",
        detail=f"with this result they have {total} bytes, the limit is {limit}: return smaller results, or "
        "store them elsewhere and return their location",
        function=function,
        retryable=False,
    )


def _finish_stage(change: ChangeBuilder) -> None:
    """A step is done. If its whole stage is, start the next stage, or end the job."""
    if change.open_steps:
        return
    if change.stage == change.steps[-1].stage:
        change.end(DONE)
        change.add_event("done")
    else:
        change.make_ready(change.stage + 1, change.now)


def _failed(change: ChangeBuilder, trigger: Failed) -> None:
    if change.job.cancel_requested_at is not None:
        return _stopped(change, trigger)
    index, now = trigger.attempt.step, change.now
    step = change.steps[index]
    options = step.retry or trigger.options
    attempts = step.retry_count + 1
    wait = retry.pause(options, attempts, trigger.chance, trigger.retry_after)
    due = now + wait
    again = (
        not trigger.fatal
        and attempts < options.retry_limit
        and retry.retryable(options, trigger.names)
        and (change.job.expires_at is None or due < change.job.expires_at)
    )
    error = replace(
        trigger.error,
        function=step.function,
        attempt=attempts + step.lost_count,
        retryable=again,
        retry_after=wait if again else None,
    )
    outcome = AttemptOutcome.RETRIED if again else AttemptOutcome.FAILED
    if error.name == FailureType.TIMEOUT:
        outcome = AttemptOutcome.TIMED_OUT
    change.add_attempt(trigger.attempt, outcome, error, trigger.traceback)
    if not again:
        _end(change, trigger.attempt, FAILED, error=error)
        return _fail(change, error, index)
    _end(change, trigger.attempt, RETRYING if due > now else PENDING, error=error, due=due)
    change.add_event("retrying", index)
    change.enqueue(index)
    return None


def _lost(change: ChangeBuilder, trigger: Lost) -> None:
    attempt, index = trigger.attempt, trigger.attempt.step
    step = change.steps[index]
    count = step.lost_count + 1
    is_cancelling = change.job.cancel_requested_at is not None
    again = not is_cancelling and count <= (step.retry or trigger.options).lost_limit
    error = Problem(
        type=FailureType.WORKER_LOST,
        title="The worker was lost",
        detail=f"the workers of {count} attempt(s) at {step.function} died or lost their connection",
        function=step.function,
        attempt=step.retry_count + count,
        retryable=again,
    )
    change.add_attempt(attempt, AttemptOutcome.LOST, error)
    if is_cancelling:
        _end(change, attempt, CANCELLED, error=step.error, lost=1)
        return _cancelled(change, index)
    if not again:
        _end(change, attempt, FAILED, error=error, lost=1)
        return _fail(change, error, index)
    change.set_step(index, replace(step, state=PENDING, lost_count=count, due=change.now))
    _release(change, attempt, expired=True)
    change.add_event("lost", index)
    change.enqueue(index)
    return None


def _stopped(change: ChangeBuilder, trigger: Stopped | Succeeded | Failed) -> None:
    index = trigger.attempt.step
    change.add_attempt(trigger.attempt, AttemptOutcome.CANCELLED)
    _end(change, trigger.attempt, CANCELLED, error=change.steps[index].error)
    _cancelled(change, index)


def _opened(change: ChangeBuilder, trigger: Opened) -> None:
    index = change.gathering_step or 0
    step = change.steps[index]
    gather = None if step.gather is None else replace(step.gather, members=())
    change.set_step(index, replace(step, state=DOING, gather=gather, started_at=change.now))
    change.add_event("opened", index)


def _gathered(change: ChangeBuilder, trigger: Gathered) -> None:
    index = change.gathering_step or 0
    step = replace(change.steps[index], finished_at=change.now)
    if change.job.cancel_requested_at is not None:
        change.set_step(index, replace(step, state=CANCELLED))
        change.end(CANCELLED)
        return change.add_event("cancelled")
    gather = replace(step.gather or Gather(0), failed=trigger.failed)
    error = _gather_error(gather, trigger)
    if error is not None:
        change.set_step(index, replace(step, state=FAILED, error=error, gather=gather))
        return _fail(change, error, index)
    result, size = change.keep_result(index, trigger.result or b"null")
    change.set_step(index, replace(step, state=DONE, gather=gather, result=result, result_size=size))
    change.add_event("gathered", index)
    return _finish_stage(change)


def _gather_error(gather: Gather, trigger: Gathered) -> Problem | None:
    """The error of a group's run whose jobs have ended; None: the run continues."""
    if gather.failed and gather.on_failure == "fail":
        return Problem(
            type=FailureType.MEMBERS_FAILED,
            title="Jobs of the group have no result",
            detail=f"{len(gather.failed)} of {gather.size} jobs failed, were cancelled or removed",
            errors=trigger.errors,
            retryable=False,
        )
    if trigger.result is None:
        return Problem(
            type=FailureType.RESULT_TOO_LARGE,
            title="The results are too large",
            detail="the results of all jobs together are over the limit: return smaller results, or store "
            "them elsewhere and return their location",
            retryable=False,
        )
    return None


def _cancel(change: ChangeBuilder, trigger: Cancel | Check) -> None:
    again = change.job.cancel_requested_at is not None
    gathers = change.state is not SCHEDULED and change.gathering_step is not None
    if not gathers:  # otherwise it ends when the jobs of its group have ended
        change.take.update(change.strike(keep={lease.step for lease in trigger.leases}))
    if not again:
        change.update(cancel_requested_at=change.now)
    if gathers or trigger.leases:
        change.hold.update((lease.step, Release(lease.step, lease.token)) for lease in trigger.leases)
        if not again:
            change.add_event("cancel-requested")
        return
    change.end(CANCELLED)
    change.add_event("cancelled")


def _check(change: ChangeBuilder, trigger: Check) -> None:
    job = change.job
    if job.expires_at is not None and job.expires_at <= change.now:
        error = Problem(
            type=FailureType.DEADLINE_PASSED,
            title="The deadline passed",
            detail="the job did not end before its expires_at",
            function=next(step.function for step in change.steps if not step.state.ended),
            retryable=False,
        )
        for lease in trigger.leases:
            change.add_attempt(attempt_of(lease), AttemptOutcome.GIVEN_UP, error)
        _fail(change, error)
    elif job.cancel_requested_at is not None:
        _cancel(change, trigger)


def _retry(change: ChangeBuilder, trigger: Retry) -> None:
    job, now = change.job, change.now
    fresh: dict[str, Any] = {"state": PENDING, "retry_count": 0, "lost_count": 0, "error": None}
    fresh |= {"started_at": None, "finished_at": None, "worker": None, "progress": None}
    for i, step in enumerate(change.steps):
        if step.state is not DONE:
            change.steps[i] = replace(step, **fresh)
    change.reopen()
    change.update(
        run=job.run + 1,
        cancel_requested_at=None,
        expires_at=None if job.expires_at is not None and job.expires_at <= now else job.expires_at,
    )
    change.make_ready(change.stage, max(now, job.scheduled_at or now))
    change.add_event("retry")


class _Need(NamedTuple):
    """What a trigger needs besides the right state, and the error if it is missing."""

    is_met: Callable[[ChangeBuilder], bool]
    otherwise: str


_Rule = tuple[str, Callable[[ChangeBuilder, Any], None], _Need | None]
"""The name of a trigger in the table of transitions, the rule that writes its change, and what it needs."""

_RULES: dict[type, _Rule] = {
    Succeeded: ("succeeded", _succeeded, None),
    Failed: ("failed", _failed, None),
    Lost: ("lost", _lost, None),
    Stopped: ("stopped", _stopped, _Need(_is_cancelling, "no cancellation of the job was requested")),
    Cancel: ("cancel", _cancel, None),
    Check: ("check", _check, _Need(_is_check_due, "no due time or deadline is reached")),
    Retry: ("retry", _retry, None),
    Opened: ("opened", _opened, _Need(_waits_to_open, "the job does not wait for its group to be created")),
    Gathered: ("gathered", _gathered, _Need(_waits_to_gather, "the job does not wait for its group to end")),
}


def _fail(change: ChangeBuilder, error: Problem, index: int | None = None) -> None:
    """End the job as failed, and remove the queue entries and leases of its steps."""
    change.drop.update(change.strike())
    change.end(FAILED, error)
    change.add_event("failed", index)


def _cancelled(change: ChangeBuilder, index: int) -> None:
    """A running step of a job that is being cancelled has ended; the last one ends the job."""
    if change.open_steps:
        change.add_event("stopped", index)
    else:
        change.end(CANCELLED)
        change.add_event("cancelled")


def _end(
    change: ChangeBuilder,
    attempt: Attempt,
    state: State,
    *,
    result: bytes | None = None,
    error: Problem | None = None,
    due: float | None = None,
    lost: int = 0,
) -> None:
    """End an attempt and its lease; the step gets ``state``. The attempt is counted, or 1 as ``lost``."""
    index = attempt.step
    step = change.steps[index]
    result, size = (None, None) if result is None else change.keep_result(index, result)
    ended = replace(
        step,
        state=state,
        due=step.due if due is None else due,
        retry_count=step.retry_count + 1 - lost,
        lost_count=step.lost_count + lost,
        error=error,
        started_at=attempt.started_at,
        finished_at=change.now,
        worker=attempt.worker,
        progress=attempt.progress,
        result=result,
        result_size=size,
    )
    change.set_step(index, ended)
    _release(change, attempt, lost > 0)


def _release(change: ChangeBuilder, attempt: Attempt, expired: bool) -> None:
    if change.hold:
        change.hold.pop(attempt.step, None)
    change.release[attempt.step] = Release(attempt.step, attempt.token, expired)
