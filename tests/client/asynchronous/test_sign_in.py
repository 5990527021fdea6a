"""Tokens: given, asked for, renewed."""

from __future__ import annotations

import logging

import pytest

from raincheck import AsyncClient
from raincheck.errors import ConfigError, NotSignedIn
from tests.client.asynchronous.seam import together
from tests.client.places import Gateway, gateway

PASSWORD = 'love"lace'


def sign_ins(gate: Gateway) -> int:
    """How often somebody signed in."""
    return len(gate.heads("/v1/token"))


async def test_a_token_is_sent(guarded: Gateway) -> None:
    """With every request; one that does not hold is told."""
    guarded.tokens.add("mine")
    async with AsyncClient(guarded.url, token="mine") as client:
        assert await client.call("add", 1) == 1
        guarded.revoke()
        with pytest.raises(NotSignedIn, match="not-signed-in"):
            await client.call("add", 1)


async def test_a_token_may_come_from_a_function(guarded: Gateway) -> None:
    """It is asked again when its token is refused, and only then."""
    given: list[str] = []

    async def token() -> str:
        given.append(f"mine-{len(given)}")
        guarded.tokens.add(given[-1])
        return given[-1]

    async with AsyncClient(guarded.url, token=token) as client:
        await client.workers()
        await client.workers()
        guarded.revoke()
        await client.workers()
    assert given == ["mine-0", "mine-1"]


async def test_a_name_and_a_password_get_a_token(guarded: Gateway) -> None:
    """Once, for all requests."""
    async with AsyncClient(guarded.url, username="ada", password=PASSWORD) as client:
        assert await client.call("add", 1) == 1
        await client.workers()
    assert sign_ins(guarded) == 1


async def test_many_requests_sign_in_once(guarded: Gateway) -> None:
    """At first, and again when the token is refused to all of them."""
    async with AsyncClient(guarded.url, username="ada", password=PASSWORD) as client:
        await together(*[client.workers] * 8)
        assert sign_ins(guarded) == 1
        guarded.revoke()
        await together(*[client.workers] * 8)
        assert sign_ins(guarded) == 2


async def test_a_token_is_renewed_before_it_ends(url: str) -> None:
    """The server never sees one that ended."""
    with gateway(url, {"ada": PASSWORD}, expires_in=0.0) as gate:
        async with AsyncClient(gate.url, username="ada", password=PASSWORD) as client:
            await client.workers()
            await client.workers()
        assert sign_ins(gate) == 2
        assert [head["authorization"] for head in gate.heads("/v1/worker")] == [
            "Bearer token-1",
            "Bearer token-2",
        ]


async def test_a_wrong_password_is_tried_once(guarded: Gateway) -> None:
    """More tries would lock the user out."""
    async with AsyncClient(guarded.url, username="ada", password="wrong") as client:
        with pytest.raises(NotSignedIn):
            await client.workers()
    assert sign_ins(guarded) == 1


async def test_who_is_refused_with_a_new_token_gives_up(guarded: Gateway) -> None:
    """One new token is tried, not one after another."""

    async with AsyncClient(guarded.url, token=lambda: "never-good") as client:
        with pytest.raises(NotSignedIn):
            await client.workers()
    assert len(guarded.heads("/v1/worker")) == 2


async def test_signing_in_is_tried_again_too(guarded: Gateway) -> None:
    """A submission in need of a token is still one job."""
    async with AsyncClient(guarded.url, username="ada", password=PASSWORD) as client:
        job = await client.submit("signed", ["add"])
        guarded.revoke()
        again = await client.submit("signed", ["add"])
        assert [found.id async for found in client.jobs(name="signed")] == [again.id, job.id]


async def test_a_secret_is_never_shown(guarded: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in what is printed, nor in logs, nor in errors."""
    caplog.set_level(logging.DEBUG)
    async with AsyncClient(guarded.url, username="ada", password="my-secret") as client:
        with pytest.raises(NotSignedIn) as raised:
            await client.workers()
        shown = [repr(client), repr(vars(client)), str(raised.value), repr(raised.value.problem), caplog.text]
        shown += [repr(value) for value in vars(client._sender).values()]
        shown += [repr(value) for value in vars(client._sender._sign_in).values()]
    assert not [text for text in shown if "my-secret" in text]


@pytest.mark.parametrize("token", ["", "two words", "a\nb", "d\u00e9j\u00e0"])
async def test_what_can_be_no_token_is_refused_unseen(token: str) -> None:
    """Whether it is given or asked for."""
    with pytest.raises(ConfigError, match="visible ASCII") as raised:
        AsyncClient(token=token)
    assert not token or token not in str(raised.value)
    async with AsyncClient(token=lambda: token) as client:
        with pytest.raises(ConfigError, match="visible ASCII"):
            await client.workers()


def test_half_a_login_is_refused() -> None:
    """And a login beside a token."""
    with pytest.raises(ConfigError, match="needs a password"):
        AsyncClient(username="ada")
    with pytest.raises(ConfigError, match="not both"):
        AsyncClient(username="ada", password="x", token="y")
