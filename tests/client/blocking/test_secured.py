# Generated from tests/client/asynchronous/test_secured.py by tools/twin.py: do not edit.
"""A client of a server that wants callers to sign in."""

from __future__ import annotations

import pytest

from raincheck import Client, NotAllowed, NotSignedIn, TooManyAttempts
from tests.client.conftest import PASSWORD


def test_who_signs_in_may_call(secured: str) -> None:
    """Also when the first token has long ended."""
    with Client(secured, username="ada", password=PASSWORD) as client:
        assert client.call("nap", 1.2) == "slept"
        assert client.call("add", 1, 2) == 3
        assert [job.state for job in client.jobs(name="add")] == ["done"]


def test_who_does_not_may_not(secured: str) -> None:
    """Without a token, and with one that is none."""
    for token in (None, "garbage"):
        with Client(secured, token=token) as client, pytest.raises(NotSignedIn):
            client.workers()


def test_who_may_only_read_may_not_write(secured: str) -> None:
    """The error names the scope that is lacking."""
    with Client(secured, username="ben", password=PASSWORD) as client:
        assert len(client.workers()) == 1
        with pytest.raises(NotAllowed) as raised:
            client.submit("sum", ["add"])
        assert raised.value.scope == "job:write"


def test_who_guesses_has_to_wait(secured: str) -> None:
    """The error says how long."""
    with Client(secured, username="eve", password="wrong", patience=0) as client:
        for _ in range(5):
            with pytest.raises(NotSignedIn):
                client.workers()
        with pytest.raises(TooManyAttempts) as raised:
            client.workers()
        assert raised.value.retry_after > 1
