"""The attempts of a job over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from raincheck import App
from raincheck.auth import Auth
from raincheck.core import lifecycle
from raincheck.core.journal import KEPT_ATTEMPTS
from raincheck.core.model import Problem
from raincheck.core.triggers import Failed, Lost, Succeeded
from tests.auth.forging import SECRET, claims, token
from tests.problems import urn
from tests.server.conftest import make_app, transport
from tests.server.hands import Hands

AGAIN = {"retry_limit": 1000, "delay": 0}
TRACEBACK = 'Traceback (most recent call last):\n  File "é.py", line 1\nValueError: no'


async def submitted(client: httpx2.AsyncClient, *functions: Any, **headers: str) -> str:
    """The path of the attempts of a new job."""
    steps = [{"name": name, "retry_options": AGAIN} for name in functions or ("anything",)]
    body = {"name": "n", "functions": steps}
    answer = await client.post("/v1/job", json=body, headers=headers)
    assert answer.status_code == 202
    return f"/v1/job/{answer.json()['id']}/attempt"


async def fail(hands: Hands, traceback: str = TRACEBACK, *, fatal: bool = False) -> None:
    """Run the next step, and let it fail."""
    claim = await hands.claim("anything")
    error = Problem(type="function-failed", title="anything raised ValueError", detail="no")
    attempt = lifecycle.attempt_of(claim.lease)
    await hands.end(claim, Failed(attempt, error, fatal=fatal, traceback=traceback))


async def test_each_attempt_is_shown_with_its_error_and_traceback(
    client: httpx2.AsyncClient, hands: Hands
) -> None:
    """Oldest first."""
    path = await submitted(client)
    await fail(hands)
    (claim,) = await hands.store.claim("hands", ["anything"], 1, 0.0)  # its lease has expired at once
    await hands.end(claim, Lost(lifecycle.attempt_of(claim.lease)))
    await hands.succeed("anything")
    answer = await client.get(path)
    assert (answer.status_code, "link" in answer.headers) == (200, False)
    page = answer.json()
    first, second, third = page["attempts"]
    assert page["cursor"] is None
    assert list(first) == [
        "number",
        "run",
        "step",
        "function",
        "worker",
        "started_at",
        "finished_at",
        "outcome",
        "error",
        "traceback",
    ]
    assert (first["number"], first["run"], first["step"]) == (1, 1, 0)
    assert (first["function"], first["worker"]) == ("anything", "hands")
    assert (first["outcome"], first["traceback"]) == ("retried", TRACEBACK)
    assert first["error"]["type"] == urn("function-failed")
    assert first["error"]["retryable"] is True
    assert first["started_at"] <= first["finished_at"] <= second["finished_at"]
    assert (second["number"], second["outcome"], second["traceback"]) == (2, "lost", None)
    assert second["error"]["type"] == urn("worker-lost")
    assert (third["number"], third["outcome"], third["error"]) == (3, "done", None)


async def test_a_job_that_succeeded_at_once_has_its_attempts(
    client: httpx2.AsyncClient, hands: Hands
) -> None:
    """Derived from its record, in pages too."""
    path = await submitted(client, "anything", "add", "anything")
    assert (await client.get(path)).json() == {"attempts": [], "cursor": None}
    for function in ("anything", "add", "anything"):
        await hands.succeed(function)
    page = (await client.get(path, params={"limit": 2})).json()
    assert [(each["step"], each["outcome"]) for each in page["attempts"]] == [(0, "done"), (1, "done")]
    page = (await client.get(path, params={"cursor": page["cursor"]})).json()
    assert [each["function"] for each in page["attempts"]] == ["anything"]
    assert page["cursor"] is None


async def test_pages_follow_each_other(client: httpx2.AsyncClient, hands: Hands) -> None:
    """By ``Link``, over the gap of the attempts that were not kept, also while new ones come."""
    path = await submitted(client)
    for _ in range(KEPT_ATTEMPTS + 10):
        await fail(hands)
    seen: list[int] = []
    url = f"{path}?limit=6"
    while url:
        answer = await client.get(url)
        page = answer.json()
        assert len(page["attempts"]) <= 6
        seen += [each["number"] for each in page["attempts"]]
        assert ("link" in answer.headers) is (page["cursor"] is not None)
        url = answer.headers["link"].partition(">")[0][1:] if "link" in answer.headers else ""
    assert seen == [1, *range(11, KEPT_ATTEMPTS + 11)]
    await fail(hands)
    later = (await client.get(path, params={"cursor": KEPT_ATTEMPTS + 10})).json()
    assert [each["number"] for each in later["attempts"]] == [KEPT_ATTEMPTS + 11]


async def test_a_page_has_a_bounded_size(tmp_path: Path) -> None:
    """It ends early if its tracebacks are large, but never without an attempt."""
    app = make_app(tmp_path)
    app.engine.limits = type(app.limits)(page_bytes=40_000)
    await app.open()
    hands = Hands(app.engine.store)
    async with httpx2.AsyncClient(transport=transport(app), base_url="http://localhost") as client:
        path = await submitted(client)
        for size in (16_000, 16_000, 16_000, 100_000, 10):
            await fail(hands, "x" * size)
        cursor, counts = "", []
        while cursor is not None:
            page = (await client.get(path, params={"cursor": cursor} if cursor else {})).json()
            counts.append(len(page["attempts"]))
            cursor = page["cursor"]
    await app.close()
    assert counts == [2, 1, 1, 1]


async def test_a_retried_job_keeps_its_attempts(client: httpx2.AsyncClient, hands: Hands) -> None:
    """The new ones belong to the next run."""
    path = await submitted(client)
    await fail(hands, fatal=True)
    assert (await client.post(path.replace("attempt", "retry"))).status_code == 202
    await hands.succeed("anything")
    attempts = (await client.get(path)).json()["attempts"]
    assert [(each["run"], each["number"], each["outcome"]) for each in attempts] == [
        (1, 1, "failed"),
        (2, 1, "done"),
    ]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("limit=many", "/limit"),
        ("cursor=x", "/cursor"),
        ("cursor=-1", "/cursor"),
        ("cursor=99999999999", "/cursor"),
        ("cursor=%C2%B2", "/cursor"),
        ("state=failed", "/state"),
        ("limit=1&limit=2", "/limit"),
    ],
)
async def test_a_query_that_is_wrong_is_refused(
    client: httpx2.AsyncClient, hands: Hands, query: str, pointer: str
) -> None:
    """Naming the parameter."""
    answer = await client.get(f"{await submitted(client)}?{query}")
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]


async def test_attempts_of_no_job(client: httpx2.AsyncClient, hands: Hands) -> None:
    """404 for an unknown job, 410 for a removed one."""
    assert (await client.get("/v1/job/x/attempt")).status_code == 404
    assert (await client.get("/v1/job/01977f3c-0000-7000-8000-000000000000/attempt")).status_code == 404
    path = await submitted(client)
    await fail(hands, fatal=True)
    assert (await client.delete(path.removesuffix("/attempt"))).status_code == 204
    assert (await client.get(path)).status_code == 410


class TestSignIn:
    """With sign-in, a traceback needs a scope of its own."""

    @pytest.fixture
    async def app(self, tmp_path: Path) -> AsyncIterator[App]:
        app = make_app(tmp_path)
        app.auth = Auth(secret=SECRET, users=None)
        await app.open()
        yield app
        await app.close()

    @pytest.mark.parametrize(
        ("scopes", "traceback"),
        [
            ("job:read", None),
            ("job:read job:write", None),
            ("job:read job:debug", TRACEBACK),
            ("admin", TRACEBACK),
        ],
    )
    async def test_who_may_read_a_traceback(
        self, client: httpx2.AsyncClient, hands: Hands, scopes: str, traceback: str | None
    ) -> None:
        """Everyone who may read jobs sees the errors."""
        headers = {"Authorization": f"Bearer {token(claims(scope='job:write'))}"}
        path = await submitted(client, **headers)
        await fail(hands)
        reader = {"Authorization": f"Bearer {token(claims(scope=scopes))}"}
        (attempt,) = (await client.get(path, headers=reader)).json()["attempts"]
        assert (attempt["error"]["detail"], attempt["traceback"]) == ("no", traceback)

    async def test_debug_alone_reads_nothing(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """It adds to the scope that reads jobs."""
        headers = {"Authorization": f"Bearer {token(claims(scope='job:write job:debug'))}"}
        path = await submitted(client, **headers)
        assert (await client.get(path, headers=headers)).status_code == 403


async def test_a_wide_job_shows_all_its_attempts(client: httpx2.AsyncClient, hands: Hands) -> None:
    """Two hundred functions, of which one failed in between."""
    body = {"name": "wide", "functions": [[{"name": "anything", "retry_options": AGAIN}] * 200]}
    job_id = (await client.post("/v1/job", json=body)).json()["id"]
    (first, *rest) = await hands.store.claim("hands", ["anything"], 200, 60.0)
    await hands.end(first, Failed(lifecycle.attempt_of(first.lease), Problem(title="x")))
    (stored,) = await hands.store.find([job_id])
    assert hasattr(stored, "job")
    triggers = [Succeeded(lifecycle.attempt_of(claim.lease), b"1") for claim in rest]
    change = lifecycle.advance(stored.job, triggers, hands.store.now())
    assert await hands.store.commit([change]) == [None]
    await hands.succeed("anything")
    found, cursor = [], ""
    while cursor is not None:
        params = {"limit": "150"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"/v1/job/{job_id}/attempt", params=params)).json()
        found += [(each["step"], each["outcome"]) for each in page["attempts"]]
        cursor = page["cursor"]
    assert len(found) == 201
    assert found[0] == (first.lease.step, "retried")
    assert found[-1] == (first.lease.step, "done")
