# Generated from tests/client/asynchronous/test_secured.py by tools/twin.py: do not edit.
"""A client of a server with sign-in."""

from __future__ import annotations

import pytest

from raincheck import Client, NotAllowed, NotSignedIn, TooManyAttempts
from tests.client.conftest import PASSWORD


def test_a_signed_in_client_can_call(secured: str) -> None:
    """Also after the first token has expired."""
    with Client(secured, username="ada", password=PASSWORD) as client:
        assert client.call("nap", 1.2) == "slept"
        assert client.call("add", 1, 2) == 3
        assert [job.state for job in client.jobs(name="add")] == ["done"]


def test_a_client_without_a_valid_token_cannot_call(secured: str) -> None:
    """Neither without a token nor with an invalid one."""
    for token in (None, "garbage"):
        with Client(secured, token=token) as client, pytest.raises(NotSignedIn):
            client.workers()


def test_a_read_only_user_cannot_submit(secured: str) -> None:
    """The exception names the missing scope."""
    with Client(secured, username="ben", password=PASSWORD) as client:
        assert len(client.workers()) == 1
        with pytest.raises(NotAllowed) as raised:
            client.submit("sum", ["add"])
        assert raised.value.scope == "job:write"


def test_wrong_passwords_are_throttled(secured: str) -> None:
    """The exception says how long to wait."""
    with Client(secured, username="eve", password="wrong", patience=0) as client:
        for _ in range(5):
            with pytest.raises(NotSignedIn):
                client.workers()
        with pytest.raises(TooManyAttempts) as raised:
            client.workers()
        assert raised.value.retry_after > 1


def test_a_traceback_needs_a_scope_of_its_own(secured: str) -> None:
    """A caller who may read jobs sees the errors of their attempts."""
    with Client(secured, username="ada", password=PASSWORD) as client:
        job = client.submit("failing", [client.step("fail", "no")], wait=10)
        (attempt,) = client.attempts(job.id)
        assert attempt.error is not None
        assert (attempt.error.detail, attempt.traceback) == ("no", None)
