"""Workers over HTTP: what they may send, what they get, and what a wrong call changes (nothing)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from raincheck import App, Limits
from raincheck.core.clock import now
from raincheck.server import Server
from tests.problems import urn
from tests.server.conftest import transport
from tests.server.hands import Hands
from tests.server.remote import RemoteWorker, job, register, submit
from tests.server.test_listener import served

GARBAGE = "AAAA"
WAIT = 30.0
"""Seconds that a claim waits at most, longer than any test takes."""

LIMITS = Limits(body=64 * 1024, result=1000, page_bytes=20_000)


class Clock:
    """The time of a store, which a test moves."""

    ahead = 0.0

    def __call__(self) -> float:
        return now() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(tmp_path: Path, clock: Clock) -> App:
    """A server without the code of any function; nothing does maintenance."""
    app = App(f"sqlite:///{tmp_path / 'jobs.db'}", limits=LIMITS)
    app.engine.now = clock
    return app


@pytest.fixture
async def http(app: App) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=transport(app), base_url="http://localhost") as http:
        yield http
    await app.close()


def fault(answer: httpx2.Response) -> tuple[int, str]:
    """The status of a problem, and the pointer of its first fault."""
    problem = answer.json()
    return answer.status_code, problem.get("errors", [{}])[0].get("pointer", "")


class TestRegistration:
    """``POST /v1/worker``"""

    @pytest.mark.parametrize(
        ("wrong", "pointer"),
        [
            ({"name": ""}, "/name"),
            ({"name": "n" * 101}, "/name"),
            ({"functions": []}, "/functions"),
            ({"functions": [{"doc": "x"}]}, "/functions/0"),
            ({"functions": [{"name": "add"}, {"name": "a b"}]}, "/functions/1/name"),
            ({"functions": [{"name": "add"}, {"name": "add"}]}, "/functions/1/name"),
            (
                {"functions": [{"name": "add", "parameters": {"type": "any"}}]},
                "/functions/0/parameters/type",
            ),
            (
                {"functions": [{"name": "add", "positional": {"$ref": "http://x/y"}}]},
                "/functions/0/positional",
            ),
            ({"functions": [{"name": "add", "returns": {"$defs": []}}]}, "/functions/0/returns/$defs"),
            ({"functions": [{"name": "add", "returns": []}]}, "/functions/0/returns"),
            ({"functions": [{"name": "add", "timeout": 0}]}, "/functions/0/timeout"),
            ({"functions": [{"name": "add", "retries": 3}]}, "/functions/0/retries"),
            (
                {"functions": [{"name": "add", "retry_options": {"retry_limit": 0}}]},
                "/functions/0/retry_options/retry_limit",
            ),
            ({"functions": [{"name": f"f{i}"} for i in range(1001)]}, "/functions"),
            ({"capacity": 0}, "/capacity"),
            ({"lease": 0.5}, "/lease"),
            ({"lease": 4000}, "/lease"),
            ({"token": "mine"}, "/token"),
        ],
    )
    async def test_bad_input_names_the_field(
        self, http: httpx2.AsyncClient, wrong: dict[str, Any], pointer: str
    ) -> None:
        """And registers nothing."""
        body = {"name": "node-1", "functions": [{"name": "add"}]} | wrong
        assert fault(await http.post("/v1/worker", json=body)) == (422, pointer)
        assert (await http.get("/v1/worker")).json() == []

    async def test_the_token_is_shown_once(
        self, http: httpx2.AsyncClient, app: App, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The store has its digest, documents and logs have nothing."""
        caplog.set_level("DEBUG")
        worker = await register(http, "add")
        await worker.claim()
        token = worker.registered["token"]
        (stored,) = await app.engine.store.workers()
        assert token not in repr(stored)
        assert stored.token_digest
        (shown,) = (await http.get("/v1/worker")).json()
        assert token not in str(shown)
        assert "digest" not in str(shown)
        assert token not in caplog.text

    async def test_any_name_gives_an_id_for_a_path(self, http: httpx2.AsyncClient) -> None:
        """Two workers of a name have different ids."""
        workers = [await register(http, "add", name=name) for name in ("node 1/ä", "node 1/ä", "///", "-.")]
        assert len({worker.id for worker in workers}) == 4
        for worker in workers:
            assert await worker.claim() == []
            assert await worker.leave() == 204

    async def test_a_function_is_shown_as_it_was_registered(self, http: httpx2.AsyncClient) -> None:
        """In the listing and in the API description."""
        parameters = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        options = {"retry_limit": 3, "delay": 0.0}
        function = {"name": "add", "doc": "Add.", "parameters": parameters, "retry_options": options}
        worker = await register(http, function | {"timeout": 5, "wait": 0, "concurrency": 2})
        shown = (await http.get("/v1/function/add")).json()
        assert (shown["doc"], shown["parameters"], shown["retry_options"]) == ("Add.", parameters, options)
        assert (shown["timeout"], shown["wait"], shown["mode"]) == (5, 0, "remote")
        assert (shown["concurrency"], shown["workers"]) == (2, [worker.id])
        assert "/v1/function/add" in (await http.get("/openapi.json")).json()["paths"]

    async def test_arguments_are_checked_on_every_server(self, http: httpx2.AsyncClient, app: App) -> None:
        """Before the job is accepted, by the schema that was registered on another server."""
        parameters = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        other = App(app.url)
        async with httpx2.AsyncClient(transport=transport(other), base_url="http://localhost") as client:
            await register(http, {"name": "add", "parameters": parameters, "wait": 0})
            for server in (http, client):
                steps = [{"name": "add", "args": ["x"]}]
                answer = await server.post("/v1/job", json={"name": "n", "functions": steps})
                assert fault(answer) == (422, "/functions/0/args/0")
                assert fault(await server.post("/v1/function/add", json={"a": "x"})) == (422, "/a")
                assert (await server.post("/v1/function/add", json={"a": 1})).status_code == 202
        await other.close()

    @pytest.mark.parametrize(
        "schema",
        [
            {"discriminator": 5},
            {"discriminator": {"mapping": {"a": 5}}},
            {"$ref": "#"},
            {"const": 5},
            {"minProperties": 3, "properties": {"a": True, "b": False}},
            {"prefixItems": [True, False], "items": False},
        ],
        ids=str,
    )
    async def test_an_unusual_schema_breaks_nothing(
        self, http: httpx2.AsyncClient, schema: dict[str, Any]
    ) -> None:
        """It is valid: the API description and calls go on."""
        function = {"name": "add", "parameters": schema, "positional": schema, "returns": schema, "wait": 0}
        await register(http, function, {"name": "mul", "parameters": schema, "wait": 0})
        assert (await http.get("/openapi.json")).status_code == 200
        for name in ("add", "mul"):
            for body in ([], [1], [[1], 2], {"a": 1}, {"b": 2}):
                answer = await http.post(f"/v1/function/{name}", json=body)
                assert answer.status_code in (202, 422)


class TestCallers:
    """Who may call for a worker."""

    CALLS = ("claim", "extend", "finish", "release")

    async def refusals(self, worker: RemoteWorker) -> set[int]:
        """The statuses of all calls."""
        attempts = {"attempts": [{"id": GARBAGE}]}
        bodies: dict[str, Any] = {"claim": {}, "extend": {}, "finish": attempts, "release": attempts}
        answers = [await worker.send(call, bodies[call]) for call in self.CALLS]
        return {answer.status_code for answer in answers} | {await worker.leave()}

    async def test_an_unknown_worker_registers_again(self, http: httpx2.AsyncClient) -> None:
        """404 says so."""
        worker = await register(http, "add")
        stranger = RemoteWorker(http, worker.registered | {"id": "node-1-stranger"})
        assert await self.refusals(stranger) == {404}
        problem = (await stranger.send("claim", {})).json()
        assert (problem["type"], "register again" in problem["detail"]) == (urn("not-found"), True)

    async def test_a_wrong_token_is_refused(self, http: httpx2.AsyncClient) -> None:
        """Also the token of another worker, and none."""
        worker, other = await register(http, "add"), await register(http, "add")
        for token in ("", "é", "x" * 43, other.registered["token"]):
            liar = RemoteWorker(http, worker.registered | {"token": token})
            liar.headers = {"Worker-Token": token.encode("latin-1")}
            assert await self.refusals(liar) == {403}
        nobody = RemoteWorker(http, worker.registered)
        nobody.headers = {}
        assert await self.refusals(nobody) == {403}
        assert len((await http.get("/v1/worker")).json()) == 2

    async def test_a_worker_of_the_store_cannot_be_called_for(
        self, http: httpx2.AsyncClient, app: App
    ) -> None:
        """It has no token."""
        await app.open()
        await Hands(app.engine.store).register()
        assert await self.refusals(RemoteWorker(http, {"id": "hands", "token": ""})) == {404}

    async def test_a_registration_expires(self, http: httpx2.AsyncClient, clock: Clock) -> None:
        """A worker that was silent for a lease registers again."""
        worker = await register(http, "add")
        clock.ahead = 16.0
        assert await self.refusals(worker) == {404}

    async def test_a_claim_renews_the_registration(self, http: httpx2.AsyncClient, clock: Clock) -> None:
        """A worker that only claims needs no extend."""
        worker = await register(http, "add")
        for clock.ahead in (10.0, 20.0, 30.0):
            assert await worker.claim() == []
        assert (await http.get("/v1/worker")).json()[0]["state"] == "active"


class TestClaims:
    """``POST /v1/worker/{id}/claim``"""

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"limit": 0}, "/limit"),
            ({"limit": 1001}, "/limit"),
            ({"wait": -1}, "/wait"),
            ({"functions": []}, "/functions"),
            ({"functions": ["add", "steal"]}, "/functions/1"),
            ({"limits": {"add": 0}}, "/limits"),
            ({"worker": "other"}, "/worker"),
        ],
    )
    async def test_bad_input_names_the_field(self, http: httpx2.AsyncClient, body: Any, pointer: str) -> None:
        """Also a function that the worker has never registered; nothing is claimed."""
        worker = await register(http, "add")
        await submit(http, "add", "steal")
        assert fault(await worker.send("claim", body)) == (422, pointer)
        assert len(await worker.claim(2)) == 1

    async def test_an_attempt_has_all_that_it_needs(self, http: httpx2.AsyncClient) -> None:
        """And nothing else."""
        worker = await register(http, {"name": "add", "timeout": 30})
        job_id = await submit(http, {"name": "add", "args": [1], "kwargs": {"b": 2}}, data={"c": 3})
        attempt = await worker.claim_one()
        assert attempt.keys() == {
            *("id", "token", "job", "name", "step", "function", "args", "kwargs", "data", "previous"),
            *("attempt", "lost_count", "created_at", "started_at", "lease_until", "timeout", "deadline"),
        }
        assert (attempt["job"], attempt["name"], attempt["step"]) == (job_id, "job", 0)
        assert (attempt["args"], attempt["kwargs"], attempt["data"]) == ([1], {"b": 2}, {"c": 3})
        assert (attempt["attempt"], attempt["timeout"], attempt["previous"]) == (1, 30.0, None)
        assert attempt["started_at"] < attempt["lease_until"] < attempt["deadline"]

    async def test_the_deadline_is_that_of_the_job_if_it_is_earlier(self, http: httpx2.AsyncClient) -> None:
        """The timeout of a step takes precedence over that of the function."""
        worker = await register(http, {"name": "add", "timeout": 30})
        expires_at = "2035-01-01T00:00:00Z"
        await submit(http, {"name": "add", "timeout": 1e8 * 3}, expires_at=expires_at)
        attempt = await worker.claim_one()
        assert (attempt["timeout"], attempt["deadline"]) == (3e8, expires_at)

    async def test_limits_by_function_hold(self, http: httpx2.AsyncClient) -> None:
        """The others are claimed."""
        worker = await register(http, "add", "mul")
        await submit(http, [{"name": name} for name in ("add", "mul") * 5])
        answer = await worker.send("claim", {"limit": 10, "limits": {"add": 2}})
        names = [each["function"] for each in answer.json()["attempts"]]
        assert (names.count("add"), names.count("mul")) == (2, 5)

    async def test_a_response_is_of_bounded_size(self, http: httpx2.AsyncClient) -> None:
        """What does not fit is given back, and comes with a later claim as a first attempt."""
        worker = await register(http, "add")
        for _ in range(5):
            await submit(http, {"name": "add", "args": ["x" * 9000]})
        counts = []
        while attempts := await worker.claim(10):
            counts.append(len(attempts))
            assert {each["attempt"] for each in attempts} == {1}
        assert counts == [2, 2, 1]

    async def test_a_job_that_has_expired_is_ended(self, http: httpx2.AsyncClient, clock: Clock) -> None:
        """It never reaches a worker, and the others do."""
        worker = await register(http, "add", lease=3600)
        ids = [await submit(http, "add", expires_at="2035-01-01T00:00:00Z") for _ in range(2)]
        clock.ahead = 10 * 365 * 86400.0
        worker = await register(http, "add")
        last = await submit(http, "add")
        (attempt,) = await worker.claim(10)
        assert attempt["job"] == last
        for job_id in ids:
            ended = await job(http, job_id)
            assert (ended["state"], ended["error"]["type"]) == ("failed", urn("deadline-passed"))

    async def test_five_hundred_attempts_in_one_claim_and_finish(self, http: httpx2.AsyncClient) -> None:
        """Of several jobs."""
        worker = await register(http, "add", capacity=500)
        ids = [await submit(http, [{"name": "add", "args": [i]} for i in range(125)]) for _ in range(4)]
        attempts = await worker.claim(500)
        assert len(attempts) == 500
        assert await worker.extend(*({"id": each["id"]} for each in attempts)) == {
            "lease": 15.0,
            "stop": [],
            "claim": True,
        }
        ended = [{"id": each["id"], "result": each["args"][0]} for each in attempts]
        assert await worker.finish(*ended) == ["done"] * 500
        for job_id in ids:
            assert (await job(http, job_id))["result"] == list(range(125))


async def waiting(app: App, worker: RemoteWorker) -> None:
    """Wait until a claim of a worker waits: it has renewed its registration for so long."""
    async with asyncio.timeout(30):
        while not _lasts(app, worker):  # noqa: ASYNC110 - nobody tells when it does
            await asyncio.sleep(0.01)


def _lasts(app: App, worker: RemoteWorker) -> bool:
    found = app.engine.workers.worker(worker.id)
    return found is not None and found.seen_until > app.engine.store.now() + WAIT / 2


class TestWaiting:
    """Claims that wait, over real connections."""

    async def test_a_client_that_goes_takes_nothing_with_it(self, app: App) -> None:
        """What comes next goes to a worker that is there."""
        async with served(app) as (url, _), httpx2.AsyncClient(base_url=url) as http:
            gone, there = await register(http, "add"), await register(http, "add")
            async with httpx2.AsyncClient(base_url=url) as lost:
                claiming = asyncio.create_task(gone.at(lost).claim(1, WAIT))
                await http.get("/healthz")  # the claim was sent before
                claiming.cancel()
                await asyncio.wait([claiming])
            await submit(http, "add")
            (attempt,) = await there.claim(1, WAIT)
            assert attempt["attempt"] == 1

    async def test_an_attempt_is_sent_or_given_back(self, http: httpx2.AsyncClient, app: App) -> None:
        """Whenever the client goes: also in the moment in which the claim is answered."""
        worker, store = await register(http, "add"), app.engine.store
        await submit(http, "add")
        headers = {
            b"content-type": b"application/json",
            b"worker-token": worker.headers["Worker-Token"].encode(),
        }
        path = f"/v1/worker/{worker.id}/claim"
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "headers": [*headers.items()],
        }
        for turns in range(20):
            received = iter(({"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}))
            sent = bytearray()

            async def receive(received: Any = received, turns: int = turns) -> Any:
                message = next(received)
                if message["type"] == "http.disconnect":
                    await store.release([])  # answered in the same batch as the claim, or later
                    for _ in range(turns // 4):
                        await asyncio.sleep(0)
                return message

            async def send(message: Any, sent: bytearray = sent) -> None:
                sent.extend(message.get("body", b""))

            await app.asgi(scope, receive, send)
            await store.release([])  # what the store itself gives back
            attempts = json.loads(sent)["attempts"] if sent else []
            assert (await store.counts()).leased == len(attempts)
            for attempt in attempts:
                assert attempt["attempt"] == 1
                await worker.release(attempt)

    async def test_a_server_that_stops_answers_at_once(self, app: App) -> None:
        """With no attempts: the worker goes to another server."""
        async with served(app) as (url, stop), httpx2.AsyncClient(base_url=url) as http:
            workers = [await register(http, "add") for _ in range(3)]
            claims = [asyncio.create_task(each.claim(1, WAIT)) for each in workers]
            for each in workers:
                await waiting(app, each)
            stop.set()
            assert await asyncio.gather(*claims) == [[]] * 3

    async def test_a_server_that_stops_gives_out_nothing_more(
        self, http: httpx2.AsyncClient, app: App
    ) -> None:
        """And tells workers not to claim; they can still finish."""
        worker = await register(http, "add")
        await submit(http, "add", "add")
        attempt = await worker.claim_one()
        server = app.asgi
        assert isinstance(server, Server)
        server.long_polls.end()
        assert (await worker.extend({"id": attempt["id"]}))["claim"] is False
        assert await worker.succeed(attempt) == "done"
        assert await worker.claim(1, WAIT) == []


class TestExtend:
    """``POST /v1/worker/{id}/extend``"""

    async def test_bad_input_names_the_field(self, http: httpx2.AsyncClient) -> None:
        """A text that is not an id; a state that does not exist."""
        worker = await register(http, "add")
        for body, pointer in (
            ({"attempts": [{"id": GARBAGE}]}, "/attempts/0/id"),
            ({"attempts": [{"id": ""}]}, "/attempts/0/id"),
            ({"attempts": [{"progress": {"done": 1}}]}, "/attempts/0"),
            ({"attempts": [{"id": "x", "progress": {}}]}, "/attempts/0/progress"),
            (
                {"attempts": [{"id": "x", "log": [{"level": "fatal", "message": "m"}]}]},
                "/attempts/0/log/0/level",
            ),
            ({"state": "stopped"}, "/state"),
        ):
            assert fault(await worker.send("extend", body)) == (422, pointer)

    async def test_a_lease_is_extended(self, http: httpx2.AsyncClient, clock: Clock, app: App) -> None:
        """For its length from now."""
        worker = await register(http, "add")
        await submit(http, "add")
        attempt = await worker.claim_one()
        for clock.ahead in (10.0, 20.0):
            assert (await worker.extend({"id": attempt["id"]}))["stop"] == []
            assert (await app.engine.store.due(10)).leases == []
        clock.ahead = 36.0
        assert len((await app.engine.store.due(10)).leases) == 1

    async def test_what_is_not_its_own_is_lost(self, http: httpx2.AsyncClient) -> None:
        """The attempt of another worker is not extended, and keeps its progress and its log."""
        worker, liar = await register(http, "add"), await register(http, "add")
        job_id = await submit(http, "add")
        attempt = await worker.claim_one()
        named = {"id": attempt["id"], "progress": {"done": 9}, "log": [{"message": "I was here"}]}
        assert (await liar.extend(named))["stop"] == [{"id": attempt["id"], "reason": "lost"}]
        assert (await job(http, job_id))["functions"][0]["progress"] is None
        assert await worker.succeed(attempt) == "done"
        assert (await worker.extend(named))["stop"] == [{"id": attempt["id"], "reason": "lost"}]

    async def test_an_attempt_that_takes_too_long_is_stopped(
        self, http: httpx2.AsyncClient, clock: Clock
    ) -> None:
        """Whatever its worker then sends, it has timed out."""
        worker = await register(
            http, {"name": "add", "timeout": 5, "retry_options": {"retry_limit": 4, "delay": 0}}
        )
        job_id = await submit(http, "add")
        endings: list[dict[str, Any]] = [{"stopped": True}, {"result": 1}, {"error": {"type": "Error"}}]
        for i, ended in enumerate(endings):
            attempt = await worker.claim_one()
            clock.ahead = 6.0 * (i + 1)
            stop = (await worker.extend({"id": attempt["id"]}))["stop"]
            assert stop == [{"id": attempt["id"], "reason": "timeout"}]
            assert await worker.finish({"id": attempt["id"], **ended}) == ["timed-out"]
        shown = (await http.get(f"/v1/job/{job_id}/attempt")).json()["attempts"]
        assert {(each["outcome"], each["error"]["type"]) for each in shown} == {("timed-out", urn("timeout"))}

    @pytest.mark.parametrize("reason", ["timeout", "cancelled"])
    async def test_an_attempt_that_does_not_stop_is_ended(
        self, http: httpx2.AsyncClient, clock: Clock, reason: str
    ) -> None:
        """After the length of a lease; then it is lost to its worker."""
        worker = await register(http, {"name": "add", "timeout": 5 if reason == "timeout" else None})
        job_id = await submit(http, "add")
        attempt = await worker.claim_one()
        if reason == "cancelled":
            await http.post(f"/v1/job/{job_id}/cancel")
        for clock.ahead in (8.0, 12.0, 19.0):
            assert (await worker.extend({"id": attempt["id"]}))["stop"][0]["reason"] == (
                "timeout" if reason == "timeout" else "cancelled" if clock.ahead < 15 else "lost"
            )
        clock.ahead = 25.0
        assert (await worker.extend({"id": attempt["id"]}))["stop"][0]["reason"] == "lost"
        ended = await job(http, job_id)
        assert ended["state"] == ("failed" if reason == "timeout" else "cancelled")
        assert await worker.succeed(attempt) == "lost"

    async def test_log_lines_go_to_the_log_of_the_server(
        self, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As lines of the attempt: a newline begins another one."""
        worker = await register(http, "add")
        job_id = await submit(http, "add")
        attempt = await worker.claim_one()
        log = [{"message": "one\ntwo", "level": "warning"}, {"message": "x" * 10_000, "level": "error"}]
        await worker.extend({"id": attempt["id"], "log": log})
        lines = [each for each in caplog.records if each.name == "raincheck.function"]
        assert [(each.levelname, each.getMessage()[:5]) for each in lines] == [
            ("WARNING", "one"),
            ("WARNING", "two"),
            ("ERROR", "xxxxx"),
        ]
        assert len(lines[2].getMessage()) == 8 * 1024
        assert {(vars(each)["job"], vars(each)["function"], vars(each)["worker"]) for each in lines} == {
            (job_id, "add", worker.id)
        }

    async def test_log_lines_are_bounded(
        self, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """More than a hundred of one call are counted."""
        caplog.set_level("INFO")
        worker = await register(http, "add")
        await submit(http, [{"name": "add"}, {"name": "add"}])
        first, second = await worker.claim(2)
        log = [{"message": "line"}] * 70
        await worker.extend({"id": first["id"], "log": log}, {"id": second["id"], "log": log})
        lines = [each.getMessage() for each in caplog.records if each.name == "raincheck.function"]
        assert lines == ["line"] * 100 + [f"40 more log lines of worker {worker.id} left out"]

    async def test_a_long_progress_message_is_cut(self, http: httpx2.AsyncClient) -> None:
        """At 2,000 characters."""
        worker = await register(http, "add")
        job_id = await submit(http, "add")
        attempt = await worker.claim_one()
        await worker.extend({"id": attempt["id"], "progress": {"done": 1, "message": "é" * 3000}})
        assert len((await job(http, job_id))["functions"][0]["progress"]["message"]) == 2000

    async def test_the_last_progress_comes_with_the_finish(self, http: httpx2.AsyncClient) -> None:
        """In place of what was reported before."""
        worker = await register(http, "add")
        job_id = await submit(http, "add")
        attempt = await worker.claim_one()
        await worker.extend({"id": attempt["id"], "progress": {"done": 1, "total": 2}})
        await worker.succeed(attempt, progress={"done": 2, "total": 2, "message": "all"})
        shown = (await job(http, job_id))["functions"][0]["progress"]
        assert shown == {"done": 2.0, "total": 2.0, "message": "all"}

    async def test_a_worker_that_stops_is_told_not_to_claim(self, http: httpx2.AsyncClient) -> None:
        """And is shown as stopping."""
        worker = await register(http, "add")
        assert (await worker.extend(state="stopping", running=0))["claim"] is False
        assert (await http.get("/v1/worker")).json()[0]["state"] == "stopping"


class TestFinish:
    """``POST /v1/worker/{id}/finish``"""

    @pytest.mark.parametrize(
        ("entry", "pointer"),
        [
            ({}, "/attempts/1"),
            ({"result": 1, "stopped": True}, "/attempts/1"),
            ({"result": 1, "error": {"type": "E"}}, "/attempts/1"),
            ({"result": 1, "data": 5}, "/attempts/1/data"),
            ({"result": 1, "data": [1]}, "/attempts/1/data"),
            ({"data": {"a": 1}, "stopped": True}, "/attempts/1/data"),
            ({"error": {}}, "/attempts/1/error"),
            ({"error": {"type": ""}}, "/attempts/1/error/type"),
            ({"error": {"type": "E", "retry_after": -1}}, "/attempts/1/error/retry_after"),
            ({"error": {"type": "E", "types": [5]}}, "/attempts/1/error/types/0"),
            ({"error": "no"}, "/attempts/1/error"),
            ({"outcome": "done"}, "/attempts/1/outcome"),
            ({"result": 1, "id": GARBAGE}, "/attempts/1/id"),
            ({"result": 1, "id": 5}, "/attempts/1/id"),
            (None, "/attempts/1"),
        ],
    )
    async def test_a_wrong_entry_is_refused_alone(
        self, http: httpx2.AsyncClient, entry: Any, pointer: str
    ) -> None:
        """The others count, and it can be sent again."""
        worker = await register(http, "add")
        job_id = await submit(http, [{"name": "add"}, {"name": "add"}, {"name": "add"}])
        first, second, third = await worker.claim(3)
        wrong: Any = {"id": second["id"], **entry} if entry is not None else 5
        good = [{"id": each["id"], "result": 1} for each in (first, third)]
        endings = await worker.finish_all(good[0], wrong, good[1])
        assert [each["outcome"] for each in endings] == ["done", "refused", "done"]
        assert (endings[1]["problem"]["status"], endings[1]["problem"]["errors"][0]["pointer"]) == (
            422,
            pointer,
        )
        assert await worker.succeed(second, 2) == "done"
        assert (await job(http, job_id))["result"] == [1, 2, 1]

    async def test_a_foreign_attempt_is_refused(self, http: httpx2.AsyncClient) -> None:
        """Its worker can finish it."""
        worker, liar = await register(http, "add"), await register(http, "add")
        job_id = await submit(http, "add")
        attempt = await worker.claim_one()
        (ending,) = await liar.finish_all({"id": attempt["id"], "result": "mine"})
        assert (ending["outcome"], ending["problem"]["type"]) == ("refused", urn("not-allowed"))
        assert await liar.release(attempt) == 204
        assert await worker.succeed(attempt, "good") == "done"
        assert (await job(http, job_id))["result"] == "good"

    async def test_an_unknown_job_is_refused(self, http: httpx2.AsyncClient, tmp_path: Path) -> None:
        """An attempt of another installation, for one."""
        elsewhere = App(f"sqlite:///{tmp_path / 'other.db'}")
        async with httpx2.AsyncClient(transport=transport(elsewhere), base_url="http://localhost") as client:
            other = await register(client, "add")
            await submit(client, "add")
            attempt = await other.claim_one()
        await elsewhere.close()
        worker = await register(http, "add")
        (ending,) = await worker.finish_all({"id": attempt["id"], "result": 1})
        assert (ending["outcome"], ending["problem"]["type"]) == ("refused", urn("not-found"))

    async def test_a_result_that_is_too_large_is_refused(self, http: httpx2.AsyncClient) -> None:
        """Also data; the worker can then finish with an error."""
        worker = await register(http, "add")
        job_id = await submit(http, "add")
        attempt = await worker.claim_one()
        large = "x" * LIMITS.result
        for ended in ({"result": large}, {"result": 1, "data": {"a": large}}):
            (ending,) = await worker.finish_all({"id": attempt["id"], **ended})
            assert (ending["outcome"], ending["problem"]["type"]) == ("refused", urn("result-too-large"))
        assert (await job(http, job_id))["state"] == "doing"
        assert await worker.fail(attempt, "ResultTooLarge", retryable=False) == "failed"

    async def test_a_body_that_is_too_large_is_refused(self, http: httpx2.AsyncClient) -> None:
        """As a whole, by the limit that the registration told."""
        worker = await register(http, "add")
        await submit(http, "add")
        attempt = await worker.claim_one()
        size = worker.registered["limits"]["body"]
        assert size == LIMITS.body + LIMITS.result
        body = {"attempts": [{"id": attempt["id"], "result": "x" * size}]}
        assert (await worker.send("finish", body)).status_code == 413
        assert await worker.succeed(attempt) == "done"

    async def test_a_second_finish_is_lost(self, http: httpx2.AsyncClient) -> None:
        """In a later call, and in the same."""
        worker = await register(http, "add")
        job_id = await submit(http, "add", "add")
        attempt = await worker.claim_one()
        ended = [{"id": attempt["id"], "result": i} for i in range(2)]
        assert await worker.finish(*ended) == ["done", "lost"]
        assert await worker.finish(ended[1]) == ["lost"]
        assert (await worker.claim_one())["previous"] == 0
        assert (await job(http, job_id))["state"] == "doing"

    @pytest.mark.parametrize("ended", [{"result": 1}, {"error": {"type": "Error"}}, {"stopped": True}])
    async def test_a_finish_after_a_cancel_is_cancelled(
        self, http: httpx2.AsyncClient, ended: dict[str, Any]
    ) -> None:
        """Whatever is sent."""
        worker = await register(http, "add")
        job_id = await submit(http, "add")
        attempt = await worker.claim_one()
        await http.post(f"/v1/job/{job_id}/cancel")
        assert await worker.finish({"id": attempt["id"], **ended}) == ["cancelled"]
        assert (await job(http, job_id))["state"] == "cancelled"
        assert await worker.finish({"id": attempt["id"], **ended}) == ["lost"]

    async def test_stopped_needs_a_reason(self, http: httpx2.AsyncClient) -> None:
        """A worker that stops by itself releases its attempts."""
        worker = await register(http, {"name": "add", "timeout": 60})
        await submit(http, "add")
        attempt = await worker.claim_one()
        (ending,) = await worker.finish_all({"id": attempt["id"], "stopped": True})
        assert (ending["outcome"], "release" in str(ending["problem"])) == ("refused", True)
        assert await worker.release(attempt) == 204
        assert (await worker.claim_one())["attempt"] == 1

    @pytest.mark.parametrize(
        ("options", "error", "outcome"),
        [
            ({"retry_limit": 2}, {"type": "E"}, "retried"),
            ({"retry_limit": 2}, {"type": "E", "retryable": False}, "failed"),
            ({"retry_limit": 2, "retry_on": ["OSError"]}, {"type": "E"}, "failed"),
            (
                {"retry_limit": 2, "retry_on": ["OSError"]},
                {"type": "E", "types": ["E", "OSError"]},
                "retried",
            ),
            ({"retry_limit": 2, "fail_on": ["E"]}, {"type": "E", "types": ["OSError"]}, "failed"),
        ],
    )
    async def test_retry_options_decide(
        self, http: httpx2.AsyncClient, options: Any, error: Any, outcome: str
    ) -> None:
        """Of the registration, or of the step."""
        worker = await register(http, {"name": "of-function", "retry_options": options}, "of-step")
        await submit(http, "of-function")
        await submit(http, {"name": "of-step", "retry_options": options})
        for attempt in await worker.claim(2):
            assert await worker.finish({"id": attempt["id"], "error": error}) == [outcome]

    async def test_an_error_asks_for_its_pause(self, http: httpx2.AsyncClient, clock: Clock) -> None:
        """In place of that of the options."""
        worker = await register(http, {"name": "add", "retry_options": {"retry_limit": 2, "delay": 0}})
        job_id = await submit(http, "add")
        assert await worker.fail(await worker.claim_one(), retry_after=10) == "retried"
        assert await worker.claim() == []
        assert (await job(http, job_id))["functions"][0]["error"]["retry_after"] == 10
        clock.ahead = 10.5
        assert (await worker.claim_one())["attempt"] == 2

    async def test_long_texts_are_cut(self, http: httpx2.AsyncClient) -> None:
        """The message and the traceback of an error."""
        worker = await register(http, "add")
        job_id = await submit(http, "add")
        attempt = await worker.claim_one()
        await worker.fail(attempt, message="m" * 20_000, traceback="line\n" * 6000)
        (shown,) = (await http.get(f"/v1/job/{job_id}/attempt")).json()["attempts"]
        assert len(shown["error"]["detail"]) == 2000
        assert len(shown["traceback"]) <= 16 * 1024
        assert "bytes left out" in shown["traceback"]

    async def test_results_of_one_job_come_from_all_sides(self, http: httpx2.AsyncClient) -> None:
        """Calls that change the same job at once all count, each once."""
        workers = [await register(http, "add", name=f"w{i}") for i in range(5)]
        job_id = await submit(http, [{"name": "add", "args": [i]} for i in range(50)])

        async def run(worker: RemoteWorker) -> list[str]:
            attempts = await worker.claim(10)
            calls = [worker.succeed(each, each["args"][0]) for each in attempts]
            return list(await asyncio.gather(*calls))

        outcomes = await asyncio.gather(*map(run, workers))
        assert [each for some in outcomes for each in some] == ["done"] * 50
        assert (await job(http, job_id))["result"] == list(range(50))
