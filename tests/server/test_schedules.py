"""Schedules over HTTP: put, look at, pause, run now, delete."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from raincheck.testing import running
from tests.problems import urn
from tests.server.conftest import make_app
from tests.server.hands import Hands

NIGHTLY = {"cron": "0 3 * * *", "zone": "Europe/Paris", "functions": [{"name": "add", "args": [1, 2]}]}


async def put(client: httpx2.AsyncClient, name: str = "nightly", **changes: Any) -> dict[str, Any]:
    """A schedule as it was answered."""
    answer = await client.put(f"/v1/schedule/{name}", json=NIGHTLY | changes)
    assert answer.status_code in (200, 201), answer.text
    schedule: dict[str, Any] = answer.json()
    return schedule


def dates(schedule: dict[str, Any]) -> list[datetime]:
    """The firings that it shows."""
    return [datetime.fromisoformat(date) for date in schedule["next"]]


class TestPut:
    """``PUT /v1/schedule/{name}``."""

    async def test_a_new_one_is_created(self, client: httpx2.AsyncClient) -> None:
        """The answer says where it is, and is what it is from then on."""
        answer = await client.put("/v1/schedule/nightly", json=NIGHTLY)
        assert (answer.status_code, answer.headers["location"]) == (201, "/v1/schedule/nightly")
        assert (await client.get("/v1/schedule/nightly")).json() == answer.json()
        assert (await client.get("/v1/schedule")).json() == [answer.json()]

    async def test_it_is_shown_as_it_was_put(self, client: httpx2.AsyncClient) -> None:
        """With defaults for the fields that were not sent."""
        shown = await put(client, data={"big": 10**20}, priority=5, expires_in=60)
        del shown["next"], shown["created_at"], shown["updated_at"]
        assert shown == {
            "name": "nightly",
            "cron": "0 3 * * *",
            "zone": "Europe/Paris",
            "every": None,
            "functions": [
                {"name": "add", "args": [1, 2], "kwargs": {}, "retry_options": None, "timeout": None}
            ],
            "group": None,
            "data": {"big": 10**20},
            "priority": 5,
            "expires_in": 60.0,
            "result_ttl": 604800.0,
            "catch_up": "latest",
            "grace": 60.0,
            "paused": False,
            "last_fired_at": None,
            "last_job": None,
            "source": "api",
        }

    async def test_the_next_five_firings_are_shown(self, client: httpx2.AsyncClient) -> None:
        """At three in the morning in Paris, on five days, the first within one."""
        firings = dates(await put(client))
        assert len(firings) == 5
        assert firings == sorted(firings)
        assert timedelta(0) < firings[0] - datetime.now(UTC) <= timedelta(hours=25)
        assert {firing.hour for firing in firings} <= {1, 2}

    async def test_one_that_is_there_is_replaced(self, client: httpx2.AsyncClient) -> None:
        """As a whole; when it was created stays."""
        before = await put(client, priority=5)
        answer = await client.put("/v1/schedule/nightly", json=NIGHTLY | {"cron": "0 4 * * *"})
        after = answer.json()
        assert (answer.status_code, after["cron"], after["priority"]) == (200, "0 4 * * *", 0)
        assert after["created_at"] == before["created_at"] < after["updated_at"]

    async def test_an_interval_that_stays_keeps_its_firings(self, client: httpx2.AsyncClient) -> None:
        """Another one begins anew."""
        interval: dict[str, Any] = {"cron": None, "zone": None, "every": 3600.0}
        before = await put(client, **interval)
        assert (await put(client, **interval, priority=1))["next"] == before["next"]
        assert (await put(client, **interval | {"every": 1800}))["next"] != before["next"]

    async def test_a_paused_one_stays_paused(self, client: httpx2.AsyncClient) -> None:
        """Unless the request sets `paused`."""
        assert (await put(client, paused=True))["next"] == []
        assert (await put(client))["paused"] is True
        assert len(dates(await put(client, paused=False))) == 5

    @pytest.mark.parametrize(
        ("changes", "pointer"),
        [
            ({"cron": "0 3 * *"}, "/cron"),
            ({"cron": "61 3 * * *"}, "/cron"),
            ({"cron": "0 0 3 * * *"}, "/cron"),
            ({"cron": "0 0 30 2 *"}, "/cron"),
            ({"cron": "@daily"}, "/cron"),
            ({"cron": "*" * 500}, "/cron"),
            ({"cron": None, "zone": None}, "/cron"),
            ({"every": 60}, "/every"),
            ({"zone": "Europe/Nowhere"}, "/zone"),
            ({"zone": "America"}, "/zone"),
            ({"zone": "../../etc/passwd"}, "/zone"),
            ({"zone": "localtime"}, "/zone"),
            ({"zone": ""}, "/zone"),
            ({"cron": None, "every": 60}, "/zone"),
            ({"cron": None, "zone": None, "every": 0.5}, "/every"),
            ({"cron": None, "zone": None, "every": "90s"}, "/every"),
            ({"cron": None, "zone": None, "every": 1e300}, "/every"),
            ({"functions": []}, "/functions"),
            ({"functions": [{"name": "add", "args": ["one"]}]}, "/functions/0/args/0"),
            ({"functions": [{"name": "add", "args": {}}]}, "/functions/0/args"),
            ({"data": []}, "/data"),
            ({"group": "total"}, "/group"),
            ({"group": "total", "functions": [], "priority": 1}, "/priority"),
            ({"group": "total", "functions": [], "result_ttl": 1}, "/result_ttl"),
            ({"group": "total", "functions": [], "data": []}, "/data"),
            ({"group": "nobody", "functions": []}, "/group"),
            ({"group": "no/body", "functions": []}, "/group"),
            ({"priority": 5000}, "/priority"),
            ({"expires_in": 0}, "/expires_in"),
            ({"result_ttl": -1}, "/result_ttl"),
            ({"catch_up": "some"}, "/catch_up"),
            ({"grace": -1}, "/grace"),
            ({"name": "nightly"}, "/name"),
            ({"paused": 1}, "/paused"),
        ],
    )
    async def test_a_bad_one_is_refused(
        self, client: httpx2.AsyncClient, changes: dict[str, Any], pointer: str
    ) -> None:
        """The problem points at what is wrong, and what was there stays."""
        before = await put(client)
        answer = await client.put("/v1/schedule/nightly", json=NIGHTLY | changes)
        assert (answer.status_code, answer.json()["type"]) == (422, urn("validation"))
        assert pointer in [fault["pointer"] for fault in answer.json()["errors"]]
        assert (await client.get("/v1/schedule/nightly")).json() == before

    async def test_every_fault_is_named(self, client: httpx2.AsyncClient) -> None:
        """Those of the schedule and those of its job."""
        bad = {
            "cron": "x x x x x",
            "zone": "Mars/Base",
            "every": 5,
            "functions": [{"name": "add", "args": [""]}],
        }
        answer = await client.put("/v1/schedule/bad", json=bad)
        pointers = [fault["pointer"] for fault in answer.json()["errors"]]
        assert pointers == ["/every", "/zone", "/functions/0/args/0"]

    @pytest.mark.parametrize("name", [".hidden", "-x", "a%20b", "a" * 101, "é"])
    async def test_a_bad_name_is_refused(self, client: httpx2.AsyncClient, name: str) -> None:
        """It is one word, as it stands in a path."""
        answer = await client.put(f"/v1/schedule/{name}", json=NIGHTLY)
        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/name"]


class TestPausing:
    """``POST /v1/schedule/{name}/pause`` and ``/resume``."""

    async def test_a_paused_schedule_has_no_firings(self, client: httpx2.AsyncClient) -> None:
        """They come back when it is resumed; to do either twice is to do it once."""
        await put(client)
        for _ in range(2):
            paused = (await client.post("/v1/schedule/nightly/pause")).json()
            assert (paused["paused"], paused["next"]) == (True, [])
        for _ in range(2):
            resumed = (await client.post("/v1/schedule/nightly/resume")).json()
            assert (resumed["paused"], len(resumed["next"])) == (False, 5)


class TestRunning:
    """``POST /v1/schedule/{name}/run``."""

    async def test_its_job_is_run_now(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """Its firings stay as they are."""
        before = await put(client, expires_in=60)
        answer = await client.post("/v1/schedule/nightly/run")
        job = answer.json()
        assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/job/{job['id']}")
        assert (job["name"], job["schedule"], job["state"]) == ("nightly", "nightly", "pending")
        assert job["expires_at"] is not None
        assert (await client.get("/v1/schedule/nightly")).json() == before

    async def test_it_may_be_waited_for(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """As for any job, also while it is paused."""
        await put(client, paused=True)
        _, answer = await asyncio.gather(
            hands.succeed("add", result=3),
            client.post("/v1/schedule/nightly/run", headers={"Prefer": "wait=5"}),
        )
        assert (answer.status_code, answer.json()["result"]) == (200, 3)

    async def test_a_key_makes_it_safe_to_repeat(self, client: httpx2.AsyncClient) -> None:
        """The same request is the same job."""
        await put(client)
        headers = {"Idempotency-Key": "once"}
        first, second = [await client.post("/v1/schedule/nightly/run", headers=headers) for _ in range(2)]
        assert first.json()["id"] == second.json()["id"]


class TestFiring:
    """What a server that is running does about it."""

    async def test_a_firing_makes_a_job(self, tmp_path: Path) -> None:
        """It names the schedule and the firing, and the schedule names it."""
        app = make_app(tmp_path)
        transport = httpx2.ASGITransport(app.asgi)
        async with (
            running(app) as worker,
            httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            await put(client, "often", cron=None, zone=None, every=60)
            assert await worker.run_for(60) == 1
            schedule = (await client.get("/v1/schedule/often")).json()
            job = (await client.get(f"/v1/job/{schedule['last_job']}")).json()
        assert (job["name"], job["schedule"]) == ("often", "often")
        first = datetime.fromisoformat(schedule["created_at"]) + timedelta(seconds=60)
        assert {job["scheduled_at"], job["created_at"], schedule["last_fired_at"]} == {job["scheduled_at"]}
        assert datetime.fromisoformat(job["scheduled_at"]) == first


class TestDelete:
    """``DELETE /v1/schedule/{name}``."""

    async def test_it_is_gone(self, client: httpx2.AsyncClient) -> None:
        """Its jobs stay."""
        await put(client)
        job = (await client.post("/v1/schedule/nightly/run")).json()
        assert (await client.delete("/v1/schedule/nightly")).status_code == 204
        assert (await client.get("/v1/schedule")).json() == []
        assert (await client.get(f"/v1/job/{job['id']}")).status_code == 200


@pytest.mark.parametrize("call", ["GET {}", "DELETE {}", "POST {}/pause", "POST {}/resume", "POST {}/run"])
@pytest.mark.parametrize("name", ["nobody", "%00", "a%2Fb", ".x"])
async def test_what_is_not_there_is_not_found(client: httpx2.AsyncClient, call: str, name: str) -> None:
    """For every operation."""
    method, path = call.split()
    answer = await client.request(method, path.format(f"/v1/schedule/{name}"))
    assert (answer.status_code, answer.json()["type"]) == (404, urn("not-found"))


async def test_counts_tell_every_state(client: httpx2.AsyncClient, hands: Hands) -> None:
    """A job being done is counted as that, and once."""
    job = {"name": "n", "functions": [[{"name": "add"}, {"name": "anything"}], {"name": "add"}]}
    for _ in range(2):
        await client.post("/v1/job", json=job)
    await client.post("/v1/job", json=job | {"delay": 60})
    await hands.claim("add")
    await hands.claim("anything")
    assert (await client.get("/v1/count")).json() == {
        "jobs": {
            "scheduled": 1,
            "pending": 1,
            "doing": 1,
            "retrying": 0,
            "done": 0,
            "failed": 0,
            "cancelled": 0,
        },
        "queued": {"add": 2, "anything": 2},
        "running": 2,
    }
