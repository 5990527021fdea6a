"""When a failed request is sent again, and after which delay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from raincheck.client.backoff import LONGEST_DELAY, Backoff, NoResponse
from raincheck.client.requests import Request
from raincheck.client.responses import Reply
from raincheck.core.errors import Unreachable

MUST_RUN_ONCE = Request(method="POST", path="/", repeatable=False)
REPEATABLE = Request(path="/")
SENT, NOT_SENT = NoResponse(Unreachable("lost"), True), NoResponse(Unreachable("refused"), False)


def reply(status: int, **headers: str) -> Reply:
    """A response with these headers."""
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


@pytest.mark.parametrize("outcome", [SENT, NOT_SENT, reply(429), reply(502), reply(503), reply(504)])
def test_a_repeatable_request_is_sent_again(outcome: Reply | NoResponse) -> None:
    """Whether it was lost or refused."""
    assert Backoff(30).next_delay(REPEATABLE, outcome) is not None


@pytest.mark.parametrize(
    ("outcome", "again"), [(NOT_SENT, True), (reply(429), True), (SENT, False), (reply(503), False)]
)
def test_a_request_that_must_run_once_is_sent_again_only_if_it_did_not_run(
    outcome: Reply | NoResponse, again: bool
) -> None:
    """Otherwise it could run twice."""
    assert (Backoff(30).next_delay(MUST_RUN_ONCE, outcome) is not None) is again


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 422, 500, 507])
def test_a_permanent_error_is_not_sent_again(status: int) -> None:
    """The response would be the same."""
    assert Backoff(30).next_delay(REPEATABLE, reply(status)) is None


def test_delays_grow_to_a_limit() -> None:
    """Each delay is random, between 0 and an upper bound that doubles."""
    backoff = Backoff(1e9)
    delays = [backoff.next_delay(REPEATABLE, SENT) or 0.0 for _ in range(2000)]
    assert delays[0] <= 0.2
    assert delays[1] <= 0.4
    assert max(delays) <= LONGEST_DELAY
    assert max(delays) > LONGEST_DELAY / 2
    assert min(delays[20:]) < LONGEST_DELAY / 10


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_the_shortest_delay(as_date: bool) -> None:
    """As a number of seconds, or as a date."""
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=6), usegmt=True) if as_date else "5"
    delay = Backoff(30).next_delay(REPEATABLE, reply(503, retry_after=value))
    assert delay is not None
    assert delay > 4
    assert Backoff(3).next_delay(REPEATABLE, reply(503, retry_after=value)) is None


def test_the_wait_of_the_server_does_not_count_towards_the_limit() -> None:
    """Unless the request did not reach the server."""
    waiting = Request(path="/", wait=20)
    assert Backoff(5).next_delay(waiting, SENT, 24) is not None
    assert Backoff(5).next_delay(waiting, SENT, 26) is None
    assert Backoff(5).next_delay(waiting, NOT_SENT, 6) is None


def test_the_next_attempt_waits_for_the_remaining_time() -> None:
    """A call with a timeout does not wait twice as long."""
    assert Request(path="/", wait=20).after(15).wait == 5
    assert Request(path="/", wait=20).after(25).wait == 0
    assert Request(path="/", wait=None).after(25).wait is None


@pytest.mark.parametrize("value", ["", "soon", "-1", "Wed, 99 Nov 2026 00:00:00 GMT"])
def test_an_invalid_retry_after_is_ignored(value: str) -> None:
    """The delay is as without the header."""
    assert (Backoff(30).next_delay(REPEATABLE, reply(503, retry_after=value)) or 0.0) <= 0.2
