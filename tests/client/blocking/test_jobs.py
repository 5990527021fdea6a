# Generated from tests/client/asynchronous/test_jobs.py by tools/twin.py: do not edit.
"""What a client can ask: submit, call, wait, watch, cancel, retry, forget, list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from raincheck import Client, JobCancelled, JobFailed, RetryOptions, State, Unfinished
from raincheck.clock import new_id
from raincheck.errors import Gone, NotFound, WrongState
from tests.client.functions import gates
from tests.client.places import Gateway


def test_a_submitted_job_is_a_handle(url: str) -> None:
    """It knows the job's id, state and document."""
    with Client(url) as client:
        job = client.submit("sums", ["add", [client.step("add", 1, 2), client.step("add", 3)]])
        assert repr(job) == f"<JobHandle {job.id} {job.state}>"
        job.wait()
        assert (job.document.name, job.state, job.ended) == ("sums", State.DONE, True)
        assert job.result() == [3, 3]


def test_a_submission_has_all_options(url: str) -> None:
    """They arrive as they were given."""
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


def test_a_submission_may_wait(url: str) -> None:
    """It is a result, or else a handle: both are the same thing."""
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


def test_a_call_waits_longer_than_one_request_may(front: Gateway) -> None:
    """It asks again whenever the server has waited as long as it does, and not more often."""
    with Client(front.url) as client:
        assert client.call("nap", 2.2) == "slept"
    assert 2 <= len(front.seen) <= 4


def test_a_server_that_does_not_want_to_wait_is_not_pestered(front: Gateway) -> None:
    """It says when to look again."""
    with Client(front.url) as client:
        job = client.submit("later", ["add"], delay=60)
        front.answers += [front.hurry] * 100
        assert not (job.wait(timeout=1.5)).ended
    assert len(front.heads(f"/v1/job/{job.id}")) <= 3


def test_a_call_that_takes_too_long_leaves_the_handle(url: str) -> None:
    """The job goes on, and can be waited for."""
    gate = new_id()
    with Client(url) as client:
        with pytest.raises(Unfinished) as raised:
            client.call("hold", gate, timeout=0.1)
        gates[gate].set()
        job = raised.value.job.wait()
        assert job.result() == gate


def test_a_call_whose_job_fails_says_why(url: str) -> None:
    """So does its handle."""
    with Client(url) as client:
        with pytest.raises(JobFailed, match="always") as raised:
            client.call("fail", "always")
        assert (raised.value.problem.type, raised.value.problem.exception) == (
            "function-failed",
            "ValueError",
        )
        job = client.status(raised.value.job_id)
        with pytest.raises(JobFailed, match="always"):
            job.result()
        with pytest.raises(JobFailed, match="both ways"):
            client.call("fail", "both ways", runs=9)


def test_a_wait_ends_when_its_time_is_over(url: str) -> None:
    """The handle is what it was."""
    gate = new_id()
    with Client(url) as client:
        job = client.submit("hold", [client.step("hold", gate)])
        assert not (job.wait(timeout=0)).ended
        assert not (client.wait(job.id, timeout=1)).ended
        with pytest.raises(Unfinished):
            job.result()
        gates[gate].set()
        assert (job.wait(timeout=10)).result() == gate


def test_a_watch_shows_each_change(url: str) -> None:
    """It ends with the job, and the handle knows what it saw."""
    with Client(url) as client:
        gate = new_id()
        job = client.submit("held", [client.step("hold", gate)], delay=2)
        states = []
        for document in job.watch():
            states.append(document.state)
            if document.state == "doing":
                gates[gate].set()
        assert (states[0], states[-2:]) == ("scheduled", ["doing", "done"])
        assert job.result() == gate
        assert [seen.state for seen in client.watch(job.id)] == ["done"]


def test_a_job_can_be_cancelled(url: str) -> None:
    """Again too; a job that ended otherwise cannot."""
    with Client(url) as client:
        job = client.submit("later", ["add"], delay=60)
        assert (job.cancel()).state == "cancelled"
        assert (client.cancel(job.id)).state == "cancelled"
        with pytest.raises(JobCancelled):
            job.result()
        done = client.submit("sum", ["add"], wait=10)
        with pytest.raises(WrongState, match=done.id):
            done.cancel()


def test_a_call_that_is_cancelled_says_so(url: str) -> None:
    """It is told from one that failed."""
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
    """It goes on where it ended."""
    with Client(url) as client:
        job = client.submit("fail", [client.step("fail", "once", runs=1)], wait=10)
        assert job.state == "failed"
        job.retry()
        assert (job.wait()).result() == 2
        with pytest.raises(WrongState):
            client.retry(job.id)


def test_an_ended_job_can_be_forgotten(url: str) -> None:
    """Then it is gone; to forget it again is no error."""
    with Client(url) as client:
        job = client.submit("sum", ["add"], wait=10)
        job.forget()
        client.forget(job.id)
        with pytest.raises(Gone):
            job.refresh()


def test_a_listing_goes_on_over_its_pages(front: Gateway) -> None:
    """Newest first; a page is asked for when it is needed."""
    with Client(front.url) as client:
        made = [(client.submit("listed", ["add"], delay=60)).id for _ in range(5)]
        front.seen.clear()
        found = [job.id for job in client.jobs(name="listed", state="scheduled", page=2)]
        assert found == made[::-1]
        assert len(front.seen) == 3
        assert list(client.jobs(name="listed", state=State.DONE)) == []
        assert {job.id for job in client.jobs(function="add")} >= set(made)


def test_functions_and_workers_can_be_looked_up(url: str) -> None:
    """As documents."""
    with Client(url) as client:
        assert "add" in [function.name for function in client.functions()]
        assert (client.function("add")).doc == "The sum."
        (worker,) = client.workers()
        assert "add" in worker.functions
        with pytest.raises(NotFound):
            client.function("absent")


def test_other_requests_can_be_sent(url: str) -> None:
    """The answer is what came."""
    with Client(url) as client:
        reply = client.request("GET", "/healthz")
        assert (reply.status, reply.read(dict)) == (200, {"status": "ok"})
