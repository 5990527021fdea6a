"""The second seed: one server and two workers, apart, on one Valkey; its chain, and a worker that dies."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.support import Command, running
from tests.cli.processes import ROOT
from tests.servers import Server, server

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]

TARGET = f"{ROOT / 'examples' / 'chain' / 'app.py'}:app"
LEASE = "2"
PATIENCE = 20.0
CHAIN = {
    "name": "test",
    "functions": [
        {"name": name, "retry_options": {"retry_limit": 3}}
        for name in ("/v1/test-1", "/v1/test-2", "/v1/say-hello-world")
    ],
}


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    """The store of them all."""
    with (
        tempfile.TemporaryDirectory(prefix="rc-") as folder,
        server(Path(folder), appendonly="yes", appendfsync="always") as made,
    ):
        yield made


@pytest.fixture
async def workers(valkey: Server) -> AsyncIterator[tuple[httpx2.AsyncClient, list[Command]]]:
    """A client of the server, and the two workers."""
    valkey.flush()
    api = Command("server", TARGET, "--store", valkey.url, "--port", "0")
    two = [Command("worker", TARGET, "--store", valkey.url, "--lease", LEASE) for _ in range(2)]
    async with running(api, *two), httpx2.AsyncClient(base_url=await api.url(), timeout=30) as client:
        yield client, two


async def until_workers(
    client: httpx2.AsyncClient, holds: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """The workers that the server lists, once they are as they should be."""
    async with asyncio.timeout(PATIENCE):
        while True:
            listed: list[dict[str, Any]] = (await client.get("/v1/worker")).json()
            if holds(listed):
                return listed
            await asyncio.sleep(0.1)


async def run_chain(client: httpx2.AsyncClient) -> dict[str, Any]:
    """The seed's chain, once it has ended."""
    answer = await client.post("/v1/job", json=CHAIN)
    assert answer.status_code == 202
    ended = await client.get(answer.headers["Location"], headers={"Prefer": "wait=20"})
    job: dict[str, Any] = ended.json()
    return job


async def test_two_workers_are_there_with_what_they_offer(
    workers: tuple[httpx2.AsyncClient, list[Command]],
) -> None:
    """Active, each with its functions."""
    listed = await until_workers(workers[0], lambda listed: len(listed) == 2)
    assert [worker["state"] for worker in listed] == ["active", "active"]
    assert "/v1/test-1" in str(listed[0])


async def test_the_chain_is_done_in_one_attempt_each(
    workers: tuple[httpx2.AsyncClient, list[Command]],
) -> None:
    """With the last function as the current one, as the seed's document shows."""
    job = await run_chain(workers[0])
    assert (job["state"], job["current_function"]) == ("done", 2)
    assert [function["retry_count"] for function in job["functions"]] == [1, 1, 1]


async def test_a_killed_worker_is_seen_and_the_other_goes_on(
    workers: tuple[httpx2.AsyncClient, list[Command]],
) -> None:
    """It is unhealthy or gone, and chains are done all the same."""
    client, (first, _) = workers
    await until_workers(client, lambda listed: [w["state"] for w in listed] == ["active"] * 2)
    await first.kill()
    for job in await asyncio.gather(*(run_chain(client) for _ in range(20))):
        assert (job["state"], job["current_function"]) == ("done", 2)
        assert [function["retry_count"] for function in job["functions"]] == [1, 1, 1]
    await until_workers(client, lambda listed: [w["state"] for w in listed].count("active") == 1)
