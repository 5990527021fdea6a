"""Tests of this example: its own routes, with a store in memory and a clock that they move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from examples.maths.app import api, jobs
from raincheck.testing import ManualWorker, running


@pytest.fixture
async def worker() -> AsyncIterator[ManualWorker]:
    """The app, and a worker that runs its jobs when a test says so."""
    async with running(jobs) as worker:
        yield worker


@pytest.fixture
async def http(worker: ManualWorker) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the API, without a port."""
    transport = httpx2.ASGITransport(api)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def submitted(http: httpx2.AsyncClient, **body: Any) -> str:
    """The path of a new job."""
    answer = (await http.post("/maths", json=body)).json()
    assert answer["success"]
    return f"/maths/{answer['res']}"


async def test_a_result(http: httpx2.AsyncClient, worker: ManualWorker) -> None:
    """Once a worker has run the job."""
    path = await submitted(http, op="math:multiply", a=6, b=7)
    assert (await http.get(path)).json() == {"state_code": 2, "status": "PENDING", "res": None}
    assert await worker.drain() == 1
    assert (await http.get(path)).json() == {"state_code": 6, "status": "COMPLETED", "res": 42}


async def test_a_delay(http: httpx2.AsyncClient, worker: ManualWorker) -> None:
    """An hour passes in no time."""
    path = await submitted(http, op="math:add", a=1, b=2, delay=3600)
    assert (await http.get(path)).json()["status"] == "FUTURE"
    assert await worker.run_for(3599) == 0
    assert await worker.run_for(1) == 1
    assert (await http.get(path)).json()["res"] == 3


async def test_a_retry(http: httpx2.AsyncClient, worker: ManualWorker) -> None:
    """It comes three seconds later."""
    path = await submitted(http, op="math:shy-add", a=1, b=2)
    await worker.drain()
    assert (await http.get(path)).json()["status"] == "RETRYING"
    await worker.run_for(3)
    assert (await http.get(path)).json()["res"] == 3


async def test_a_failure(http: httpx2.AsyncClient, worker: ManualWorker) -> None:
    """Is part of the API here, so the worker must not raise it."""
    path = await submitted(http, op="math:divide", a=1, b=0)
    await worker.drain(raise_errors=False)
    document = (await http.get(path)).json()
    assert (document["status"], document["error"]) == ("FAILED", "division by zero")
