"""Large results over HTTP: shown wherever small ones are."""

from __future__ import annotations

import asyncio

import httpx2

from tests.server.hands import Hands

LARGE = "x" * 50_000


async def submitted(client: httpx2.AsyncClient) -> str:
    """The path of a job of one step."""
    answer = await client.post("/v1/job", json={"name": "large", "functions": [{"name": "anything"}]})
    assert answer.status_code == 202
    return f"/v1/job/{answer.json()['id']}"


async def test_a_job_is_shown_with_its_large_results(client: httpx2.AsyncClient, hands: Hands) -> None:
    """Alone and in a listing."""
    path = await submitted(client)
    await hands.succeed("anything", result=LARGE)
    alone = (await client.get(path)).json()
    assert (alone["result"], alone["functions"][0]["result"]) == (LARGE, LARGE)
    assert (await client.get("/v1/job?full=1")).json()["jobs"] == [alone]


async def test_a_wait_ends_with_a_large_result(client: httpx2.AsyncClient, hands: Hands) -> None:
    """Whether it began with the job or later."""
    body = {"name": "large", "functions": [{"name": "anything"}]}
    creating = asyncio.create_task(client.post("/v1/job", json=body, headers={"Prefer": "wait=5"}))
    await hands.succeed("anything", result=LARGE)
    assert (await creating).json()["result"] == LARGE
    path = await submitted(client)
    polling = asyncio.create_task(client.get(path, headers={"Prefer": "wait=5"}))
    await hands.succeed("anything", result=LARGE)
    assert (await polling).json()["result"] == LARGE


async def test_a_call_is_answered_with_a_large_result(client: httpx2.AsyncClient, hands: Hands) -> None:
    """As with any other."""
    calling = asyncio.create_task(client.post("/v1/function/anything", headers={"Prefer": "wait=5"}))
    await hands.succeed("anything", result=[LARGE, 1])
    answer = await calling
    assert (answer.status_code, answer.json()["result"]) == (200, [LARGE, 1])


async def test_a_deleted_job_is_gone_with_its_results(client: httpx2.AsyncClient, hands: Hands) -> None:
    """And a later one shows only its own."""
    path = await submitted(client)
    await hands.succeed("anything", result=LARGE)
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 410
    assert (await client.get("/v1/job")).json()["jobs"] == []
