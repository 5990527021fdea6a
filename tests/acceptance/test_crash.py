"""Servers, workers and their store are killed repeatedly: every acknowledged job ends correctly."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx2
import pytest

from raincheck import App
from raincheck.core.model import Job
from tests.acceptance import crashing
from tests.acceptance.support import Command, running
from tests.contract.leaks import all_jobs, assert_no_leaks
from tests.folders import on_disk
from tests.servers import Server, free_port, server

pytestmark = pytest.mark.acceptance

CONCURRENCY = 10
LEASE = 1
SUBMITTERS = 8
PAUSE = 0.15
"""Maximum seconds between two submits of one submitter."""

APART = (0.6, 0.95)
"""Jobs acknowledged between two kills, as shares of the jobs per kill."""

TIMEOUT = 120.0
"""Seconds after which a job that has not ended counts as lost."""


class Scale(NamedTuple):
    """The number of jobs and of kills."""

    jobs: int
    kills: int


class Victim(Protocol):
    """A process that is killed and restarted."""

    async def kill(self) -> None:
        """Kill it with SIGKILL."""

    async def start(self) -> None:
        """Start or restart it."""


class StoreVictim:
    """The server of the store; it syncs every write."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def kill(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)


class Worker(Command):
    """A worker that is killed while it runs an attempt, as long as jobs remain."""

    def __init__(self, todo: list[Order], ledger: Path, *arguments: str) -> None:
        super().__init__("worker", *arguments, LEDGER=str(ledger))
        self._todo = todo
        self._ledger = ledger
        self._before = 0

    async def start(self) -> None:
        self._ledger.touch()
        self._before = self._ledger.stat().st_size
        await super().start()

    async def kill(self) -> None:
        while self._todo and not self._at_work():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.001)
        await super().kill()

    def _at_work(self) -> bool:
        """Whether it runs an attempt."""
        with self._ledger.open("rb") as ledger:
            ledger.seek(self._before)
            lines = [line.split() for line in ledger]
        events = [event for event, *_, pid in lines if int(pid) == self.pid]
        return events.count(b"begin") > len(events) / 2


class DurableStore(NamedTuple):
    """The URL of the store, and its process if it has one; the port of the server, if the workers connect to
    it instead of to the store."""

    url: str
    victims: list[Victim]
    port: int | None


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder of the store."""
    with on_disk() as path:
        yield path


@pytest.fixture(
    params=[
        "sqlite",
        "sqlite over HTTP",
        pytest.param("valkey", marks=pytest.mark.long),
        pytest.param("valkey over HTTP", marks=pytest.mark.long),
    ]
)
def durable(request: pytest.FixtureRequest, folder: Path) -> Iterator[DurableStore]:
    """Each durable store, with workers that use it and with workers that connect to the server."""
    port = free_port() if request.param.endswith("over HTTP") else None
    if request.param.startswith("sqlite"):
        yield DurableStore(f"sqlite:///{folder / 'db'}", [], port)
    else:
        with server(folder, appendonly="yes", appendfsync="always") as valkey:
            yield DurableStore(valkey.url, [StoreVictim(valkey)], port)


class Order(NamedTuple):
    """A job to submit: its idempotency key, and its steps as (function, number)."""

    key: str
    steps: list[tuple[str, int]]

    @property
    def body(self) -> dict[str, Any]:
        """The body of the request."""
        return {
            "name": "crash",
            "functions": [
                {"name": function, "args": [part, number]}
                for part, (function, number) in enumerate(self.steps)
            ],
        }


def orders(chance: random.Random, count: int) -> list[Order]:
    """Jobs with one to three steps."""

    def steps() -> list[tuple[str, int]]:
        return [
            (chance.choice(("on_the_loop", "in_a_thread")), chance.randrange(1000))
            for _ in range(chance.randint(1, 3))
        ]

    return [Order(f"key-{n}", steps()) for n in range(count)]


async def submit(
    server: Command, chance: random.Random, todo: list[Order], acknowledged: asyncio.Queue[tuple[str, Order]]
) -> None:
    """Submit all orders, each one until it is acknowledged."""
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
        while todo:
            order = todo.pop()
            await asyncio.sleep(chance.uniform(0.0, PAUSE))
            while True:
                try:
                    response = await client.post(
                        f"{await server.url()}/v1/job",
                        json=order.body,
                        headers={"Idempotency-Key": f'"{order.key}"', "Prefer": "respond-async"},
                    )
                except httpx2.TransportError:  # the server was killed, perhaps after it stored the job
                    await asyncio.sleep(0.01)
                    continue
                assert response.status_code in (200, 202, 503), response.text
                if response.status_code != 503:
                    acknowledged.put_nowait((response.json()["id"], order))
                    break


async def kill_at_random(
    chance: random.Random,
    scale: Scale,
    victims: list[Victim],
    acknowledged: asyncio.Queue[tuple[str, Order]],
) -> dict[str, Order]:
    """Kill and restart the victims in turn; returns the acknowledged jobs."""
    turns = [victims[turn % len(victims)] for turn in range(scale.kills)]
    chance.shuffle(turns)
    least, most = (int(share * scale.jobs / scale.kills) for share in APART)
    seen = []
    for victim in turns:
        seen += [await acknowledged.get() for _ in range(chance.randint(least, most))]
        await victim.kill()
        await victim.start()
    while len(seen) < scale.jobs:
        seen.append(await acknowledged.get())
    return dict(seen)


@pytest.mark.parametrize(
    "scale", [Scale(200, 5), pytest.param(Scale(2000, 20), marks=pytest.mark.long)], ids=["200", "2000"]
)
async def test_every_job_is_done_although_processes_are_killed(
    folder: Path, durable: DurableStore, scale: Scale
) -> None:
    """Each step is done once, although servers and workers are killed, also if the workers have no store."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown if it fails
    chance = random.Random(seed)
    target, ledger = f"{crashing.__file__}:app", folder / "ledger"
    options = ("--lease", str(LEASE), "--concurrency", str(CONCURRENCY), "--log-level", "warning")
    url, port = durable.url, durable.port
    api = Command("server", target, "--port", str(port or 0), "--store", url, "--log-level", "warning")
    source = ("--store", url) if port is None else ("--server", f"http://127.0.0.1:{port}")
    todo, acknowledgements = orders(chance, scale.jobs), asyncio.Queue[tuple[str, Order]]()
    workers = [Worker(todo, ledger, target, *source, *options) for _ in range(2)]
    async with running(api, *workers), App(url) as app:
        async with asyncio.TaskGroup() as group:
            victims = [api, *workers, *durable.victims]
            killing = group.create_task(kill_at_random(chance, scale, victims, acknowledgements))
            for _ in range(SUBMITTERS):
                group.create_task(submit(api, chance, todo, acknowledgements))
        acknowledged = killing.result()
        ended = [await app.engine.jobs.wait(job_id, TIMEOUT) for job_id in acknowledged]
        await until_started(app, api, workers)
        assert [await command.stop() for command in (api, *workers)] == [0, 0, 0]
        assert (await app.engine.store.counts()).leased == 0
        assert len(await all_jobs(app.engine.store)) == len(acknowledged) == scale.jobs
        await assert_no_leaks(app.engine.store)
    lost = [check(stored.job, acknowledged[stored.job.id]) for stored in ended]
    print(f"{sum(lost)} attempts lost")  # noqa: T201
    assert 0 < sum(lost) <= 2 * CONCURRENCY * scale.kills
    check_ledger([stored.job for stored in ended], ledger.read_text("ascii").splitlines())


async def until_started(app: App, api: Command, workers: Sequence[Command]) -> None:
    """Wait until the commands handle signals: the last restart may have been just now."""
    await api.url()
    while not {each.pid for each in workers} <= {each.pid for each in await app.engine.workers.read()}:
        continue


def check(job: Job, order: Order) -> int:
    """Check that each step has its result, recorded once; returns the number of lost attempts."""
    assert job.state == "done", job
    total = 0
    for step, (function, number) in zip(job.steps, order.steps, strict=True):
        total += number
        assert (step.function, step.result) == (function, b"%d" % total)
        assert step.retry_count == 1 + crashing.fails_first(number)
    recorded = [event.step for event in job.events if event.kind == "step-done"]
    assert recorded == list(range(len(job.steps)))
    return sum(step.lost_count for step in job.steps)


def check_ledger(jobs: list[Job], lines: list[str]) -> None:
    """Check that no attempt ran twice or too early, and that all of them were recorded."""
    when: dict[tuple[str, str, int, int], int] = {}
    for moment, line in enumerate(lines):
        what, job_id, part, attempt, _ = line.split()
        key = (what, job_id, int(part), int(attempt))
        assert key not in when, f"twice: {line}"
        when[key] = moment
    for job in jobs:
        last_end = -1
        for n, step in enumerate(job.steps):
            attempts = range(1, step.retry_count + step.lost_count + 1)
            begun = [when[k] for a in attempts if (k := ("begin", job.id, n, a)) in when]
            assert last_end < min(begun)
            last_end = when["end", job.id, n, attempts[-1]]
            assert max(begun) < last_end
    made = sum(step.retry_count + step.lost_count for job in jobs for step in job.steps)
    assert sum(key[0] == "begin" for key in when) <= made
