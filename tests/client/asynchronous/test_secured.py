"""A client of a server that wants callers to sign in."""

from __future__ import annotations

import pytest

from raincheck import AsyncClient, NotAllowed, NotSignedIn, TooManyAttempts
from tests.client.conftest import PASSWORD


async def test_who_signs_in_may_call(secured: str) -> None:
    """Also when the first token has long ended."""
    async with AsyncClient(secured, username="ada", password=PASSWORD) as client:
        assert await client.call("nap", 1.2) == "slept"
        assert await client.call("add", 1, 2) == 3
        assert [job.state async for job in client.jobs(name="add")] == ["done"]


async def test_who_does_not_may_not(secured: str) -> None:
    """Without a token, and with one that is none."""
    for token in (None, "garbage"):
        async with AsyncClient(secured, token=token) as client:
            with pytest.raises(NotSignedIn):
                await client.workers()


async def test_who_may_only_read_may_not_write(secured: str) -> None:
    """The error names the scope that is lacking."""
    async with AsyncClient(secured, username="ben", password=PASSWORD) as client:
        assert len(await client.workers()) == 1
        with pytest.raises(NotAllowed) as raised:
            await client.submit("sum", ["add"])
        assert raised.value.scope == "job:write"


async def test_who_guesses_has_to_wait(secured: str) -> None:
    """The error says how long."""
    async with AsyncClient(secured, username="eve", password="wrong", patience=0) as client:
        for _ in range(5):
            with pytest.raises(NotSignedIn):
                await client.workers()
        with pytest.raises(TooManyAttempts) as raised:
            await client.workers()
        assert raised.value.retry_after > 1
