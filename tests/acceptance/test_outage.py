"""The store of a server and a worker becomes unavailable: both report it, keep running, and recover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.acceptance import gated
from tests.acceptance.support import Command, running
from tests.folders import on_disk
from tests.problems import urn
from tests.servers import Server, free_port, server

pytestmark = pytest.mark.acceptance

TARGET = f"{gated.__file__}:app"
TIMEOUT = 60.0
"""Seconds that are enough for everything, unless it is broken."""

SHORT_TIMEOUT = 20.0
"""Seconds that are fewer than the lease, to show that nothing waits until the lease ends."""


class Running(NamedTuple):
    """A client of the server, and the commands."""

    client: httpx2.AsyncClient
    api: Command
    worker: Command


@pytest.fixture
def valkey() -> Iterator[Server]:
    """The store; it syncs every write."""
    with on_disk() as folder, server(folder, appendonly="yes", appendfsync="always") as valkey:
        yield valkey


@pytest.fixture
async def started(valkey: Server) -> AsyncIterator[Running]:
    """A server and a worker."""
    api = Command("server", TARGET, "--store", valkey.url, "--port", "0")
    worker = Command("worker", TARGET, "--store", valkey.url, "--lease", "60")
    async with running(api, worker), httpx2.AsyncClient(base_url=await api.url(), timeout=90) as client:
        yield Running(client, api, worker)


def take_away(valkey: Server, how: str) -> None:
    """Make the store unavailable."""
    {"killed": valkey.kill, "frozen": valkey.freeze}[how]()


async def give_back(valkey: Server, how: str) -> None:
    """Make it available again, with its data."""
    await asyncio.to_thread({"killed": valkey.start, "frozen": valkey.thaw}[how])


async def submitted(client: httpx2.AsyncClient, gate: Path, key: str) -> httpx2.Response:
    """Submit a job that runs until the file ``gate`` exists; returns the response."""
    body = {"name": "job", "functions": [{"name": "gated", "args": [str(gate)]}]}
    headers = {"Idempotency-Key": f'"{key}"', "Prefer": "respond-async"}
    return await client.post("/v1/job", json=body, headers=headers)


async def until(client: httpx2.AsyncClient, path: str, status: int) -> httpx2.Response:
    """Wait for a response with this status."""
    async with asyncio.timeout(TIMEOUT):
        while (response := await client.get(path)).status_code != status:
            continue
    return response


async def until_begun(client: httpx2.AsyncClient, gate: Path) -> None:
    """Wait until an attempt runs. A job is ``doing`` before: its worker may not have read the claim yet."""
    async with asyncio.timeout(TIMEOUT):
        while not gated.started(gate).exists():
            await client.get("/healthz")


async def ended(client: httpx2.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    """Wait until a job has ended."""
    response = await client.get(f"/v1/job/{job['id']}", headers={"Prefer": "wait=60"})
    document: dict[str, Any] = response.json()
    return document


@pytest.mark.parametrize("how", ["killed", pytest.param("frozen", marks=pytest.mark.long)])
async def test_no_job_is_lost_in_an_outage(
    started: Running, valkey: Server, tmp_path: Path, how: str
) -> None:
    """Requests get 503 with Retry-After, running attempts are recorded once, and new jobs run right after."""
    client, gate = started.client, tmp_path / "gate"
    before = (await submitted(client, gate, "before")).json()
    await until_begun(client, gate)

    take_away(valkey, how)
    not_ready = await until(client, "/readyz", 503)
    refused, listing = await asyncio.gather(submitted(client, gate, "meanwhile"), client.get("/v1/job"))
    gate.touch()  # the attempt ends while its result cannot be written
    alive = await client.get("/healthz")
    await give_back(valkey, how)

    assert (not_ready.json()["type"], not_ready.headers["retry-after"]) == (urn("not-ready"), "2")
    for response in (refused, listing):
        assert (response.status_code, response.json()["type"]) == (503, urn("store-unavailable"))
        assert response.headers["retry-after"] == "2"
    assert alive.status_code == 200
    await until(client, "/readyz", 200)
    async with asyncio.timeout(SHORT_TIMEOUT):
        again = await submitted(client, gate, "meanwhile")
        assert (await ended(client, again.json()))["state"] == "done"
    (function,) = (await ended(client, before))["functions"]
    assert (function["result"], function["retry_count"], function["lost_count"]) == ("let go", 1, 0)
    assert len((await client.get("/v1/job")).json()["jobs"]) == 2
    assert [await command.stop() for command in (started.api, started.worker)] == [0, 0]


async def test_a_store_can_be_restarted_ten_times(started: Running, valkey: Server, tmp_path: Path) -> None:
    """The server and the worker reconnect, and jobs are done after each restart."""
    client, gate = started.client, tmp_path / "gate"
    gate.touch()
    for turn in range(10):
        valkey.stop()
        await asyncio.to_thread(valkey.start)
        async with asyncio.timeout(SHORT_TIMEOUT):
            while (response := await submitted(client, gate, f"{turn}")).status_code == 503:
                continue
            assert (await ended(client, response.json()))["state"] == "done"
    assert len((await client.get("/v1/job")).json()["jobs"]) == 10


@pytest.mark.parametrize("role", ["server", "worker"])
async def test_no_command_starts_without_its_store(role: str) -> None:
    """It ends within seconds, with the reason; a supervisor can restart it."""
    command = Command(role, TARGET, "--store", f"redis://127.0.0.1:{free_port()}", "--log-level", "error")
    async with running(command), asyncio.timeout(TIMEOUT):
        assert await command.ended() == 4
    assert "the server cannot be reached" in command.printed[-1]
