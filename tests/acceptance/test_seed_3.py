"""The document of the third seed: its requests and responses and its six states, with separate workers."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any, NamedTuple

import httpx2
import pytest
from starlette.testclient import TestClient

from examples.maths.app import api, jobs
from raincheck import App, RaincheckError
from tests.acceptance.support import Command, Site, running
from tests.cli.processes import ROOT
from tests.servers import server

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("seed 3")]

FOLDER = ROOT / "examples" / "maths"
TARGET = f"{FOLDER / 'app.py'}:jobs"
TIMEOUT = 60.0

HEADERS = {"cache-control": "no-cache", "content-type": "application/json"}
BODY = """
   {
     "a": 2,
     "b": 3,
     "op": "math:multiply"
   }"""


class Maths(NamedTuple):
    """The API, and a worker that is not started yet."""

    client: httpx2.AsyncClient
    worker: Command
    store: str

    async def create(self, op: str, a: Any = 2, b: Any = 3, **more: Any) -> str:
        """Create a job; returns its id."""
        response = await self.client.post("/maths", json={"op": op, "a": a, "b": b, **more})
        assert response.status_code == 200
        return str(response.json()["res"])

    async def status(self, job_id: str) -> dict[str, Any]:
        """The state of a job."""
        response = await self.client.get(f"/maths/{job_id}")
        assert response.status_code == 200
        return dict(response.json())

    async def until(self, job_id: str, status: str) -> dict[str, Any]:
        """Wait until a job has this status; returns its state."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                response = await self.status(job_id)
                if response["status"] == status:
                    return response
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("valkey", marks=pytest.mark.long)])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of the store that the API and the worker share."""
    with tempfile.TemporaryDirectory(prefix="rc-") as folder:
        if request.param == "sqlite":
            yield f"sqlite:///{folder}/maths.db"
        else:
            with server(Path(folder), appendonly="yes", appendfsync="always") as valkey:
                yield valkey.url


@pytest.fixture
async def maths(store: str, tmp_path: Path) -> AsyncIterator[Maths]:
    """The API as a process, and a worker that the test starts as another one."""
    api = Site("app:api", FOLDER, tmp_path, RAINCHECK_STORE=store)
    worker = Command("worker", TARGET, RAINCHECK_STORE=store)
    async with running(api), httpx2.AsyncClient(base_url=await api.url(), timeout=90) as client:
        yield Maths(client, worker, store)
        if worker.running:
            await worker.stop()


async def test_the_document(maths: Maths) -> None:
    """Its two requests get its two responses. Without a worker, the job waits."""
    created = await maths.client.post("/maths", content=BODY, headers=HEADERS)
    assert created.status_code == 200
    assert created.json() == {"success": True, "res": created.json()["res"]}
    job_id = created.json()["res"]
    assert re.fullmatch(r"default@[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", job_id)
    assert await maths.status(job_id) == {"state_code": 2, "status": "PENDING", "res": None}
    await maths.worker.start()
    await maths.until(job_id, "COMPLETED")
    response = await maths.client.request("GET", f"/maths/{job_id}", content=BODY, headers=HEADERS)
    assert response.json() == {"state_code": 6, "status": "COMPLETED", "res": 6}


async def test_one_command_starts_the_api_and_its_workers(store: str, tmp_path: Path) -> None:
    """As the program of the document does."""
    api = Site("app:main", FOLDER, tmp_path, RAINCHECK_STORE=store)
    async with running(api), httpx2.AsyncClient(base_url=await api.url(), timeout=90) as client:
        maths = Maths(client, api, store)
        assert (await maths.until(await maths.create("math:multiply"), "COMPLETED"))["res"] == 6
        assert await api.stop() == -SIGTERM


async def test_every_operation(maths: Maths) -> None:
    """Each has its result."""
    await maths.worker.start()
    names = ("add", "subtract", "multiply", "divide")
    ids = [await maths.create(f"math:{name}", 3, 2) for name in names]
    results = [(await maths.until(job_id, "COMPLETED"))["res"] for job_id in ids]
    assert results == [5, 1, 6, 1.5]


async def test_active_and_retrying_and_failed(maths: Maths) -> None:
    """The states of jobs that a worker has claimed."""
    await maths.worker.start()
    slow, shy, bad = [
        await maths.create(op, 2, b)
        for op, b in (("math:slow-add", 3), ("math:shy-add", 3), ("math:divide", 0))
    ]
    assert await maths.until(slow, "ACTIVE") == {"state_code": 1, "status": "ACTIVE", "res": None}
    assert await maths.until(shy, "RETRYING") == {"state_code": 4, "status": "RETRYING", "res": None}
    failed = {"state_code": 5, "status": "FAILED", "res": None, "error": "division by zero"}
    assert await maths.until(bad, "FAILED") == failed
    assert [(await maths.until(job_id, "COMPLETED"))["res"] for job_id in (slow, shy)] == [5, 5]


async def test_future(maths: Maths) -> None:
    """A scheduled job waits until its time, with or without a worker, and is then done."""
    await maths.worker.start()
    later = await maths.create("math:add", delay=3600)
    soon = await maths.create("math:add", delay=4)
    assert await maths.status(soon) == {"state_code": 3, "status": "FUTURE", "res": None}
    assert (await maths.until(soon, "COMPLETED"))["res"] == 5
    assert await maths.status(later) == {"state_code": 3, "status": "FUTURE", "res": None}


async def test_a_cancelled_job_has_failed(maths: Maths) -> None:
    """The document has no state for it; the error differs."""
    job_id = await maths.create("math:add")
    async with App(maths.store) as app:
        await app.cancel(job_id.partition("@")[2])
    cancelled = {"state_code": 5, "status": "FAILED", "res": None, "error": "it was cancelled"}
    assert await maths.status(job_id) == cancelled


BAD = {
    "malformed": "maths",
    "truncated": "",
    "`object`": "[2, 3]",
    "`b`": '{"a": 2, "op": "math:add"}',
    "`$.a`": '{"a": "2", "b": 3, "op": "math:add"}',
    "`c`": '{"a": 2, "b": 3, "c": 4, "op": "math:add"}',
    "/delay": '{"a": 2, "b": 3, "op": "math:add", "delay": -1}',
    "'math:power'": '{"a": 2, "b": 3, "op": "math:power"}',
}


async def test_bad_input_is_refused(maths: Maths) -> None:
    """The message names the invalid part."""
    for word, body in BAD.items():
        response = await maths.client.post("/maths", content=body)
        assert (response.status_code, response.json()["success"]) == (400, False)
        assert word in response.json()["error"]


async def test_an_unknown_job_is_not_found(maths: Maths) -> None:
    """Nor a job of another queue, nor an invalid id."""
    job_id = (await maths.create("math:add")).partition("@")[2]
    unknown = "f6404090-f2bb-4490-8478-075aa95b29d1"
    for wrong in (f"default@{unknown}", f"other@{job_id}", job_id, "default@", "default@default@x"):
        response = await maths.client.get(f"/maths/{wrong}")
        assert (response.status_code, response.json()["success"]) == (404, False)


def test_a_handler_added_after_the_start_changes_nothing(tmp_path: Path) -> None:
    """It is an error, and the running API does not have the handler."""
    jobs.url = f"sqlite:///{tmp_path}/maths.db"
    with TestClient(api) as client:
        with pytest.raises(RaincheckError, match="the app has started"):
            jobs.function("math:power")(pow)
        response = client.post("/maths", json={"op": "math:power", "a": 2, "b": 3})
        assert response.status_code == 400
        assert "there is no op 'math:power'" in response.json()["error"]
