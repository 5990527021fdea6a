"""When a request is sent again, and when it is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from raincheck.client.answers import Reply
from raincheck.client.patience import LONGEST_PAUSE, Lost, Patience
from raincheck.client.requests import Request
from raincheck.errors import Unreachable

ONCE = Request(method="POST", path="/", repeatable=False)
OFTEN = Request(path="/")
SENT, NOT_SENT = Lost(Unreachable("lost"), True), Lost(Unreachable("refused"), False)


def reply(status: int, **headers: str) -> Reply:
    """An answer."""
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


@pytest.mark.parametrize("outcome", [SENT, NOT_SENT, reply(429), reply(502), reply(503), reply(504)])
def test_what_may_be_repeated_is(outcome: Reply | Lost) -> None:
    """Whatever befell it."""
    assert Patience(30).pause(OFTEN, outcome) is not None


@pytest.mark.parametrize(
    ("outcome", "again"), [(NOT_SENT, True), (reply(429), True), (SENT, False), (reply(503), False)]
)
def test_what_may_not_be_repeated_is_only_if_it_was_not_taken(outcome: Reply | Lost, again: bool) -> None:
    """Else it might be done twice."""
    assert (Patience(30).pause(ONCE, outcome) is not None) is again


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 422, 500, 507])
def test_what_would_be_answered_alike_is_not_repeated(status: int) -> None:
    """To ask again changes nothing."""
    assert Patience(30).pause(OFTEN, reply(status)) is None


def test_pauses_grow_to_a_limit() -> None:
    """Each is somewhere between nothing and its longest."""
    patience = Patience(1e9)
    pauses = [patience.pause(OFTEN, SENT) or 0.0 for _ in range(2000)]
    assert pauses[0] <= 0.2
    assert pauses[1] <= 0.4
    assert max(pauses) <= LONGEST_PAUSE
    assert max(pauses) > LONGEST_PAUSE / 2
    assert min(pauses[20:]) < LONGEST_PAUSE / 10


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_the_shortest_pause(as_date: bool) -> None:
    """In seconds, or as a date."""
    said = format_datetime(datetime.now(UTC) + timedelta(seconds=6), usegmt=True) if as_date else "5"
    pause = Patience(30).pause(OFTEN, reply(503, retry_after=said))
    assert pause is not None
    assert pause > 4
    assert Patience(3).pause(OFTEN, reply(503, retry_after=said)) is None


def test_what_a_server_was_asked_to_wait_costs_no_patience() -> None:
    """A try that never reached it does."""
    waiting = Request(path="/", wait=20)
    assert Patience(5).pause(waiting, SENT, 24) is not None
    assert Patience(5).pause(waiting, SENT, 26) is None
    assert Patience(5).pause(waiting, NOT_SENT, 6) is None


def test_a_next_try_waits_for_what_is_left() -> None:
    """So a call with a timeout does not wait for twice as long."""
    assert Request(path="/", wait=20).after(15).wait == 5
    assert Request(path="/", wait=20).after(25).wait == 0
    assert Request(path="/", wait=None).after(25).wait is None


@pytest.mark.parametrize("said", ["", "soon", "-1", "Wed, 99 Nov 2026 00:00:00 GMT"])
def test_a_retry_after_that_says_nothing_is_ignored(said: str) -> None:
    """The pause is as ever."""
    assert (Patience(30).pause(OFTEN, reply(503, retry_after=said)) or 0.0) <= 0.2
