# Generated from tests/client/asynchronous/test_jobs.py by tools/twin.py: do not edit.
"""The methods of a client: submit, call, wait, watch, cancel, retry, forget, list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from raincheck import Client, InvalidInput, JobCancelled, JobFailed, RetryOptions, State, Unfinished
from raincheck.core.clock import new_id
from raincheck.core.errors import Gone, NotFound, WrongState
from tests.client.functions import gates
from tests.client.servers import Gateway


def test_a_submitted_job_is_a_handle(url: str) -> None:
    """The handle has the job's id, state and document."""
    with Client(url) as client:
        job = client.submit("sums", ["add", [client.step("add", 1, 2), client.step("add", 3)]])
        assert repr(job) == f"<JobHandle {job.id} {job.state}>"
        job.wait()
        assert (job.document.name, job.state, job.ended) == ("sums", State.DONE, True)
        assert job.result() == [3, 3]


def test_a_submission_has_all_options(url: str) -> None:
    """The server receives them unchanged."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    step = Client.step("greet", "Ada", greeting="Hi").options(retry=RetryOptions(retry_limit=3), timeout=9)
    with Client(url) as client:
        job = client.submit(
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
        assert (client.submit("soon", ["add"], delay=60)).state == "scheduled"


def test_a_submission_can_wait(url: str) -> None:
    """It returns a handle, whether the job has ended or not."""
    with Client(url) as client:
        assert (client.submit("sum", [client.step("add", 1)], wait=10)).result() == 1
        assert (client.submit("nap", [client.step("nap", 1.5)], wait=10)).result() == "slept"
        assert not (client.submit("nap", [client.step("nap", 60)], wait=0.1)).ended


def test_a_call_returns_the_result(url: str) -> None:
    """Arguments go by position, by name, both ways, or as a step."""
    with Client(url) as client:
        assert client.call("add", 1, 2) == 3
        assert client.call("greet", name="Ada") == "Hello, Ada!"
        assert client.call("greet", "Ada", greeting="Hi") == "Hi, Ada!"
        assert client.call(client.step("echo", 1, timeout=2), timeout=10) == [1, 2]


def test_a_call_waits_longer_than_one_request_can(front: Gateway) -> None:
    """It sends the next request when the server has waited, and not more often."""
    with Client(front.url) as client:
        assert client.call("nap", 2.2) == "slept"
    assert 2 <= len(front.requests) <= 4


def test_a_server_that_does_not_wait_is_polled_slowly(front: Gateway) -> None:
    """Its ``Retry-After`` says when."""
    with Client(front.url) as client:
        job = client.submit("later", ["add"], delay=60)
        front.handlers += [front.forward_without_wait] * 100
        assert not (job.wait(timeout=1.5)).ended
    assert len(front.headers_of(f"/v1/job/{job.id}")) <= 3


def test_a_call_that_times_out_raises_with_the_handle(url: str) -> None:
    """The job keeps running, and can be awaited."""
    gate = new_id()
    with Client(url) as client:
        with pytest.raises(Unfinished) as raised:
            client.call("hold", gate, timeout=0.1)
        gates[gate].set()
        job = raised.value.job.wait()
        assert job.result() == gate


def test_a_call_of_a_failing_function_raises_its_error(url: str) -> None:
    """The handle raises the same one."""
    with Client(url) as client:
        with pytest.raises(JobFailed, match="always") as raised:
            client.call("fail", "always")
        assert (raised.value.problem.name, raised.value.problem.exception) == (
            "function-failed",
            "ValueError",
        )
        job = client.status(raised.value.job_id)
        with pytest.raises(JobFailed, match="always"):
            job.result()
        with pytest.raises(JobFailed, match="both ways"):
            client.call("fail", "both ways", runs=9)


def test_a_wait_ends_at_its_timeout(url: str) -> None:
    """The job has not ended."""
    gate = new_id()
    with Client(url) as client:
        job = client.submit("hold", [client.step("hold", gate)])
        assert not (job.wait(timeout=0)).ended
        assert not (client.wait(job.id, timeout=1)).ended
        with pytest.raises(Unfinished):
            job.result()
        gates[gate].set()
        assert (job.wait(timeout=10)).result() == gate


def test_a_watch_yields_each_change(url: str) -> None:
    """It ends with the job. The handle has the last state."""
    gate = new_id()
    gates[gate] = Event()
    with Client(url) as client:
        job = client.submit("hold", [client.step("hold", gate)], delay=2)
        states = []
        for document in job.watch():
            states.append(document.state)
            if document.state is State.DOING:
                gates[gate].set()
        assert (states[0], states[-1]) == ("scheduled", "done")
        assert "doing" in states
        assert job.result() == gate
        assert [job.state for job in client.watch(job.id)] == ["done"]


def test_a_job_can_be_cancelled(url: str) -> None:
    """More than once; but a job that is done cannot."""
    with Client(url) as client:
        job = client.submit("later", ["add"], delay=60)
        assert (job.cancel()).state == "cancelled"
        assert (client.cancel(job.id)).state == "cancelled"
        with pytest.raises(JobCancelled):
            job.result()
        done = client.submit("sum", ["add"], wait=10)
        with pytest.raises(WrongState, match=done.id):
            done.cancel()


def test_a_cancelled_call_raises_job_cancelled(url: str) -> None:
    """It differs from a failed one."""
    gate, key = new_id(), new_id()
    with Client(url) as client:
        with pytest.raises(Unfinished) as raised:
            client.call("hold", gate, timeout=0, idempotency_key=key)
        raised.value.job.cancel()
        with pytest.raises(JobCancelled):
            (raised.value.job.wait()).result()
        with pytest.raises(JobCancelled) as cancelled:
            client.call("hold", gate, idempotency_key=key)
        assert cancelled.value.job_id == raised.value.job.id


def test_a_failed_job_can_be_retried(url: str) -> None:
    """It resumes where it failed."""
    with Client(url) as client:
        job = client.submit("fail", [client.step("fail", "once", runs=1)], wait=10)
        assert job.state == "failed"
        job.retry()
        assert (job.wait()).result() == 2
        with pytest.raises(WrongState):
            client.retry(job.id)


def test_an_ended_job_can_be_forgotten(url: str) -> None:
    """To forget it twice is not an error."""
    with Client(url) as client:
        job = client.submit("sum", ["add"], wait=10)
        job.forget()
        client.forget(job.id)
        with pytest.raises(Gone):
            job.refresh()


def test_a_listing_reads_page_by_page(front: Gateway) -> None:
    """Newest first; a page is requested when it is needed."""
    with Client(front.url) as client:
        submitted = [(client.submit("listed", ["add"], delay=60)).id for _ in range(5)]
        front.requests.clear()
        found = [job.id for job in client.jobs(name="listed", state="scheduled", page=2)]
        assert found == submitted[::-1]
        assert len(front.requests) == 3
        assert list(client.jobs(name="listed", state=State.DONE)) == []
        assert {job.id for job in client.jobs(function="add")} >= set(submitted)


def test_a_listing_can_be_filtered(url: str) -> None:
    """By several states, times and errors, oldest or newest first; a wrong filter is refused."""
    with Client(url) as client:
        jobs = [client.submit("filtered", ["add"], delay=60) for _ in range(2)]
        jobs[0].cancel()
        states = (State.SCHEDULED, "cancelled")
        found = client.jobs(name="filtered", state=states, since=timedelta(hours=1), sort="oldest")
        assert [job.id for job in found] == [job.id for job in jobs]
        created = jobs[1].document.created_at
        assert [job.id for job in client.jobs(name="filtered", since=created)] == [jobs[1].id]
        assert [job.id for job in client.jobs(name="filtered", until="1h")] == []
        assert [job.id for job in client.jobs(name="filtered", error="ValueError")] == []
        with pytest.raises(InvalidInput):
            assert list(client.jobs(since="yesterday"))
        with pytest.raises(InvalidInput):
            assert list(client.jobs(state="odd"))


def test_functions_and_workers_are_listed(url: str) -> None:
    """As documents."""
    with Client(url) as client:
        assert "add" in [function.name for function in client.functions()]
        assert (client.function("add")).doc == "The sum."
        (worker,) = client.workers()
        assert "add" in worker.functions
        with pytest.raises(NotFound):
            client.function("absent")


def test_other_requests_can_be_sent(url: str) -> None:
    """The method returns the response."""
    with Client(url) as client:
        reply = client.request("GET", "/healthz")
        assert (reply.status, reply.read(dict)) == (200, {"status": "ok"})


def test_the_attempts_of_a_job(url: str) -> None:
    """With errors and tracebacks, over all runs of the job and all pages."""
    with Client(url) as client:
        job = client.submit("failing", [client.step("fail", "no", runs=60)], wait=10)
        for _ in range(59):
            job = (client.retry(job.id)).wait()
        assert job.state == "failed"
        attempts = client.attempts(job.id)
        assert job.attempts() == attempts
        assert [each.run for each in attempts] == [1, *range(41, 61)]
        assert {(each.number, each.function, each.outcome) for each in attempts} == {(1, "fail", "failed")}
        assert attempts[0].error is not None
        assert attempts[0].error.detail == "no"
        assert "in fail" in (attempts[0].traceback or "")
        with pytest.raises(NotFound):
            client.attempts(new_id())
