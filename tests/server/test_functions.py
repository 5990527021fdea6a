"""Functions over HTTP: looked at, and called."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from raincheck import App, injected
from raincheck.core.model import FunctionInfo
from tests.problems import urn
from tests.server.hands import Hands

REMOTE = FunctionInfo(
    name="far/away",
    doc="Offered by a worker.",
    parameters={"type": "object"},
    positional={"type": "array"},
    wait=0,
)


class TestCall:
    """``POST /v1/function/{name}``."""

    @pytest.mark.parametrize(
        ("name", "body", "args", "kwargs"),
        [
            ("add", b"[1, 2]", [1, 2], {}),
            ("add", b" [ ] ", [], {}),
            ("/v1/test-1", b'{"city": "Paris", "days": 2}', [], {"city": "Paris", "days": 2}),
            ("/v1/test-1", b'["Paris"]', ["Paris"], {}),
            ("weather:of", b'[{"name": "Paris"}]', [{"name": "Paris"}], {}),
            ("anything", b"{}", [], {}),
        ],
    )
    async def test_the_body_is_its_arguments(
        self, client: httpx2.AsyncClient, name: str, body: bytes, args: list[Any], kwargs: dict[str, Any]
    ) -> None:
        """An array by position, an object by name."""
        headers = {"content-type": "application/json", "prefer": "respond-async"}
        answer = await client.post(f"/v1/function/{name}", content=body, headers=headers)
        job = answer.json()
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/job/{job['id']}"
        assert answer.headers["preference-applied"] == "respond-async"
        assert job["name"] == name
        (function,) = job["functions"]
        assert (function["name"], function["args"], function["kwargs"]) == (name, args, kwargs)

    async def test_dependencies_are_no_arguments(self, app: App, client: httpx2.AsyncClient) -> None:
        """Nobody can pass one over HTTP, and the OpenAPI document does not know it."""

        class Pool: ...

        def make() -> Pool:
            return Pool()

        def use(city: str, pool: Any = injected) -> str:
            return city

        use.__annotations__["pool"] = Pool  # both are local
        make.__annotations__["return"] = Pool
        app.dependency(make)
        app.function(wait=0)(use)
        assert (await client.post("/v1/function/use", json={"city": "Paris"})).status_code == 202
        answer = await client.post("/v1/function/use", json={"city": "Paris", "pool": 1})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/pool"
        assert "ool" not in (await client.get("/openapi.json")).text.replace("boolean", "")

    async def test_no_body_is_no_arguments(self, client: httpx2.AsyncClient) -> None:
        """A body of nothing needs no type either."""
        answer = await client.post("/v1/function/anything")
        assert answer.json()["functions"][0]["args"] == []

    async def test_the_result_comes_with_the_answer(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """If it is there soon."""
        working = asyncio.create_task(hands.succeed("add", result=3))
        answer = await client.post("/v1/function/add", json=[1, 2], headers={"prefer": "wait=5"})
        await working
        assert answer.status_code == 200
        assert answer.json() == {"id": answer.json()["id"], "state": "done", "result": 3}
        assert answer.headers["content-location"] == f"/v1/job/{answer.json()['id']}"
        assert answer.headers["preference-applied"] == "wait=5"

    async def test_a_function_says_how_long_it_is_waited_for(self, client: httpx2.AsyncClient) -> None:
        """Unless the caller says otherwise; then there is a job to follow."""
        answer = await client.post("/v1/function/add", json=[1, 2])
        assert (answer.status_code, answer.json()["state"]) == (202, "pending")
        assert "preference-applied" not in answer.headers

    async def test_a_failure_is_a_problem(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """It is the job's error, and says which job it is."""
        working = asyncio.create_task(hands.fail("add", detail="no luck"))
        answer = await client.post("/v1/function/add", json=[1], headers={"prefer": "wait=5"})
        await working
        problem = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
        assert (problem["type"], problem["status"], problem["detail"]) == (
            urn("function-failed"),
            500,
            "no luck",
        )
        assert (problem["function"], problem["attempt"]) == ("add", 1)
        job = (await client.get(problem["instance"])).json()
        assert job["error"]["detail"] == "no luck"

    async def test_a_cancelled_call_is_a_conflict(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """The problem says which job was cancelled."""

        async def cancel() -> None:
            claim = await hands.claim("add")
            await client.post(f"/v1/job/{claim.job.id}/cancel")
            await hands.stop(claim)

        cancelling = asyncio.create_task(cancel())
        answer = await client.post("/v1/function/add", json=[1], headers={"prefer": "wait=5"})
        await cancelling
        assert (answer.status_code, answer.json()["type"]) == (409, urn("cancelled"))
        assert (await client.get(answer.json()["instance"])).json()["state"] == "cancelled"

    async def test_arguments_must_fit(self, client: httpx2.AsyncClient) -> None:
        """Faults point into the body as it was sent."""
        named = await client.post("/v1/function/v1/test-1", json={"city": 1, "day~s/": 2})
        placed = await client.post("/v1/function/v1/test-1", json=["Paris", "two", 3])
        nested = await client.post("/v1/function/weather:of", json=[{"name": "x", "planet": 1}])
        assert [answer.status_code for answer in (named, placed, nested)] == [422] * 3
        assert [fault["pointer"] for fault in named.json()["errors"]] == ["/city", "/day~0s~1"]
        assert [fault["pointer"] for fault in placed.json()["errors"]] == ["", "/1"]
        assert [fault["pointer"] for fault in nested.json()["errors"]] == ["/0/planet"]


class TestNames:
    """Which function a path means."""

    @pytest.mark.parametrize(
        "path", ["/v1/function//v1/test-1", "/v1/function/v1/test-1", "/v1/function/%2Fv1%2Ftest-1"]
    )
    async def test_a_proxy_may_merge_slashes(self, client: httpx2.AsyncClient, path: str) -> None:
        """A name that begins with a slash is found all the same."""
        assert (await client.get(path)).json()["name"] == "/v1/test-1"
        answer = await client.post(path, json=["Paris"])
        assert answer.json()["functions"][0]["name"] == "/v1/test-1"

    @pytest.mark.parametrize(
        "name",
        ["nobody", "", "/", "ADD", "add/", "//v1/test-1", "a%2F..%2F..%2Fetc", "%00", "add%20", "x" * 3000],
    )
    async def test_what_nobody_offers_is_not_found(self, client: httpx2.AsyncClient, name: str) -> None:
        """Neither to be looked at nor to be called."""
        for method in ("GET", "POST"):
            answer = await client.request(method, f"/v1/function/{name}")
            assert (answer.status_code, answer.json()["type"]) == (404, urn("not-found"))

    async def test_what_a_worker_offers_can_be_called(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """As soon as it is there, though this server has no such function."""
        assert (await client.post("/v1/function/far/away", json=[1])).status_code == 404
        await hands.register(REMOTE)
        answer = await client.post("/v1/function/far/away", json=[1])
        assert (answer.status_code, answer.json()["waiting_for"]) == (202, [])


class TestLook:
    """``GET /v1/function`` and ``GET /v1/function/{name}``."""

    async def test_all_are_listed(self, client: httpx2.AsyncClient, hands: Hands, app: App) -> None:
        """Those known here and those of workers, by name."""
        await hands.register(REMOTE)
        await app.engine.workers.read()
        functions = (await client.get("/v1/function")).json()
        assert [function["name"] for function in functions] == [
            *("/v1/test-1", "add", "anything", "far/away", "total", "weather:of")
        ]

    async def test_one_tells_what_it_takes(self, client: httpx2.AsyncClient, hands: Hands, app: App) -> None:
        """Its schemas and options, its workers, and the number of queued steps."""
        await hands.register(FunctionInfo(name="add"))
        await app.engine.workers.read()
        await client.post("/v1/function/add", json=[1], headers={"prefer": "wait=0"})
        function = (await client.get("/v1/function/add")).json()
        assert function["doc"] == "Add numbers.\n\nAll of them."
        assert function["positional"] == {"type": "array", "minItems": 0, "items": {"type": "integer"}}
        assert (function["wait"], function["mode"]) == (0.2, "thread")
        assert (function["workers"], function["queued"]) == (["hands"], 1)


async def test_workers_are_shown(client: httpx2.AsyncClient, hands: Hands) -> None:
    """``GET /v1/worker``: the workers and the functions that they offer."""
    assert (await client.get("/v1/worker")).json() == []
    await hands.register(REMOTE)
    (worker,) = (await client.get("/v1/worker")).json()
    assert (worker["id"], worker["state"], worker["functions"]) == ("hands", "active", ["far/away"])
