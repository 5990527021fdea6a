"""When to send a request again (docs/decisions/0012): what may be repeated, and how long to pause."""

from __future__ import annotations

from typing import NamedTuple

from raincheck.client.answers import Reply
from raincheck.client.requests import Request
from raincheck.clock import chance
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
    """How many seconds may be lost on one request, by tries that fail and the pauses after them."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._tries = 0

    def pause(self, request: Request, outcome: Reply | Lost, took: float = 0.0) -> float | None:
        """Seconds until the next try, when one has failed that took as long; None if there shall be none.

        What the server was asked to wait is not lost. Chance spreads pauses over all of their
        length, lest many clients come back at once.
        """
        if not _may_repeat(request, outcome):
            return None
        longest = min(FIRST_PAUSE * 2**self._tries, LONGEST_PAUSE)
        self._tries = min(self._tries + 1, 16)
        pause = chance() * longest
        if isinstance(outcome, Reply):
            pause += outcome.retry_after or 0.0
        arrived = isinstance(outcome, Reply) or outcome.sent
        self._left -= pause + max(took - (request.seconds if arrived else 0.0), 0.0)
        return pause if self._left > 0 else None


def _may_repeat(request: Request, outcome: Reply | Lost) -> bool:
    if isinstance(outcome, Lost):
        return request.repeatable or not outcome.sent
    return outcome.status == OVERLOADED or (request.repeatable and outcome.status in UNAVAILABLE)
