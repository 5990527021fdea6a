"""Workers over HTTP, on every store: register, claim, extend, finish, release and leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from raincheck import App
from raincheck.engine.maintenance import Maintenance
from tests.server.remote import job, register, submit

WAIT = 30.0
"""Seconds that a claim waits for a step at most, longer than any test takes."""


@pytest.fixture
async def servers(url: str) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """Clients of two servers that share a store."""
    apps = [App(url), App(url)]
    clients = []
    for app in apps:
        await app.open()
        transport = httpx2.ASGITransport(app.asgi)
        clients.append(httpx2.AsyncClient(transport=transport, base_url="http://localhost"))
    yield clients
    for client, app in zip(clients, apps, strict=True):
        await client.aclose()
        await app.close()


async def test_a_chain_runs(servers: list[httpx2.AsyncClient]) -> None:
    """Each step gets the result before it and the data that was changed."""
    http, _ = servers
    worker = await register(http, "add", "double")
    job_id = await submit(http, {"name": "add", "args": [1, 2]}, "double", data={"a": 1})
    first = await worker.claim_one()
    assert (first["function"], first["args"], first["previous"]) == ("add", [1, 2], None)
    assert await worker.succeed(first, 3, data={"b": 2}) == "done"
    second = await worker.claim_one()
    assert (second["previous"], second["data"]) == (3, {"a": 1, "b": 2})
    assert await worker.succeed(second, 6) == "done"
    ended = await job(http, job_id)
    assert (ended["state"], ended["result"], ended["data"]) == ("done", 6, {"a": 1, "b": 2})


async def test_a_parallel_stage_ends_in_one_call(servers: list[httpx2.AsyncClient]) -> None:
    """All outcomes of a job become one change."""
    http, _ = servers
    worker = await register(http, "add", "total", capacity=10)
    job_id = await submit(http, [{"name": "add", "args": [i]} for i in range(10)], "total")
    attempts = await worker.claim(10)
    ended = [{"id": each["id"], "result": each["args"][0]} for each in attempts]
    assert await worker.finish(*ended) == ["done"] * 10
    (last,) = await worker.claim(10)
    assert last["previous"] == list(range(10))
    await worker.succeed(last, 45)
    assert (await job(http, job_id))["result"] == 45


async def test_a_claim_waits_for_a_step_that_comes_on_another_server(
    servers: list[httpx2.AsyncClient],
) -> None:
    """Registered on one, claimed and finished on the other: servers hold no state."""
    one, other = servers
    worker = await register(one, "add")
    claiming = asyncio.create_task(worker.at(other).claim(1, WAIT))
    job_id = await submit(one, "add")
    (attempt,) = await claiming
    extended = await worker.extend({"id": attempt["id"], "progress": {"done": 1, "total": 2}})
    assert extended == {"lease": 15.0, "stop": [], "claim": True}
    assert (await job(other, job_id))["functions"][0]["progress"] == {"done": 1.0, "total": 2.0}
    assert await worker.at(other).succeed(attempt, 1) == "done"
    assert await worker.succeed(attempt, 2) == "lost"
    assert (await job(one, job_id))["result"] == 1


async def test_a_failed_attempt_is_retried_as_the_registration_says(
    servers: list[httpx2.AsyncClient],
) -> None:
    """The journal shows the error and the traceback of each attempt."""
    http, _ = servers
    worker = await register(http, {"name": "add", "retry_options": {"retry_limit": 2, "delay": 0}})
    job_id = await submit(http, "add")
    assert await worker.fail(await worker.claim_one(), traceback="at add:1") == "retried"
    second = await worker.claim_one()
    assert second["attempt"] == 2
    assert await worker.fail(second) == "failed"
    ended = await job(http, job_id)
    assert (ended["state"], ended["error"]["exception"]) == ("failed", "ValueError")
    shown = (await http.get(f"/v1/job/{job_id}/attempt")).json()["attempts"]
    assert [(each["outcome"], each["traceback"]) for each in shown] == [
        ("retried", "at add:1"),
        ("failed", None),
    ]


async def test_what_was_released_runs_again_as_the_first_attempt(
    servers: list[httpx2.AsyncClient],
) -> None:
    """On another worker."""
    http, other = servers
    worker = await register(http, "add")
    job_id = await submit(http, "add")
    attempt = await worker.claim_one()
    assert await worker.release(attempt) == 204
    assert await worker.succeed(attempt) == "lost"
    again = await (await register(other, "add")).claim_one()
    assert (again["attempt"], again["job"]) == (1, job_id)


async def test_a_cancelled_attempt_is_told_and_ends(servers: list[httpx2.AsyncClient]) -> None:
    """The next extend says so, whatever the worker then sends."""
    http, _ = servers
    worker = await register(http, "add")
    job_id = await submit(http, "add")
    attempt = await worker.claim_one()
    await http.post(f"/v1/job/{job_id}/cancel")
    extended = await worker.extend({"id": attempt["id"]})
    assert extended["stop"] == [{"id": attempt["id"], "reason": "cancelled"}]
    assert await worker.finish({"id": attempt["id"], "stopped": True}) == ["cancelled"]
    assert (await job(http, job_id))["state"] == "cancelled"


async def test_a_silent_worker_loses_its_attempts(servers: list[httpx2.AsyncClient], url: str) -> None:
    """Another one runs them; what the first one sends later is not wanted."""
    http, _ = servers
    worker = await register(http, "add", lease=1)
    job_id = await submit(http, "add")
    attempt = await worker.claim_one()
    app = App(url)
    await app.open()
    async with Maintenance(app.engine):
        other = await register(http, "add")
        (again,) = await other.claim(1, WAIT)
    await app.close()
    assert (again["job"], again["attempt"]) == (job_id, 2)
    answer = await worker.send("finish", {"attempts": [{"id": attempt["id"], "result": 1}]})
    assert (answer.status_code, "register again" in answer.json()["detail"]) == (404, True)
    assert await other.succeed(again, 2) == "done"
    assert (await job(http, job_id))["result"] == 2


async def test_a_worker_that_leaves_is_not_known_any_more(servers: list[httpx2.AsyncClient]) -> None:
    """On no server, once the other one has looked."""
    http, _ = servers
    worker = await register(http, "add")
    (shown,) = (await http.get("/v1/worker")).json()
    assert (shown["id"], shown["name"], shown["state"]) == (worker.id, "node-1", "active")
    await worker.extend(state="stopping")
    assert (await http.get("/v1/worker")).json()[0]["state"] == "stopping"
    assert await worker.leave() == 204
    assert (await http.get("/v1/worker")).json() == []
    assert (await worker.send("claim", {})).status_code == 404
