"""What holds for every job, whatever happens to it: random histories of random jobs.

The world itself checks after every change that places and leases are those of the steps that wait,
that no step is ready before those of the stage before it are done, and that events are numbered
without gaps.
"""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from raincheck.core.model import Gather, Job, RetryOptions, State
from raincheck.core.stages import CANCEL_CHECK, GATHER_CHECK, GATHER_CHECK_MOST, current_stage, gathering_step
from tests.unit.world import NOW, World, draft

names = st.sampled_from("abc")
shapes = st.lists(names | st.lists(names, min_size=1, max_size=3), min_size=1, max_size=3)
options = st.builds(
    RetryOptions,
    retry_limit=st.integers(1, 3),
    delay=st.sampled_from([0.0, 1.0, 30.0]),
    max_delay=st.sampled_from([1.0, 60.0]),
    jitter=st.sampled_from([0.0, 0.5]),
    retry_on=st.sampled_from([(), ("ValueError",), ("KeyError",)]),
    lost_limit=st.integers(0, 2),
)
moments = st.none() | st.sampled_from([NOW - 5, NOW + 10, NOW + 50])
drafts = st.builds(
    draft,
    shapes,
    options=options,
    scheduled_at=moments,
    expires_at=st.none() | st.sampled_from([NOW + 5, NOW + 60]),
    priority=st.integers(-1, 1),
    gather=st.none() | st.builds(Gather, st.just(2), st.sampled_from(["fail", "continue"])),
)
histories = st.lists(st.integers(0, 997), max_size=40)
"""Each number chooses among what can happen then; where it ends in 7 the clock is set back first."""


def live(job: Job, history: list[int]) -> list[World]:
    """The world as it was in the beginning and after each of the things that happened."""
    world = World(job)
    lived = [world.copy()]
    for number in history:
        if number % 10 == 7:
            world.now -= 20.0
        actions = world.actions()
        if not actions:
            break
        world.do(actions[number % len(actions)])
        lived.append(world.copy())
    return lived


@given(drafts, histories)
def test_an_ended_job_stays_as_it_is_until_it_is_retried(job: Job, history: list[int]) -> None:
    """Between two moments an ended job differs only if its run does."""
    worlds = live(job, history)
    for before, after in itertools.pairwise(worlds):
        if before.job.state.ended and after.job != before.job:
            assert before.job.state is not State.DONE
            assert after.job.run == before.job.run + 1
            assert not after.job.state.ended


@given(drafts, histories)
def test_a_step_that_is_done_stays_as_it_is(job: Job, history: list[int]) -> None:
    """Its result is recorded once: a retry of the job leaves it, too."""
    worlds = live(job, history)
    for before, after in itertools.pairwise(worlds):
        for step, later in zip(before.job.steps, after.job.steps, strict=True):
            assert step.state is not State.DONE or step == later


@given(drafts, histories)
def test_no_more_attempts_are_made_than_allowed(job: Job, history: list[int]) -> None:
    """A step is tried at most ``retry_limit`` times, and lost at most once more than ``lost_limit``."""
    for world in live(job, history):
        for step in world.job.steps:
            assert step.retry is not None or step.gather is not None
            options = step.retry or RetryOptions()
            assert step.retry_count <= options.retry_limit
            assert step.lost_count <= options.lost_limit + 1


@given(drafts, histories)
def test_the_current_stage_never_goes_back(job: Job, history: list[int]) -> None:
    """A job goes on from stage to stage, even when it is retried."""
    stages = [current_stage(world.job) for world in live(job, history)]
    assert stages == sorted(stages)


@given(drafts, histories)
def test_the_alarm_is_set_for_whatever_time_alone_brings(job: Job, history: list[int]) -> None:
    """A step is due, a deadline, a cancellation or the end of a group's jobs unheard of; then to prune."""
    for world in live(job, history):
        now = world.job
        if now.state.ended:
            assert now.finished_at is not None
            assert world.change.check_at == now.finished_at + now.result_ttl
            continue
        stage = current_stage(now)
        times = [s.due for s in now.steps if s.stage == stage and s.state in ("scheduled", "retrying")]
        if now.expires_at is not None:
            times.append(now.expires_at)
        if now.cancel_requested_at is not None:
            times.append(now.updated_at + CANCEL_CHECK)
        if now.state is not State.SCHEDULED and (index := gathering_step(now)) is not None:
            age = now.updated_at - now.steps[index].due
            times.append(now.updated_at + min(max(GATHER_CHECK, age / 2), GATHER_CHECK_MOST))
        assert world.change.check_at == min(times, default=None)


@given(drafts, histories)
def test_the_state_at_rest_is_that_of_the_most_forward_step(job: Job, history: list[int]) -> None:
    """Doing (a group's jobs) goes first, then pending, then retrying, then scheduled."""
    for world in live(job, history):
        if not world.job.state.ended:
            stage = current_stage(world.job)
            states = {str(step.state) for step in world.job.steps if step.stage == stage}
            assert world.job.state == next(
                s for s in ("doing", "pending", "retrying", "scheduled") if s in states
            )


@given(drafts, histories)
def test_a_job_left_alone_comes_to_its_end(job: Job, history: list[int]) -> None:
    """From wherever it is, running what is ready and heeding the alarm ends every job."""
    world = live(job, history)[-1]
    for _ in range(200):
        if world.job.state.ended:
            break
        ready = [i for i, place in world.queue.items() if place.due <= world.now]
        if world.leases:
            world.succeed(next(iter(world.leases)))
        elif ready:
            world.claim(ready[0])
        elif world.queue:
            world.now = min(place.due for place in world.queue.values())
        elif world.job.state is State.SCHEDULED:
            world.ring()
        elif world.job.state is State.DOING:
            world.gather()
        else:
            world.open()
    assert world.job.state.ended
    if world.job.state is State.DONE:
        assert {step.state for step in world.job.steps} == {State.DONE}
