"""``Prefer``: to wait for a result, or not to."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from raincheck import App
from raincheck.core.clock import monotonic
from raincheck.server import Server
from tests.server.hands import Hands

JOB = {"name": "one", "functions": [{"name": "add"}]}


@pytest.fixture
def server(app: App) -> Server:
    assert isinstance(app.asgi, Server)
    return app.asgi


async def waiting(app: App) -> None:
    """Return once a request waits for a job."""
    server = app.asgi
    assert isinstance(server, Server)
    async with asyncio.timeout(30):
        while not server.long_polls.count:  # noqa: ASYNC110 - nobody tells when it does
            await asyncio.sleep(0.001)


class TestCreate:
    """``POST /v1/job`` that waits."""

    async def test_a_quick_job_is_answered_in_full(self, client: httpx2.AsyncClient, hands: Hands) -> None:
        """200 and the ended job, which says where it is."""
        working = asyncio.create_task(hands.succeed("add", result=3))
        answer = await client.post("/v1/job", json=JOB, headers={"prefer": "wait=5"})
        await working
        assert (answer.status_code, answer.json()["result"]) == (200, 3)
        assert answer.headers["content-location"] == f"/v1/job/{answer.json()['id']}"
        assert answer.headers["preference-applied"] == "wait=5"
        assert "retry-after" not in answer.headers

    @pytest.mark.parametrize(
        ("prefer", "applied"),
        [
            ("respond-async", "respond-async"),
            ("wait=0", "wait=0"),
            ("respond-async, wait=0", "respond-async, wait=0"),
            ("WAIT = 0 ; strict", "wait=0"),
            ('wait="0"', "wait=0"),
            ("wait=0, wait=5", "wait=0"),
            ('note="x, wait=9", wait=0', "wait=0"),
            ("", None),
            ("wait", None),
            ("wait=-1", None),
            ("wait=1.5", None),
            ("wait=soon", None),
            ("wait=\u00b2", None),
            ("return=minimal, handling=strict", None),
            (",,;;==,", None),
            ('"', None),
        ],
    )
    async def test_what_is_honoured_is_said(
        self, client: httpx2.AsyncClient, prefer: str, applied: str | None
    ) -> None:
        """Preferences that are unknown or cannot be read are ignored."""
        headers = [(b"prefer", prefer.encode("latin-1"))]
        answer = await client.post("/v1/job", json=JOB, headers=headers)
        assert (answer.status_code, answer.headers.get("preference-applied")) == (202, applied)

    async def test_several_headers_are_one(self, client: httpx2.AsyncClient) -> None:
        """They may come as one line or as many."""
        headers = [("prefer", "respond-async"), ("prefer", "wait=0"), ("content-type", "application/json")]
        answer = await client.post(
            "/v1/job", content=b'{"name":"n","functions":[{"name":"a"}]}', headers=headers
        )
        assert answer.headers["preference-applied"] == "respond-async, wait=0"

    async def test_a_slow_job_is_accepted(self, client: httpx2.AsyncClient) -> None:
        """After the time preferred."""
        began = monotonic()
        answer = await client.post("/v1/job", json=JOB, headers={"prefer": "wait=1, respond-async"})
        assert monotonic() - began >= 1
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "respond-async, wait=1"

    async def test_no_wait_is_longer_than_the_limit(self, tmp_path: Any) -> None:
        """A server says how long it waits at most."""
        from raincheck import Limits
        from tests.server.conftest import transport

        app = App(f"sqlite:///{tmp_path / 'jobs.db'}", limits=Limits(wait=0.1))
        async with app, httpx2.AsyncClient(transport=transport(app), base_url="http://localhost") as client:
            answer = await client.post("/v1/job", json=JOB, headers={"prefer": "wait=999999999999"})
        assert answer.headers["preference-applied"] == "wait=0.1"


class TestFind:
    """``GET /v1/job/{id}`` that waits."""

    async def test_it_answers_when_the_job_ends(
        self, client: httpx2.AsyncClient, hands: Hands, app: App
    ) -> None:
        """A long poll."""
        job = (await client.post("/v1/job", json=JOB)).json()
        polling = asyncio.create_task(client.get(f"/v1/job/{job['id']}", headers={"prefer": "wait=5"}))
        await waiting(app)
        await hands.succeed("add", result=1)
        answer = await polling
        assert (answer.status_code, answer.json()["state"]) == (200, "done")
        assert answer.headers["preference-applied"] == "wait=5"

    async def test_it_answers_when_the_time_is_over(self, client: httpx2.AsyncClient) -> None:
        """With the job as it is."""
        job = (await client.post("/v1/job", json=JOB)).json()
        answer = await client.get(f"/v1/job/{job['id']}", headers={"prefer": "wait=1, respond-async"})
        assert (answer.status_code, answer.json()["state"]) == (200, "pending")
        assert answer.headers["preference-applied"] == "wait=1"
        assert 1 <= int(answer.headers["retry-after"]) <= 30

    async def test_what_is_not_there_is_not_waited_for(self, client: httpx2.AsyncClient) -> None:
        """404 comes at once."""
        nobody = "/v1/job/01890000-0000-7000-8000-000000000000"
        async with asyncio.timeout(30):
            answer = await client.get(nobody, headers={"prefer": "wait=60"})
        assert answer.status_code == 404

    async def test_a_job_removed_meanwhile_is_gone(
        self, client: httpx2.AsyncClient, hands: Hands, app: App
    ) -> None:
        """A request that waits for it gets 410."""
        job = (await client.post("/v1/job", json=JOB)).json()
        await hands.fail("add")
        await client.post(f"/v1/job/{job['id']}/retry")
        polling = asyncio.create_task(client.get(f"/v1/job/{job['id']}", headers={"prefer": "wait=5"}))
        await waiting(app)
        await client.post(f"/v1/job/{job['id']}/cancel")
        assert (await polling).json()["state"] == "cancelled"


class TestLeaving:
    """A client that does not wait for its answer."""

    @pytest.mark.parametrize("path", ["/v1/job", "/v1/function/add"])
    async def test_its_job_goes_on(self, app: App, server: Server, hands: Hands, path: str) -> None:
        """The wait ends, the job does not."""
        left, sent = asyncio.Event(), list[Any]()
        body = b"[1, 2]" if "function" in path else b'{"name":"one","functions":[{"name":"add"}]}'
        messages: list[Any] = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        calling = asyncio.create_task(server(_scope(path), receive, send))
        await waiting(app)
        left.set()
        async with asyncio.timeout(30):
            await calling
        assert (sent, server.long_polls.count) == ([], 0)
        await hands.succeed("add")

    async def test_half_a_body_is_no_request(self, server: Server, client: httpx2.AsyncClient) -> None:
        """Nothing is stored, nothing answered."""
        messages: list[Any] = [
            {"type": "http.disconnect"},
            {"type": "http.request", "body": b"{", "more_body": True},
        ]
        sent = list[Any]()

        async def receive() -> Any:
            return messages.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        await server(_scope("/v1/job"), receive, send)
        assert sent == []
        assert (await client.get("/v1/job")).json()["jobs"] == []


class TestStopping:
    """A server that is to stop."""

    async def test_those_who_wait_are_answered_at_once(
        self, client: httpx2.AsyncClient, app: App, server: Server
    ) -> None:
        """They get the current state, whatever they wait for."""
        job = (await client.post("/v1/job", json=JOB)).json()
        headers = {"prefer": "wait=60"}
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            polling = group.create_task(client.get(f"/v1/job/{job['id']}", headers=headers))
            creating = group.create_task(client.post("/v1/job", json=JOB, headers=headers))
            calling = group.create_task(client.post("/v1/function/add", json=[1], headers=headers))
            while server.long_polls.count < 3:  # noqa: ASYNC110 - nobody tells when it does
                await asyncio.sleep(0.001)
            server.long_polls.end()
        assert [t.result().status_code for t in (polling, creating, calling)] == [200, 202, 202]
        late = await client.post("/v1/job", json=JOB, headers=headers)
        assert late.status_code == 202


def _scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"prefer", b"wait=5")],
    }
