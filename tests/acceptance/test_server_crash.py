"""Servers are killed while workers over HTTP claim and finish: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.support import Command, running
from tests.folders import on_disk
from tests.servers import server

pytestmark = pytest.mark.acceptance

WORKERS = 6
OPTIONS = {"retry_limit": 2, "delay": 0.01, "lost_limit": 1000}
FUNCTIONS = [{"name": name, "retry_options": OPTIONS} for name in ("double", "increment")]
AGAIN = 0.02
"""Seconds before a call is repeated on the other server."""


class Expired(Exception):
    """The registration has expired."""


class Servers:
    """Servers of one store; a call that fails is repeated on the next one."""

    def __init__(self, commands: list[Command], http: httpx2.AsyncClient) -> None:
        self.commands = commands
        self._next = cycle(commands)
        self._http = http

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The response of a server to a call, as a worker in any language repeats it."""
        while True:
            url = await next(self._next).url()
            try:
                answer = await self._http.request(method, url + path, json=body, headers=headers)
            except httpx2.TransportError:
                await asyncio.sleep(AGAIN)
                continue
            if answer.status_code == 404:
                raise Expired
            if answer.status_code < 500:
                assert answer.is_success, answer.text
                return answer.json() if answer.content else None
            await asyncio.sleep(AGAIN)


class Work:
    """The jobs to do, and what workers were told about the ends of their attempts."""

    def __init__(self, servers: Servers, jobs: int) -> None:
        self.servers = servers
        self.jobs = jobs
        self.done: Counter[tuple[str, int]] = Counter()
        self.outcomes: Counter[str] = Counter()
        self._progress = asyncio.Event()

    async def submit(self, number: int) -> str:
        """The id of a job; a repeated request is the same job."""
        steps = [{"name": "double", "args": [number]}, {"name": "increment"}]
        key = {"Idempotency-Key": f"job-{number}"}
        job = await self.servers.send("POST", "/v1/job", {"name": "n", "functions": steps}, **key)
        return str(job["id"])

    async def serve(self) -> None:
        """Register and work, again and again."""
        while True:
            body = {"name": "crash", "functions": FUNCTIONS, "capacity": 5, "lease": 1}
            registered = await self.servers.send("POST", "/v1/worker", body)
            with suppress(Expired):  # what it claimed runs elsewhere
                await self._work(f"/v1/worker/{registered['id']}", registered["token"])

    async def _work(self, worker: str, token: str) -> None:
        header = {"Worker-Token": token}
        while True:
            claim = {"limit": 5, "wait": 0.5}
            attempts = (await self.servers.send("POST", f"{worker}/claim", claim, **header))["attempts"]
            if not attempts:
                continue
            body = {"attempts": [self._run(each) for each in attempts]}
            ended = (await self.servers.send("POST", f"{worker}/finish", body, **header))["attempts"]
            for attempt, each in zip(attempts, ended, strict=True):
                self.outcomes[each["outcome"]] += 1
                self.done[attempt["job"], attempt["step"]] += each["outcome"] == "done"
            self._progress.set()

    def _run(self, attempt: dict[str, Any]) -> dict[str, Any]:
        """How an attempt ends; every fifth job fails at first."""
        named = {"id": attempt["id"]}
        if attempt["function"] == "increment":
            return {**named, "result": attempt["previous"] + 1}
        (number,) = attempt["args"]
        if number % 5 == 0 and attempt["attempt"] == 1:
            return {**named, "error": {"type": "Error"}}
        return {**named, "result": 2 * number}

    async def reached(self, share: float) -> None:
        """Wait until the ends of so many of all steps were sent."""
        while self.outcomes.total() < share * 2 * self.jobs:
            self._progress.clear()
            await self._progress.wait()

    async def ended(self, job_id: str) -> dict[str, Any]:
        """The document of a job when it has ended."""
        while True:
            job: dict[str, Any] = await self.servers.send("GET", f"/v1/job/{job_id}", Prefer="wait=10")
            if job["state"] in ("done", "failed", "cancelled"):
                return job


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a durable store."""
    with on_disk() as folder:
        if request.param == "sqlite":
            yield f"sqlite:///{folder / 'jobs.db'}"
        else:
            with server(folder, appendonly="yes", appendfsync="always") as valkey:
                yield valkey.url


LONG = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("store", "jobs", "kills"),
    [
        ("sqlite", 60, 2),
        pytest.param("sqlite", 1500, 40, marks=LONG),
        pytest.param("valkey", 1500, 40, marks=LONG),
    ],
    indirect=["store"],
)
async def test_killed_servers_lose_and_double_nothing(
    store: str, tmp_path: Path, jobs: int, kills: int
) -> None:
    """Each step of each job is done once, by attempts that some worker was told about."""
    (tmp_path / "app.py").write_text("from raincheck import App\n\napp = App()\n")
    app = str(tmp_path / "app.py")
    commands = [Command("server", app, "--store", store, "--port", "0") for _ in range(2)]
    async with running(*commands), httpx2.AsyncClient(timeout=30) as http:
        work = Work(Servers(commands, http), jobs)
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work.serve()) for _ in range(WORKERS)]
            submits = [group.create_task(work.submit(number)) for number in range(jobs)]
            for kill in range(kills):
                await work.reached(0.7 * (kill + 1) / (kills + 1))
                victim = commands[kill % 2]
                await victim.kill()
                await victim.start()
            ids = await asyncio.gather(*submits)
            ended = [await work.ended(job_id) for job_id in ids]
            for worker in workers:
                worker.cancel()
    assert len(set(ids)) == jobs
    assert [each["result"] for each in ended] == [2 * number + 1 for number in range(jobs)]
    for number, each in enumerate(ended):
        counts = [step["retry_count"] for step in each["functions"]]
        assert counts[1] == 1
        assert counts[0] in ((1, 2) if number % 5 == 0 else (1,))  # its first attempt may have been lost
    assert max(work.done.values()) == 1
    assert set(work.outcomes) <= {"done", "retried", "lost"}
