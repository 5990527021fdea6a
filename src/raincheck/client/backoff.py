"""Decides whether a failed request is sent again, and after which delay (docs/decisions/0012)."""

from __future__ import annotations

from typing import NamedTuple

from raincheck.client.requests import Request
from raincheck.client.responses import Reply
from raincheck.core.clock import chance
from raincheck.core.errors import Unreachable

FIRST_DELAY = 0.2
"""Upper bound of the first delay in seconds; it doubles with each further one."""

LONGEST_DELAY = 10.0
"""Upper bound of every delay, in seconds."""

OVERLOADED = 429
"""The server did not process the request: every request can be sent again."""

UNAVAILABLE = (502, 503, 504)
"""The server may have processed the request: only repeatable requests are sent again."""


class NoResponse(NamedTuple):
    """A request without a response. If it was ``sent``, the server may have processed it."""

    error: Unreachable
    sent: bool


class Backoff:
    """The delays between the attempts to send one request, limited to ``seconds`` in all."""

    def __init__(self, seconds: float) -> None:
        self._seconds_left = seconds
        self._attempts = 0

    def next_delay(self, request: Request, outcome: Reply | NoResponse, took: float = 0.0) -> float | None:
        """The delay in seconds before the next attempt; None to give up.

        ``took`` is how many seconds the failed attempt took. The wait that the request
        asks the server for does not count towards the limit. Delays are random, to spread the load of
        many clients.
        """
        if not _can_repeat(request, outcome):
            return None
        longest = min(FIRST_DELAY * 2**self._attempts, LONGEST_DELAY)
        self._attempts = min(self._attempts + 1, 16)
        delay = chance() * longest
        if isinstance(outcome, Reply):
            delay += outcome.retry_after or 0.0
        was_sent = isinstance(outcome, Reply) or outcome.sent
        self._seconds_left -= delay + max(took - (request.seconds if was_sent else 0.0), 0.0)
        return delay if self._seconds_left > 0 else None


def _can_repeat(request: Request, outcome: Reply | NoResponse) -> bool:
    if isinstance(outcome, NoResponse):
        return request.repeatable or not outcome.sent
    return outcome.status == OVERLOADED or (request.repeatable and outcome.status in UNAVAILABLE)
