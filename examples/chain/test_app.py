"""Tests of this example, with a store in memory and a clock that they move."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from examples.chain import app as chain
from raincheck.testing import context, running


async def test_the_chain_of_the_file_over_http() -> None:
    """Submit, run, and read the result, without a server."""
    transport = httpx2.ASGITransport(chain.app.asgi)
    body = Path(__file__).with_name("job_chain.json").read_bytes()
    async with (
        running(chain.app) as worker,
        httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http,
    ):
        response = await http.post("/v1/job", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 202
        assert await worker.drain() == 3
        job = (await http.get(response.headers["location"])).json()
    assert job["state"] == "done"
    assert job["result"] == "Hello, world!"


async def test_a_function_by_itself() -> None:
    """With a context that the test makes."""
    ctx = context(function="/v1/test-1")
    assert await chain.test_1(ctx) == "test-1 was here"
    assert ctx.changes == {"left by": "/v1/test-1"}


async def test_a_failure_is_raised_in_the_test() -> None:
    """As the function raised it."""
    async with running(chain.app) as worker:
        await chain.app.submit("fail", [chain.test_fail.step(1)])
        with pytest.raises(RuntimeError, match=r"attempt 1 with \[1\] failed"):
            await worker.drain()
