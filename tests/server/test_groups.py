"""Groups over HTTP: listed, triggered, followed, cancelled."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from raincheck import App, Limits
from raincheck.engine.groups.gatherer import Gatherer
from tests.problems import urn
from tests.server.conftest import make_app, transport
from tests.server.hands import Hands

Client = httpx2.AsyncClient


@pytest.fixture
async def gatherer(app: App) -> Any:
    """A gatherer, as maintenance has one in every server and worker."""
    await app.open()
    async with Gatherer(app.engine.jobs) as gatherer:
        yield gatherer


async def start(client: Client, name: str = "pair", body: Any = None, **headers: str) -> dict[str, Any]:
    """A run just triggered."""
    answer = await client.post(f"/v1/group/{name}", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    run: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/group/{name}/{run['id']}"
    return run


async def ended(client: Client, run: dict[str, Any]) -> dict[str, Any]:
    """The run once it has ended."""
    answer = await client.get(f"/v1/group/{run['group']}/{run['id']}", headers={"prefer": "wait=5"})
    found: dict[str, Any] = answer.json()
    assert found["finished_at"] is not None, found
    return found


class TestDefinitions:
    """What groups there are."""

    async def test_groups_are_listed_with_what_is_wrong_with_them(self, client: Client) -> None:
        """An invalid one does not keep the others from being there."""
        groups = (await client.get("/v1/group")).json()
        assert [(g["name"], g["jobs"], g["then"], g["error"] is None) for g in groups] == [
            ("alone", 1, [], True),
            ("empty", 0, [], False),
            ("pair", 2, ["total"], True),
            ("wrong", 0, [], False),
        ]
        assert groups[1]["error"]["errors"] == [
            {"detail": "a group needs at least one job", "pointer": "/jobs"}
        ]

    async def test_a_group_is_shown_with_its_jobs_and_latest_runs(self, client: Client) -> None:
        """Newest first, and none of another group."""
        runs = [await start(client), await start(client)]
        await start(client, "alone")
        group = (await client.get("/v1/group/pair")).json()
        assert [job["name"] for job in group["jobs"]] == ["one", "two"]
        assert group["jobs"][1]["functions"][0] == {"name": "add", "args": [2], "kwargs": {}}
        assert group["jobs"][0]["data"] == {"own": 1}
        assert [run["id"] for run in group["runs"]] == [runs[1]["id"], runs[0]["id"]]

    async def test_there_is_no_group_of_another_name(self, client: Client) -> None:
        """To look at, or to trigger."""
        answers = [await client.get("/v1/group/other"), await client.post("/v1/group/other")]
        assert [answer.status_code for answer in answers] == [404, 404]

    async def test_an_invalid_group_is_not_triggered(self, client: Client) -> None:
        """Its definition's faults are the answer's, each with its place."""
        answer = await client.post("/v1/group/wrong")
        assert (answer.status_code, answer.json()["type"]) == (422, urn("invalid-group"))
        assert {fault["pointer"] for fault in answer.json()["errors"]} == {
            "/jobs/0/functions/0/args/0",
            "/jobs/1/name",
            "/jobs/1/functions",
            "/then/0/name",
        }
        assert (await client.get("/v1/job")).json()["jobs"] == []

    @pytest.mark.parametrize("relative", [False, True])
    async def test_a_fault_names_the_file_but_not_where_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, relative: bool
    ) -> None:
        """A relative path is told as configured; of an absolute one, callers learn the name alone."""
        path = tmp_path / "conf" / "groups.yaml"
        path.parent.mkdir()
        path.write_text(
            "groups:\n  filed:\n    jobs:\n      - {name: one, functions: [{name: add, args: [x]}]}\n"
        )
        monkeypatch.chdir(tmp_path)
        app = make_app(tmp_path)
        app.config = path.relative_to(tmp_path) if relative else path
        async with httpx2.AsyncClient(transport=transport(app), base_url="http://localhost") as client:
            answers = [
                await client.get("/v1/group"),
                await client.get("/v1/group/filed"),
                await client.post("/v1/group/filed"),
            ]
        await app.close()
        shown = "conf/groups.yaml:4: " if relative else '"groups.yaml:4: '
        for answer in answers:
            assert shown in answer.text
            assert str(tmp_path) not in answer.text


class TestTrigger:
    """Starting a run."""

    async def test_a_run_has_its_jobs_when_it_is_accepted(self, client: Client) -> None:
        """Their ids and the name of the group find them at once."""
        run = await start(client)
        assert (run["state"], run["counts"], run["result"]) == ("doing", {"pending": 2}, None)
        assert [job["name"] for job in run["jobs"]] == ["one", "two"]
        job = (await client.get(f"/v1/job/{run['jobs'][0]['id']}")).json()
        assert (job["name"], job["group"], job["data"]) == ("one", "pair", {"own": 1})
        listed = (await client.get("/v1/job", params={"group": "pair"})).json()["jobs"]
        assert Counter(each["name"] for each in listed) == {"one": 1, "two": 1, "pair": 1}

    async def test_the_follow_up_has_the_results_in_order(
        self, client: Client, hands: Hands, gatherer: Gatherer
    ) -> None:
        """It is run once all jobs have ended; its result is the run's."""
        run = await start(client)
        await hands.succeed("add", result=1)
        await hands.succeed("add", result=2)
        await hands.succeed("add", result=5)
        claim = await hands.claim("total")
        assert claim.job.id == run["id"]
        found = (await client.get(f"/v1/job/{run['id']}")).json()
        assert found["functions"][0]["result"] == [1, 5]
        await hands.end(claim, _succeeded(claim, b"6"))
        assert (await ended(client, run))["result"] == 6

    async def test_without_a_follow_up_the_results_are_the_result(
        self, client: Client, hands: Hands, gatherer: Gatherer
    ) -> None:
        """A list of them, in order."""
        run = await start(client, "alone")
        await hands.succeed("add", result=1)
        assert (await ended(client, run))["result"] == [1]

    async def test_a_request_may_wait_for_the_end(
        self, client: Client, hands: Hands, gatherer: Gatherer
    ) -> None:
        """Then it is answered with 200, and with 202 if the wait was too short."""
        answer = await client.post("/v1/group/alone", headers={"prefer": "wait=0"})
        assert answer.status_code == 202
        await hands.succeed("add", result=1)
        answer = await client.get(answer.headers["location"], headers={"prefer": "wait=5"})
        assert (answer.json()["state"], answer.headers["preference-applied"]) == ("done", "wait=5")

    async def test_data_goes_over_that_of_every_job(self, client: Client) -> None:
        """And of the follow-up: top-level keys are merged."""
        run = await start(client, body={"data": {"own": 2, "more": True}})
        one, two = [(await client.get(f"/v1/job/{job['id']}")).json() for job in run["jobs"]]
        whole = (await client.get(f"/v1/job/{run['id']}")).json()
        assert [each["data"] for each in (one, two, whole)] == [{"own": 2, "more": True}] * 3

    async def test_args_are_for_the_first_functions_of_jobs_by_name(self, client: Client) -> None:
        """An array by position; what is not named is as it was declared."""
        run = await start(client, body={"args": {"two": [8, 9]}})
        one, two = [(await client.get(f"/v1/job/{job['id']}")).json() for job in run["jobs"]]
        assert one["functions"][0]["args"] == [1]
        assert [function["args"] for function in two["functions"]] == [[8, 9], [3]]

    @pytest.mark.parametrize(
        ("body", "pointers"),
        [
            ({"data": []}, ["/data"]),
            ({"args": {"three": []}}, ["/args/three"]),
            ({"args": {"one": 3}}, ["/args/one"]),
            ({"args": {"one": ["x"], "two": {"a": 1}}}, ["/args/one/0", "/args/two/a"]),
            ({"other": 1}, ["/other"]),
        ],
    )
    async def test_what_does_not_fit_is_pointed_at(
        self, client: Client, body: Any, pointers: list[str]
    ) -> None:
        """And nothing is started."""
        answer = await client.post("/v1/group/pair", json=body)
        assert (answer.status_code, [e["pointer"] for e in answer.json()["errors"]]) == (422, pointers)
        assert (await client.get("/v1/job")).json()["jobs"] == []

    async def test_a_key_makes_it_safe_to_repeat(self, client: Client) -> None:
        """The same key gives the same run, and another request with it is refused."""
        first = await start(client, body={"data": {"a": 1}}, **{"idempotency-key": "k"})
        again = await start(client, body={"data": {"a": 1}}, **{"idempotency-key": "k"})
        assert again == first
        answer = await client.post("/v1/group/pair", json={}, headers={"idempotency-key": "k"})
        assert (answer.status_code, answer.json()["type"]) == (422, urn("idempotency-mismatch"))

    async def test_data_that_would_be_too_much_for_all_jobs_is_refused(self, tmp_path: Path) -> None:
        """It is kept with each of them."""
        app = make_app(tmp_path, Limits(group=1000))
        async with httpx2.AsyncClient(transport=transport(app), base_url="http://localhost") as client:
            answer = await client.post("/v1/group/pair", json={"data": {"x": "y" * 500}})
        await app.close()
        assert (answer.status_code, answer.json()["type"]) == (413, urn("too-large"))


class TestEnds:
    """What becomes of runs whose jobs do not end well."""

    async def test_a_failed_job_fails_the_run_once_all_have_ended(
        self, client: Client, hands: Hands, gatherer: Gatherer
    ) -> None:
        """Its error says how many and names them; the follow-up is not run."""
        run = await start(client)
        await hands.fail("add")
        assert (await client.get(f"/v1/group/pair/{run['id']}")).json()["state"] == "doing"
        await hands.succeed("add", result=2)
        await hands.succeed("add", result=3)
        found = await ended(client, run)
        assert (found["state"], found["counts"]) == ("failed", {"failed": 1, "done": 1})
        assert found["error"]["type"] == urn("members-failed")
        assert found["error"]["detail"] == "1 of 2 jobs failed, were cancelled or removed"
        assert found["error"]["errors"] == [
            {"detail": f"job {run['jobs'][0]['id']} (one) was failed: ValueError", "pointer": "/jobs/0"}
        ]
        assert found["then"][0]["state"] == "pending"

    async def test_a_retry_of_the_run_reopens_what_failed(
        self, client: Client, hands: Hands, gatherer: Gatherer
    ) -> None:
        """And only that; then it gathers again, and goes on."""
        run = await start(client)
        await hands.fail("add")
        await hands.succeed("add", result=2)
        await hands.succeed("add", result=3)
        await ended(client, run)
        assert (await client.post(f"/v1/job/{run['id']}/retry")).status_code == 202
        await hands.succeed("add", result=1)
        await hands.succeed("total", result=4)
        found = await ended(client, run)
        assert (found["state"], found["result"], found["counts"]) == ("done", 4, {"done": 2})

    async def test_with_continue_a_failed_job_leaves_null(
        self, client: Client, hands: Hands, gatherer: Gatherer
    ) -> None:
        """In its place in the list of results."""
        run = await start(client, "alone")
        await hands.fail("add")
        found = await ended(client, run)
        assert (found["state"], found["result"], found["counts"]) == ("done", [None], {"failed": 1})

    async def test_a_cancelled_run_cancels_its_jobs(
        self, client: Client, hands: Hands, gatherer: Gatherer
    ) -> None:
        """It has ended once they have: those being run are stopped by their workers."""
        run = await start(client)
        claim = await hands.claim("add")
        answer = await client.post(f"/v1/group/pair/{run['id']}/cancel")
        assert answer.status_code == 202
        assert answer.json()["cancel_requested_at"] is not None
        assert (await client.post(f"/v1/group/pair/{run['id']}/cancel")).status_code == 202
        while (await client.get(f"/v1/group/pair/{run['id']}")).json()["counts"] != {
            "doing": 1,
            "cancelled": 1,
        }:
            pass
        while not (await client.get(f"/v1/job/{claim.job.id}")).json()["cancel_requested_at"]:
            pass
        await hands.stop(claim)
        found = await ended(client, run)
        assert (found["state"], found["counts"]) == ("cancelled", {"cancelled": 2})

    async def test_a_run_in_its_follow_up_is_cancelled_as_any_job(
        self, client: Client, hands: Hands, gatherer: Gatherer
    ) -> None:
        """Its jobs stay done."""
        run = await start(client)
        for result in (1, 2, 3):
            await hands.succeed("add", result=result)
        while (await client.get(f"/v1/job/{run['id']}")).json()["current_function"] != 1:
            pass
        answer = await client.post(f"/v1/group/pair/{run['id']}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        assert answer.json()["counts"] == {"done": 2}

    async def test_a_removed_job_counts_as_failed(
        self, client: Client, hands: Hands, gatherer: Gatherer
    ) -> None:
        """It is shown without a state."""
        run = await start(client)
        await hands.succeed("add", result=1)
        await client.delete(f"/v1/job/{run['jobs'][0]['id']}")
        await hands.succeed("add", result=2)
        await hands.succeed("add", result=3)
        found = await ended(client, run)
        assert (found["state"], found["counts"]) == ("failed", {"removed": 1, "done": 1})
        assert found["jobs"][0] == {"id": run["jobs"][0]["id"], "name": None, "state": None}


class TestPaths:
    """What is no run."""

    async def test_a_run_is_found_under_its_own_group(self, client: Client) -> None:
        """And a job of it is no run."""
        run = await start(client)
        paths = (f"alone/{run['id']}", f"pair/{run['jobs'][0]['id']}", "pair/x", f"pair/{run['id']}/other")
        answers = [await client.get(f"/v1/group/{path}") for path in paths]
        assert [answer.status_code for answer in answers] == [404] * 4

    async def test_the_cancel_of_an_ended_run_is_refused(
        self, client: Client, hands: Hands, gatherer: Gatherer
    ) -> None:
        """As that of a job is."""
        run = await start(client, "alone")
        await hands.succeed("add", result=1)
        await ended(client, run)
        answer = await client.post(f"/v1/group/alone/{run['id']}/cancel")
        assert (answer.status_code, answer.json()["instance"]) == (409, f"/v1/group/alone/{run['id']}")


def _succeeded(claim: Any, result: bytes) -> Any:
    from raincheck.core import lifecycle
    from raincheck.core.triggers import Succeeded

    return Succeeded(lifecycle.attempt_of(claim.lease), result)
