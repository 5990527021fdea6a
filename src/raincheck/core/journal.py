"""The journal of a job: the entries that it gets, and what stands for them while it has none.

Today the journal has one kind of entry: attempts. It starts with the first attempt that does not succeed, or
when the job ends without a result: then the attempts that succeeded before are entered first. From then on,
every attempt is entered. A job whose attempts all succeed has no journal: its record says all.
"""

from __future__ import annotations

from collections.abc import Sequence

from raincheck.core.codec import encode_attempt
from raincheck.core.model import AttemptOutcome, EndedAttempt, Entry, Job, State, Step

ATTEMPT = "attempt"
"""The kind of the entries of attempts."""

KEPT_ATTEMPTS = 20
"""Attempts of a step that are kept: the latest ones, and beside them the first."""


def attempt_entry(step: int, attempt: EndedAttempt) -> Entry:
    """The entry of an attempt at a step."""
    return Entry(ATTEMPT, step, encode_attempt(attempt), KEPT_ATTEMPTS)


def has_journal(job: Job) -> bool:
    """Whether the journal of a job has started, by its record."""
    if job.rev == 1:  # quick, for the many jobs that succeed at once
        return False
    if job.run > 1 or job.state is State.FAILED or job.state is State.CANCELLED:
        return True
    for step in job.steps:  # a loop: this runs for each success
        if step.lost_count or step.retry_count > 1 or (step.retry_count and step.state is not State.DONE):
            return True
    return False


_OUTCOMES = {
    State.DONE: AttemptOutcome.DONE,
    State.FAILED: AttemptOutcome.FAILED,
    State.CANCELLED: AttemptOutcome.CANCELLED,
}


def recorded_attempts(steps: Sequence[Step], run: int) -> list[Entry]:
    """The entries that stand for a journal that has not started: the latest attempt at each step, by its end.

    Numbered as the journal would number them. Of a job without a journal these are all its attempts. Of a job
    of an older version, which kept no journal, earlier attempts are missing.
    """
    found = [
        (step.finished_at, i, step)
        for i, step in enumerate(steps)
        if step.finished_at is not None and step.worker is not None
    ]
    return [
        Entry(ATTEMPT, i, encode_attempt(_latest_attempt(step, run)), KEPT_ATTEMPTS, number)
        for number, (_, i, step) in enumerate(sorted(found, key=lambda each: each[:2]), 1)
    ]


def _latest_attempt(step: Step, run: int) -> EndedAttempt:
    return EndedAttempt(
        run=run,
        number=step.retry_count + step.lost_count,
        worker=step.worker or "",
        started_at=step.started_at or 0.0,
        finished_at=step.finished_at or 0.0,
        outcome=_OUTCOMES.get(step.state, AttemptOutcome.RETRIED),
        error=step.error,
    )
