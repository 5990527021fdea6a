# Generated from tests/client/asynchronous/test_errors.py by tools/twin.py: do not edit.
"""Problems of the server come back as the errors that they were."""

from __future__ import annotations

import pytest

from raincheck import Client, InvalidInput, NotFound
from raincheck.errors import ConfigError, Fault, IdempotencyMismatch, NotJSON, Refused, TooLarge, Unreachable
from tests.client.places import Gateway, refusing, saying

NOWHERE = "01977f3c-0000-7000-8000-000000000000"


def test_bad_input_names_the_fields(url: str) -> None:
    """Each fault has its pointer; the problem document is there too."""
    with Client(url) as client:
        with pytest.raises(InvalidInput) as raised:
            client.submit("", ["add", client.step("no name!")])
        pointers = {fault.pointer for fault in raised.value.faults}
        assert pointers == {"/name", "/functions/1/name"}
        assert raised.value.problem.status == 422


def test_arguments_that_do_not_fit_are_bad_input(url: str) -> None:
    """As in the process that has the function."""
    with Client(url) as client:
        with pytest.raises(InvalidInput) as raised:
            client.call("greet", 1)
        assert raised.value.faults == (Fault("argument 'name': expected `str`, got `int`", "/0"),)


def test_what_is_not_there_is_not_found(url: str) -> None:
    """A job, a function, and what is no id at all."""
    with Client(url) as client:
        for job_id in (NOWHERE, "no/id?"):
            with pytest.raises(NotFound):
                client.status(job_id)
            with pytest.raises(NotFound):
                client.forget(job_id)
        with pytest.raises(NotFound):
            client.call("absent")


def test_a_key_that_was_used_otherwise_is_refused(url: str) -> None:
    """A key may hold quotes and blanks."""
    key = 'order "17" \\ of 20'
    with Client(url) as client:
        job = client.submit("keyed", ["add"], idempotency_key=key)
        assert (client.submit("keyed", ["add"], idempotency_key=key)).id == job.id
        with pytest.raises(IdempotencyMismatch):
            client.submit("another", ["add"], idempotency_key=key)
        with pytest.raises(InvalidInput, match="visible ASCII"):
            client.submit("keyed", ["add"], idempotency_key="no\nkey")


def test_what_is_too_large_says_so(url: str) -> None:
    """Nothing is stored."""
    with Client(url) as client, pytest.raises(TooLarge):
        client.call("echo", "x" * 2_000_000)


def test_what_is_not_json_never_leaves(front: Gateway) -> None:
    """It is told where it arises."""
    with Client(front.url) as client:
        with pytest.raises(NotJSON):
            client.submit("bad", ["add"], data={"what": {1j}})
        with pytest.raises(NotJSON):
            client.call("echo", float("nan"))
    assert front.seen == []


def test_other_problems_come_as_they_are(front: Gateway) -> None:
    """Their document says what they are."""
    with Client(front.url) as client:
        front.answers.append(refusing(418, "teapot"))
        with pytest.raises(Refused, match="this is teapot") as raised:
            client.workers()
        assert raised.value.problem.type == "teapot"


def test_what_is_no_raincheck_server_is_told_from_one(front: Gateway) -> None:
    """By an answer that is none of its."""
    with Client(front.url) as client:
        front.answers += [saying(404), saying(307, location="/"), saying(200)]
        front.answers.append(saying(500, content_type="application/problem+json"))
        for said in ("404 Not Found, which", "307 Temporary Redirect", "not understood", "500 Internal"):
            with pytest.raises(Unreachable, match=said):
                client.status(NOWHERE)


@pytest.mark.parametrize("url", ["example.com", "ftp://example.com", "http://", "http://[", "http://a:b"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match="no server's URL"):
        Client(url)


def test_a_url_holds_no_password() -> None:
    """It would be seen in every message."""
    with pytest.raises(ConfigError) as raised:
        Client("http://ada:lovelace@localhost:8000")
    assert "lovelace" not in str(raised.value)


def test_without_a_url_it_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the commands."""
    monkeypatch.delenv("RAINCHECK_URL", raising=False)
    assert Client().url == "http://127.0.0.1:8000"
    monkeypatch.setenv("RAINCHECK_URL", "http://localhost:1/")
    assert repr(Client()) == "<Client http://localhost:1>"
