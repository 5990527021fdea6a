"""Several triggers of one job make one change: the same job, queue and leases as one after the other."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.errors import IllegalTransition
from raincheck.core.lifecycle import LateFinish
from raincheck.core.model import Attempt, Job, Lease, RetryOptions, State, Step, Stored
from raincheck.core.triggers import Cancel, Check, Failed, Lost, Retry, Stopped, Succeeded, Trigger
from tests.unit.test_histories import drafts, histories, live
from tests.unit.world import ERROR, NOW, World, draft

KINDS = ("succeeded", "failed", "fatal", "insisting", "lost", "stopped", "cancel", "check", "retry")
choices = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5)), min_size=1, max_size=8)
"""What happens to the job, and to which of the attempts that were being made at it."""


def trigger_of(world: World, leases: list[Lease], kind: str, number: int) -> Trigger | None:
    """A trigger as it is told of a job whose leases were ``leases`` when the fold began."""
    if kind in ("cancel", "check"):
        still = tuple(world.leases.values())
        return Cancel(still) if kind == "cancel" else Check(still)
    if kind == "retry":
        return Retry()
    if not leases:
        return None
    attempt = lifecycle.attempt_of(leases[number % len(leases)])
    made: dict[str, Trigger] = {
        "succeeded": Succeeded(attempt, b"%d" % number, b'{"k%d":%d,"last":%d}' % (number, number, number)),
        "failed": Failed(attempt, ERROR, ("ValueError",)),
        "fatal": Failed(attempt, ERROR, fatal=True),
        "insisting": Failed(attempt, ERROR, retry_after=0.0),
        "lost": Lost(attempt),
        "stopped": Stopped(attempt),
    }
    return made[kind]


def one_by_one(world: World, kinds: list[tuple[str, int]]) -> tuple[list[Trigger], list[int]]:
    """Apply triggers one after the other: all of them, and the positions of those that did not apply."""
    leases = list(world.leases.values())
    triggers: list[Trigger] = []
    refused: list[int] = []
    for kind, number in kinds:
        trigger = trigger_of(world, leases, kind, number)
        if trigger is None:
            continue
        attempt = getattr(trigger, "attempt", None)
        in_force = attempt is None or attempt.token in {lease.token for lease in world.leases.values()}
        try:
            if not in_force:  # the store's guard would say so
                raise IllegalTransition
            world.act(trigger)
        except IllegalTransition:
            refused.append(len(triggers))
        triggers.append(trigger)
    return triggers, refused


@given(drafts, histories, choices)
def test_a_fold_is_what_its_triggers_make_one_by_one(
    job: Job, history: list[int], kinds: list[tuple[str, int]]
) -> None:
    """The job, its places and its leases are the same, and so are the triggers that did not apply."""
    before = live(job, history)[-1]
    before.now = max([before.now, *(lease.until for lease in before.leases.values())])
    single, folded = before.copy(), before.copy()
    triggers, refused = one_by_one(single, kinds)
    if len(refused) == len(triggers):
        return
    change = folded.act_all(triggers)
    assert change.not_applied == tuple(refused)
    assert replace(folded.job, rev=0) == replace(single.job, rev=0)
    assert (folded.queue, folded.leases) == (single.queue, single.leases)
    assert folded.change.check_at == single.change.check_at


def test_a_whole_stage_is_one_change() -> None:
    """All steps of a stage that succeed together end the job at its second revision."""
    world = World(draft([["a", "b", "c"]]))
    attempts = [world.claim(i) for i in range(3)]
    change = world.act_all([Succeeded(attempt, b"1") for attempt in attempts])
    assert (world.state, change.job.rev) == (State.DONE, 2)
    assert [release.step for release in change.release] == [0, 1, 2]


def test_what_comes_after_a_failure_is_told_to_the_caller() -> None:
    """Once a trigger has failed the job, those after it are not applied, and the change says which."""
    world = World(draft([["a", "b", "c"]], options=None))
    attempts = [world.claim(i) for i in range(3)]
    change = world.act_all(
        [Succeeded(attempts[0], b"1"), Failed(attempts[1], ERROR, fatal=True), Succeeded(attempts[2], b"1")]
    )
    assert (world.state, change.not_applied) == (State.FAILED, (2,))
    assert world.states == ["done", "failed", "cancelled"]


def test_the_end_of_an_attempt_counts_once() -> None:
    """The same attempt cannot end twice in one change."""
    world = World(draft(["a"]))
    attempt = world.claim(0)
    change = world.act_all([Failed(attempt, ERROR), Failed(attempt, ERROR)])
    assert (change.not_applied, world.job.steps[0].retry_count) == ((1,), 1)


def test_none_that_applies_is_illegal() -> None:
    """If no trigger may be applied, the first reason is raised."""
    world = World(draft(["a", "b"]))
    stopped, late = Stopped(world.claim(0)), Succeeded(Attempt(1, 9, "worker", NOW), b"1")
    with pytest.raises(IllegalTransition, match="no cancellation"):
        lifecycle.advance(world.job, [stopped, late], world.now)


def test_the_cost_grows_with_the_steps_not_with_their_square() -> None:
    """Ten times the steps and triggers cost some ten times as much work, not a hundred times."""

    def seconds(steps: int) -> float:
        job = lifecycle.submit(
            Job("id", "wide", tuple(Step("f", 0, retry=RetryOptions()) for _ in range(steps))), NOW
        ).job
        triggers = [Succeeded(Attempt(i, i + 1, "w", NOW), b"1", b'{"k%d":1}' % i) for i in range(steps)]
        taken = []
        for _ in range(5):
            begun = time.thread_time()
            assert lifecycle.advance(job, triggers, NOW).job.state is State.DONE
            taken.append(time.thread_time() - begun)
        return min(taken)

    assert seconds(5000) < 50 * seconds(500)


class TestClaim:
    """What a fresh claim means."""

    LEASE = Lease(0, 1, "worker", NOW, NOW + 15)

    def test_a_job_that_goes_on_is_run(self) -> None:
        """Nothing ends the attempt before it runs, though the deadline is near."""
        world = World(draft(["a"], expires_at=NOW + 1))
        assert lifecycle.on_claim(world.job, self.LEASE) is None

    def test_a_cancelled_job_is_stopped(self) -> None:
        """The step of a job that is being cancelled, given back and claimed again, is not run."""
        world = World(draft([["a", "b"]]))
        world.claim(0)
        world.cancel()
        world.give_back(0)
        attempt = world.claim(0)
        trigger = lifecycle.on_claim(world.job, world.leases[0])
        assert trigger == Stopped(attempt)
        world.act(trigger)
        assert world.state is State.CANCELLED

    def test_a_job_whose_deadline_has_passed_fails(self) -> None:
        """It fails at once, without being run."""
        world = World(draft(["a"], expires_at=NOW + 1))
        world.now += 1
        world.claim(0)
        trigger = lifecycle.on_claim(world.job, world.leases[0])
        assert trigger is not None
        world.act(trigger)
        assert (world.state, world.leases) == (State.FAILED, {})


class TestLateFinish:
    """What the end of an attempt means that did not apply."""

    ATTEMPT = Attempt(0, 1, "worker", NOW)

    def test_a_lost_lease_discards_the_result(self) -> None:
        """The job is gone, or somebody else holds the step."""
        world = World(draft(["a"]))
        other = Lease(0, 2, "other", NOW, NOW + 15)
        assert lifecycle.on_late_finish([self.ATTEMPT], 1, None) == [LateFinish.DISCARD]
        found = Stored(world.job, (other,))
        assert lifecycle.on_late_finish([self.ATTEMPT], 1, found) == [LateFinish.DISCARD]

    def test_a_job_that_changed_is_advanced_as_it_is_now(self) -> None:
        """Whoever changed it, the lease is still in force."""
        world = World(draft([["a", "b"]]))
        world.claim(0)
        world.cancel()
        assert lifecycle.on_late_finish([self.ATTEMPT], 1, world.stored) == [LateFinish.ADVANCE]

    def test_what_does_not_fit_is_given_back(self) -> None:
        """A job that is as it was will not take it the next time either."""
        world = World(draft(["a"]))
        world.claim(0)
        assert lifecycle.on_late_finish([self.ATTEMPT], 1, world.stored) == [LateFinish.GIVE_BACK]

    def test_one_lost_lease_leaves_the_others_theirs(self) -> None:
        """Ends that were written together failed together: those whose lease is in force are tried again."""
        world = World(draft([["a", "b"]]))
        attempts = [world.claim(0), world.claim(1)]
        world.give_back(0)
        meanings = lifecycle.on_late_finish(attempts, 1, world.stored)
        assert meanings == [LateFinish.DISCARD, LateFinish.ADVANCE]
