"""A server without the code of the functions checks arguments by the schemas that workers have registered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from raincheck import App, Context, GroupJob, InvalidInput, Worker, step


class Functions:
    """An app whose worker has the code, and one that has not."""

    def __init__(self, path: Path) -> None:
        self.worker = App(f"sqlite:///{path / 'jobs.db'}")
        self.server = App(self.worker.url)

        @self.worker.function
        def add(a: int, b: int = 0) -> int:
            return a + b

        @self.worker.function
        async def visit(ctx: Context, cities: list[str], *, days: int) -> int:
            return len(cities) * days

        @self.worker.function
        def total(*numbers: float, **others: float) -> float:
            return sum(numbers, sum(others.values()))

        @self.worker.function
        def strict(a: int, /, b: int) -> int:
            return a + b

        self.server.group("pair", [GroupJob("one", [step("add", 1)])])


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the server without code, while the worker runs."""
    functions = Functions(tmp_path)
    async with functions.worker, Worker(functions.worker), functions.server:
        transport = httpx2.ASGITransport(functions.server.asgi)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.mark.parametrize(
    ("name", "body", "faults"),
    [
        ("add", ["x"], {"/0": "argument 'a': the value is not of type \"integer\""}),
        ("add", {"a": 1, "b": "x"}, {"/b": "argument 'b': the value is not of type \"integer\""}),
        ("add", [], {"": "argument 'a' is missing"}),
        ("add", {"b": 1}, {"": "argument 'a' is missing"}),
        ("add", [1, 2, 3], {"": "takes at most 2 arguments by position, got 3"}),
        ("add", {"a": 1, "z": 2}, {"/z": "has no argument named 'z'; by name it takes: a, b"}),
        ("visit", [["Paris"]], {"": "argument 'days' is missing"}),
        ("visit", {"cities": ["Paris", 3], "days": 1}, {"/cities/1": "argument 'cities': the value"}),
        ("total", ["x"], {"/0": "argument '0': the value is not of type \"number\""}),
        ("total", {"some": "x"}, {"/some": "argument 'some': the value is not of type \"number\""}),
        ("strict", {"a": 1, "b": 2}, {"": "takes at least 2 arguments by position"}),
    ],
)
async def test_a_call_that_does_not_fit_is_refused(
    client: httpx2.AsyncClient, name: str, body: Any, faults: dict[str, str]
) -> None:
    """With the pointers that a server with the code would give, and nothing is stored."""
    response = await client.post(f"/v1/function/{name}", json=body)
    assert response.status_code == 422, response.text
    found = {error.get("pointer", ""): error["detail"] for error in response.json()["errors"]}
    assert found.keys() == faults.keys()
    for pointer, detail in faults.items():
        assert found[pointer].startswith(detail)
    assert (await client.get("/v1/job")).json()["jobs"] == []


@pytest.mark.parametrize(
    ("name", "body", "result"),
    [
        ("add", [1], 1),
        ("add", {"b": 2, "a": 1}, 3),
        ("visit", {"cities": ["Paris", "Rome"], "days": 3}, 6),
        ("total", [1, 2.5], 3.5),
        ("total", {"any": 1, "name": 2}, 3),
        ("total", [], 0),
        ("strict", [1, 2], 3),
    ],
)
async def test_a_call_that_fits_runs(client: httpx2.AsyncClient, name: str, body: Any, result: float) -> None:
    """As it does on a server with the code."""
    response = await client.post(f"/v1/function/{name}", json=body, headers={"Prefer": "wait=30"})
    assert (response.status_code, response.json()["result"]) == (200, result)


@pytest.mark.parametrize(
    ("function", "pointer"),
    [
        ({"name": "add", "args": ["x"]}, "/functions/0/args/0"),
        ({"name": "add", "args": [1], "kwargs": {"b": "x"}}, "/functions/0/kwargs/b"),
        ({"name": "visit", "args": [["Rome"]]}, "/functions/0"),
        ({"name": "visit", "args": [["Rome"]], "kwargs": {"days": 1}}, None),
        ({"name": "visit", "args": [3], "kwargs": {"days": 1}}, "/functions/0/args/0"),
        ({"name": "strict", "args": [1], "kwargs": {"b": 2}}, "/functions/0"),
        ({"name": "unknown", "args": ["anything"]}, None),
    ],
)
async def test_a_job_is_checked_in_the_same_way(
    client: httpx2.AsyncClient, function: dict[str, Any], pointer: str | None
) -> None:
    """Some arguments can be passed by position and some by name."""
    response = await client.post("/v1/job", json={"name": "n", "functions": [function]})
    assert response.status_code == (202 if pointer is None else 422), response.text
    assert [error["pointer"] for error in response.json().get("errors", ())] == ([pointer] if pointer else [])


async def test_the_arguments_of_a_group_are_checked_in_the_same_way(client: httpx2.AsyncClient) -> None:
    """When it is triggered."""
    response = await client.post("/v1/group/pair", json={"args": {"one": ["x"]}})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/args/one/0")


async def test_a_program_without_the_code_is_told_at_once(tmp_path: Path) -> None:
    """At its first submit already."""
    functions = Functions(tmp_path)
    async with functions.worker, Worker(functions.worker), App(functions.worker.url) as program:
        with pytest.raises(InvalidInput, match="/functions/0/args/0: argument 'a'"):
            await program.submit("n", [step("add", "x")])
        assert await program.call(step("visit", ["Rome"], days=2)) == 2


async def test_a_misspelt_function_has_a_hint(client: httpx2.AsyncClient) -> None:
    """A call of it is refused, and a job that needs it is accepted with a warning."""
    response = await client.post("/v1/function/viisit", json=[])
    assert response.status_code == 404
    assert "no function is named 'viisit', on this server or a worker. Did you mean 'visit'?" in response.text
    job = (await client.post("/v1/job", json={"name": "n", "functions": [{"name": "ad"}]})).json()
    assert (job["waiting_for"], job["warnings"]) == (["ad"], ["no worker offers 'ad'. Did you mean 'add'?"])
    job = (await client.post("/v1/job", json={"name": "n", "functions": [{"name": "quite-new"}]})).json()
    assert job["warnings"] == ["no worker offers 'quite-new'. The job waits for such a worker."]
    job = (
        await client.post("/v1/job", json={"name": "n", "functions": [{"name": "add", "args": [1]}]})
    ).json()
    assert job["warnings"] == []
