"""How a job ends, or is made to: cancelled, by its deadline; and what comes after the end."""

from __future__ import annotations

import pytest

from raincheck.core import lifecycle
from raincheck.core.errors import IllegalTransition
from raincheck.core.model import Release, State
from raincheck.core.stages import CANCEL_CHECK, MAX_EVENTS
from tests.unit.world import NOW, World, draft


class TestCancel:
    """Stopping a job."""

    @pytest.mark.parametrize("scheduled_at", [None, NOW + 60])
    def test_a_job_that_waits_stops_at_once(self, scheduled_at: float | None) -> None:
        """Nothing of it stays in the queue."""
        world = World(draft([["a", "b"], "c"], scheduled_at=scheduled_at))
        world.cancel()
        assert (world.state, world.states) == (State.CANCELLED, ["cancelled", "cancelled", "pending"])

    def test_a_job_that_retries_stops_at_once(self) -> None:
        """It does not wait for the next attempt."""
        world = World(draft(["a"]))
        world.fail(0)
        world.cancel()
        assert world.state is State.CANCELLED

    def test_a_running_step_is_told(self) -> None:
        """The job goes on being done until its worker has stopped it."""
        world = World(draft([["a", "b"]]))
        world.claim(0)
        change = world.cancel()
        assert change.hold == (Release(0, 1),)  # it must still be in force, or there is more to do
        assert (world.state, world.job.cancel_requested_at) == (State.DOING, NOW)
        assert (world.states, sorted(world.queue)) == (["pending", "cancelled"], [])
        world.stop(0)
        assert (world.state, world.job.steps[0].retry_count) == (State.CANCELLED, 1)

    @pytest.mark.parametrize("end", ["succeed", "fail", "lose", "stop"])
    def test_however_the_attempt_ends_the_job_is_cancelled(self, end: str) -> None:
        """A late result is dropped."""
        world = World(draft(["a", "b"]))
        world.claim(0)
        world.cancel()
        getattr(world, end)(0)
        assert (world.state, world.states) == (State.CANCELLED, ["cancelled", "pending"])
        assert world.job.steps[0].result is None

    def test_a_clock_that_is_set_back_does_not_matter(self) -> None:
        """A step that is being done was due, whatever the time is now."""
        world = World(draft(["a"]))
        world.fail(0)
        world.now += 5
        world.claim(0)
        world.now -= 60
        world.cancel()
        assert (world.state, world.job.state) == (State.DOING, State.PENDING)

    def test_the_last_running_step_ends_it(self) -> None:
        """Each that stops is an event."""
        world = World(draft([["a", "b"]]))
        world.claim(0)
        world.claim(1)
        world.cancel()
        world.stop(1)
        assert world.state is State.DOING
        world.succeed(0)
        kinds = [event.kind for event in world.events]
        assert (world.state, kinds) == (
            State.CANCELLED,
            ["submitted", "cancel-requested", "stopped", "cancelled"],
        )

    def test_asking_again_changes_nothing_more(self) -> None:
        """The first request counts."""
        world = World(draft(["a"]))
        world.claim(0)
        world.cancel()
        world.now += 5
        world.cancel()
        assert (world.job.cancel_requested_at, len(world.events)) == (NOW, 2)

    def test_a_step_given_back_meanwhile_is_stopped_by_the_alarm(self) -> None:
        """A worker that left without hearing of it does not keep the job alive."""
        world = World(draft(["a"]))
        world.claim(0)
        world.cancel()
        assert world.change.check_at == NOW + CANCEL_CHECK
        world.give_back(0)
        world.ring()
        assert (world.state, world.now) == (State.CANCELLED, NOW + CANCEL_CHECK)

    def test_the_alarm_leaves_a_step_that_still_runs(self) -> None:
        """It looks again later, without another event."""
        world = World(draft(["a"]))
        world.claim(0)
        world.cancel()
        world.ring()
        assert (world.state, world.change.check_at, len(world.events)) == (
            State.DOING,
            NOW + 2 * CANCEL_CHECK,
            2,
        )


class TestDeadline:
    """The time by which a job must have ended."""

    @pytest.mark.parametrize("claimed", [False, True])
    def test_it_ends_the_job_wherever_it_is(self, claimed: bool) -> None:
        """A worker that is at it loses its lease."""
        world = World(draft([["a", "b"], "c"], expires_at=NOW + 60))
        if claimed:
            world.claim(0)
        assert world.change.check_at == NOW + 60
        world.ring()
        assert (world.state, world.states) == (State.FAILED, ["cancelled", "cancelled", "pending"])
        error = world.job.error
        assert error is not None
        assert (error.name, error.function, error.retryable) == ("deadline-passed", "a", False)

    def test_there_is_no_attempt_after_it(self) -> None:
        """A pause that reaches beyond it fails the job now, with the function's own error."""
        world = World(draft(["a"], expires_at=NOW + 5))
        world.fail(0)
        assert (world.state, world.job.error and world.job.error.name) == (State.FAILED, "function-failed")

    def test_the_next_alarm_is_the_earlier(self) -> None:
        """Of a retry and the deadline."""
        world = World(draft(["a"], expires_at=NOW + 60))
        world.fail(0)
        assert world.change.check_at == NOW + 5
        world.ring()
        assert world.change.check_at == NOW + 60

    def test_it_ends_a_job_that_is_not_even_due(self) -> None:
        """Whatever came first, it came."""
        world = World(draft(["a"], scheduled_at=NOW + 60, expires_at=NOW + 30))
        world.ring()
        assert (world.state, world.now) == (State.FAILED, NOW + 30)


class TestRetry:
    """Letting a job go on that has ended."""

    def test_it_goes_on_where_it_ended(self) -> None:
        """What is done stays done; the rest begins anew, with all its attempts."""
        world = World(draft(["a", "b"]))
        world.succeed(0, b"1")
        world.fail(1, fatal=True)
        world.retry()
        assert (world.state, world.states, sorted(world.queue)) == (State.PENDING, ["done", "pending"], [1])
        step = world.job.steps[1]
        assert (step.retry_count, step.error, step.started_at, step.worker) == (0, None, None, None)
        assert (world.job.run, world.job.error, world.job.finished_at) == (2, None, None)
        assert world.events[-1].kind == "retry"

    def test_only_the_members_that_are_not_done_run_again(self) -> None:
        """The results of a parallel stage are kept."""
        world = World(draft([["a", "b"], "c"]))
        world.succeed(0, b"1")
        world.fail(1, fatal=True)
        world.retry()
        assert sorted(world.queue) == [1]
        world.succeed(1, b"2")
        assert lifecycle.previous_results(world.job, 1) == b"[1,2]"

    def test_a_cancelled_job_can_be_retried(self) -> None:
        """The request to cancel it is forgotten."""
        world = World(draft(["a"]))
        world.cancel()
        world.retry()
        assert (world.state, world.job.cancel_requested_at) == (State.PENDING, None)

    def test_it_is_not_run_before_its_date(self) -> None:
        """A scheduled job that was cancelled is scheduled again."""
        world = World(draft(["a"], scheduled_at=NOW + 60))
        world.cancel()
        world.retry()
        assert (world.state, world.queue[0].due, world.change.check_at) == (
            State.SCHEDULED,
            NOW + 60,
            NOW + 60,
        )

    @pytest.mark.parametrize(("passed", "kept"), [(True, None), (False, NOW + 60)])
    def test_a_deadline_that_has_passed_is_dropped(self, passed: bool, kept: float | None) -> None:
        """It would fail at once otherwise; one that is yet to come holds."""
        world = World(draft(["a"], expires_at=NOW + 60))
        if passed:
            world.ring()
        else:
            world.cancel()
        world.retry()
        assert (world.job.expires_at, world.change.check_at) == (kept, kept)

    @pytest.mark.parametrize("ended", [False, True])
    def test_other_jobs_cannot(self, ended: bool) -> None:
        """Neither one that has not ended, nor one that is done."""
        world = World(draft(["a"]))
        if ended:
            world.succeed(0)
        with pytest.raises(IllegalTransition, match="retry: not possible for a job that is"):
            world.retry()


class TestRetention:
    """How long an ended job is kept."""

    @pytest.mark.parametrize("end", ["succeed", "cancel"])
    def test_it_is_counted_from_the_end(self, end: str) -> None:
        """Not from the submit: unfinished work is never pruned."""
        world = World(draft(["a"], result_ttl=90.0))
        world.now += 1000
        getattr(world, end)()
        assert world.change.check_at == NOW + 1090

    def test_a_retry_stops_it(self) -> None:
        """The job is unfinished again."""
        world = World(draft(["a"]))
        world.cancel()
        world.retry()
        assert world.change.check_at is None


class TestEvents:
    """What is remembered of a job's life."""

    def test_the_latest_are_kept_and_numbers_go_on(self) -> None:
        """A job with a long life has a bounded record."""
        world = World(draft(["a"]))
        for _ in range(MAX_EVENTS):
            world.cancel()
            world.retry()
        assert len(world.events) == MAX_EVENTS
        assert world.events[-1].number == 2 * MAX_EVENTS + 1
