"""Models and arrays over HTTP, and documents of jobs in other web frameworks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import django
import fastapi
import flask
import httpx2
import numpy as np
import openapi_spec_validator
import pydantic
import pytest
from django.conf import settings
from django.http import JsonResponse

from raincheck import App, AttemptDocument, JobDocument, RunDocument, Worker


class Order(pydantic.BaseModel):
    item: str
    count: int = pydantic.Field(1, ge=1)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[App]:
    """An app with a worker whose function takes and returns models."""
    shop = App(f"sqlite:///{tmp_path / 'shop.db'}")

    @shop.function(wait=30)
    async def order(orders: list[Order], discount: float = 0.0) -> dict[str, Order]:
        return {each.item: each for each in orders}

    @shop.function(wait=30)
    async def mean(values: np.ndarray) -> np.float64:
        return values.mean()  # type: ignore[no-any-return]

    async with shop, Worker(shop):
        yield shop


@pytest.fixture
async def client(shop: App) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(shop.asgi)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_models_go_in_and_out(client: httpx2.AsyncClient) -> None:
    """With their defaults."""
    answer = await client.post("/v1/function/order", json={"orders": [{"item": "pen"}]})
    assert (answer.status_code, answer.json()["result"]) == (200, {"pen": {"item": "pen", "count": 1}})
    answer = await client.post("/v1/function/mean", json=[[[1, 2], [3, 4]]])
    assert (answer.status_code, answer.json()["result"]) == (200, 2.5)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ([[{"item": "pen", "count": 0}]], ["/0/0/count"]),
        ([[{"item": "pen", "colour": "red"}]], ["/0/0/colour"]),
        ({"orders": [{"item": "pen"}, {"item": 3, "count": "x"}]}, ["/orders/1/item", "/orders/1/count"]),
        ({"orders": [{}], "discount": "x"}, ["/orders/0", "/discount"]),
    ],
)
async def test_faults_point_into_models(client: httpx2.AsyncClient, body: Any, pointers: list[str]) -> None:
    """Nothing is stored."""
    answer = await client.post("/v1/function/order", json=body)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == pointers
    assert (await client.get("/v1/job")).json()["jobs"] == []


async def test_openapi_describes_models(client: httpx2.AsyncClient) -> None:
    """Their constraints, too; a public validator accepts the document."""
    openapi = (await client.get("/openapi.json")).json()
    openapi_spec_validator.validate(openapi)
    text = json.dumps(openapi)
    schemas = openapi["components"]["schemas"]
    assert all(f'"{name}"' in text for name in schemas)
    (order,) = (
        each
        for each in schemas.values()
        if "item" in each.get("properties", {}) and "additionalProperties" in each
    )
    assert order["properties"]["count"]["minimum"] == 1
    assert order["additionalProperties"] is False


class TestFrameworks:
    """Documents as answers of other frameworks; each gives what the API gives."""

    @pytest.fixture
    async def job(self, shop: App) -> JobDocument:
        """A job that has ended."""
        stored = await shop.submit("n", [shop.functions.get("mean").step([1, 2])], data={"a": None})  # type: ignore[union-attr]
        return await shop.wait(stored.id)

    async def test_fastapi_returns_documents(self, shop: App, job: JobDocument) -> None:
        """Without a response model, as one, and in another one."""
        web = fastapi.FastAPI()
        web.mount("/raincheck", shop.asgi)

        @web.get("/plain")
        async def plain():  # type: ignore[no-untyped-def]
            return job

        @web.get("/typed")
        async def typed() -> JobDocument:
            return job

        @web.get("/model", response_model=list[JobDocument])
        async def model() -> Any:
            return [job.to_dict()]

        @web.get("/attempts")
        async def attempts() -> list[AttemptDocument]:
            return await shop.attempts(job.id)

        @web.get("/run")
        async def run() -> RunDocument | None:
            return None

        transport = httpx2.ASGITransport(web)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            expected = (await client.get(f"/raincheck/v1/job/{job.id}")).json()
            assert (await client.get("/plain")).json() == expected
            assert (await client.get("/typed")).json() == expected
            assert (await client.get("/model")).json() == [expected]
            assert (await client.get("/attempts")).json() == [
                each.to_dict() for each in await shop.attempts(job.id)
            ]
            assert (await client.get("/run")).json() is None
            openapi = (await client.get("/openapi.json")).json()
        content = openapi["paths"]["/typed"]["get"]["responses"]["200"]["content"]
        assert set(content["application/json"]["schema"]["properties"]) == set(expected)
        assert "$ref" not in json.dumps(content)

    def test_pydantic_reads_documents(self) -> None:
        """Of JSON; another value is an error of pydantic."""
        with pytest.raises(pydantic.ValidationError):
            pydantic.TypeAdapter(JobDocument).validate_python({"id": 1})

    async def test_a_document_is_a_dict(self, job: JobDocument) -> None:
        """Of plain data."""
        assert dict(job) == job.to_dict()
        assert json.loads(json.dumps(job.to_dict())) == job.to_dict()

    async def test_flask_returns_documents(self, job: JobDocument) -> None:
        """By returning the dict, or by `jsonify`."""
        web = flask.Flask(__name__)
        web.add_url_rule("/dict", "dict", job.to_dict)
        web.add_url_rule("/jsonify", "jsonify", lambda: flask.jsonify(job.to_dict()))
        client = web.test_client()
        assert client.get("/dict").json == job.to_dict()
        assert client.get("/jsonify").json == job.to_dict()

    async def test_django_returns_documents(self, job: JobDocument) -> None:
        """As a `JsonResponse`."""
        if not settings.configured:
            settings.configure()
            django.setup()
        assert json.loads(JsonResponse(job.to_dict()).content) == job.to_dict()
