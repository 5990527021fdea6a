"""Jobs over HTTP, one call at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from raincheck import App
from raincheck.core.model import Job
from raincheck.server.endpoints.jobs import poll_seconds
from tests.problems import urn
from tests.server.hands import Hands

CHAIN = {
    "name": "test",
    "functions": [
        {"name": "/v1/test-1", "args": ["Paris"]},
        {
            "name": "/v1/test-fail",
            "args": [1, "2", 3],
            "retry_count": 0,
            "retry_options": {"retry_limit": 3},
        },
        {"name": "/v1/test-2"},
    ],
}
"""The first seed's own example."""

NOBODY = "01890000-0000-7000-8000-000000000000"


async def create(client: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    """A new job of one function."""
    body = {"name": "one", "functions": [{"name": "add", "args": [1, 2]}], **changes}
    answer = await client.post("/v1/job", json=body)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


class TestCreate:
    """``POST /v1/job``."""

    async def test_it_is_accepted(self, client: httpx2.AsyncClient) -> None:
        """The answer says where the job is, and when to look."""
        answer = await client.post("/v1/job", json=CHAIN)
        job = answer.json()
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/v1/job/{job['id']}"
        assert answer.headers["retry-after"] == "1"
        assert "preference-applied" not in answer.headers
        assert (job["name"], job["state"], job["current_function"]) == ("test", "pending", 0)
        assert job["functions"][1]["args"] == [1, "2", 3]
        assert job["functions"][1]["retry_options"] == {"retry_limit": 3}

    async def test_it_is_found_as_it_was_accepted(self, client: httpx2.AsyncClient) -> None:
        """The document of the 202 is the document of the poll."""
        answer = await client.post("/v1/job", json=CHAIN)
        assert (await client.get(answer.headers["location"])).json() == answer.json()

    async def test_values_come_back_as_they_were_given(self, client: httpx2.AsyncClient) -> None:
        """Numbers keep their spelling, because they are not decoded."""
        body = b'{"name":"n","data":{"x":1.50,"y":123456789012345678901234567890},'
        body += b'"functions":[{"name":"elsewhere","args":[1e2,"\\u00e9\\u0000"]}]}'
        answer = await client.post("/v1/job", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 202
        assert b'{"x":1.50,"y":123456789012345678901234567890}' in answer.content
        assert b'[1e2,"\\u00e9\\u0000"]' in answer.content

    async def test_a_list_is_a_parallel_stage(self, client: httpx2.AsyncClient) -> None:
        """It is shown as it was sent."""
        add = {"name": "add"}
        job = await create(client, functions=[add, [add, add], add])
        assert [isinstance(entry, list) for entry in job["functions"]] == [False, True, False]

    async def test_it_may_be_scheduled(self, client: httpx2.AsyncClient) -> None:
        """By a delay, or by a date with its zone."""
        later = datetime.now(UTC) + timedelta(hours=1)
        dated = await create(client, scheduled_at=later.isoformat())
        delayed = await create(client, delay=60, expires_at=later.isoformat(), priority=-3, result_ttl=5)
        assert (dated["state"], delayed["state"]) == ("scheduled", "scheduled")
        assert datetime.fromisoformat(dated["scheduled_at"]) == later
        assert (delayed["priority"], delayed["result_ttl"]) == (-3, 5)

    async def test_an_unknown_function_waits_for_its_worker(self, client: httpx2.AsyncClient) -> None:
        """The job says what it waits for."""
        job = await create(client, functions=[{"name": "not/yet:here"}])
        assert job["waiting_for"] == ["not/yet:here"]

    @pytest.mark.parametrize(
        "media",
        [
            "application/json; charset=utf-8",
            'application/json;charset="UTF-8"',
            "application/JSON",
            "application/merge-patch+json",
        ],
    )
    async def test_json_has_many_names(self, client: httpx2.AsyncClient, media: str) -> None:
        """Every way of saying JSON in UTF-8 will do."""
        body = b'{"name":"n","functions":[{"name":"add"}]}'
        answer = await client.post("/v1/job", content=body, headers={"content-type": media})
        assert answer.status_code == 202

    async def test_a_body_may_come_in_pieces(self, client: httpx2.AsyncClient) -> None:
        """A body of unknown length is read to its end."""

        async def pieces() -> Any:
            for piece in (b'{"name":"n",', b'"functions":[', b'{"name":"add"}]}'):
                yield piece

        headers = {"content-type": "application/json"}
        answer = await client.post("/v1/job", content=pieces(), headers=headers)
        assert answer.status_code == 202

    async def test_a_body_may_be_as_large_as_the_limit(self, client: httpx2.AsyncClient, app: App) -> None:
        """The limit is exact: one byte more is too much."""
        body = b'{"name":"n","functions":[{"name":"anything","args":["%s"]}]}'
        body = body.replace(b"%s", b"x" * (app.limits.body - len(body) + 2))
        headers = {"content-type": "application/json"}
        assert len(body) == app.limits.body
        assert (await client.post("/v1/job", content=body, headers=headers)).status_code == 202
        assert (await client.post("/v1/job", content=body + b" ", headers=headers)).status_code == 413


class TestFind:
    """``GET /v1/job/{id}``."""

    async def test_an_unfinished_job_is_to_be_polled(self, client: httpx2.AsyncClient) -> None:
        """The answer says when."""
        job = await create(client)
        answer = await client.get(f"/v1/job/{job['id']}")
        assert (answer.status_code, answer.headers["retry-after"]) == (200, "1")

    @pytest.mark.parametrize(
        ("age", "seconds"),
        [
            (0.0, 1),
            (4.9, 1),
            (5.1, 2),
            (50.0, 10),
            (149.0, 30),
            (1e6, 30),
            (-0.5, 1),
            (-10.2, 11),
            (-1e6, 30),
        ],
    )
    def test_an_old_job_is_to_be_polled_less_often(self, age: float, seconds: int) -> None:
        """After a fifth of its age; a job that has not started, when it starts; between 1 and 30 s."""
        job = Job(id="1", name="n", steps=(), scheduled_at=1e9, updated_at=1e9 + age)
        assert poll_seconds(job, 1e9 + age) == seconds

    def test_a_retried_job_is_young_again(self) -> None:
        """Its age counts from its latest change."""
        job = Job(id="1", name="n", steps=(), scheduled_at=1e9, updated_at=1e9 + 1000, run=2)
        assert poll_seconds(job, 1e9 + 1050) == 10

    async def test_a_delayed_job_is_to_be_polled_when_it_starts(self, client: httpx2.AsyncClient) -> None:
        """The response that accepted it says so, too."""
        answer = await client.post("/v1/job", json=CHAIN | {"delay": 20})
        assert 1 < int(answer.headers["retry-after"]) <= 20
        again = await client.get(answer.headers["location"])
        assert 1 <= int(again.headers["retry-after"]) <= 20

    async def test_an_ended_job_is_not(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """It has its result, and nothing more will come."""
        job = await create(client)
        await hands.succeed("add", result=3)
        answer = await client.get(f"/v1/job/{job['id']}")
        assert (answer.json()["state"], answer.json()["result"]) == ("done", 3)
        assert "retry-after" not in answer.headers

    async def test_an_id_may_be_in_capitals(self, client: httpx2.AsyncClient) -> None:
        """A UUID is the same either way."""
        job = await create(client)
        assert (await client.get(f"/v1/job/{job['id'].upper()}")).json()["id"] == job["id"]

    @pytest.mark.parametrize(
        "job_id", [NOBODY, "1", "x" * 5000, "%00", "..", "a%2Fb", NOBODY + "x", "'; DROP TABLE job;--"]
    )
    async def test_what_is_no_job_is_not_found(self, client: httpx2.AsyncClient, job_id: str) -> None:
        """An unknown id and text that is not an id get the same response."""
        answer = await client.get(f"/v1/job/{job_id}")
        assert (answer.status_code, answer.json()["type"]) == (404, urn("not-found"))
        assert "instance" not in answer.json()

    async def test_what_was_there_is_gone(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """A job that is remembered to have been there gives 410."""
        job = await create(client)
        await hands.succeed("add")
        assert (await client.delete(f"/v1/job/{job['id']}")).status_code == 204
        answer = await client.get(f"/v1/job/{job['id']}")
        assert (answer.status_code, answer.json()["type"]) == (410, urn("gone"))
        assert answer.json()["instance"] == f"/v1/job/{job['id']}"


class TestList:
    """``GET /v1/job``."""

    async def test_the_newest_comes_first(self, client: httpx2.AsyncClient) -> None:
        """All jobs are listed."""
        made = [(await create(client))["id"] for _ in range(3)]
        answer = await client.get("/v1/job")
        assert [job["id"] for job in answer.json()["jobs"]] == made[::-1]
        assert answer.json()["cursor"] is None
        assert "link" not in answer.headers

    async def test_pages_are_linked(self, client: httpx2.AsyncClient) -> None:
        """Following the links leads through all jobs that match, once each."""
        made = [(await create(client, name="a&b"))["id"] for _ in range(5)]
        await create(client, name="other")
        url, seen = "/v1/job?limit=2&name=a%26b", []
        while url:
            answer = await client.get(url)
            seen += [job["id"] for job in answer.json()["jobs"]]
            url = answer.links.get("next", {}).get("url", "")
            assert bool(url) == bool(answer.json()["cursor"])
        assert seen == made[::-1]

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("state=done", ["first"]),
            ("state=pending", ["second"]),
            ("function=anything", ["second"]),
            ("name=first&state=done&function=add", ["first"]),
            ("name=first&state=pending", []),
            ("name=null", []),
            ("name=%25", []),
        ],
    )
    async def test_it_can_be_narrowed(
        self, client: httpx2.AsyncClient, hands: Hands, query: str, names: list[str]
    ) -> None:
        """By state, name and function, all of which must match."""
        await create(client, name="first")
        await hands.succeed("add")
        await create(client, name="second", functions=[{"name": "anything"}])
        answer = await client.get(f"/v1/job?{query}")
        assert [job["name"] for job in answer.json()["jobs"]] == names


class TestCancel:
    """``POST /v1/job/{id}/cancel``."""

    async def test_a_waiting_job_stops_at_once(self, client: httpx2.AsyncClient) -> None:
        """A second cancel changes nothing."""
        job = await create(client)
        for _ in range(2):
            answer = await client.post(f"/v1/job/{job['id']}/cancel")
            assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")

    async def test_a_running_job_stops_soon(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """Until its worker has obeyed, the job is being cancelled."""
        job = await create(client)
        claim = await hands.claim("add")
        answer = await client.post(f"/v1/job/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "doing")
        assert answer.json()["cancel_requested_at"]
        assert answer.headers["location"] == f"/v1/job/{job['id']}"
        await hands.stop(claim)
        assert (await client.get(f"/v1/job/{job['id']}")).json()["state"] == "cancelled"

    async def test_a_finished_job_is_refused(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """What is done stays done."""
        job = await create(client)
        await hands.succeed("add")
        answer = await client.post(f"/v1/job/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["type"]) == (409, urn("wrong-state"))
        assert answer.json()["instance"] == f"/v1/job/{job['id']}"


class TestRetry:
    """``POST /v1/job/{id}/retry``."""

    async def test_a_failed_job_goes_on(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """It is pending again, in its next run."""
        job = await create(client)
        await hands.fail("add")
        answer = await client.post(f"/v1/job/{job['id']}/retry")
        assert (answer.status_code, answer.json()["state"], answer.json()["run"]) == (202, "pending", 2)
        assert answer.headers["location"] == f"/v1/job/{job['id']}"

    async def test_an_unfinished_job_is_refused(self, client: httpx2.AsyncClient) -> None:
        """Nothing has ended that could go on."""
        job = await create(client)
        assert (await client.post(f"/v1/job/{job['id']}/retry")).status_code == 409


class TestForget:
    """``DELETE /v1/job/{id}``."""

    async def test_an_unfinished_job_stays(self, client: httpx2.AsyncClient) -> None:
        """It is to be cancelled first."""
        job = await create(client)
        answer = await client.delete(f"/v1/job/{job['id']}")
        assert answer.status_code == 409
        assert "cancel it first" in answer.json()["detail"]
        assert (await client.get(f"/v1/job/{job['id']}")).status_code == 200

    async def test_an_ended_job_goes(self, client: httpx2.AsyncClient) -> None:
        """The answer has no body."""
        job = await create(client)
        await client.post(f"/v1/job/{job['id']}/cancel")
        answer = await client.delete(f"/v1/job/{job['id']}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert "content-length" not in answer.headers
        assert (await client.delete(f"/v1/job/{job['id']}")).status_code == 410


class TestEvents:
    """``GET /v1/job/{id}/events``."""

    async def test_they_tell_a_jobs_life(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """Oldest first, numbered from one."""
        job = await create(client)
        await hands.succeed("add")
        events = (await client.get(f"/v1/job/{job['id']}/events")).json()
        assert [(event["number"], event["kind"]) for event in events] == [
            (1, "submitted"),
            (2, "step-done"),
            (3, "done"),
        ]


@pytest.mark.parametrize("call", ["GET {}", "DELETE {}", "POST {}/cancel", "POST {}/retry", "GET {}/events"])
@pytest.mark.parametrize("job_id", [NOBODY, "nonsense"])
async def test_no_call_finds_what_is_not_there(client: httpx2.AsyncClient, call: str, job_id: str) -> None:
    """Every call on a job answers 404 for one that never was."""
    method, path = call.format(f"/v1/job/{job_id}").split()
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
