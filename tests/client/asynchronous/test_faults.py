"""What a client does when the server, or what is between, fails."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import httpx2
import pytest

from raincheck import AsyncClient, StoreError, Unreachable
from tests.client.asynchronous.seam import together
from tests.client.places import Gateway, Proxy, in_thread, refusing, saying, server
from tests.servers import free_port


async def names(client: AsyncClient, name: str) -> list[str]:
    """The ids of all jobs of a name."""
    return [job.id async for job in client.jobs(name=name)]


async def test_a_submission_whose_answer_was_cut_off_is_one_job(wire: Proxy) -> None:
    """Its key leads to the job that the first try made."""
    async with AsyncClient(wire.url) as client:
        wire.cuts = 3
        job = await client.submit("cut", ["add"])
        assert wire.cuts == 0
        assert await names(client, "cut") == [job.id]


async def test_a_call_whose_answer_was_cut_off_is_one_job(wire: Proxy) -> None:
    """It returns the result that it had."""
    async with AsyncClient(wire.url) as client:
        wire.cuts = 2
        assert await client.call("echo", "cut call") == "cut call"
        jobs = [job async for job in client.jobs(name="echo") if job.result() == "cut call"]
        assert len(jobs) == 1


async def test_without_its_key_it_would_be_two(wire: Proxy) -> None:
    """So it is the key that prevents it."""
    async with AsyncClient(wire.url) as client:
        wire.cuts = 1
        await client.request("POST", "/v1/job", b'{"name": "keyless", "functions": [{"name": "add"}]}')
        assert len(await names(client, "keyless")) == 2


async def test_every_try_has_the_same_key(front: Gateway) -> None:
    """And every submission another."""
    async with AsyncClient(front.url) as client:
        front.answers += [saying(502), saying(504), saying(503)]
        await client.submit("keys", ["add"])
        await client.submit("keys", ["add"])
        keys = [headers["idempotency-key"] for headers in front.heads("/v1/job")]
        assert len(keys) == 5
        assert keys[:4] == keys[:1] * 4
        assert keys[4] != keys[0]
        await client.call("add", idempotency_key="mine")
        assert front.heads("/v1/function/add")[0]["idempotency-key"] == '"mine"'


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_says_when_to_try_again(front: Gateway, status: int) -> None:
    """And is not asked sooner."""
    async with AsyncClient(front.url) as client:
        front.answers.append(saying(status, retry_after="1"))
        begun = monotonic()
        assert await client.call("add", 1) == 1
        assert monotonic() - begun >= 1


async def test_a_server_that_wants_more_patience_than_there_is_is_not_waited_for(front: Gateway) -> None:
    """What it said is told at once."""

    async with AsyncClient(front.url) as client:
        front.answers.append(refusing(503, "store-unavailable", retry_after="3600"))
        with pytest.raises(StoreError, match="this is store-unavailable"):
            await client.workers()
    assert len(front.seen) == 1


async def test_patience_has_an_end(front: Gateway) -> None:
    """Then the last failure is told."""
    async with AsyncClient(front.url, patience=0.5) as client:
        front.answers += [saying(502)] * 100
        with pytest.raises(Unreachable, match="502 Bad Gateway"):
            await client.workers()
    assert 2 <= len(front.seen) < 50


async def test_a_slow_answer_is_asked_for_again(front: Gateway) -> None:
    """The job that it told of is not made twice."""

    async with AsyncClient(front.url, timeout=0.5) as client:
        front.answers.append(front.stall)
        job = await client.submit("slow", ["add"])
        assert await names(client, "slow") == [job.id]


async def test_what_must_not_be_done_twice_is_not_repeated(front: Gateway) -> None:
    """The job may have been retried, and failed anew: another retry would be one too many."""
    async with AsyncClient(front.url) as client:
        job = await client.submit("fail", [client.step("fail", "again")], wait=10)
        front.answers.append(front.lose)
        with pytest.raises(Unreachable, match="504 Gateway Timeout"):
            await job.retry()
        await job.wait()
        assert (job.state, job.document.run) == ("failed", 2)


async def test_what_was_not_taken_is_repeated_whatever_it_was(front: Gateway) -> None:
    """429 says that nothing was done."""
    async with AsyncClient(front.url) as client:
        job = await client.submit("fail", [client.step("fail", "later", runs=1)], wait=10)
        front.answers.append(saying(429))
        await job.retry()
        assert (await job.wait()).result() == 2


async def test_a_cancel_whose_answer_was_lost_is_repeated(wire: Proxy) -> None:
    """A job can be cancelled more than once."""
    async with AsyncClient(wire.url) as client:
        job = await client.submit("later", ["add"], delay=60)
        wire.cuts = 1
        assert (await job.cancel()).state == "cancelled"
        wire.cuts = 1
        await job.forget()
        assert wire.cuts == 0


async def test_no_server_is_told_as_such() -> None:
    """With its URL, and the job that was waited for."""
    url = f"http://127.0.0.1:{free_port()}"
    async with AsyncClient(url, patience=0.3) as client:
        with pytest.raises(Unreachable, match=f"no server answers at {url}: ") as raised:
            await client.submit("nowhere", ["add"])
        assert raised.value.job_id is None
        with pytest.raises(Unreachable) as raised:
            await client.wait("01977f3c-0000-7000-8000-000000000000")
        assert raised.value.job_id == "01977f3c-0000-7000-8000-000000000000"


async def test_a_timeout_ends_the_patience_too() -> None:
    """Whoever gave a call a second does not wait for half a minute."""
    async with AsyncClient(f"http://127.0.0.1:{free_port()}") as client:
        begun = monotonic()
        with pytest.raises(Unreachable):
            await client.call("add", 1, timeout=0.5)
        with pytest.raises(Unreachable):
            await client.wait("01977f3c-0000-7000-8000-000000000000", timeout=0.5)
        assert monotonic() - begun < 25


async def test_a_wait_goes_on_when_the_server_is_back(tmp_path: Path) -> None:
    """It was told to end while it waited, and begins anew on the same store."""
    port = free_port()
    async with AsyncClient(f"http://127.0.0.1:{port}") as client:
        with in_thread(server(tmp_path, port)):
            job = await client.submit("nap", [client.step("nap", 0.2)], delay=1)
        with in_thread(server(tmp_path, port)):
            assert (await job.wait()).result() == "slept"


async def test_many_requests_go_at_once(front: Gateway) -> None:
    """One client serves them all."""
    async with AsyncClient(front.url) as client:
        results = await together(*(lambda n=n: client.call("add", n, 1) for n in range(20)))
    assert results == [n + 1 for n in range(20)]


async def test_the_connections_may_be_of_ones_own(url: str) -> None:
    """They stay open."""
    async with httpx2.AsyncClient(headers={"x-mine": "1"}) as http:
        async with AsyncClient(url, http=http) as client:
            assert await client.call("add", 1) == 1
        assert not http.is_closed
