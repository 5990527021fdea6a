"""Large results: what the lifecycle keeps in the record, and what beside it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raincheck.core.lifecycle import previous_results
from raincheck.core.model import Gather, State
from raincheck.core.stages import INLINE_RESULT
from raincheck.core.triggers import Succeeded
from tests.unit.world import World, draft

LARGE = b'"' + b"x" * INLINE_RESULT + b'"'


def test_a_large_result_goes_beside_the_record() -> None:
    """The record says how large it is; the next change has it no more."""
    world = World(draft(["a", "b"]))
    change = world.succeed(0, LARGE)
    assert change.results == ((0, LARGE),)
    assert (change.job.steps[0].result, change.job.steps[0].result_size) == (None, len(LARGE))
    change = world.succeed(1, b"1")
    assert (change.results, change.job.steps[1].result, change.job.steps[1].result_size) == ((), b"1", None)


def test_a_gathered_result_goes_beside_the_record() -> None:
    """As any other."""
    world = World(draft(["a"], gather=Gather(2)))
    world.open()
    assert world.gather(LARGE).results == ((0, LARGE),)
    assert (world.job.steps[0].result, world.job.steps[0].result_size) == (None, len(LARGE))


def test_what_was_not_put_back_is_not_passed_on() -> None:
    """It would be taken for null."""
    world = World(draft(["a", "b"]))
    world.succeed(0, LARGE)
    with pytest.raises(ValueError, match="not loaded"):
        previous_results(world.job, 1)
    steps = (replace(world.job.steps[0], result=LARGE), world.job.steps[1])
    assert previous_results(replace(world.job, steps=steps), 1) == LARGE


def test_the_results_of_a_job_are_limited_in_all() -> None:
    """Those in the record and beside it count; what is over the limit is not kept, and fails the job."""
    world = World(draft(["a", "b", "c"]))
    world.succeed(0, LARGE)
    world.succeed(1, b"12")
    most = len(LARGE) + 4
    change = world.act(Succeeded(world._held(2), b"123", b'{"a":1}', most))
    assert (change.job.state, change.job.data, change.results) == (State.FAILED, b"{}", ())
    assert [step.state for step in change.job.steps] == [State.DONE, State.DONE, State.FAILED]
    assert change.job.error is not None
    assert (change.job.error.name, change.job.error.retryable) == ("results-too-large", False)
    assert f"{most + 1} bytes, the limit is {most}" in change.job.error.detail


def test_the_limit_itself_is_allowed() -> None:
    """A job may have that many bytes."""
    world = World(draft(["a"]))
    assert world.act(Succeeded(world._held(0), b"1234", None, 4)).job.state is State.DONE


def test_a_cancelled_job_keeps_no_result() -> None:
    """Of a step that was being done when it was cancelled."""
    world = World(draft([["a", "b"]]))
    world.claim(0)
    world.claim(1)
    world.cancel()
    change = world.succeed(0, LARGE)
    assert (change.results, change.job.steps[0].result_size) == ((), None)


def test_results_of_one_change_count_together() -> None:
    """Each of several triggers that are folded finds what those before it have added."""
    world = World(draft([["a", "b", "c"]]))
    attempts = [world._held(i) for i in range(3)]
    most = 2 * len(LARGE) + 2
    change = world.act_all([Succeeded(attempt, LARGE, None, most) for attempt in attempts])
    assert change.results == ((0, LARGE), (1, LARGE))
    assert [step.state for step in change.job.steps] == [State.DONE, State.DONE, State.FAILED]
    assert change.job.error is not None
    assert change.job.error.name == "results-too-large"
