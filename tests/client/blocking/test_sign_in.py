# Generated from tests/client/asynchronous/test_sign_in.py by tools/twin.py: do not edit.
"""Tokens: given, requested, renewed."""

from __future__ import annotations

import logging

import pytest

from raincheck import Client
from raincheck.core.errors import ConfigError, NotSignedIn
from tests.client.blocking.compat import together
from tests.client.servers import Gateway, gateway

PASSWORD = 'love"lace'


def sign_ins(gate: Gateway) -> int:
    """How many tokens were requested."""
    return len(gate.headers_of("/v1/token"))


def test_a_token_is_sent(guarded: Gateway) -> None:
    """With every request. An invalid token is an error."""
    guarded.tokens.add("valid")
    with Client(guarded.url, token="valid") as client:
        assert client.call("add", 1) == 1
        guarded.revoke()
        with pytest.raises(NotSignedIn, match="not-signed-in"):
            client.call("add", 1)


def test_a_function_can_supply_the_token(guarded: Gateway) -> None:
    """It is called again only when the token is refused."""
    tokens: list[str] = []

    def token() -> str:
        tokens.append(f"valid-{len(tokens)}")
        guarded.tokens.add(tokens[-1])
        return tokens[-1]

    with Client(guarded.url, token=token) as client:
        client.workers()
        client.workers()
        guarded.revoke()
        client.workers()
    assert tokens == ["valid-0", "valid-1"]


def test_a_username_and_a_password_get_a_token(guarded: Gateway) -> None:
    """Once for all requests."""
    with Client(guarded.url, username="ada", password=PASSWORD) as client:
        assert client.call("add", 1) == 1
        client.workers()
    assert sign_ins(guarded) == 1


def test_concurrent_requests_sign_in_once(guarded: Gateway) -> None:
    """At the start, and when all of them are refused."""
    with Client(guarded.url, username="ada", password=PASSWORD) as client:
        together(*[client.workers] * 8)
        assert sign_ins(guarded) == 1
        guarded.revoke()
        together(*[client.workers] * 8)
        assert sign_ins(guarded) == 2


def test_a_token_is_renewed_before_it_expires(url: str) -> None:
    """The server never receives an expired one."""
    with gateway(url, {"ada": PASSWORD}, expires_in=0.0) as gate:
        with Client(gate.url, username="ada", password=PASSWORD) as client:
            client.workers()
            client.workers()
        assert sign_ins(gate) == 2
        assert [head["authorization"] for head in gate.headers_of("/v1/worker")] == [
            "Bearer token-1",
            "Bearer token-2",
        ]


def test_a_wrong_password_is_sent_once(guarded: Gateway) -> None:
    """More attempts would lock the user out."""
    with Client(guarded.url, username="ada", password="wrong") as client, pytest.raises(NotSignedIn):
        client.workers()
    assert sign_ins(guarded) == 1


def test_a_refused_new_token_is_an_error(guarded: Gateway) -> None:
    """The client gets one new token, not one after another."""

    with Client(guarded.url, token=lambda: "never-good") as client, pytest.raises(NotSignedIn):
        client.workers()
    assert len(guarded.headers_of("/v1/worker")) == 2


def test_a_submission_that_renews_its_token_is_one_job(guarded: Gateway) -> None:
    """The first attempt was refused."""
    with Client(guarded.url, username="ada", password=PASSWORD) as client:
        job = client.submit("signed", ["add"])
        guarded.revoke()
        again = client.submit("signed", ["add"])
        assert [found.id for found in client.jobs(name="signed")] == [again.id, job.id]


def test_a_secret_is_never_shown(guarded: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """Neither by repr, nor in logs, nor in exceptions."""
    caplog.set_level(logging.DEBUG)
    with Client(guarded.url, username="ada", password="my-secret") as client:
        with pytest.raises(NotSignedIn) as raised:
            client.workers()
        shown = [repr(client), repr(vars(client)), str(raised.value), repr(raised.value.problem), caplog.text]
        shown += [repr(value) for value in vars(client._sender).values()]
        shown += [repr(value) for value in vars(client._sender._sign_in).values()]
    assert not [text for text in shown if "my-secret" in text]


@pytest.mark.parametrize("token", ["", "two words", "a\nb", "d\u00e9j\u00e0"])
def test_an_invalid_token_is_refused_without_showing_it(token: str) -> None:
    """Whether it is given or comes from a function."""
    with pytest.raises(ConfigError, match="visible ASCII") as raised:
        Client(token=token)
    assert not token or token not in str(raised.value)
    with Client(token=lambda: token) as client, pytest.raises(ConfigError, match="visible ASCII"):
        client.workers()


def test_half_a_login_is_refused() -> None:
    """A login beside a token is refused as well."""
    with pytest.raises(ConfigError, match="needs a username"):
        Client(username="ada")
    with pytest.raises(ConfigError, match="not both"):
        Client(username="ada", password="x", token="y")
