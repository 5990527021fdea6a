"""The stages of a job: which of its steps wait, where they wait, and when somebody has to look."""

from __future__ import annotations

from msgspec.structs import replace

from raincheck.model import Job, Place, State, Step
from raincheck.triggers import DOING, DONE, PENDING, RETRYING, SCHEDULED

CANCEL_LOOK = 15.0
"""Seconds between looks at a job being cancelled: its worker may give a step back unheard."""

GATHER_LOOK, GATHER_LOOK_MOST = 5.0, 60.0
"""Seconds between looks at a job that waits for those of its group, in case nobody was told of their
end; at first, and when it has waited for long."""

_DATED = (SCHEDULED, RETRYING)


def current_stage(job: Job) -> int:
    """The first stage that is not done, or the last one."""
    for step in job.steps:
        if step.state is not DONE:
            return step.stage
    return job.steps[-1].stage


def gathering(job: Job) -> int | None:
    """The step that waits for the jobs of a group, if the job has come to one."""
    if job.state.ended:
        return None
    stage = current_stage(job)
    return next((i for i, s in enumerate(job.steps) if s.gather is not None and waits(s, stage)), None)


def with_step(job: Job, index: int, step: Step) -> Job:
    """The job with another step at ``index``."""
    return replace(job, steps=(*job.steps[:index], step, *job.steps[index + 1 :]))


def waits(step: Step, stage: int) -> bool:
    """Whether a step is of the current stage, ``stage``, and has not ended."""
    return step.stage == stage and not step.state.ended


def ready(job: Job, stage: int, due: float, now: float) -> Job:
    """The job with the open steps of a stage made ready for ``due``."""
    state = SCHEDULED if due > now else PENDING
    steps = (replace(s, state=state, due=due) if waits(s, stage) else s for s in job.steps)
    return replace(job, steps=tuple(steps))


def settled(job: Job, stage: int, moment: float) -> Job:
    """The job as it is at a moment: steps of its stage whose time has come are pending."""
    for i, step in enumerate(job.steps):
        if step.state in _DATED and waits(step, stage) and step.due <= moment:
            job = with_step(job, i, replace(step, state=PENDING))
    return job


def place_of(job: Job, index: int) -> Place:
    """The place of a step in the queue of its function."""
    step = job.steps[index]
    return Place(index, step.function, job.priority, step.due)


def places_of(job: Job, stage: int) -> tuple[Place, ...]:
    """The places of the waiting steps of a stage."""
    return tuple(
        place_of(job, i) for i, step in enumerate(job.steps) if step.gather is None and waits(step, stage)
    )


def resting(job: Job) -> State:
    """The state of an unfinished job when nobody works on it: that of its most forward step."""
    stage = current_stage(job)
    states = {step.state for step in job.steps if waits(step, stage)}
    return next(state for state in (DOING, PENDING, RETRYING, SCHEDULED) if state in states)


def alarm_of(job: Job) -> float | None:
    """When somebody has to look at the job, if ever."""
    if job.state.ended:
        return (job.finished_at or 0.0) + job.result_ttl
    stage = current_stage(job)
    times = [s.due for s in job.steps if s.state in _DATED and waits(s, stage)]
    if job.expires_at is not None:
        times.append(job.expires_at)
    if job.cancel_requested_at is not None:
        times.append(job.updated_at + CANCEL_LOOK)
    if (index := gathering(job)) is not None and job.state is not SCHEDULED:
        age = job.updated_at - job.steps[index].due
        times.append(job.updated_at + min(max(GATHER_LOOK, age / 2), GATHER_LOOK_MOST))
    return min(times, default=None)
