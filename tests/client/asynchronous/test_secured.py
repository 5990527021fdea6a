"""A client of a server with sign-in."""

from __future__ import annotations

import pytest

from raincheck import AsyncClient, NotAllowed, NotSignedIn, TooManyAttempts
from tests.client.conftest import PASSWORD


async def test_a_signed_in_client_can_call(secured: str) -> None:
    """Also after the first token has expired."""
    async with AsyncClient(secured, username="ada", password=PASSWORD) as client:
        assert await client.call("nap", 1.2) == "slept"
        assert await client.call("add", 1, 2) == 3
        assert [job.state async for job in client.jobs(name="add")] == ["done"]


async def test_a_client_without_a_valid_token_cannot_call(secured: str) -> None:
    """Neither without a token nor with an invalid one."""
    for token in (None, "garbage"):
        async with AsyncClient(secured, token=token) as client:
            with pytest.raises(NotSignedIn):
                await client.workers()


async def test_a_read_only_user_cannot_submit(secured: str) -> None:
    """The exception names the missing scope."""
    async with AsyncClient(secured, username="ben", password=PASSWORD) as client:
        assert len(await client.workers()) == 1
        with pytest.raises(NotAllowed) as raised:
            await client.submit("sum", ["add"])
        assert raised.value.scope == "job:write"


async def test_wrong_passwords_are_throttled(secured: str) -> None:
    """The exception says how long to wait."""
    async with AsyncClient(secured, username="eve", password="wrong", patience=0) as client:
        for _ in range(5):
            with pytest.raises(NotSignedIn):
                await client.workers()
        with pytest.raises(TooManyAttempts) as raised:
            await client.workers()
        assert raised.value.retry_after > 1


async def test_a_traceback_needs_a_scope_of_its_own(secured: str) -> None:
    """A caller who may read jobs sees the errors of their attempts."""
    async with AsyncClient(secured, username="ada", password=PASSWORD) as client:
        job = await client.submit("failing", [client.step("fail", "no")], wait=10)
        (attempt,) = await client.attempts(job.id)
        assert attempt.error is not None
        assert (attempt.error.detail, attempt.traceback) == ("no", None)
