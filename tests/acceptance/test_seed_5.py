"""The document of the fifth seed: triggering groups, the status of jobs, and errors of invalid groups."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.cli.processes import ROOT
from tests.servers import server

pytestmark = pytest.mark.acceptance

FOLDER = ROOT / "examples" / "groups"
TIMEOUT = 60.0
RUNNING = re.compile(r"Uvicorn running on (http://\S+)")


@pytest.fixture(params=["sqlite", pytest.param("valkey", marks=pytest.mark.long)])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of the store."""
    with tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as name:
        if request.param == "sqlite":
            yield f"sqlite:///{name}/jobs.db"
        else:
            with server(Path(name)) as valkey:
                yield valkey.url


@pytest.fixture
async def client(store: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the example, which runs as its README says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "app:api", "--port", "0"),
        stderr=asyncio.subprocess.PIPE,
        cwd=FOLDER,
        env=os.environ | {"RAINCHECK_STORE": store},
    )
    assert process.stderr is not None
    try:
        async for line in process.stderr:
            if match := RUNNING.search(line.decode()):
                break
        else:
            raise AssertionError("it ended before it listened")
        async with httpx2.AsyncClient(base_url=match[1], timeout=TIMEOUT) as client:
            yield client
    finally:
        process.terminate()
        await process.communicate()


async def until(client: httpx2.AsyncClient, path: str, state: str) -> None:
    """Wait until a job is in this state."""
    async with asyncio.timeout(TIMEOUT):
        while (response := (await client.get(path)).json())["state"] != state:
            assert response["state"] in ("PENDING", "STARTED"), response


async def test_the_jobs_of_a_group_run_to_their_end(client: httpx2.AsyncClient) -> None:
    """The response has the paths of the jobs in order, and each path has the state of its job."""
    response = await client.get("/group/group_a")
    assert (response.status_code, list(response.json())) == (200, ["Check job status at"])
    paths = response.json()["Check job status at"]
    assert len(paths) == 3
    assert all(re.fullmatch(r"/status/[0-9a-f-]{36}", path) for path in paths)
    for path in paths:
        await until(client, path, "SUCCESS")
        response = await client.get(path)
        assert response.text == f'{{"state":"SUCCESS","task_id":"{path.removeprefix("/status/")}"}}'
    names = [(await client.get(f"/v1/job/{path[8:]}")).json()["name"] for path in paths]
    assert names == ["job_a1", "job_a2", "job_a3"]


async def test_an_unknown_job(client: httpx2.AsyncClient) -> None:
    """The message is the one in the document."""
    response = await client.get("/status/dummy")
    assert (response.status_code, response.text) == (404, "Job with given id doesn't exists : dummy")


async def test_invalid_groups_do_not_affect_the_others(client: httpx2.AsyncClient) -> None:
    """Each has its errors, with their location in the file."""
    wrong = {name: await client.get(f"/group/{name}") for name in ("group_b", "group_c")}
    assert {response.status_code for response in wrong.values()} == {422}
    faults = {name: response.json()["faults"] for name, response in wrong.items()}
    assert [len(each) for each in faults.values()] == [3, 1]
    assert faults["group_c"] == ["config.yaml:27: a group needs at least one job"]
    assert (await client.get("/group/group_x")).status_code == 404
    assert (await client.get("/v1/job")).json()["jobs"] == []
    assert (await client.get("/group/group_a")).status_code == 200


async def test_a_job_that_never_ends_can_be_cancelled(client: httpx2.AsyncClient) -> None:
    """By its id, through raincheck's own API."""
    (path,) = (await client.get("/group/group_d")).json()["Check job status at"]
    await until(client, path, "STARTED")
    assert (await client.post(f"/v1/job/{path[8:]}/cancel")).status_code == 202
    async with asyncio.timeout(TIMEOUT):
        while (await client.get(path)).json()["state"] != "REVOKED":
            pass
