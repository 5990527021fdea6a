"""The whole table of transitions: all of it happens, and nothing else does."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import cache

import pytest

from raincheck.core import lifecycle
from raincheck.core.errors import IllegalTransition
from raincheck.core.model import Attempt, Gather, Lease, State
from raincheck.core.triggers import (
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
from tests.unit.world import ERROR, NOW, Transition, World, draft

TRIGGERS = ("succeeded", "failed", "lost", "stopped", "cancel", "check", "retry", "opened", "gathered")
ATTEMPT = Attempt(0, 1, "worker", NOW)

DRAFTS = (
    draft(["a"]),
    draft(["a", "b"]),
    draft([["a", "b"]], scheduled_at=NOW + 20),
    draft(["a"], scheduled_at=NOW + 20, expires_at=NOW + 10),
    draft([["a", "b"]], expires_at=NOW + 30),
    draft(["a"], gather=Gather(2)),
    draft([], gather=Gather(2, "continue"), expires_at=NOW + 30),
)
"""Jobs small enough to be followed through everything that can become of them."""


@cache
def worlds() -> tuple[World, ...]:
    """One world for each situation that the drafts can come to, up to a retry of the job."""
    found: dict[Hashable, World] = {}
    todo = [World(job) for job in DRAFTS]
    while todo:
        world = todo.pop()
        if found.setdefault(situation(world), world) is world and world.job.run == 1:
            todo += [after for _, after in what_follows(world)]
    return tuple(found.values())


def what_follows(world: World) -> Iterator[tuple[list[Transition], World]]:
    """All that can happen next: what is seen of it, and the world after it."""
    for action in world.actions():
        after = world.copy()
        after.do(action)
        yield after.seen, after


def situation(world: World) -> Hashable:
    """All that matters for what can follow; times count from now, and the far past is all one."""
    job = world.job

    def ahead(moment: float | None) -> float | None:
        return None if moment is None else max(0.0, moment - world.now)

    steps = tuple(
        (s.function, s.stage, s.state, s.retry_count, s.lost_count, ahead(s.due), s.gather) for s in job.steps
    )
    held = tuple((i, ahead(lease.until)) for i, lease in sorted(world.leases.items()))
    asked = job.cancel_requested_at is not None
    alarm = None if job.state.ended else ahead(world.change.check_at)
    return steps, job.state, job.run, asked, ahead(job.scheduled_at), ahead(job.expires_at), held, alarm


def test_the_table_is_what_happens() -> None:
    """Following jobs through everything that can happen to them meets each result in the table."""
    seen = {transition for world in worlds() for seen, _ in what_follows(world) for transition in seen}
    stated = {Transition(state, name, after) for (state, name), all_ in TRANSITIONS.items() for after in all_}
    assert seen == stated


def test_each_state_is_met() -> None:
    """The walk leaves no state out."""
    assert {world.state for world in worlds()} == set(State)


@pytest.mark.parametrize("name", TRIGGERS)
@pytest.mark.parametrize("state", State)
def test_a_pair_that_is_not_in_the_table_is_illegal(state: State, name: str) -> None:
    """Whatever the job's situation, a trigger that its state does not know is refused."""
    there = [world for world in worlds() if world.state is state]
    assert there
    for world in there:
        trigger = trigger_for(world, name)
        if (state, name) not in TRANSITIONS and trigger is not None:
            with pytest.raises(IllegalTransition, match=rf"^{name}: "):
                lifecycle.advance(world.job, [trigger], world.now)


def trigger_for(world: World, name: str) -> Trigger | None:
    """The trigger as it would reach the job; an attempt at a job at rest is an old one."""
    leases = tuple(world.leases.values())
    if world.state not in (State.DOING, *_ENDED) and name in ("succeeded", "failed", "lost", "stopped"):
        return None  # the lifecycle sees no leases: that there is none is the store's to say
    made: dict[str, Trigger] = {
        "succeeded": Succeeded(ATTEMPT, b"1"),
        "failed": Failed(ATTEMPT, ERROR),
        "lost": Lost(ATTEMPT),
        "stopped": Stopped(ATTEMPT),
        "cancel": Cancel(leases),
        "check": Check(leases),
        "retry": Retry(),
        "opened": Opened(),
        "gathered": Gathered(b"[]"),
    }
    return made[name]


_ENDED = tuple(state for state in State if state.ended)


def test_only_a_cancelled_job_may_be_stopped() -> None:
    """A worker cannot stop a job that nobody asked it to stop."""
    world = World(draft(["a"]))
    with pytest.raises(IllegalTransition, match="no cancellation"):
        world.stop()


@pytest.mark.parametrize("trigger", [Succeeded(ATTEMPT, b"1"), Failed(ATTEMPT, ERROR), Lost(ATTEMPT)])
def test_an_attempt_at_a_step_that_is_done_is_illegal(trigger: Trigger) -> None:
    """A step that is done cannot be done again, whatever the store lets through."""
    world = World(draft(["a", "b"]))
    world.succeed(0)
    with pytest.raises(IllegalTransition, match="step 0 is not running"):
        lifecycle.advance(world.job, [trigger], world.now)


def test_an_attempt_at_a_step_that_is_not_ready_is_illegal() -> None:
    """A step cannot be done before the one before it."""
    world = World(draft(["a", "b"]))
    with pytest.raises(IllegalTransition, match="step 1 is not running"):
        lifecycle.advance(world.job, [Succeeded(Attempt(1, 1, "worker", NOW), b"1")], world.now)


def test_a_lease_on_a_step_that_is_done_is_illegal() -> None:
    """Leases that cannot be are noticed."""
    world = World(draft(["a", "b"]))
    world.succeed(0)
    with pytest.raises(IllegalTransition, match="step 0 is not running"):
        lifecycle.advance(world.job, [Cancel((Lease(0, 1, "worker", NOW, NOW),))], world.now)


def test_a_result_that_the_table_does_not_state_is_illegal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that led elsewhere than the table says would be caught before anything is written."""
    monkeypatch.setitem(TRANSITIONS, (State.PENDING, "cancel"), frozenset((State.DONE,)))
    with pytest.raises(IllegalTransition, match="pending must not become cancelled"):
        World(draft(["a"])).cancel()


def test_an_alarm_that_rings_too_early_is_illegal() -> None:
    """Nothing becomes of an alarm before its time: a job is never run early."""
    world = World(draft(["a"], scheduled_at=NOW + 20))
    with pytest.raises(IllegalTransition, match="no due time or deadline"):
        lifecycle.advance(world.job, [Check()], NOW + 19.9)
