"""A server without workers, whose configuration file declares functions behind a URL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from raincheck import App, InvalidInput, step

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"city": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the server. Nothing reads the secret, as no worker runs."""
    weather = {
        "url": "https://weather.example/",
        "secret_env": "NOT_SET",
        "doc": "The weather.",
        "parameters": PARAMETERS,
        "returns": {"type": "string"},
        "retry": 3,
        "concurrency": 5,
    }
    config = tmp_path / "raincheck.yaml"
    config.write_text(json.dumps({"functions": {"weather": weather}}))
    app = App("sqlite:///:memory:", config=config)
    async with app:
        transport = httpx2.ASGITransport(app.asgi)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


async def test_the_function_has_a_document(client: httpx2.AsyncClient) -> None:
    """Without its URL and its secret."""
    document = (await client.get("/v1/function/weather")).json()
    assert (document["doc"], document["mode"], document["timeout"]) == ("The weather.", "push", 60)
    assert (document["retry_options"], document["concurrency"]) == ({"retry_limit": 3}, 5)
    assert (document["parameters"], document["returns"]) == (PARAMETERS, {"type": "string"})
    assert "weather.example" not in json.dumps(document)


@pytest.mark.parametrize(
    ("arguments", "pointers"),
    [
        ([1], ["/0"]),
        ([{}], ["/0"]),
        ([{"name": "Paris"}, 0], ["/1"]),
        ([{"name": "Paris"}, 1, 2], [""]),
        ([], [""]),
        ({"city": {"name": 1}}, ["/city/name"]),
        ({"city": {"name": "Paris"}, "day": 1}, ["/day"]),
        ({"days": 1}, [""]),
    ],
)
async def test_arguments_are_checked(
    client: httpx2.AsyncClient, arguments: object, pointers: list[str]
) -> None:
    """In a call and in a job; nothing is changed."""
    called = await client.post("/v1/function/weather", json=arguments)
    assert (called.status_code, [each.get("pointer", "") for each in called.json()["errors"]]) == (
        422,
        pointers,
    )
    key = "args" if isinstance(arguments, list) else "kwargs"
    job = {"name": "job", "functions": [{"name": "weather", key: arguments}]}
    submitted = await client.post("/v1/job", json=job)
    assert submitted.status_code == 422
    assert submitted.json()["errors"][0]["pointer"].startswith("/functions/0")
    assert (await client.get("/v1/job")).json()["jobs"] == []


async def test_what_a_schema_says_of_all_arguments_is_checked(tmp_path: Path) -> None:
    """Wherever they are passed; also if a schema refers to another place."""
    parameters = {
        "type": "object",
        "properties": {"a": {"$ref": "#/properties/b"}, "b": {"type": "integer"}},
        "dependentRequired": {"a": ["b"]},
        "minProperties": 1,
    }
    options = {"url": "https://f.example/", "secret_env": "NOT_SET", "parameters": parameters}
    config = tmp_path / "raincheck.yaml"
    config.write_text(json.dumps({"functions": {"f": options}}))
    async with App("sqlite:///:memory:", config=config) as app:
        for args, kwargs in (([], {}), ([1], {}), ([], {"a": 1}), (["1"], {"b": 1}), ([1, "1"], {})):
            with pytest.raises(InvalidInput):
                await app.submit("job", [step("f", *args, **kwargs)])
        for args, kwargs in (([1, 2], {}), ([1], {"b": 2}), ([], {"b": 2}), ([1, 2, "more"], {})):
            await app.submit("job", [step("f", *args, **kwargs)])


async def test_arguments_that_fit_are_accepted(client: httpx2.AsyncClient) -> None:
    """The step has the options of the function."""
    functions = [{"name": "weather", "args": [{"name": "Paris"}], "kwargs": {"days": 2}}]
    submitted = await client.post("/v1/job", json={"name": "job", "functions": functions})
    assert submitted.status_code == 202
    (function,) = submitted.json()["functions"]
    assert (function["retry_options"], function["timeout"]) == ({"retry_limit": 3}, 60)


async def test_the_function_is_in_the_openapi_document(client: httpx2.AsyncClient) -> None:
    """With its own operation."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert paths["/v1/function/weather"]["post"]["summary"] == "The weather."
