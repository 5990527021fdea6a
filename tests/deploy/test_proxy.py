"""deploy/haproxy.cfg: HAProxy with this file, in front of real servers, each on an address of its own."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, ParamSpec

import httpx2
import pytest

from raincheck.core.clock import new_id
from raincheck.core.limits import Limits
from tests.acceptance import gated
from tests.acceptance.support import Command, running
from tests.cli.processes import ROOT, raincheck
from tests.conftest import IN_CI
from tests.deploy.naming import NameServer, name_server
from tests.deploy.reading import DEPLOY, documents, seconds
from tests.servers import free_port, server

HAPROXY = ROOT / ".venv" / "haproxy" / "haproxy"
CONFIGURATION = (DEPLOY / "haproxy.cfg").read_text("utf-8")
(COMPOSE,) = documents(ROOT / "compose.yaml")
PROXY = COMPOSE["services"]["proxy"]
NODE_WORKER = ROOT / "examples" / "workers" / "node"
TARGET = f"{gated.__file__}:app"
ADDRESSES = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
TIMEOUT = 60.0
P = ParamSpec("P")

MANY = httpx2.Limits(max_connections=None)

WITHOUT = pytest.mark.skipif(not (HAPROXY.exists() or IN_CI), reason="`make test-long` gets HAProxy with apt")


def with_haproxy(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    """Mark a test that runs HAProxy."""
    for mark in (pytest.mark.acceptance, pytest.mark.long, pytest.mark.xdist_group("proxy"), WITHOUT):
        test = mark(test)
    return test


def setting(name: str) -> str:
    """The value of a setting that is there once."""
    (value,) = re.findall(rf"^ +{name} (\S+)", CONFIGURATION, re.MULTILINE)
    return str(value)


def test_the_proxy_has_the_only_port() -> None:
    """On this machine alone, as there is no sign-in."""
    published = {
        name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service
    }
    assert published == {"proxy": ["127.0.0.1:8000:8000"]}
    assert setting("bind") == ":8000"


def test_the_proxy_is_confined() -> None:
    """It can write nothing, and has no privileges."""
    assert (PROXY["read_only"], PROXY["cap_drop"]) == (True, ["ALL"])
    assert PROXY["security_opt"] == ["no-new-privileges:true"]
    (volume,) = PROXY["volumes"]
    assert (ROOT / volume.split(":")[0]).read_text("utf-8") == CONFIGURATION
    assert volume.endswith(":ro")


def test_the_proxy_waits_longer_than_any_request() -> None:
    """And has longer to stop than it gives requests."""
    for side in ("client", "server"):
        assert seconds(setting(f"timeout {side}")) >= Limits().wait + 30
    assert seconds(PROXY["stop_grace_period"]) >= seconds(setting("hard-stop-after")) + 5


class HAProxy(Command):
    """HAProxy with our configuration, changed to run on this machine."""

    def __init__(self, folder: Path, port: int, servers: int, names: NameServer) -> None:
        super().__init__()
        self.front = f"http://127.0.0.1:{port}"
        self.file = folder / "haproxy.cfg"
        here = {
            "parse-resolv-conf": f"nameserver here 127.0.0.1:{names.port}",
            "bind :8000": f"bind 127.0.0.1:{port}",
            "server:8000": f"server:{servers}",
        }
        text = CONFIGURATION
        for theirs, ours in here.items():
            assert text.count(theirs) == 1
            text = text.replace(theirs, ours)
        self.file.write_text(text, "utf-8")

    def words(self) -> tuple[str, ...]:
        """Its command line."""
        return (str(HAPROXY), "-f", str(self.file))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)


class Deployment(NamedTuple):
    """A client of the proxy, and what is behind it."""

    client: httpx2.AsyncClient
    names: NameServer
    servers: list[Command]
    port: int
    folder: Path

    async def submit(self) -> tuple[str, Path]:
        """Submit a job, and wait until it runs. Returns its path, and the file that it waits for."""
        gate = self.folder / new_id()
        body = {"name": "waits", "functions": [{"name": "gated", "args": [str(gate)]}]}
        response = await self.client.post("/v1/job", json=body)
        assert response.status_code == 202
        await until(gated.started(gate).exists)
        return str(response.headers["location"]), gate

    async def until_ready(self) -> None:
        """Wait until the proxy listens and has found a server that is ready."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                with suppress(httpx2.ConnectError):
                    if (await self.client.get("/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    def served(self, server: int) -> int:
        """How many requests a server has served, without health checks."""
        return sum('"GET /v1/' in line for line in self.servers[server].printed)

    async def until_served(self, count: int) -> None:
        """Send requests until this many servers have served one."""
        async with asyncio.timeout(TIMEOUT):
            while sum(self.served(each) > 0 for each in range(len(self.servers))) < count:
                assert (await self.client.get("/v1/job")).status_code == 200

    async def until_serves(self, server: int) -> None:
        """Wait until a server has served one more request; others send requests."""
        served = self.served(server)
        await until(lambda: self.served(server) > served)

    def connections(self, server: int) -> int:
        """The open connections of the proxy to a server."""
        address = int.from_bytes(IPv4Address(ADDRESSES[server]).packed, "little")
        open_to = [f"{address:08X}:{self.port:04X}", "01"]
        lines = Path("/proc/net/tcp").read_text("ascii").splitlines()
        return sum(line.split()[2:4] == open_to for line in lines)


@asynccontextmanager
async def deployed(*options: str, **environment: str) -> AsyncIterator[Deployment]:
    """Three servers, of which the name server has two; a worker, Valkey and the proxy."""
    with tempfile.TemporaryDirectory(prefix="rc-") as name, server(Path(name), appendonly="yes") as valkey:
        store, folder, port = {"RAINCHECK_STORE": valkey.url} | environment, Path(name), free_port()
        servers = [
            Command("server", TARGET, f"--host={each}", f"--port={port}", "--access-log", *options, **store)
            for each in ADDRESSES
        ]
        worker = Command("worker", TARGET, **store)
        async with name_server(*ADDRESSES[:2]) as names:
            proxy = HAProxy(folder, free_port(), port, names)
            async with (
                running(*servers, worker, proxy),
                httpx2.AsyncClient(base_url=proxy.front, timeout=90, limits=MANY) as client,
            ):
                for each in servers:
                    await each.url()
                deployment = Deployment(client, names, servers, port, folder)
                await deployment.until_ready()
                yield deployment


@with_haproxy
async def test_each_server_gets_requests() -> None:
    """One that comes later, too."""
    async with deployed() as deployment:
        await deployment.until_served(2)
        assert deployment.served(2) == 0
        deployment.names.addresses.append(ADDRESSES[2])
        await deployment.until_served(3)


@with_haproxy
async def test_the_longest_wait_has_its_response() -> None:
    """The proxy does not end it."""
    async with deployed() as deployment:
        path, gate = await deployment.submit()
        began = monotonic()
        response = await deployment.client.get(path, headers={"Prefer": f"wait={Limits().wait:g}"})
        assert (response.status_code, response.json()["state"]) == (200, "doing")
        assert monotonic() - began >= Limits().wait
        gate.touch()


@with_haproxy
async def test_requests_that_wait_survive_the_death_of_their_server() -> None:
    """The other server answers them."""
    async with deployed() as deployment:
        await deployment.until_served(2)
        path, gate = await deployment.submit()
        waiting = [
            asyncio.create_task(deployment.client.get(path, headers={"Prefer": "wait=60"}))
            for _ in range(200)
        ]
        await until(lambda: min(map(deployment.connections, (0, 1))) >= 80)
        await deployment.servers[0].kill()
        gate.touch()
        responses = await asyncio.gather(*waiting)
        assert {(each.status_code, each.json()["state"]) for each in responses} == {(200, "done")}


class NodeWorker(Command):
    """A worker in Node.js that reaches nothing but the proxy."""

    def words(self) -> tuple[str, ...]:
        """Its command line."""
        return ("node", *(str(NODE_WORKER / name) for name in ("main.mjs", "functions.mjs")))


@pytest.mark.skipif(shutil.which("node") is None and not IN_CI, reason="needs Node.js")
@with_haproxy
async def test_a_worker_over_http_continues_if_a_server_dies() -> None:
    """It sends its requests again; the proxy repeats those of clients, which have a key."""
    async with (
        deployed() as deployment,
        running(NodeWorker(RAINCHECK_SERVER=str(deployment.client.base_url).rstrip("/"))),
    ):
        functions = [{"name": "/v1/test-1"}, {"name": "/v1/test-2"}]
        body = {"name": "chain", "functions": functions}

        async def sent(method: str, path: str, **request: Any) -> httpx2.Response:
            """The response. A request is repeated only if the server died while it sent the response."""
            while True:
                with suppress(httpx2.RemoteProtocolError):
                    return await deployment.client.request(method, path, **request)

        async def run() -> str:
            created = await sent("POST", "/v1/job", json=body, headers={"Idempotency-Key": new_id()})
            assert created.status_code == 202, created.text
            ended = await sent("GET", created.headers["location"], headers={"Prefer": "wait=60"})
            return str(ended.json()["state"])

        assert await run() == "done"
        jobs = [asyncio.create_task(run()) for _ in range(200)]
        await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        await deployment.servers[0].kill()
        assert set(await asyncio.gather(*jobs)) == {"done"}


@with_haproxy
async def test_no_request_fails_while_servers_stop_and_start() -> None:
    """Not even one that cannot be repeated, as it has no key."""
    (drain,) = [word for word in COMPOSE["services"]["server"]["command"] if word.startswith("--drain=")]
    async with deployed(drain) as deployment:
        await deployment.until_served(2)
        stopped = asyncio.Event()
        statuses: list[int] = []

        async def send() -> None:
            body = {"name": "none", "functions": [{"name": "gated", "args": [str(deployment.folder)]}]}
            while not stopped.is_set():
                created = await deployment.client.post("/v1/job", json=body)
                read = await deployment.client.get(created.headers["location"])
                statuses.extend((created.status_code, read.status_code))

        senders = [asyncio.create_task(send()) for _ in range(8)]
        for number in (0, 1):
            assert await deployment.servers[number].stop() == 0
            await deployment.servers[number].start()
            await deployment.until_serves(number)
        stopped.set()
        await asyncio.gather(*senders)
        assert set(statuses) == {200, 202}


@with_haproxy
async def test_callers_sign_in_through_it(tmp_path: Path) -> None:
    """It limits wrong passwords by the address of the caller; another caller can sign in."""
    files = {
        "RAINCHECK_SECRET_FILE": str(tmp_path / "secret"),
        "RAINCHECK_USERS": str(tmp_path / "users.json"),
    }
    assert raincheck("key", "add", files["RAINCHECK_SECRET_FILE"]).returncode == 0
    added = raincheck("user", "add", "ann", "--users", files["RAINCHECK_USERS"], "--generate")
    ann = {"username": "ann", "password": added.stdout.strip()}
    async with deployed(**files) as deployment:
        client = deployment.client
        assert (await client.get("/v1/job")).status_code == 401
        token = (await client.post("/v1/token", json=ann)).json()["access_token"]
        assert (await client.get("/v1/job", headers={"Authorization": f"Bearer {token}"})).status_code == 200
        wrong = [
            await client.post("/v1/token", json={"username": f"u{n}", "password": "wrong password"})
            for n in range(12)
        ]
        assert [each.status_code for each in wrong] == [401] * 11 + [429]
        assert wrong[-1].json()["type"] == "urn:raincheck:problem:too-many-attempts"
        assert wrong[-1].headers["retry-after"] == "60"
        elsewhere = httpx2.AsyncHTTPTransport(local_address="127.0.0.9")
        async with httpx2.AsyncClient(base_url=client.base_url, transport=elsewhere) as other:
            assert (await other.post("/v1/token", json=ann)).status_code == 200
