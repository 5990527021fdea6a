"""One log line for each start and each end of an attempt, on the logger ``raincheck.attempt``.

DEBUG has each start and each success. INFO has at most `PER_SECOND` successes a second, and the number of
the others; it has each cancelled attempt, and each that asked to be retried. WARNING has each failure, with
its traceback. If a level is off, an attempt costs a comparison (docs/decisions/0022).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict

from raincheck.core.model import FailureType, Job, Problem, State, Step
from raincheck.core.retry import RETRY_LATER
from raincheck.core.triggers import Failed
from raincheck.worker.attempt import RunningAttempt
from raincheck.worker.outcome import Outcome

logger = logging.getLogger("raincheck.attempt")

PER_SECOND = 20
"""How many successes are logged per second at INFO, each on a line of its own."""


class AttemptLog:
    """Logs the attempts of one worker."""

    def __init__(self) -> None:
        self._lines = 0
        self._more: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self.attempts: Counter[State] = Counter()
        """How many attempts have ended, by the state in which they left their step."""

    def ended(self, written: Sequence[tuple[Job, list[Outcome]]]) -> None:
        """Count and log attempts whose outcome is written, each with its job after that."""
        for job, outcomes in written:
            for outcome in outcomes:
                self.attempts[job.steps[outcome.attempt.claim.lease.step].state] += 1
        if not logger.isEnabledFor(logging.WARNING):
            return
        is_done_logged = logger.isEnabledFor(logging.INFO)
        for job, outcomes in written:
            for outcome in outcomes:
                step = job.steps[outcome.attempt.claim.lease.step]
                if step.state is not State.DONE:
                    _log_other(outcome, step)
                elif is_done_logged:
                    self._log_done(outcome.attempt, step)

    def discarded(self, outcome: Outcome, why: str) -> None:
        """Log an attempt whose outcome is not written, and what it would have been if it failed."""
        attempt, trigger = outcome.attempt, outcome.trigger
        cause = f" (it {_cause(attempt, trigger.error)})" if isinstance(trigger, Failed) else ""
        fields = _fields(attempt, "discarded")
        logger.warning("%s: %s, its result is discarded%s", attempt, why, cause, extra=fields)

    def close(self) -> None:
        """Log what is left of the last second."""
        if self._timer is not None:
            self._timer.cancel()
            self._end_second()

    def _log_done(self, attempt: RunningAttempt, step: Step) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1.0, self._end_second)
        if self._lines >= PER_SECOND and not logger.isEnabledFor(logging.DEBUG):
            self._more[step.function] += 1
            return
        self._lines += 1
        fields = _fields(attempt, "done", step)
        again = "" if fields["attempt"] == 1 else f" by attempt {fields['attempt']}"
        logger.info("%s: done%s in %.3f s", attempt, again, fields["duration"], extra=fields)

    def _end_second(self) -> None:
        """Log how many more successes there were in the second that ends."""
        if self._more:
            total = self._more.total()
            by_function = dict(self._more.most_common())
            shown = ", ".join(f"{name} {count}" for name, count in list(by_function.items())[:10])
            extra = {"event": "more-done", "count": total, "functions": by_function}
            logger.info("%d more attempts done in one second: %s", total, shown, extra=extra)
        self._lines = 0
        self._more.clear()
        self._timer = None


def log_started(attempts: Sequence[RunningAttempt]) -> None:
    """Log attempts that are handed to the executor."""
    if logger.isEnabledFor(logging.DEBUG):
        for attempt in attempts:
            number = attempt.current.attempt
            logger.debug("%s: attempt %d started", attempt, number, extra=_fields(attempt, "started"))


def _log_other(outcome: Outcome, step: Step) -> None:
    """Log an attempt that did not end with a result."""
    attempt, error = outcome.attempt, step.error
    if step.state is State.CANCELLED or error is None:
        fields = _fields(attempt, "cancelled", step)
        logger.info("%s: cancelled after %.3f s", attempt, fields["duration"], extra=fields)
    else:
        _log_failure(outcome, step, error)


def _log_failure(outcome: Outcome, step: Step, error: Problem) -> None:
    """Log why an attempt failed, and what follows."""
    attempt, trigger = outcome.attempt, outcome.trigger
    is_retried = step.state is not State.FAILED
    timed_out = error.name == FailureType.TIMEOUT
    fields = _fields(attempt, "retrying" if is_retried else "timed-out" if timed_out else "failed", step)
    fields["error"] = error.exception or error.name
    message = f"{attempt} {_cause(attempt, error)}"
    if (limit := (step.retry or attempt.function.retry).retry_limit) > 1:
        message += f" (attempt {fields['attempt']} of {limit + step.lost_count}"
        message += f", the next in {error.retry_after or 0:.3f} s)" if is_retried else ", the last one)"
    if is_retried:
        fields["pause"] = round(error.retry_after or 0.0, 6)
    asked_for = isinstance(trigger, Failed) and RETRY_LATER in trigger.names
    if isinstance(trigger, Failed) and trigger.traceback and not asked_for:
        message += f"\n{trigger.traceback}"
        fields["exception"] = trigger.traceback
    logger.log(logging.INFO if asked_for and is_retried else logging.WARNING, "%s", message, extra=fields)


def _cause(attempt: RunningAttempt, error: Problem) -> str:
    if error.name == FailureType.TIMEOUT:
        advice = (
            " and blocked the event loop, so that it could not be stopped: run it with def, or process=True"
            if attempt.reason is None and attempt.function.mode == "async"
            else ""
        )
        return f"took longer than its timeout of {attempt.timeout:g} s{advice}"
    if error.exception is not None:
        return f"raised {error.exception}: {error.detail}"
    return f"failed: {error.title}, {error.detail}"


def _fields(attempt: RunningAttempt, event: str, step: Step | None = None) -> dict[str, Any]:
    """The fields of a line; ``duration`` as the job shows it, in seconds."""
    fields = asdict(attempt.current) | {"event": event}
    if step is not None:
        started_at = attempt.claim.lease.since
        finished_at = started_at if step.finished_at is None else step.finished_at
        fields["duration"] = round(max(0.0, finished_at - started_at), 6)
    return fields
