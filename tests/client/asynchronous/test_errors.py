"""Problem documents become the exceptions that the server raised."""

from __future__ import annotations

import pytest

from raincheck import AsyncClient, InvalidInput, NotFound
from raincheck.core.errors import (
    ConfigError,
    Fault,
    IdempotencyMismatch,
    NotJSON,
    Refused,
    TooLarge,
    Unreachable,
)
from tests.client.servers import Gateway, plain_response, problem_response

NOWHERE = "01977f3c-0000-7000-8000-000000000000"


async def test_invalid_input_names_the_fields(url: str) -> None:
    """Each fault has a pointer, and the exception has the problem document."""
    async with AsyncClient(url) as client:
        with pytest.raises(InvalidInput) as raised:
            await client.submit("", ["add", client.step("no name!")])
        pointers = {fault.pointer for fault in raised.value.faults}
        assert pointers == {"/name", "/functions/1/name"}
        assert raised.value.problem.status == 422


async def test_arguments_that_do_not_fit_are_invalid_input(url: str) -> None:
    """As in the process that has the function."""
    async with AsyncClient(url) as client:
        with pytest.raises(InvalidInput) as raised:
            await client.call("greet", 1)
        assert raised.value.faults == (Fault("argument 'name': expected `str`, got `int`", "/0"),)


async def test_unknown_jobs_and_functions_are_not_found(url: str) -> None:
    """Also an id that is not a job id at all."""
    async with AsyncClient(url) as client:
        for job_id in (NOWHERE, "no/id?"):
            with pytest.raises(NotFound):
                await client.status(job_id)
            with pytest.raises(NotFound):
                await client.forget(job_id)
        with pytest.raises(NotFound):
            await client.call("absent")


async def test_a_key_of_another_request_is_refused(url: str) -> None:
    """A key can contain quotes and spaces."""
    key = 'order "17" \\ of 20'
    async with AsyncClient(url) as client:
        job = await client.submit("keyed", ["add"], idempotency_key=key)
        assert (await client.submit("keyed", ["add"], idempotency_key=key)).id == job.id
        with pytest.raises(IdempotencyMismatch):
            await client.submit("another", ["add"], idempotency_key=key)
        with pytest.raises(InvalidInput, match="visible ASCII"):
            await client.submit("keyed", ["add"], idempotency_key="no\nkey")


async def test_too_large_a_request_is_refused(url: str) -> None:
    """Nothing is stored."""
    async with AsyncClient(url) as client:
        with pytest.raises(TooLarge):
            await client.call("echo", "x" * 2_000_000)


async def test_a_value_that_is_not_json_is_not_sent(front: Gateway) -> None:
    """The exception is raised before any request."""
    async with AsyncClient(front.url) as client:
        with pytest.raises(NotJSON):
            await client.submit("bad", ["add"], data={"what": {1j}})
        with pytest.raises(NotJSON):
            await client.call("echo", float("nan"))
    assert front.requests == []


async def test_other_problems_are_refusals(front: Gateway) -> None:
    """The exception has the problem document."""
    async with AsyncClient(front.url) as client:
        front.handlers.append(problem_response(418, "teapot"))
        with pytest.raises(Refused, match="this is teapot") as raised:
            await client.workers()
        assert raised.value.problem.name == "teapot"


async def test_a_response_of_another_server_is_unreachable(front: Gateway) -> None:
    """The exception says what the response was."""
    async with AsyncClient(front.url) as client:
        front.handlers += [plain_response(404), plain_response(307, location="/"), plain_response(200)]
        front.handlers.append(plain_response(500, content_type="application/problem+json"))
        for message in ("404 Not Found, and", "307 Temporary Redirect", "cannot read", "500 Internal"):
            with pytest.raises(Unreachable, match=message):
                await client.status(NOWHERE)


@pytest.mark.parametrize("url", ["example.com", "ftp://example.com", "http://", "http://[", "http://a:b"])
async def test_an_invalid_url_is_refused(url: str) -> None:
    """Before any request."""
    with pytest.raises(ConfigError, match="not the URL of a server"):
        AsyncClient(url)


async def test_a_url_with_a_password_is_refused() -> None:
    """It would appear in messages."""
    with pytest.raises(ConfigError) as raised:
        AsyncClient("http://ada:lovelace@localhost:8000")
    assert "lovelace" not in str(raised.value)


async def test_the_default_url_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the commands."""
    monkeypatch.delenv("RAINCHECK_URL", raising=False)
    assert AsyncClient().url == "http://127.0.0.1:8000"
    monkeypatch.setenv("RAINCHECK_URL", "http://localhost:1/")
    assert repr(AsyncClient()) == "<AsyncClient http://localhost:1>"
