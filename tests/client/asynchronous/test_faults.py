"""A client when the server, or the network in between, fails."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import httpx2
import pytest

from raincheck import AsyncClient, StoreError, Unreachable
from tests.client.asynchronous.compat import together
from tests.client.servers import Gateway, Proxy, in_thread, plain_response, problem_response, server
from tests.servers import free_port


async def job_ids(client: AsyncClient, name: str) -> list[str]:
    """The ids of all jobs of a name."""
    return [job.id async for job in client.jobs(name=name)]


async def test_a_submission_whose_response_is_cut_off_makes_one_job(wire: Proxy) -> None:
    """The next attempt has the same key, and finds the job of the first."""
    async with AsyncClient(wire.url) as client:
        wire.cuts = 3
        job = await client.submit("cut", ["add"])
        assert wire.cuts == 0
        assert await job_ids(client, "cut") == [job.id]


async def test_a_call_whose_response_is_cut_off_makes_one_job(wire: Proxy) -> None:
    """It returns that job's result."""
    async with AsyncClient(wire.url) as client:
        wire.cuts = 2
        assert await client.call("echo", "cut call") == "cut call"
        results = [(await client.status(job.id)).result() async for job in client.jobs(name="echo")]
        assert results.count("cut call") == 1


async def test_without_a_key_two_jobs_are_made(wire: Proxy) -> None:
    """This shows that the key prevents it."""
    async with AsyncClient(wire.url) as client:
        wire.cuts = 1
        await client.request("POST", "/v1/job", b'{"name": "keyless", "functions": [{"name": "add"}]}')
        assert len(await job_ids(client, "keyless")) == 2


async def test_every_attempt_has_the_same_key(front: Gateway) -> None:
    """Every submission has another one."""
    async with AsyncClient(front.url) as client:
        front.handlers += [plain_response(502), plain_response(504), plain_response(503)]
        await client.submit("keys", ["add"])
        await client.submit("keys", ["add"])
        keys = [headers["idempotency-key"] for headers in front.headers_of("/v1/job")]
        assert len(keys) == 5
        assert keys[:4] == keys[:1] * 4
        assert keys[4] != keys[0]
        await client.call("add", idempotency_key="mine")
        assert front.headers_of("/v1/function/add")[0]["idempotency-key"] == '"mine"'


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_respected(front: Gateway, status: int) -> None:
    """The request is not sent earlier."""
    async with AsyncClient(front.url) as client:
        front.handlers.append(plain_response(status, retry_after="1"))
        started_at = monotonic()
        assert await client.call("add", 1) == 1
        assert monotonic() - started_at >= 1


async def test_a_retry_after_longer_than_the_patience_is_an_error_at_once(front: Gateway) -> None:
    """The exception is that of the response, and has the pause that the server asks for."""

    async with AsyncClient(front.url) as client:
        front.handlers.append(problem_response(503, "store-unavailable", retry_after="3600"))
        with pytest.raises(StoreError, match="this is store-unavailable") as raised:
            await client.workers()
    assert raised.value.pause == 3600
    assert len(front.requests) == 1


async def test_attempts_end_after_the_patience(front: Gateway) -> None:
    """The exception is that of the last attempt."""
    async with AsyncClient(front.url, patience=0.5) as client:
        front.handlers += [plain_response(502)] * 100
        with pytest.raises(Unreachable, match="502 Bad Gateway") as raised:
            await client.workers()
    assert raised.value.status == 502
    assert 2 <= len(front.requests) < 50


async def test_a_request_that_times_out_is_sent_again(front: Gateway) -> None:
    """No second job is made."""

    async with AsyncClient(front.url, timeout=0.5) as client:
        front.handlers.append(front.stall_response)
        job = await client.submit("slow", ["add"])
        assert await job_ids(client, "slow") == [job.id]


async def test_a_retry_whose_response_is_lost_is_not_sent_again(front: Gateway) -> None:
    """The job may have failed again, and would be retried once too often."""
    async with AsyncClient(front.url) as client:
        job = await client.submit("fail", [client.step("fail", "again")], wait=10)
        front.handlers.append(front.lose_response)
        with pytest.raises(Unreachable, match="504 Gateway Timeout"):
            await job.retry()
        await job.wait()
        assert (job.state, job.document.run) == ("failed", 2)


async def test_any_request_that_did_not_run_is_sent_again(front: Gateway) -> None:
    """429 means that nothing was done."""
    async with AsyncClient(front.url) as client:
        job = await client.submit("fail", [client.step("fail", "later", runs=1)], wait=10)
        front.handlers.append(plain_response(429))
        await job.retry()
        assert (await job.wait()).result() == 2


async def test_a_cancel_whose_response_is_lost_is_sent_again(wire: Proxy) -> None:
    """A job can be cancelled more than once."""
    async with AsyncClient(wire.url) as client:
        job = await client.submit("later", ["add"], delay=60)
        wire.cuts = 1
        assert (await job.cancel()).state == "cancelled"
        wire.cuts = 1
        await job.forget()
        assert wire.cuts == 0


async def test_without_a_server_it_is_unreachable() -> None:
    """The exception has the URL, and the id of the job that was awaited."""
    url = f"http://127.0.0.1:{free_port()}"
    async with AsyncClient(url, patience=0.3) as client:
        with pytest.raises(Unreachable, match=f"no response from {url}: ") as raised:
            await client.submit("nowhere", ["add"])
        assert raised.value.job_id is None
        with pytest.raises(Unreachable) as raised:
            await client.wait("01977f3c-0000-7000-8000-000000000000")
        assert raised.value.job_id == "01977f3c-0000-7000-8000-000000000000"


async def test_a_timeout_limits_the_patience() -> None:
    """A call with a timeout of a second does not take half a minute."""
    async with AsyncClient(f"http://127.0.0.1:{free_port()}") as client:
        started_at = monotonic()
        with pytest.raises(Unreachable):
            await client.call("add", 1, timeout=0.5)
        with pytest.raises(Unreachable):
            await client.wait("01977f3c-0000-7000-8000-000000000000", timeout=0.5)
        assert monotonic() - started_at < 25


async def test_a_wait_continues_after_a_restart_of_the_server(tmp_path: Path) -> None:
    """The new server has the same store."""
    port = free_port()
    async with AsyncClient(f"http://127.0.0.1:{port}") as client:
        with in_thread(server(tmp_path, port)):
            job = await client.submit("nap", [client.step("nap", 0.2)], delay=1)
        with in_thread(server(tmp_path, port)):
            assert (await job.wait()).result() == "slept"


async def test_requests_can_be_concurrent(front: Gateway) -> None:
    """One client sends them all."""
    async with AsyncClient(front.url) as client:
        results = await together(*(lambda n=n: client.call("add", n, 1) for n in range(20)))
    assert results == [n + 1 for n in range(20)]


async def test_the_caller_can_supply_the_connections(url: str) -> None:
    """They stay open."""
    async with httpx2.AsyncClient(headers={"x-mine": "1"}) as http:
        async with AsyncClient(url, http=http) as client:
            assert await client.call("add", 1) == 1
        assert not http.is_closed
