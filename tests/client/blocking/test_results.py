# Generated from tests/client/asynchronous/test_results.py by tools/twin.py: do not edit.
"""Results are converted to the requested type."""

from __future__ import annotations

from typing import Any, assert_type

import pytest
from msgspec import Struct

from raincheck import App, Client, InvalidInput, Unfinished
from raincheck.core.errors import UnexpectedResult


class City(Struct):
    """A place."""

    name: str
    country: str = "fr"


def test_a_call_returns_the_requested_type(url: str) -> None:
    """Type checkers infer it."""
    with Client(url) as client:
        assert_type(client.call("add", 1, 2, returns=float), float)
        assert_type(client.call("add", 1, 2), Any)
        city = client.call("echo", {"name": "Paris"}, returns=City)
        assert_type(city, City)
        assert city == City("Paris", "fr")
        cities = client.call("echo", [{"name": "Paris"}], returns=list[City])
        assert_type(cities, list[City])
        assert cities == [City("Paris")]
        assert client.call("echo", None, returns=City | None) is None


def test_a_function_of_this_program_has_its_own_type(url: str) -> None:
    """Its arguments are checked here, and `returns` can still be another type."""
    app = App("sqlite://")

    @app.function
    def echo(value: City) -> City:
        return value

    with Client(url) as client:
        city = client.call(echo, City("Paris"))
        assert_type(city, City)
        assert city == City("Paris")
        assert client.call(echo, City("Paris"), returns=dict) == {"name": "Paris", "country": "fr"}
        with pytest.raises(InvalidInput, match="argument 'value'"):
            client.call(echo, "Paris")


def test_a_call_that_no_worker_can_run_is_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """After a second; the call goes on waiting."""
    step = Client.step("ad", 1).options(timeout=5)  # with options it is sent as a job
    with Client(url) as client:
        with pytest.raises(Unfinished) as raised:
            client.call(step, timeout=1.5)
        client.cancel(raised.value.job.id)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "raincheck.client"]
    assert warning == f"job {raised.value.job.id} waits: no worker offers 'ad'. Did you mean 'add'?"


def test_a_step_has_its_arguments(url: str) -> None:
    """More arguments beside it are an error."""
    with Client(url) as client:
        assert client.call(client.step("add", 1, 2), returns=float) == 3
        with pytest.raises(InvalidInput, match="a step has its arguments"):
            client.call(client.step("add", 1), 2)


def test_a_handle_returns_the_requested_type(url: str) -> None:
    """The stored result does not change."""
    with Client(url) as client:
        job = client.submit("city", [client.step("echo", {"name": "Paris"})], wait=10)
        city = job.result(City)
        assert_type(city, City)
        assert city == City("Paris")
        assert_type(job.result(), Any)
        assert job.result() == {"name": "Paris"}


def test_a_result_of_another_type_is_an_error(url: str) -> None:
    """The message names the expected type."""
    with Client(url) as client:
        with pytest.raises(UnexpectedResult, match="Expected `int`, got `str`"):
            client.call("echo", "one", returns=int)
        job = client.submit("city", [client.step("echo", {})], wait=10)
        with pytest.raises(UnexpectedResult, match=f"{job.id}.*required field `name`"):
            job.result(City)
