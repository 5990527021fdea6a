"""Listings over HTTP: what a page shows of each job."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from raincheck import Limits
from tests.server.conftest import make_app, transport
from tests.server.hands import Hands
from tests.server.test_jobs import create


def names_in(answer: httpx2.Response) -> list[set[str]]:
    """The members of each job of a page."""
    return [set(job) for job in answer.json()["jobs"]]


WHOLE_ONLY = {"data", "result", "warnings"}


class TestDocumentsOfLists:
    """What ``GET /v1/job`` shows of each job."""

    async def test_they_are_short(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """They have no member that user values make large; the others are those of the whole document."""
        functions = [{"name": "add", "args": [1]}, [{"name": "add"}, {"name": "anything"}]]
        made = await create(client, functions=functions, data={"a": 1})
        await hands.succeed("add", result=5)
        whole = (await client.get(f"/v1/job/{made['id']}")).json()
        (short,) = (await client.get("/v1/job")).json()["jobs"]
        assert set(whole) - set(short) == WHOLE_ONLY
        assert {name: short[name] for name in short if name != "functions"}.items() <= whole.items()
        first, (second, third) = short["functions"]
        assert first == {"name": "add", "state": "done", "retry_count": 1, "lost_count": 0}
        assert (second["state"], third["name"]) == ("pending", "anything")

    async def test_an_error_is_cut(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """Its title and its exception say what happened."""
        await create(client)
        await hands.fail("add", detail="x" * 10_000)
        (job,) = (await client.get("/v1/job?state=failed")).json()["jobs"]
        assert job["error"]["detail"] == "x" * 199 + "…"
        assert (job["error"]["title"], job["error"]["exception"]) == ("ValueError", "ValueError")

    async def test_they_are_whole_on_demand(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """Then each is the document that its own URL has."""
        made = await create(client, data={"a": 1})
        await hands.succeed("add", result="y" * 5000)
        for query in ("full=1", "full=true"):
            (job,) = (await client.get(f"/v1/job?{query}")).json()["jobs"]
            assert job == (await client.get(f"/v1/job/{made['id']}")).json()

    async def test_members_can_be_chosen(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """The id is always one of them."""
        await create(client, data={"a": 1})
        await hands.succeed("add", result="y" * 5000)
        for query, members in {
            "fields=id": {"id"},
            "fields=state,name": {"id", "state", "name"},
            "fields=data,result": {"id", "data", "result"},
            "fields=functions": {"id", "functions"},
            "full=1&fields=functions,data": {"id", "functions", "data"},
        }.items():
            assert names_in(await client.get(f"/v1/job?{query}")) == [members]
        (job,) = (await client.get("/v1/job?fields=result,data")).json()["jobs"]
        assert (job["result"], job["data"]) == ("y" * 5000, {"a": 1})
        (job,) = (await client.get("/v1/job?fields=functions&full=1")).json()["jobs"]
        assert job["functions"][0]["result"] == "y" * 5000

    async def test_a_chosen_result_of_an_unfinished_job_is_null(self, client: httpx2.AsyncClient) -> None:
        """As in its whole document."""
        await create(client)
        assert (await client.get("/v1/job?fields=result")).json()["jobs"][0]["result"] is None

    async def test_the_next_page_shows_the_same(self, client: httpx2.AsyncClient) -> None:
        """The link contains what was chosen."""
        for _ in range(3):
            await create(client)
        first = await client.get("/v1/job?limit=1&fields=data&full=1")
        second = await client.get(first.links["next"]["url"])
        assert names_in(second) == [{"id", "data"}]

    async def test_a_page_has_a_bounded_size(self, tmp_path: Path) -> None:
        """It ends early with a cursor; a job that is larger alone is on a page of its own."""
        app = make_app(tmp_path, Limits(page_bytes=20_000))
        async with app, httpx2.AsyncClient(transport=transport(app), base_url="http://localhost") as client:
            made = [
                await create(client, data={"large": "x" * size}) for size in (9000, 9000, 50_000, 9000, 10)
            ]
            sizes, url = [], "/v1/job?full=1"
            seen = []
            while url:
                answer = await client.get(url)
                jobs = answer.json()["jobs"]
                sizes.append(len(jobs))
                seen += jobs
                url = answer.links.get("next", {}).get("url", "")
            assert sizes == [2, 1, 2]
            assert [job["id"] for job in seen] == [job["id"] for job in made[::-1]]
            assert len((await client.get("/v1/job")).json()["jobs"]) == 5

    @pytest.mark.parametrize(
        "query", ["full=2", "full=", "fields=", "fields=odd", "fields=id,,name", "fields=id,args"]
    )
    async def test_a_view_that_does_not_exist_is_refused(
        self, client: httpx2.AsyncClient, query: str
    ) -> None:
        """The problem names the parameter."""
        answer = await client.get(f"/v1/job?{query}")
        pointer = "/" + query.partition("=")[0]
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def named(answer: httpx2.Response) -> list[str]:
    """The names of the jobs of a page."""
    assert answer.status_code == 200, answer.text
    return [job["name"] for job in answer.json()["jobs"]]


class TestFilters:
    """The filter and the order of ``GET /v1/job``."""

    async def test_several_states_can_be_given(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """Separated by commas, or by repeating the parameter; the next page has all of them."""
        for name in ("done", "failed", "pending"):
            await create(client, name=name)
        await hands.succeed("add")
        await hands.fail("add")
        for query in ("state=done,failed", "state=done&state=failed", "state=failed,done,done"):
            first = await client.get(f"/v1/job?{query}&limit=1")
            assert named(first) == ["failed"]
            assert named(await client.get(first.links["next"]["url"])) == ["done"]
        assert named(await client.get("/v1/job?sort=oldest")) == ["done", "failed", "pending"]

    async def test_errors_can_be_chosen(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """By the type of the problem, as its name or its URI, or by the exception."""
        await create(client, name="failed")
        await hands.fail("add")
        await create(client, name="pending")
        uri = (await client.get("/v1/job?state=failed")).json()["jobs"][0]["error"]["type"]
        for error in ("function-failed", uri, "ValueError"):
            assert named(await client.get("/v1/job", params={"error": error})) == ["failed"]
        assert named(await client.get("/v1/job?error=KeyError")) == []

    async def test_schedules_can_be_chosen(self, client: httpx2.AsyncClient) -> None:
        """Its jobs are those that it created."""
        await create(client, name="often")
        await client.put("/v1/schedule/often", json={"every": 60, "functions": [{"name": "add"}]})
        job = (await client.post("/v1/schedule/often/run")).json()
        assert [each["id"] for each in (await client.get("/v1/job?schedule=often")).json()["jobs"]] == [
            job["id"]
        ]

    async def test_times_can_be_given(self, client: httpx2.AsyncClient) -> None:
        """As dates in any time zone, also with a plus sign that was not escaped, or counted back from now."""
        created = (await create(client, name="one"))["created_at"]
        for query in (
            "since=1h",
            "since=0.5d&until=0s",
            f"since={created}",
            "since=2026-01-01T00:00:00+02:00",
            "since=2026-01-01T00:00:00%2B02:00",
            "until=9999-12-31T23:59:59Z",
        ):
            assert named(await client.get(f"/v1/job?{query}")) == ["one"]
        for query in (f"until={created}", "until=1h", "since=9999-12-31T23:59:59Z"):
            assert named(await client.get(f"/v1/job?{query}")) == []

    async def test_all_pages_count_back_from_the_same_time(self, client: httpx2.AsyncClient) -> None:
        """The one of the first page, which the cursor contains; so the jobs of all pages are one listing."""
        for _ in range(3):
            await create(client)
        first = (await client.get("/v1/job?since=1h&limit=1")).json()
        second = await client.get("/v1/job", params={"since": "1h", "limit": 1, "cursor": first["cursor"]})
        assert len(second.json()["jobs"]) == 1
        other = await client.get("/v1/job", params={"since": "2h", "limit": 1, "cursor": first["cursor"]})
        assert (other.status_code, other.json()["errors"][0]["pointer"]) == (422, "/cursor")

    @pytest.mark.parametrize(
        "query",
        [
            "since=",
            "since=yesterday",
            "since=1",
            "since=1y",
            "since=-1h",
            "since=2026-01-01",
            "since=2026-01-01T00:00:00",
            "until=2026-13-01T00:00:00Z",
            "until=2h&since=1h",
            "state=done,odd",
            "state=done,",
            "sort=up",
            "schedule=",
            "error=",
            "function=",
        ],
    )
    async def test_a_filter_that_cannot_be_understood_is_refused(
        self, client: httpx2.AsyncClient, query: str
    ) -> None:
        """The problem names the parameter and says what it can be."""
        answer = await client.get(f"/v1/job?{query}")
        pointer = "/" + query.partition("=")[0]
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
