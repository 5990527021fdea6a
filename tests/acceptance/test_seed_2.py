"""The second seed: a server and two workers as processes on one Valkey, its chain, and a worker that dies."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from raincheck.core.clock import new_id
from raincheck.version import VERSION
from tests.acceptance import gated
from tests.acceptance.support import Command, running
from tests.cli.processes import ROOT
from tests.servers import Server, server

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("seed 2")]

EXAMPLE = ROOT / "examples" / "chain"
TARGET = f"{EXAMPLE / 'app.py'}:app"
OTHER_TARGET = f"{gated.__file__}:app"
CHAIN = (EXAMPLE / "job_chain.json").read_text("utf-8")
FUNCTIONS = ["/v1/say-hello-world", "/v1/test-1", "/v1/test-2", "/v1/test-fail"]
LEASE = "2"
TIMEOUT = 60.0
JSON = {"Content-Type": "application/json"}

Listed = list[dict[str, Any]]


class Topology(NamedTuple):
    """A client of the server, the two workers, and their store."""

    client: httpx2.AsyncClient
    workers: list[Command]
    store: str


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    """The store."""
    with (
        tempfile.TemporaryDirectory(prefix="rc-") as folder,
        server(Path(folder), appendonly="yes", appendfsync="always") as valkey,
    ):
        yield valkey


def worker(target: str, store: str, concurrency: int) -> Command:
    """A worker that is not started yet."""
    options = ("--lease", LEASE, "--concurrency", str(concurrency))
    return Command("worker", target, "--store", store, *options)


@asynccontextmanager
async def started(store: str) -> AsyncIterator[Topology]:
    """A server and two registered workers."""
    api = Command("server", TARGET, "--store", store, "--port", "0")
    two = [worker(TARGET, store, concurrency) for concurrency in (3, 5)]
    async with running(api, *two), httpx2.AsyncClient(base_url=await api.url(), timeout=90) as client:
        await until_workers(client, lambda listed: states(listed) == ["active", "active"])
        yield Topology(client, two, store)


@pytest.fixture(scope="module")
async def calm(valkey: Server) -> AsyncIterator[Topology]:
    """The topology of all tests that stop no process."""
    async with started(f"{valkey.url}?namespace=calm") as topology:
        yield topology


@pytest.fixture
async def topology(valkey: Server) -> AsyncIterator[Topology]:
    """A topology whose workers a test can stop."""
    async with started(f"{valkey.url}?namespace={new_id()}") as topology:
        yield topology


async def until_workers(client: httpx2.AsyncClient, condition: Callable[[Listed], bool]) -> Listed:
    """Wait until the condition holds for the listed workers; returns them."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            listed: Listed = (await client.get("/v1/worker")).json()
            if condition(listed):
                return listed
            await asyncio.sleep(0.1)


async def until(
    client: httpx2.AsyncClient, job: dict[str, Any], condition: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Wait until the condition holds for a job; returns it."""
    async with asyncio.timeout(TIMEOUT):
        while not condition(job):
            job = (await client.get(f"/v1/job/{job['id']}")).json()
    return job


def states(listed: Listed) -> list[str]:
    """The states of workers, sorted."""
    return sorted(each["state"] for each in listed)


async def run(client: httpx2.AsyncClient, body: str | dict[str, Any]) -> dict[str, Any]:
    """Submit a job, and wait until it has ended."""
    content = {"content": body} if isinstance(body, str) else {"json": body}
    response = await client.post("/v1/job", headers=JSON, **content)
    assert response.status_code == 202
    ended = await client.get(response.headers["Location"], headers={"Prefer": "wait=60"})
    job: dict[str, Any] = ended.json()
    return job


def assert_is_as_in_the_document(job: dict[str, Any]) -> None:
    """Check that the chain is as in the document of the seed."""
    assert (job["name"], job["state"], job["current_function"]) == ("test", "done", 2)
    assert [(f["name"], f["retry_count"], f["retry_options"]["retry_limit"]) for f in job["functions"]] == [
        ("/v1/test-1", 1, 3),
        ("/v1/test-2", 1, 3),
        ("/v1/say-hello-world", 1, 3),
    ]


async def offering(topology: Topology) -> list[dict[str, Any]]:
    """The active workers with the functions of the chain."""
    listed = (await topology.client.get("/v1/worker")).json()
    return [each for each in listed if (each["state"], each["functions"]) == ("active", FUNCTIONS)]


async def test_two_workers_are_listed_with_their_functions(calm: Topology) -> None:
    """They are active, and have their capacity and version."""
    listed = await offering(calm)
    assert sorted(each["concurrency"] for each in listed) == [3, 5]
    assert [each["version"] for each in listed] == [VERSION, VERSION]
    assert len({each["id"] for each in listed}) == len({each["pid"] for each in listed}) == 2


async def test_the_chain_is_done_in_one_attempt_each(calm: Topology) -> None:
    """The last function is the current one, as in the document of the seed."""
    assert_is_as_in_the_document(await run(calm.client, CHAIN))


async def test_both_workers_run_jobs(calm: Topology) -> None:
    """After some jobs, each worker has run at least one of them."""
    workers = {each["id"] for each in await offering(calm)}
    ran: set[str] = set()
    async with asyncio.timeout(TIMEOUT):
        while ran != workers:
            jobs = await asyncio.gather(*(run(calm.client, CHAIN) for _ in range(20)))
            ran |= {function["worker"] for job in jobs for function in job["functions"]}
            assert ran <= workers


async def test_a_job_goes_only_to_a_worker_that_offers_its_function(calm: Topology, tmp_path: Path) -> None:
    """Until then the job waits, and names the function."""
    client, gate = calm.client, tmp_path / "gate"
    gate.touch()
    functions = [{"name": "/v1/test-1"}, {"name": "gated", "args": [str(gate)]}, {"name": "/v1/test-2"}]
    job = (await client.post("/v1/job", json={"name": "mixed", "functions": functions})).json()
    job = await until(client, job, lambda job: job["waiting_for"] == ["gated"])
    assert (job["state"], job["current_function"], job["functions"][1]["started_at"]) == ("pending", 1, None)
    async with running(worker(OTHER_TARGET, calm.store, 1)):
        ended = (await client.get(f"/v1/job/{job['id']}", headers={"Prefer": "wait=60"})).json()
        offers = {each["id"]: each["functions"] for each in (await client.get("/v1/worker")).json()}
    assert ended["state"] == "done"
    assert [offers[function["worker"]] for function in ended["functions"]] == [
        FUNCTIONS,
        ["gated"],
        FUNCTIONS,
    ]


async def test_a_killed_worker_is_unhealthy(topology: Topology) -> None:
    """Within its lease. The other one continues, and chains are done."""
    await topology.workers[0].kill()
    for job in await asyncio.gather(*(run(topology.client, CHAIN) for _ in range(20))):
        assert_is_as_in_the_document(job)
    listed = await until_workers(topology.client, lambda listed: states(listed) == ["active", "unhealthy"])
    assert [each["concurrency"] for each in listed if each["state"] == "unhealthy"] == [3]


async def test_a_stopped_worker_is_removed(topology: Topology) -> None:
    """Immediately, as it removes itself."""
    assert await topology.workers[0].stop() == 0
    listed = (await topology.client.get("/v1/worker")).json()
    assert [(each["state"], each["concurrency"]) for each in listed] == [("active", 5)]


async def test_another_worker_runs_the_attempts_of_a_killed_worker(
    topology: Topology, tmp_path: Path
) -> None:
    """Within its lease and two seconds. The attempt counts as lost, not as failed."""
    client, gate = topology.client, tmp_path / "gate"
    one, other = (worker(OTHER_TARGET, topology.store, 1) for _ in range(2))
    async with running(one):
        functions = [{"name": "gated", "args": [str(gate)]}]
        job = (await client.post("/v1/job", json={"name": "lost", "functions": functions})).json()
        await until(client, job, lambda job: job["state"] == "doing")
        await one.kill()
    gate.touch()
    async with running(other):
        ended = await client.get(f"/v1/job/{job['id']}", headers={"Prefer": "wait=60"})
    (function,) = ended.json()["functions"]
    assert (function["result"], function["retry_count"], function["lost_count"]) == ("let go", 1, 1)
