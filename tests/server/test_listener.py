"""Listening on a real address, and what comes there."""

from __future__ import annotations

import asyncio
import errno
import json
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from raincheck import App, Limits
from raincheck.core.clock import monotonic
from raincheck.core.errors import ConfigError, StoreUnusable
from raincheck.server import http_protocol as wire
from raincheck.server import serve
from tests.server.conftest import make_app

Talk = Callable[[bytes], Awaitable[bytes]]

IS_JSON = {"Content-Type": "application/json"}
JOB = b'{"name":"n","functions":[{"name":"add"}]}'


@asynccontextmanager
async def served(app: App, **options: Any) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The app being served on a free port: its URL, and the event that stops it."""
    loop = asyncio.get_running_loop()
    stop, started = asyncio.Event(), loop.create_future()
    serving = asyncio.create_task(
        serve(app.engine, "127.0.0.1", 0, stop, started.set_result, auth=app.auth, **options)
    )
    await asyncio.wait((serving, started), return_when=asyncio.FIRST_COMPLETED)
    try:
        yield (await started if not serving.done() else ""), stop
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await serving


@pytest.fixture
async def talk(app: App) -> AsyncIterator[Talk]:
    """Send bytes, and give back all that is answered until the server hangs up."""
    async with served(app) as (url, _):
        host, _, port = url.removeprefix("http://").partition(":")

        async def talk(sent: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(sent)
                async with asyncio.timeout(40):
                    return await reader.read()
            except ConnectionError:  # it hung up while there was more to come
                return b""
            finally:
                writer.close()

        yield talk


class TestServing:
    """From start to stop."""

    async def test_it_serves(self, app: App) -> None:
        """It opens the app, looks after its jobs, and closes it again."""
        async with served(app) as (url, _), httpx2.AsyncClient(base_url=url) as client:
            answer = await client.post("/v1/function/add", json=[1, 2])
            assert answer.status_code == 202
            assert "server" not in answer.headers
            assert app.opened
        assert not app.opened

    async def test_a_server_that_drains_takes_requests_and_sends_proxies_elsewhere(self, app: App) -> None:
        """It closes each connection after its response. Requests that wait go on waiting."""
        stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(app.engine, "127.0.0.1", 0, stop, started.set_result, drain=3600))
        async with httpx2.AsyncClient(base_url=await started, headers=IS_JSON, timeout=60) as client:
            path = (await client.post("/v1/job", content=JOB)).headers["location"]
            waiting = asyncio.create_task(client.get(path, headers={"Prefer": "wait=50"}))
            stop.set()
            async with asyncio.timeout(30):
                while (await client.get("/readyz")).status_code != 503:
                    pass
            answer = await client.post("/v1/job", content=JOB)
            assert (answer.status_code, answer.headers["connection"]) == (202, "close")
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.post(f"{path}/cancel")).status_code == 200
            assert (await waiting).json()["state"] == "cancelled"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    async def test_a_server_stops_after_its_drain(self, app: App) -> None:
        """Requests that wait have their response then."""
        async with served(app, drain=0.01) as (url, stop), httpx2.AsyncClient(base_url=url) as client:
            path = (await client.post("/v1/job", content=JOB, headers=IS_JSON)).headers["location"]
            waiting = asyncio.create_task(client.get(path, headers={"Prefer": "wait=50"}, timeout=60))
            assert (await client.get("/readyz")).status_code == 200
            stop.set()
            assert (await waiting).json()["state"] == "pending"

    async def test_no_answer_is_held_back(self, app: App) -> None:
        """A socket that waits for more to send would cost 40 ms a request."""
        async with served(app) as (url, _), httpx2.AsyncClient(base_url=url) as client:
            took = []
            for _ in range(20):
                began = monotonic()
                await client.get("/healthz")
                took.append(monotonic() - began)
            assert min(took) < 0.04

    async def test_it_leaves_open_what_was_open(self, app: App) -> None:
        """Others in the process may still need it."""
        async with app:
            async with served(app):
                pass
            assert app.opened

    @pytest.mark.parametrize("call", ["GET", "POST"])
    async def test_stopping_ends_waits_at_once(self, app: App, call: str) -> None:
        """They get the current state; no connection is cut."""
        async with served(app) as (url, stop), httpx2.AsyncClient(base_url=url) as client:
            job = (
                await client.post("/v1/job", content=JOB, headers={"content-type": "application/json"})
            ).json()
            if call == "GET":
                work = client.get(f"/v1/job/{job['id']}", headers={"prefer": "wait=60"})
            else:
                work = client.post("/v1/function/add", json=[1], headers={"prefer": "wait=60"})
            waiting = asyncio.create_task(work)
            await client.get("/healthz")
            asyncio.get_running_loop().call_later(0.1, stop.set)
            answer = await waiting
        assert answer.status_code in (200, 202)
        assert answer.json()["state"] == "pending"

    async def test_being_cancelled_is_being_stopped(self, app: App) -> None:
        """The address is free again, the app is closed."""
        started = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(app.engine, "127.0.0.1", 0, asyncio.Event(), started.set_result))
        await started
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not app.opened

    async def test_a_taken_port_is_said(self, app: App, tmp_path: Path) -> None:
        """And the app is not opened."""
        async with served(app) as (url, _):
            other = make_app(tmp_path / "other")
            with pytest.raises(ConfigError, match="try another port"):
                await serve(other.engine, "127.0.0.1", int(url.rpartition(":")[2]), asyncio.Event())
            assert not other.opened

    async def test_a_bad_store_is_said(self, tmp_path: Path) -> None:
        """As what it is, before anything is served."""
        (tmp_path / "jobs.db").write_text("this is no database, and long enough to show it" * 10)
        with pytest.raises(StoreUnusable):
            await serve(make_app(tmp_path).engine, "127.0.0.1", 0, asyncio.Event())


class TestAddress:
    """Where it listens, and for whom."""

    @pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.1"])
    async def test_others_must_not_reach_it(self, app: App, host: str) -> None:
        """There is no sign-in yet."""
        with pytest.raises(ConfigError, match="no sign-in"):
            await serve(app.engine, host, 0, asyncio.Event())

    async def test_unless_that_is_said(self, app: App) -> None:
        """Then any name will do."""
        stop, urls = asyncio.Event(), list[str]()

        def started(url: str) -> None:
            urls.append(url)
            stop.set()

        await serve(app.engine, "0.0.0.0", 0, stop, started, insecure=True)
        assert urls[0].startswith("http://0.0.0.0:")

    async def test_an_unknown_name_is_said(self, app: App) -> None:
        """What is no address of this machine cannot be listened on."""
        with pytest.raises(ConfigError, match="try"):
            await serve(app.engine, "nowhere.invalid", 0, asyncio.Event(), insecure=True)
        with pytest.raises(ConfigError, match="cannot listen"):
            await serve(app.engine, "192.0.2.1", 0, asyncio.Event(), insecure=True)

    async def test_its_name_must_be_its_own(self, app: App) -> None:
        """A foreign name that was made to point to this machine is refused."""
        own = ["localhost", "localhost:8000", "jobs.localhost:8000", "127.0.0.1", "[::1]:8000"]
        others = ["rebound.example", "localhost.evil.example", "127.0.0.1.evil.example:80", ""]
        async with served(app) as (url, _), httpx2.AsyncClient(base_url=url) as client:
            for host, status in [*((host, 200) for host in own), *((host, 421) for host in others)]:
                answer = await client.get("/v1/job", headers={"host": host})
                assert answer.status_code == status, host

    async def test_any_name_will_do_where_others_are_meant_to_call(self, app: App) -> None:
        """Behind a proxy, for one."""
        async with served(app, insecure=True) as (url, _), httpx2.AsyncClient(base_url=url) as client:
            assert (await client.get("/v1/job", headers={"host": "jobs.example"})).status_code == 200


def head(*lines: str, method: str = "GET /v1/job") -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")


POST = "POST /v1/job"
TYPED = "Content-Type: application/json"

BAD = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "binary": (bytes(range(256)) * 10, 400),
    "two lengths": (head(TYPED, "Content-Length: 2", "Content-Length: 5", method=POST) + b"{}", 400),
    "length and chunks": (head(TYPED, "Content-Length: 2", "Transfer-Encoding: chunked", method=POST), 400),
    "an unknown coding": (head(TYPED, "Transfer-Encoding: xchunked", method=POST) + b"{}", 400),
    "a negative length": (head(TYPED, "Content-Length: -1", method=POST), 400),
    "folded": (head("X: a", " b"), 400),
    "a space before a colon": (head("Content-Length : 5", method=POST), 400),
    "a bad chunk": (head(TYPED, "Transfer-Encoding: chunked", method=POST) + b"zz\r\n", 400),
    "many headers": (head(*(f"X-{i}: 1" for i in range(10_000))), 431),
    "a long header": (head("X: " + "x" * 65_536), 431),
    "a header without end": (b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000, 431),
    "a long path": (head(method="GET /" + "x" * 65_536), 431),
    "a long query": (head(method="GET /v1/job?" + "&".join(f"a{i}=1" for i in range(100_000))), 431),
    "a length beyond the limit": (head(TYPED, "Content-Length: 10737418240", method=POST), 413),
    "endless chunks": (
        head(TYPED, "Transfer-Encoding: chunked", method=POST) + (b"400\r\n" + b"[" * 1024 + b"\r\n") * 80,
        413,
    ),
}


class TestWire:
    """What is no proper HTTP."""

    @pytest.mark.parametrize(("sent", "status"), BAD.values(), ids=BAD.keys())
    async def test_it_is_refused(self, talk: Talk, sent: bytes, status: int) -> None:
        """With a problem document; then the server hangs up."""
        answer = await talk(sent)
        first, _, body = answer.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 %d " % status), answer[:200]
        assert b"application/problem+json" in first
        assert b"connection: close" in first
        assert json.loads(body)["status"] == status

    async def test_a_head_must_not_take_long(self, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half a head is answered, nothing at all is not."""
        monkeypatch.setattr(wire, "HEAD_SECONDS", 0.1)
        assert (await talk(b"GET / HTTP/1.1\r\n")).startswith(b"HTTP/1.1 408 ")
        assert await talk(b"") == b""

    async def test_a_body_must_not_take_long(self, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is stored of half of one."""
        monkeypatch.setattr("raincheck.server.http.BODY_SECONDS", 0.1)
        answer = await talk(head(TYPED, "Content-Length: 20", method=POST) + b'{"name"')
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer

    async def test_a_client_that_does_not_read_is_cut_off(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its connection is reset, so that nothing keeps the response; other clients are served."""
        monkeypatch.setattr(wire, "WRITE_SECONDS", 0.2)
        app = make_app(tmp_path, Limits(body=32 * 1024 * 1024))
        large = {"name": "n", "functions": [{"name": "anything", "args": ["x" * 16_000_000]}]}
        async with served(app) as (url, _), httpx2.AsyncClient(base_url=url, timeout=60) as client:
            path = (await client.post("/v1/job", json=large)).headers["location"]
            for request in (f"GET {path}", f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\nGET {path}"):
                with socket.socket() as idle:
                    idle.connect(("127.0.0.1", int(url.rpartition(":")[2])))
                    idle.send(head("Connection: close", method=request))
                    poll = select.poll()
                    poll.register(idle, 0)  # an error, that is a reset, is always reported
                    assert await asyncio.to_thread(poll.poll, 60_000)
                    assert idle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
            monkeypatch.setattr(wire, "WRITE_SECONDS", 30.0)  # the next client reads
            assert len((await client.get(path)).content) > 16_000_000

    async def test_a_connection_serves_many(self, talk: Talk) -> None:
        """Each request has its own head, and its own time for it."""
        requests = head() + head(TYPED, f"Content-Length: {len(JOB)}", method=POST) + JOB
        answer = await talk(requests + head("Connection: close"))
        assert answer.count(b"HTTP/1.1 200 ") == 2
        assert answer.count(b"HTTP/1.1 202 ") == 1

    async def test_a_bad_request_after_one_that_waits_ends_both(self, talk: Talk) -> None:
        """The connection is of no more use."""
        waiting = head(TYPED, "Prefer: wait=5", f"Content-Length: {len(JOB)}", method=POST) + JOB
        answer = await talk(waiting + b"nonsense\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")

    @pytest.mark.parametrize("target", ["*", "http://localhost/v1/job", "localhost:80", "/\xff", "//["])
    async def test_odd_targets_do_no_harm(self, talk: Talk, target: str) -> None:
        """They are answered, or refused."""
        answer = await talk(head("Connection: close", method=f"OPTIONS {target}"))
        assert answer[9:12] in (b"204", b"400", b"404")
