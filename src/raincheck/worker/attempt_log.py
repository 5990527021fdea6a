"""One log line for each start and each end of an attempt, on the logger ``raincheck.attempt``.

DEBUG has each start and each success. INFO has at most `PER_SECOND` successes a second, and the number of
the others; it has each retry, failure and cancelled attempt. If a level is off, an attempt costs a comparison
(docs/decisions/0022).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict

from raincheck.core.model import PROBLEM_TYPES, FailureType, Job, State, Step
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

    def started(self, attempts: Sequence[RunningAttempt]) -> None:
        """Log attempts that are handed to the executor."""
        if logger.isEnabledFor(logging.DEBUG):
            for attempt in attempts:
                number = attempt.current.attempt
                logger.debug("%s: attempt %d started", attempt, number, extra=_fields(attempt, "started"))

    def ended(self, written: Sequence[tuple[Job, list[Outcome]]]) -> None:
        """Log attempts whose outcome is written, each with its job after that."""
        is_done_logged = logger.isEnabledFor(logging.INFO)
        for job, outcomes in written:
            for outcome in outcomes:
                step = job.steps[outcome.attempt.claim.lease.step]
                if step.state is not State.DONE:
                    _log_other(outcome, step)
                elif is_done_logged:
                    self._log_done(outcome.attempt, step)

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


def _log_other(outcome: Outcome, step: Step) -> None:
    """Log an attempt that did not end with a result."""
    attempt, trigger = outcome.attempt, outcome.trigger
    error = step.error
    if step.state is State.CANCELLED or error is None:
        fields = _fields(attempt, "cancelled", step)
        logger.info("%s: cancelled after %.3f s", attempt, fields["duration"], extra=fields)
        return
    end = "timed out" if error.type == f"{PROBLEM_TYPES}{FailureType.TIMEOUT}" else "failed"
    fields = _fields(attempt, end.replace(" ", "-"), step)
    options = step.retry or (trigger.options if isinstance(trigger, Failed) else attempt.function.retry)
    limit = options.retry_limit + step.lost_count
    shown = attempt, fields["attempt"], limit, end, fields["duration"]
    if step.state is State.FAILED:
        logger.info("%s: attempt %d of %d %s after %.3f s, and with it the job", *shown, extra=fields)
    else:
        pause = error.retry_after or 0.0
        fields |= {"event": "retrying", "pause": pause}
        logger.info(
            "%s: attempt %d of %d %s after %.3f s, the next starts in %.3f s", *shown, pause, extra=fields
        )


def _fields(attempt: RunningAttempt, event: str, step: Step | None = None) -> dict[str, Any]:
    """The fields of a line; ``duration`` as the job shows it, in seconds."""
    fields = asdict(attempt.current) | {"event": event}
    if step is not None:
        started_at = attempt.claim.lease.since
        finished_at = started_at if step.finished_at is None else step.finished_at
        fields["duration"] = round(max(0.0, finished_at - started_at), 6)
    return fields
