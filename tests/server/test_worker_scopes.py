"""Workers over HTTP with sign-in: a token keeps a worker to its functions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from raincheck import App
from raincheck.auth import Auth
from tests.auth.forging import SECRET, claims, token
from tests.problems import urn
from tests.server.conftest import transport
from tests.server.remote import register


def bearer(*scopes: str) -> dict[str, str]:
    """The headers of a caller with these scopes."""
    return {"Authorization": f"Bearer {token(claims(scope=' '.join(scopes)))}"}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    app = App(f"sqlite:///{tmp_path / 'jobs.db'}", auth=Auth(secret=SECRET))
    async with httpx2.AsyncClient(transport=transport(app), base_url="http://localhost") as http:
        yield http
    await app.close()


async def submitted(http: httpx2.AsyncClient, *functions: str) -> None:
    """Submit a job with one stage."""
    body = {"name": "n", "functions": [[{"name": name} for name in functions]]}
    assert (await http.post("/v1/job", json=body, headers=bearer("job:write"))).status_code == 202


@pytest.mark.parametrize("scope", ["worker", "admin", "worker:*", "worker:mail:*", "worker:mail:send"])
async def test_a_scope_allows_its_functions(http: httpx2.AsyncClient, scope: str) -> None:
    """From the registration to the finish."""
    worker = await register(http, "mail:send", headers=bearer(scope))
    await submitted(http, "mail:send")
    assert await worker.succeed(await worker.claim_one()) == "done"
    assert await worker.leave() == 204


async def test_a_registration_names_what_is_not_allowed(http: httpx2.AsyncClient) -> None:
    """Each function, by its place; nothing is registered."""
    names = ["mail:send", "mail:read", "pay"]
    body = {"name": "n", "functions": [{"name": name} for name in names]}
    answer = await http.post("/v1/worker", json=body, headers=bearer("worker:mail:s*", "job:read"))
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (403, urn("not-allowed"))
    assert [each["pointer"] for each in problem["errors"]] == ["/functions/1/name", "/functions/2/name"]
    assert 'scope="worker:mail:read"' in answer.headers["www-authenticate"]
    assert (await http.get("/v1/worker", headers=bearer("job:read"))).json() == []


async def test_claims_and_finishes_are_checked_again(http: httpx2.AsyncClient) -> None:
    """With the token of that call: it may be another one than that of the registration."""
    worker = await register(http, "mail", "pay", headers=bearer("worker"))
    await submitted(http, "mail", "pay")
    attempts = {each["function"]: each for each in await worker.claim(2)}
    await submitted(http, "mail", "pay")
    worker.headers |= bearer("worker:mail")
    refused = await worker.send("claim", {"limit": 5})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (403, "/functions")
    refused = await worker.send("claim", {"limit": 5, "functions": ["mail", "pay"]})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (403, "/functions/1")
    assert [each["function"] for each in await worker.claim(5, 0, "mail")] == ["mail"]
    endings = await worker.finish_all(*({"id": each["id"], "result": 1} for each in attempts.values()))
    outcomes = dict(zip(attempts, endings, strict=True))
    assert outcomes["mail"]["outcome"] == "done"
    assert (outcomes["pay"]["outcome"], outcomes["pay"]["problem"]["status"]) == ("refused", 403)


async def test_a_wrong_worker_token_needs_no_other_scope(http: httpx2.AsyncClient) -> None:
    """So the response does not ask for one."""
    worker = await register(http, "add", headers=bearer("worker"))
    worker.headers["Worker-Token"] = "x"
    answer = await worker.send("claim", {})
    assert answer.status_code == 403
    assert "www-authenticate" not in answer.headers


async def test_a_worker_is_no_caller(http: httpx2.AsyncClient) -> None:
    """Its scope neither submits nor reads jobs."""
    for method, path in (("GET", "/v1/job"), ("POST", "/v1/job"), ("GET", "/v1/worker")):
        assert (await http.request(method, path, headers=bearer("worker"))).status_code == 403
