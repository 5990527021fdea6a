"""Results are converted to the requested type."""

from __future__ import annotations

from typing import Any, assert_type

import pytest
from msgspec import Struct

from raincheck import App, AsyncClient, InvalidInput, Unfinished
from raincheck.core.errors import UnexpectedResult


class City(Struct):
    """A place."""

    name: str
    country: str = "fr"


async def test_a_call_returns_the_requested_type(url: str) -> None:
    """Type checkers infer it."""
    async with AsyncClient(url) as client:
        assert_type(await client.call("add", 1, 2, returns=float), float)
        assert_type(await client.call("add", 1, 2), Any)
        city = await client.call("echo", {"name": "Paris"}, returns=City)
        assert_type(city, City)
        assert city == City("Paris", "fr")
        cities = await client.call("echo", [{"name": "Paris"}], returns=list[City])
        assert_type(cities, list[City])
        assert cities == [City("Paris")]
        assert await client.call("echo", None, returns=City | None) is None


async def test_a_function_of_this_program_has_its_own_type(url: str) -> None:
    """Its arguments are checked here, and `returns` can still be another type."""
    app = App("sqlite://")

    @app.function
    def echo(value: City) -> City:
        return value

    async with AsyncClient(url) as client:
        city = await client.call(echo, City("Paris"))
        assert_type(city, City)
        assert city == City("Paris")
        assert await client.call(echo, City("Paris"), returns=dict) == {"name": "Paris", "country": "fr"}
        with pytest.raises(InvalidInput, match="argument 'value'"):
            await client.call(echo, "Paris")


async def test_a_call_that_no_worker_can_run_is_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """After a second; the call goes on waiting."""
    step = AsyncClient.step("ad", 1).options(timeout=5)  # with options it is sent as a job
    async with AsyncClient(url) as client:
        with pytest.raises(Unfinished) as raised:
            await client.call(step, timeout=1.5)
        await client.cancel(raised.value.job.id)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "raincheck.client"]
    assert warning == f"job {raised.value.job.id} waits: no worker offers 'ad'. Did you mean 'add'?"


async def test_a_step_has_its_arguments(url: str) -> None:
    """More arguments beside it are an error."""
    async with AsyncClient(url) as client:
        assert await client.call(client.step("add", 1, 2), returns=float) == 3
        with pytest.raises(InvalidInput, match="a step has its arguments"):
            await client.call(client.step("add", 1), 2)


async def test_a_handle_returns_the_requested_type(url: str) -> None:
    """The stored result does not change."""
    async with AsyncClient(url) as client:
        job = await client.submit("city", [client.step("echo", {"name": "Paris"})], wait=10)
        city = job.result(City)
        assert_type(city, City)
        assert city == City("Paris")
        assert_type(job.result(), Any)
        assert job.result() == {"name": "Paris"}


async def test_a_result_of_another_type_is_an_error(url: str) -> None:
    """The message names the expected type."""
    async with AsyncClient(url) as client:
        with pytest.raises(UnexpectedResult, match="Expected `int`, got `str`"):
            await client.call("echo", "one", returns=int)
        job = await client.submit("city", [client.step("echo", {})], wait=10)
        with pytest.raises(UnexpectedResult, match=f"{job.id}.*required field `name`"):
            job.result(City)
