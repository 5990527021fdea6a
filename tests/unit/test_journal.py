"""Which attempts the lifecycle enters into the journal of a job."""

from __future__ import annotations

import pytest

from raincheck.core import lifecycle
from raincheck.core.codec import decode_attempt
from raincheck.core.journal import has_journal, recorded_attempts
from raincheck.core.model import Attempt, Change, Entry, FailureType, Job, Lease, Problem, RetryOptions, Step
from raincheck.core.triggers import Cancel, Check, Failed, Lost, Retry, Stopped, Succeeded, Trigger

ID = "01977f3c-0000-7000-8000-000000000000"
AGAIN = RetryOptions(retry_limit=2, delay=0.0, lost_limit=1)


def attempt(step: int, token: int = 1) -> Attempt:
    """An attempt of a worker."""
    return Attempt(step, token, f"worker {token}", 100.0 + token)


def fails(
    step: int = 0,
    token: int = 1,
    options: RetryOptions = RetryOptions(),
    kind: str = FailureType.FUNCTION_FAILED,
) -> Failed:
    """An attempt that fails."""
    error = Problem(title="It failed", type=kind)
    return Failed(attempt(step, token), error, options=options, traceback="where")


def history(*triggers: Trigger, steps: int = 1, expires_at: float | None = None) -> list[Change]:
    """The changes of a job with one parallel stage, one for each trigger."""
    draft = Job(id=ID, name="job", steps=tuple(Step("f", 0) for _ in range(steps)), expires_at=expires_at)
    changes = [lifecycle.submit(draft, now=100.0)]
    for number, trigger in enumerate(triggers, 1):
        changes.append(lifecycle.advance(changes[-1].job, [trigger], now=200.0 + number))
    return changes


def told(entries: tuple[Entry, ...] | list[Entry]) -> list[tuple[int | None, int, str, str]]:
    """Of each entry the step, the number of the attempt, its outcome and its worker."""
    ended = [(entry.step, decode_attempt(entry.value)) for entry in entries]
    return [(step, each.number, str(each.outcome), each.worker) for step, each in ended]


@pytest.mark.parametrize(
    ("trigger", "outcome"),
    [
        (fails(), "failed"),
        (fails(options=AGAIN), "retried"),
        (fails(kind=FailureType.TIMEOUT), "timed-out"),
        (fails(kind=FailureType.TIMEOUT, options=AGAIN), "timed-out"),
        (Lost(attempt(0), AGAIN), "lost"),
        (Lost(attempt(0), RetryOptions(lost_limit=0)), "lost"),
        (Succeeded(attempt(0), b"12345", limit=4), "failed"),
        (Check((Lease(0, 1, "worker 1", 101.0, 300.0),)), "given-up"),
    ],
)
def test_an_attempt_that_does_not_succeed_is_entered(trigger: Trigger, outcome: str) -> None:
    """With how it ended."""
    _, change = history(trigger, expires_at=150.0 if isinstance(trigger, Check) else None)
    assert told(change.journal) == [(0, 1, outcome, "worker 1")]
    assert has_journal(change.job)


def test_an_entry_has_what_is_known_of_the_attempt() -> None:
    """Its times, its error as in the record, and the traceback."""
    _, change = history(fails(options=AGAIN))
    ended = decode_attempt(change.journal[0].value)
    assert (ended.run, ended.started_at, ended.finished_at, ended.traceback) == (1, 101.0, 201.0, "where")
    assert ended.error == change.job.steps[0].error


def test_a_lost_attempt_says_whether_the_step_runs_again() -> None:
    """In its error, which the record has only of the last one."""
    _, first, last = history(Lost(attempt(0), AGAIN), Lost(attempt(0, 2), AGAIN))
    errors = [decode_attempt(change.journal[0].value).error for change in (first, last)]
    assert [error.retryable for error in errors if error is not None] == [True, False]
    assert first.job.steps[0].error is None


def test_a_job_that_succeeds_has_no_journal() -> None:
    """Not even in parts."""
    changes = history(Succeeded(attempt(0), b"1"), Succeeded(attempt(1, 2), b"2"), steps=2)
    assert [change.journal for change in changes] == [()] * 3
    assert told(recorded_attempts(changes[-1].job.steps, 1)) == [
        (0, 1, "done", "worker 1"),
        (1, 1, "done", "worker 2"),
    ]


def test_successes_before_the_first_failure_come_first() -> None:
    """In the order of their ends, with the numbers that they had without a journal."""
    changes = history(
        Succeeded(attempt(2, 3), b"1"), Succeeded(attempt(0), b"1"), fails(1, 2, AGAIN), steps=4
    )
    before = recorded_attempts(changes[2].job.steps, 1)
    assert [entry.number for entry in before] == [1, 2]
    assert told(changes[3].journal) == [*told(before), (1, 1, "retried", "worker 2")]


def test_outcomes_that_come_together_are_entered_in_their_order() -> None:
    """Successes before and after a failure in the same change."""
    (first,) = history(steps=3)
    triggers: list[Trigger] = [
        Succeeded(attempt(0), b"1"),
        fails(1, 2, AGAIN),
        Succeeded(attempt(2, 3), b"1"),
    ]
    change = lifecycle.advance(first.job, triggers, now=200.0)
    assert [each[:3] for each in told(change.journal)] == [(0, 1, "done"), (1, 1, "retried"), (2, 1, "done")]


def test_a_cancelled_job_has_its_successes_in_the_journal() -> None:
    """As have all jobs that end without a result: a retry of them goes on with the journal."""
    _, _, cancelled = history(Succeeded(attempt(0), b"1"), Cancel(), steps=2)
    assert told(cancelled.journal) == [(0, 1, "done", "worker 1")]
    again = lifecycle.advance(cancelled.job, [Retry()], now=300.0)
    assert again.journal == ()
    change = lifecycle.advance(again.job, [Succeeded(attempt(1, 9), b"1")], now=400.0)
    assert told(change.journal) == [(1, 1, "done", "worker 9")]
    assert decode_attempt(change.journal[0].value).run == 2


def test_an_attempt_that_is_stopped_is_entered_without_an_error() -> None:
    """Whatever the function raised when it was stopped."""
    lease = Lease(0, 1, "worker 1", 101.0, 300.0)
    for stop in (Stopped(attempt(0)), fails(), Succeeded(attempt(0), b"1")):
        change = history(Cancel((lease,)), stop)[-1]
        assert told(change.journal) == [(0, 1, "cancelled", "worker 1")]
        assert decode_attempt(change.journal[0].value).error is None


def test_a_wide_stage_that_fails_late_enters_each_success_once() -> None:
    """A thousand of them, in one change."""
    (first,) = history(steps=1000)
    successes = [Succeeded(attempt(i, i + 1), b"1") for i in range(999)]
    done = lifecycle.advance(first.job, successes, now=200.0)
    change = lifecycle.advance(done.job, [fails(999, 1000)], now=201.0)
    assert len(change.journal) == 1000
    assert {entry.step for entry in change.journal} == set(range(1000))
