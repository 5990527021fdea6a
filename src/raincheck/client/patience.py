"""When to send a request again (docs/decisions/0012): what may be repeated, and how long to pause."""

from __future__ import annotations

from typing import NamedTuple

from raincheck.client.answers import Reply
from raincheck.client.requests import Request
from raincheck.clock import chance, monotonic
from raincheck.errors import Unreachable

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0

OVERLOADED = 429
"""Not taken: any request may be sent again."""

UNAVAILABLE = (502, 503, 504)
"""Perhaps taken: only what may be repeated is sent again."""


class Lost(NamedTuple):
    """A request without an answer; if it was ``sent``, nobody knows what became of it."""

    error: Unreachable
    sent: bool


class Patience:
    """How long a request is tried, in seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._until = monotonic() + seconds
        self._tries = 0

    def pause(self, request: Request, outcome: Reply | Lost) -> float | None:
        """Seconds until the next try; None if there shall be none.

        Chance spreads the pauses over all of their length, lest many clients come back at once.
        """
        if not _may_repeat(request, outcome):
            return None
        longest = min(FIRST_PAUSE * 2**self._tries, LONGEST_PAUSE)
        self._tries = min(self._tries + 1, 16)
        pause = chance() * longest
        if isinstance(outcome, Reply):
            pause += outcome.retry_after or 0.0
        return pause if monotonic() + pause < self._until else None


def _may_repeat(request: Request, outcome: Reply | Lost) -> bool:
    if isinstance(outcome, Lost):
        return request.repeatable or not outcome.sent
    return outcome.status == OVERLOADED or (request.repeatable and outcome.status in UNAVAILABLE)
