"""Operations on many jobs over HTTP: retry, cancel, delete."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from raincheck import App
from raincheck.auth import Auth
from raincheck.core.clock import now
from tests.auth.forging import SECRET, claims, token
from tests.server.conftest import transport
from tests.server.hands import Hands
from tests.server.test_jobs import create

OPERATIONS = ("retry", "cancel", "delete")


async def post(client: httpx2.AsyncClient, operation: str, **body: Any) -> dict[str, Any]:
    """The result of an operation."""
    answer = await client.post(f"/v1/job/{operation}", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def states(client: httpx2.AsyncClient, **params: Any) -> list[str]:
    """The states of all jobs, oldest first."""
    jobs = (await client.get("/v1/job", params={"sort": "oldest", "limit": 200, **params})).json()["jobs"]
    return [job["state"] for job in jobs]


async def one_each(client: httpx2.AsyncClient, hands: Hands) -> None:
    """A job that is done, one that failed, one that is cancelled, one that runs and one that waits."""
    for name in ("done", "failed", "cancelled", "doing", "pending"):
        job = await create(client, name=name, functions=[{"name": name}])
        if name == "done":
            await hands.succeed(name)
        elif name == "failed":
            await hands.fail(name)
        elif name == "cancelled":
            await client.post(f"/v1/job/{job['id']}/cancel")
        elif name == "doing":
            await hands.claim(name)


class TestOperations:
    """What each operation changes."""

    @pytest.mark.parametrize(
        ("operation", "after"),
        [
            ("retry", ["done", "pending", "pending", "doing", "pending"]),
            ("cancel", ["done", "failed", "cancelled", "doing", "cancelled"]),
            ("delete", ["doing", "pending"]),
        ],
    )
    async def test_it_changes_the_jobs_that_it_can(
        self, client: httpx2.AsyncClient, hands: Hands, operation: str, after: list[str]
    ) -> None:
        """Without states in the filter, no other job matches. A second time changes nothing."""
        await one_each(client, hands)
        result = await post(client, operation, filter={"since": "1h"})
        changed = {"retry": 2, "cancel": 2, "delete": 3}[operation]
        expected = {"matched": changed, "changed": changed, "skipped": {}, "dry_run": False, "cursor": None}
        assert result == expected
        assert await states(client) == after
        again = await post(client, operation, filter={"since": "1h"})
        assert again["changed"] == 0
        assert again["skipped"] == ({"unchanged": 1} if operation == "cancel" else {})
        assert await states(client) == after

    async def test_a_dry_run_only_counts(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """With the counts that the operation itself then has."""
        await one_each(client, hands)
        before = await states(client)
        for operation in OPERATIONS:
            dry = await post(client, operation, filter={"since": "1h"}, dry_run=True)
            assert dry["dry_run"]
            assert await states(client) == before
            wet = await post(client, operation, filter={"since": "1h"})
            assert wet == dry | {"dry_run": False}
            before = await states(client)

    async def test_jobs_in_another_state_are_skipped(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """If the filter asks for them; the reason is counted."""
        await one_each(client, hands)
        every_state = ["done", "failed", "cancelled", "doing", "pending"]
        result = await post(client, "retry", filter={"state": every_state})
        assert (result["matched"], result["changed"], result["skipped"]) == (5, 2, {"wrong-state": 3})
        result = await post(client, "delete", filter={"state": "doing"})
        assert (result["matched"], result["changed"], result["skipped"]) == (1, 0, {"wrong-state": 1})
        assert len(await states(client)) == 5

    async def test_a_running_job_is_told(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """It ends when its worker has obeyed."""
        job = await create(client)
        claim = await hands.claim("add")
        assert (await post(client, "cancel", filter={"function": "add"}))["changed"] == 1
        assert (await client.get(f"/v1/job/{job['id']}")).json()["cancel_requested_at"]
        await hands.stop(claim)
        assert await states(client) == ["cancelled"]

    async def test_deleted_jobs_are_gone(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """Their ids are remembered."""
        job = await create(client)
        await hands.succeed("add")
        assert (await post(client, "delete", all=True))["changed"] == 1
        assert (await client.get(f"/v1/job/{job['id']}")).status_code == 410

    async def test_only_matching_jobs_change(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """The filter is that of lists."""
        for name in ("a", "b", "a"):
            await create(client, name=name)
            await hands.fail("add")
        assert (await post(client, "retry", filter={"name": "a", "error": "ValueError"}))["changed"] == 2
        assert await states(client) == ["pending", "failed", "pending"]


class TestParts:
    """A request is about a bounded number of jobs."""

    async def test_the_cursor_leads_to_the_rest(self, client: httpx2.AsyncClient) -> None:
        """Every job is counted once, although those before are no longer in the listing."""
        for _ in range(7):
            await create(client)
        cursor, sizes = None, []
        while True:
            body = {"filter": {"since": "1h"}, "limit": 3}
            result = await post(client, "cancel", **body, **({"cursor": cursor} if cursor else {}))
            sizes.append(result["changed"])
            cursor = result["cursor"]
            if cursor is None:
                break
        assert sizes == [3, 3, 1]
        assert await states(client) == ["cancelled"] * 7

    async def test_jobs_of_several_batches_change(self, client: httpx2.AsyncClient, app: App) -> None:
        """One request changes up to 500 of them, unless it says another limit."""
        for _ in range(120):
            await create(client)
        assert (await post(client, "cancel", filter={"name": "one"}))["changed"] == 120
        result = await post(client, "retry", filter={"name": "one"}, limit=110)
        assert (result["changed"], bool(result["cursor"])) == (110, True)

    async def test_a_cursor_of_another_filter_is_refused(self, client: httpx2.AsyncClient) -> None:
        """Nothing is changed."""
        for _ in range(2):
            await create(client)
        cursor = (await post(client, "cancel", filter={"name": "one"}, limit=1, dry_run=True))["cursor"]
        body = {"filter": {"name": "two"}, "cursor": cursor}
        answer = await client.post("/v1/job/cancel", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/cursor")
        assert await states(client) == ["pending", "pending"]


BAD = {
    "an empty filter": ({}, "/filter"),
    "an empty filter that is sent": ({"filter": {}}, "/filter"),
    "no object": ({"filter": []}, "/filter"),
    "an unknown field": ({"filter": {"odd": 1}}, "/filter/odd"),
    "an unknown state": ({"filter": {"state": "odd"}}, "/filter/state"),
    "an unknown state in a list": ({"filter": {"state": ["done", "odd"]}}, "/filter/state/1"),
    "an unknown time": ({"filter": {"since": "yesterday"}}, "/filter/since"),
    "no time between": ({"filter": {"since": "1h", "until": "2h"}}, "/filter/until"),
    "an empty name": ({"filter": {"name": ""}}, "/filter/name"),
    "a limit of none": ({"all": True, "limit": 0}, "/limit"),
    "a large limit": ({"all": True, "limit": 1001}, "/limit"),
    "a forged cursor": ({"all": True, "cursor": "abc"}, "/cursor"),
    "an option that does not exist": ({"all": True, "force": True}, "/force"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("body", "pointer"), BAD.values(), ids=BAD.keys())
async def test_bad_input_is_refused(
    client: httpx2.AsyncClient, operation: str, body: dict[str, Any], pointer: str
) -> None:
    """The problem names the field, and nothing is changed."""
    await create(client)
    answer = await client.post(f"/v1/job/{operation}", json=body)
    assert (answer.status_code, [fault["pointer"] for fault in answer.json()["errors"]]) == (422, [pointer])
    assert await states(client) == ["pending"]


async def test_other_methods_are_refused(client: httpx2.AsyncClient) -> None:
    """The paths are no ids of jobs."""
    for operation in OPERATIONS:
        answer = await client.get(f"/v1/job/{operation}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


async def test_reading_does_not_suffice(app: App) -> None:
    """The scope is that of the operations on one job; also for a dry run."""
    app.auth = Auth(secret=SECRET)
    async with httpx2.AsyncClient(transport=transport(app), base_url="http://localhost") as client:
        for scope, status in (("job:read", 403), ("job:write", 200)):
            headers = {"Authorization": f"Bearer {token(claims(scope=scope, exp=now() + 600))}"}
            for operation in OPERATIONS:
                answer = await client.post(
                    f"/v1/job/{operation}", json={"all": True, "dry_run": True}, headers=headers
                )
                assert answer.status_code == status
    await app.close()
