"""The document of the first seed: its server, its request, its responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx2
import pytest

from tests.cli.processes import ROOT, Running, serving

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("seed 1")]

BODY = (
    '{"name": "test", "functions": [{"name":"/v1/test-1"}, '
    '{"name":"/v1/test-fail","args":[1,"2",3],"retry_count":0,"retry_options":{"retry_limit":3}}, '
    '{"name":"/v1/test-2"}]}'
)
OUTPUT = """\
POST   /v1/job
GET    /v1/job/{id}
POST   /v1/function/{name}
GET    /docs
Having 4 function(s):
    - /v1/say-hello-world
    - /v1/test-1
    - /v1/test-2
    - /v1/test-fail
"""
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    """The sample server, started as its README says."""
    target = f"{ROOT / 'examples' / 'chain' / 'app.py'}:app"
    with serving(tmp_path_factory.mktemp("chain"), target=target) as running:
        yield running


@pytest.fixture(scope="module")
def url(server: tuple[Running, str]) -> str:
    return server[1]


@pytest.fixture(scope="module")
def failed(url: str) -> dict[str, Any]:
    """The ended job of the seed; its three attempts are one and two seconds apart."""
    response = httpx2.post(f"{url}/v1/job", content=BODY, headers=JSON)
    assert response.status_code == 202
    return ended(url, response.json()["id"])


def ended(url: str, job_id: str) -> dict[str, Any]:
    response = httpx2.get(f"{url}/v1/job/{job_id}", headers={"Prefer": "wait=60"}, timeout=70)
    assert response.status_code == 200
    document: dict[str, Any] = response.json()
    return document


def test_the_server_lists_its_routes_and_functions(server: tuple[Running, str]) -> None:
    """The routes with their methods, the functions with their number, as in the document."""
    assert "".join(server[0].lines[:9]) == OUTPUT


def test_creating_a_job_returns_the_job(url: str) -> None:
    """With the fields and the types of the document."""
    job = httpx2.post(f"{url}/v1/job", content=BODY, headers=JSON).json()
    assert UUID(job["id"]).version == 7
    assert job["name"] == "test"
    assert job["state"] in ("pending", "doing")
    assert job["data"] == {}
    assert job["created_at"] <= job["updated_at"]
    assert [function["name"] for function in job["functions"]] == [
        "/v1/test-1",
        "/v1/test-fail",
        "/v1/test-2",
    ]
    assert job["functions"][1]["args"] == [1, "2", 3]
    assert job["functions"][1]["retry_options"]["retry_limit"] == 3


def test_the_job_fails(failed: dict[str, Any]) -> None:
    """Its second function always fails."""
    assert failed["state"] == "failed"
    assert [function["state"] for function in failed["functions"]] == ["done", "failed", "pending"]


def test_every_attempt_is_counted(failed: dict[str, Any]) -> None:
    """Three for the failing function, one for the first function."""
    assert [function["retry_count"] for function in failed["functions"]] == [1, 3, 0]


def test_functions_after_a_failure_do_not_run(failed: dict[str, Any]) -> None:
    """The third function has not started."""
    assert failed["functions"][2]["started_at"] is None
    assert failed["functions"][2]["result"] is None


def test_the_error_names_the_function_and_the_exception(failed: dict[str, Any]) -> None:
    """So that a user can find the cause."""
    assert failed["error"]["function"] == "/v1/test-fail"
    assert failed["error"]["exception"] == "RuntimeError"
    assert "attempt 3 with [1, '2', 3] failed" in failed["error"]["detail"]


def test_the_same_chain_without_the_failure_is_done(url: str) -> None:
    """The functions receive the previous result and the job's data."""
    functions = [{"name": "/v1/test-1"}, {"name": "/v1/test-2"}]
    response = httpx2.post(f"{url}/v1/job", json={"name": "test", "functions": functions})
    job = ended(url, response.json()["id"])
    assert job["state"] == "done"
    assert [function["retry_count"] for function in job["functions"]] == [1, 1]
    assert job["result"] == {"previous": "test-1 was here", "data": {"left by": "/v1/test-1"}}
