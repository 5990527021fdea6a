"""The life of a job, rule by rule; its ends are in test_endings."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.model import Key, RetryOptions, State
from raincheck.core.stages import current_stage
from tests.unit.world import NOW, World, draft


class TestSubmit:
    """A new job."""

    def test_the_first_stage_is_ready_at_once(self) -> None:
        """Only the steps of the first stage have a place."""
        world = World(draft(["a", "b"]))
        assert (world.state, sorted(world.queue)) == (State.PENDING, [0])
        assert world.queue[0].due == NOW
        assert world.change.check_at is None

    def test_it_is_its_first_revision_and_first_event(self) -> None:
        """Revisions and events count from one."""
        job = World(draft(["a"])).job
        assert (job.rev, job.run, [(e.number, e.kind) for e in job.events]) == (1, 1, [(1, "submitted")])

    def test_a_scheduled_job_is_not_ready_before_its_date(self) -> None:
        """Its places and its alarm are set for the date."""
        world = World(draft([["a", "b"]], scheduled_at=NOW + 60))
        assert (world.state, world.states) == (State.SCHEDULED, ["scheduled", "scheduled"])
        assert [place.due for place in world.queue.values()] == [NOW + 60, NOW + 60]
        assert world.change.check_at == NOW + 60

    def test_a_job_of_a_schedule_keeps_its_moment(self) -> None:
        """It is ready at once, and shows which firing it is."""
        world = World(replace(draft(["a"], scheduled_at=NOW - 60), schedule="nightly"))
        assert (world.state, world.queue[0].due, world.job.scheduled_at) == (State.PENDING, NOW, NOW - 60)

    def test_a_date_in_the_past_is_now(self) -> None:
        """A job cannot be late already."""
        world = World(draft(["a"], scheduled_at=NOW - 60))
        assert (world.state, world.queue[0].due, world.job.scheduled_at) == (State.PENDING, NOW, NOW)

    def test_places_have_the_priority_of_the_job(self) -> None:
        """Also those of later stages."""
        world = World(draft(["a", "b"], priority=7))
        assert world.queue[0].priority == 7
        world.succeed(0)
        assert world.queue[1].priority == 7

    def test_the_idempotency_key_is_written_with_it(self) -> None:
        """A key and its job are stored together or not at all."""
        key = Key("k", b"f", NOW + 60)
        assert lifecycle.submit(draft(["a"]), NOW, key).key == key


class TestChain:
    """Functions in order."""

    def test_a_step_starts_when_the_one_before_it_is_done(self) -> None:
        """The next place is put in the change that records the result."""
        world = World(draft(["a", "b"]))
        world.now += 3
        change = world.succeed(0, b"1")
        assert [place.step for place in change.put] == [1]
        assert world.queue[1].due == NOW + 3
        assert current_stage(world.job) == 1

    def test_the_last_result_ends_it(self) -> None:
        """The job is done, and finished then."""
        world = World(draft(["a", "b"]))
        world.succeed(0)
        world.now += 5
        world.succeed(1, b"2")
        assert (world.state, world.job.finished_at) == (State.DONE, NOW + 5)
        assert [e.kind for e in world.events] == ["submitted", "step-done", "step-done", "done"]

    def test_an_attempt_is_told_of_in_its_step(self) -> None:
        """Who ran it, from when to when, and how often."""
        world = World(draft(["a"]))
        world.claim(0)
        world.now += 5
        world.succeed(0, b"42")
        step = world.job.steps[0]
        assert (step.worker, step.started_at, step.finished_at) == ("worker", NOW, NOW + 5)
        assert (step.retry_count, step.lost_count, step.result, step.error) == (1, 0, b"42", None)

    def test_a_function_sees_the_result_before_it(self) -> None:
        """The first one sees null."""
        world = World(draft(["a", "b"]))
        world.succeed(0, b'{"x":1}')
        assert lifecycle.previous_results(world.job, 0) == b"null"
        assert lifecycle.previous_results(world.job, 1) == b'{"x":1}'


class TestParallel:
    """Functions at the same time."""

    def test_all_members_are_ready_at_once(self) -> None:
        """Each has a place of its own."""
        world = World(draft([["a", "b", "c"]]))
        assert sorted(world.queue) == [0, 1, 2]

    def test_the_next_stage_waits_for_all(self) -> None:
        """One member that is still out holds it back."""
        world = World(draft([["a", "b"], "c"]))
        world.succeed(1, b"2")
        assert (world.state, sorted(world.queue)) == (State.PENDING, [0])
        world.succeed(0, b"1")
        assert sorted(world.queue) == [2]

    def test_the_next_stage_sees_a_list(self) -> None:
        """In the order they were written, not in the order they ended."""
        world = World(draft([["a", "b"], "c"]))
        world.succeed(1, b"2")
        world.succeed(0, b"1")
        assert lifecycle.previous_results(world.job, 1) == b"[1,2]"

    def test_a_stage_of_one_passes_on_its_result(self) -> None:
        """A list of one function is that function."""
        world = World(draft([["a"], "b"]))
        world.succeed(0, b"1")
        assert lifecycle.previous_results(world.job, 1) == b"1"

    def test_a_failed_member_ends_the_job_at_once(self) -> None:
        """Its siblings are cancelled, in the queue or in a worker's hands."""
        world = World(draft([["a", "b", "c"], "d"]))
        world.claim(1)
        change = world.fail(0, fatal=True)
        assert (world.state, world.states) == (State.FAILED, ["failed", "cancelled", "cancelled", "pending"])
        assert [place.step for place in change.drop] == [1, 2]

    def test_one_that_retries_does_not_hold_up_the_others(self) -> None:
        """The job is pending while any member is ready."""
        world = World(draft([["a", "b"]]))
        world.fail(0)
        assert (world.state, world.states) == (State.PENDING, ["retrying", "pending"])
        world.succeed(1)
        assert world.state is State.RETRYING

    def test_a_member_of_a_scheduled_stage_may_end_before_the_alarm(self) -> None:
        """Once one of them has run, the date of the others has come as well."""
        world = World(draft([["a", "b"]], scheduled_at=NOW + 60))
        world.now += 60
        world.succeed(0)
        assert (world.state, world.states) == (State.PENDING, ["done", "pending"])


class TestData:
    """What the functions of a job share."""

    @pytest.mark.parametrize(
        ("before", "changes", "after"),
        [
            (b'{"a":1,"b":2}', None, b'{"a":1,"b":2}'),
            (b'{"a":1,"b":2}', b'{"b":{"c":3}}', b'{"a":1,"b":{"c":3}}'),
            (b"{}", b'{"a":[]}', b'{"a":[]}'),
        ],
    )
    def test_top_level_keys_merge(self, before: bytes, changes: bytes | None, after: bytes) -> None:
        """A changed key is replaced whole."""
        world = World(draft(["a"], data=before))
        world.succeed(0, data=changes)
        assert world.job.data == after

    def test_the_later_member_wins_a_key(self) -> None:
        """The others' keys stay."""
        world = World(draft([["a", "b"]]))
        world.succeed(1, data=b'{"x":1,"y":1}')
        world.succeed(0, data=b'{"x":2}')
        assert world.job.data == b'{"x":2,"y":1}'

    def test_a_failed_attempt_changes_nothing(self) -> None:
        """Only a success stores what it changed."""
        world = World(draft(["a"], data=b'{"a":1}'))
        world.fail(0)
        assert world.job.data == b'{"a":1}'


class TestRetries:
    """Attempts that failed."""

    def test_a_step_is_tried_again_after_its_delay(self) -> None:
        """Its place and the alarm are set for then, and its error says so."""
        world = World(draft(["a"]))
        world.fail(0)
        assert (world.state, world.queue[0].due, world.change.check_at) == (State.RETRYING, NOW + 5, NOW + 5)
        error = world.job.steps[0].error
        assert error is not None
        assert (error.function, error.attempt, error.retryable, error.retry_after) == ("a", 1, True, 5.0)
        assert world.job.error is None

    def test_it_is_pending_when_its_time_has_come(self) -> None:
        """The alarm makes it so, for all to see."""
        world = World(draft(["a"]))
        world.fail(0)
        world.ring()
        assert (world.now, world.state, world.change.check_at) == (NOW + 5, State.PENDING, None)

    def test_without_a_pause_it_is_pending_at_once(self) -> None:
        """There is nothing to wait for."""
        world = World(draft(["a"], options=RetryOptions(retry_limit=2, delay=0.0)))
        world.fail(0)
        assert (world.state, world.change.check_at) == (State.PENDING, None)

    def test_the_last_attempt_ends_the_job(self) -> None:
        """Its error is the job's."""
        world = World(draft(["a", "b"]))
        world.fail(0)
        world.now += 5
        world.fail(0)
        assert (world.state, world.states) == (State.FAILED, ["failed", "pending"])
        assert world.job.error == world.job.steps[0].error
        assert world.job.error is not None
        assert (world.job.error.attempt, world.job.error.retryable) == (2, False)
        assert world.job.error.retry_after is None

    def test_without_options_there_is_one_attempt(self) -> None:
        """Not even those of a function that is unknown here are made up."""
        world = World(draft(["a"], options=None))
        world.fail(0)
        assert (world.state, world.job.steps[0].retry_count) == (State.FAILED, 1)

    def test_a_success_after_a_failure_clears_the_error(self) -> None:
        """Two attempts were made all the same."""
        world = World(draft(["a"]))
        world.fail(0)
        world.now += 5
        world.succeed(0)
        assert (world.state, world.job.steps[0].retry_count) == (State.DONE, 2)
        assert world.job.steps[0].error is None

    def test_an_exception_can_ask_for_its_own_pause(self) -> None:
        """It goes before the options."""
        world = World(draft(["a"]))
        world.fail(0, retry_after=77.0)
        assert world.queue[0].due == NOW + 77

    def test_an_exception_can_forbid_it(self) -> None:
        """There is no other attempt, whatever the options say."""
        world = World(draft(["a"]))
        world.fail(0, fatal=True)
        assert (world.state, world.job.steps[0].retry_count) == (State.FAILED, 1)

    @pytest.mark.parametrize(
        ("chosen", "state"),
        [
            (RetryOptions(retry_limit=2, retry_on=("ValueError",)), State.RETRYING),
            (RetryOptions(retry_limit=2, retry_on=("KeyError",)), State.FAILED),
            (RetryOptions(retry_limit=2, fail_on=("Exception",)), State.FAILED),
            (RetryOptions(retry_limit=2, retry_on=("ValueError",), fail_on=("Exception",)), State.FAILED),
        ],
    )
    def test_options_say_which_exceptions(self, chosen: RetryOptions, state: State) -> None:
        """By the names of the exception's class and its bases."""
        world = World(draft(["a"], options=chosen))
        world.fail(0)
        assert world.state is state


class TestLost:
    """Attempts whose worker died."""

    def test_a_lost_attempt_is_not_the_functions_failure(self) -> None:
        """It is counted apart, and the step is ready at once."""
        world = World(draft(["a"], options=None))
        world.lose(0)
        step = world.job.steps[0]
        assert (world.state, step.retry_count, step.lost_count) == (State.PENDING, 0, 1)
        assert world.queue[0].due == world.now

    def test_too_many_end_the_job(self) -> None:
        """One more than ``lost_limit``, which is 3 by default."""
        world = World(draft(["a", "b"], options=RetryOptions()))
        for _ in range(4):
            assert world.state is State.PENDING
            world.lose(0)
        step, error = world.job.steps[0], world.job.error
        assert (world.state, step.retry_count, step.lost_count, step.worker) == (State.FAILED, 0, 4, "worker")
        assert error is not None
        assert (error.name, error.attempt, error.retryable) == ("worker-lost", 4, False)

    def test_a_function_can_be_run_at_most_once(self) -> None:
        """With a ``lost_limit`` of 0 the first loss is the last."""
        world = World(draft(["a"], options=RetryOptions(lost_limit=0, retry_limit=9)))
        world.lose(0)
        assert world.state is State.FAILED

    def test_only_an_expired_lease_is_lost(self) -> None:
        """The store is asked to make sure: its clock decides."""
        world = World(draft(["a"]))
        (release,) = world.lose(0).release
        assert release.expired

    def test_failures_and_losses_do_not_add_up(self) -> None:
        """Each has its own limit; the number of the attempt counts both."""
        world = World(draft(["a"]))
        world.lose(0)
        world.fail(0)
        error = world.job.steps[0].error
        assert (world.state, error and error.attempt) == (State.RETRYING, 2)
