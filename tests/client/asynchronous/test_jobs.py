"""The methods of a client: submit, call, wait, watch, cancel, retry, forget, list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from raincheck import AsyncClient, InvalidInput, JobCancelled, JobFailed, RetryOptions, State, Unfinished
from raincheck.core.clock import new_id
from raincheck.core.errors import Gone, NotFound, WrongState
from tests.client.functions import gates
from tests.client.servers import Gateway


async def test_a_submitted_job_is_a_handle(url: str) -> None:
    """The handle has the job's id, state and document."""
    async with AsyncClient(url) as client:
        job = await client.submit("sums", ["add", [client.step("add", 1, 2), client.step("add", 3)]])
        assert repr(job) == f"<AsyncJobHandle {job.id} {job.state}>"
        await job.wait()
        assert (job.document.name, job.state, job.ended) == ("sums", State.DONE, True)
        assert job.result() == [3, 3]


async def test_a_submission_has_all_options(url: str) -> None:
    """The server receives them unchanged."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    step = AsyncClient.step("greet", "Ada", greeting="Hi").options(
        retry=RetryOptions(retry_limit=3), timeout=9
    )
    async with AsyncClient(url) as client:
        job = await client.submit(
            "later",
            [step],
            data={"who": "me"},
            scheduled_at=soon,
            expires_at=soon + timedelta(hours=1),
            priority=7,
            result_ttl=60,
        )
        document = job.document
        assert (document.state, document.scheduled_at) == ("scheduled", soon)
        assert (document.data, document.priority, document.result_ttl) == ({"who": "me"}, 7, 60)
        (function,) = document.functions
        assert not isinstance(function, list)
        assert (function.args, function.kwargs, function.timeout) == (["Ada"], {"greeting": "Hi"}, 9)
        assert function.retry_options.retry_limit == 3
        assert (await client.submit("soon", ["add"], delay=60)).state == "scheduled"


async def test_a_submission_can_wait(url: str) -> None:
    """It returns a handle, whether the job has ended or not."""
    async with AsyncClient(url) as client:
        assert (await client.submit("sum", [client.step("add", 1)], wait=10)).result() == 1
        assert (await client.submit("nap", [client.step("nap", 1.5)], wait=10)).result() == "slept"
        assert not (await client.submit("nap", [client.step("nap", 60)], wait=0.1)).ended


async def test_a_call_returns_the_result(url: str) -> None:
    """Arguments go by position, by name, both ways, or as a step."""
    async with AsyncClient(url) as client:
        assert await client.call("add", 1, 2) == 3
        assert await client.call("greet", name="Ada") == "Hello, Ada!"
        assert await client.call("greet", "Ada", greeting="Hi") == "Hi, Ada!"
        assert await client.call(client.step("echo", 1, timeout=2), timeout=10) == [1, 2]


async def test_a_call_waits_longer_than_one_request_can(front: Gateway) -> None:
    """It sends the next request when the server has waited, and not more often."""
    async with AsyncClient(front.url) as client:
        assert await client.call("nap", 2.2) == "slept"
    assert 2 <= len(front.requests) <= 4


async def test_a_server_that_does_not_wait_is_polled_slowly(front: Gateway) -> None:
    """Its ``Retry-After`` says when."""
    async with AsyncClient(front.url) as client:
        job = await client.submit("later", ["add"], delay=60)
        front.handlers += [front.forward_without_wait] * 100
        assert not (await job.wait(timeout=1.5)).ended
    assert len(front.headers_of(f"/v1/job/{job.id}")) <= 3


async def test_a_call_that_times_out_raises_with_the_handle(url: str) -> None:
    """The job keeps running, and can be awaited."""
    gate = new_id()
    async with AsyncClient(url) as client:
        with pytest.raises(Unfinished) as raised:
            await client.call("hold", gate, timeout=0.1)
        gates[gate].set()
        job = await raised.value.job.wait()
        assert job.result() == gate


async def test_a_call_of_a_failing_function_raises_its_error(url: str) -> None:
    """The handle raises the same one."""
    async with AsyncClient(url) as client:
        with pytest.raises(JobFailed, match="always") as raised:
            await client.call("fail", "always")
        assert (raised.value.problem.name, raised.value.problem.exception) == (
            "function-failed",
            "ValueError",
        )
        job = await client.status(raised.value.job_id)
        with pytest.raises(JobFailed, match="always"):
            job.result()
        with pytest.raises(JobFailed, match="both ways"):
            await client.call("fail", "both ways", runs=9)


async def test_a_wait_ends_at_its_timeout(url: str) -> None:
    """The job has not ended."""
    gate = new_id()
    async with AsyncClient(url) as client:
        job = await client.submit("hold", [client.step("hold", gate)])
        assert not (await job.wait(timeout=0)).ended
        assert not (await client.wait(job.id, timeout=1)).ended
        with pytest.raises(Unfinished):
            job.result()
        gates[gate].set()
        assert (await job.wait(timeout=10)).result() == gate


async def test_a_watch_yields_each_change(url: str) -> None:
    """It ends with the job. The handle has the last state."""
    gate = new_id()
    gates[gate] = Event()
    async with AsyncClient(url) as client:
        job = await client.submit("hold", [client.step("hold", gate)], delay=2)
        states = []
        async for document in job.watch():
            states.append(document.state)
            if document.state is State.DOING:
                gates[gate].set()
        assert (states[0], states[-1]) == ("scheduled", "done")
        assert "doing" in states
        assert job.result() == gate
        assert [job.state async for job in client.watch(job.id)] == ["done"]


async def test_a_job_can_be_cancelled(url: str) -> None:
    """More than once; but a job that is done cannot."""
    async with AsyncClient(url) as client:
        job = await client.submit("later", ["add"], delay=60)
        assert (await job.cancel()).state == "cancelled"
        assert (await client.cancel(job.id)).state == "cancelled"
        with pytest.raises(JobCancelled):
            job.result()
        done = await client.submit("sum", ["add"], wait=10)
        with pytest.raises(WrongState, match=done.id):
            await done.cancel()


async def test_a_cancelled_call_raises_job_cancelled(url: str) -> None:
    """It differs from a failed one."""
    gate, key = new_id(), new_id()
    async with AsyncClient(url) as client:
        with pytest.raises(Unfinished) as raised:
            await client.call("hold", gate, timeout=0, idempotency_key=key)
        await raised.value.job.cancel()
        with pytest.raises(JobCancelled):
            (await raised.value.job.wait()).result()
        with pytest.raises(JobCancelled) as cancelled:
            await client.call("hold", gate, idempotency_key=key)
        assert cancelled.value.job_id == raised.value.job.id


async def test_a_failed_job_can_be_retried(url: str) -> None:
    """It resumes where it failed."""
    async with AsyncClient(url) as client:
        job = await client.submit("fail", [client.step("fail", "once", runs=1)], wait=10)
        assert job.state == "failed"
        await job.retry()
        assert (await job.wait()).result() == 2
        with pytest.raises(WrongState):
            await client.retry(job.id)


async def test_an_ended_job_can_be_forgotten(url: str) -> None:
    """To forget it twice is not an error."""
    async with AsyncClient(url) as client:
        job = await client.submit("sum", ["add"], wait=10)
        await job.forget()
        await client.forget(job.id)
        with pytest.raises(Gone):
            await job.refresh()


async def test_a_listing_reads_page_by_page(front: Gateway) -> None:
    """Newest first; a page is requested when it is needed."""
    async with AsyncClient(front.url) as client:
        submitted = [(await client.submit("listed", ["add"], delay=60)).id for _ in range(5)]
        front.requests.clear()
        found = [job.id async for job in client.jobs(name="listed", state="scheduled", page=2)]
        assert found == submitted[::-1]
        assert len(front.requests) == 3
        assert [job async for job in client.jobs(name="listed", state=State.DONE)] == []
        assert {job.id async for job in client.jobs(function="add")} >= set(submitted)


async def test_a_listing_can_be_filtered(url: str) -> None:
    """By several states, times and errors, oldest or newest first; a wrong filter is refused."""
    async with AsyncClient(url) as client:
        jobs = [await client.submit("filtered", ["add"], delay=60) for _ in range(2)]
        await jobs[0].cancel()
        states = (State.SCHEDULED, "cancelled")
        found = client.jobs(name="filtered", state=states, since=timedelta(hours=1), sort="oldest")
        assert [job.id async for job in found] == [job.id for job in jobs]
        created = jobs[1].document.created_at
        assert [job.id async for job in client.jobs(name="filtered", since=created)] == [jobs[1].id]
        assert [job.id async for job in client.jobs(name="filtered", until="1h")] == []
        assert [job.id async for job in client.jobs(name="filtered", error="ValueError")] == []
        with pytest.raises(InvalidInput):
            assert [job async for job in client.jobs(since="yesterday")]
        with pytest.raises(InvalidInput):
            assert [job async for job in client.jobs(state="odd")]


async def test_functions_and_workers_are_listed(url: str) -> None:
    """As documents."""
    async with AsyncClient(url) as client:
        assert "add" in [function.name for function in await client.functions()]
        assert (await client.function("add")).doc == "The sum."
        (worker,) = await client.workers()
        assert "add" in worker.functions
        with pytest.raises(NotFound):
            await client.function("absent")


async def test_other_requests_can_be_sent(url: str) -> None:
    """The method returns the response."""
    async with AsyncClient(url) as client:
        reply = await client.request("GET", "/healthz")
        assert (reply.status, reply.read(dict)) == (200, {"status": "ok"})


async def test_the_attempts_of_a_job(url: str) -> None:
    """With errors and tracebacks, over all runs of the job and all pages."""
    async with AsyncClient(url) as client:
        job = await client.submit("failing", [client.step("fail", "no", runs=60)], wait=10)
        for _ in range(59):
            job = await (await client.retry(job.id)).wait()
        assert job.state == "failed"
        attempts = await client.attempts(job.id)
        assert await job.attempts() == attempts
        assert [each.run for each in attempts] == [1, *range(41, 61)]
        assert {(each.number, each.function, each.outcome) for each in attempts} == {(1, "fail", "failed")}
        assert attempts[0].error is not None
        assert attempts[0].error.detail == "no"
        assert "in fail" in (attempts[0].traceback or "")
        with pytest.raises(NotFound):
            await client.attempts(new_id())
