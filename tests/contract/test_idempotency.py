"""Idempotency keys on every store: they belong to a caller and an operation, and compare decoded requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from raincheck import App, GroupJob, RetryOptions, step
from raincheck.auth import Auth
from raincheck.core.errors import IdempotencyMismatch
from raincheck.server import Server
from tests.auth.forging import SECRET, claims, token
from tests.problems import urn

JOB = (
    b'{"name":"one","functions":[{"name":"add","args":[1, {"a":1,"b":2}]}],"data":{"x":1,"y":[2]},"delay":60}'
)
SAME = b"""{ "delay": 60.0, "data": {"y": [2], "x": 1},
             "functions": [{"args": [1, {"b": 2, "a": 1}], "name": "add"}], "name": "one" }"""
OTHER = b'{"name":"one","functions":[{"name":"add","args":[2]}]}'

ROUTES = [
    ("/v1/job", JOB, SAME, OTHER),
    ("/v1/function/add", b'{"a":1,"b":{"c":1,"d":2}}', b' {"b": {"d":2, "c":1}, "a": 1}', b"[1]"),
    (
        "/v1/group/pair",
        b'{"data":{"x":1,"y":2},"args":{"one":[1]}}',
        b'{"args": {"one": [1]}, "data": {"y": 2, "x": 1}}',
        b"",
    ),
]


@pytest.fixture
async def app(url: str) -> AsyncIterator[App]:
    app = App(url)
    app.group("pair", [GroupJob("one", [step("add", 1)]), GroupJob("two", [step("add", 2)])])

    @app.function
    def add(a: Any = None, b: Any = None) -> None:
        return None

    async with app:
        yield app


@pytest.fixture
async def secured(app: App) -> AsyncIterator[httpx2.AsyncClient]:
    """An API that callers sign in to."""
    async with _client(app, Auth(secret=SECRET)) as client:
        yield client


@pytest.fixture
async def unsecured(app: App) -> AsyncIterator[httpx2.AsyncClient]:
    """An API without a sign-in."""
    async with _client(app, None) as client:
        yield client


def _client(app: App, auth: Auth | None) -> httpx2.AsyncClient:
    server = Server(app.engine, auth=auth)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(server), base_url="http://localhost")


async def send(
    client: httpx2.AsyncClient, path: str, body: bytes, subject: str | None = None, key: str = "k-1"
) -> httpx2.Response:
    """Send with a key, as somebody."""
    headers = {"content-type": "application/json", "idempotency-key": key, "prefer": "respond-async"}
    if subject is not None:
        headers["authorization"] = f"Bearer {token(claims(sub=subject))}"
    return await client.post(path, content=body, headers=headers)


routes = pytest.mark.parametrize(("path", "body", "same", "other"), ROUTES, ids=[path for path, *_ in ROUTES])


@routes
async def test_another_caller_gets_a_job_of_its_own(
    secured: httpx2.AsyncClient, path: str, body: bytes, same: bytes, other: bytes
) -> None:
    """With the same key, whether the request is the same or not; each caller's own key goes on to hold."""
    ann = await send(secured, path, body, "ann")
    bob = await send(secured, path, body, "bob")
    cas = await send(secured, path, other, "cas")
    assert [answer.status_code for answer in (ann, bob, cas)] == [202, 202, 202]
    assert len({answer.json()["id"] for answer in (ann, bob, cas)}) == 3
    assert (await send(secured, path, body, "bob")).json()["id"] == bob.json()["id"]
    assert (await send(secured, path, body, "ann")).json()["id"] == ann.json()["id"]


@routes
async def test_nothing_of_a_job_is_told_to_who_sends_another_request(
    secured: httpx2.AsyncClient, path: str, body: bytes, same: bytes, other: bytes
) -> None:
    """A key that was used is refused, and the refusal names no job."""
    job_id = (await send(secured, path, body, "ann")).json()["id"]
    refused = await send(secured, path, other, "ann")
    assert (refused.status_code, refused.json()["type"]) == (422, urn("idempotency-mismatch"))
    assert job_id not in refused.text


@routes
async def test_the_decoded_request_is_compared(
    unsecured: httpx2.AsyncClient, path: str, body: bytes, same: bytes, other: bytes
) -> None:
    """Spaces and the order of keys in objects change nothing."""
    first = await send(unsecured, path, body)
    assert (await send(unsecured, path, same)).json()["id"] == first.json()["id"]
    assert (await send(unsecured, path, other)).status_code == 422


async def test_a_key_belongs_to_an_operation(unsecured: httpx2.AsyncClient) -> None:
    """The same key makes a job on each route."""
    answers = [await send(unsecured, path, body) for path, body, *_ in ROUTES]
    assert len({answer.json()["id"] for answer in answers}) == 3


async def test_python_and_http_agree(app: App, unsecured: httpx2.AsyncClient) -> None:
    """The same request with the same key is the same job, whichever way it comes."""
    sent = await send(unsecured, "/v1/job", JOB)
    steps = [step("add", 1, {"b": 2, "a": 1})]
    data = {"y": [2], "x": 1}
    submitted = await app.submit("one", steps, data=data, delay=60, idempotency_key="k-1")
    assert submitted.id == sent.json()["id"]
    run = await app.trigger("pair", data={"x": 1, "y": 2}, args={"one": [1]}, idempotency_key="k-1")
    assert (await send(unsecured, "/v1/group/pair", ROUTES[2][1])).json()["id"] == run.id
    with pytest.raises(IdempotencyMismatch):
        await app.submit("one", steps, data=data, delay=61, idempotency_key="k-1")


async def test_options_of_functions_do_not_count_and_those_of_steps_do(
    app: App, unsecured: httpx2.AsyncClient
) -> None:
    """A server may or may not know a function; what the caller says is compared."""
    steps = [step("add").options(retry=RetryOptions(retry_limit=3, delay=1), timeout=5)]
    submitted = await app.submit("one", steps, idempotency_key="k-1")
    options = b'"retry_options":{"delay":1.0,"retry_limit":3},"timeout":5.0'
    body = b'{"name":"one","functions":[{"name":"add",%b}]}'
    assert (await send(unsecured, "/v1/job", body % options)).json()["id"] == submitted.id
    assert (await send(unsecured, "/v1/job", body % b'"timeout":5')).status_code == 422
