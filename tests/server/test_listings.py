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


WHOLE_ONLY = {"data", "result"}


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
