"""Servers and workers are killed while groups run: every run has one follow-up, with all results."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from raincheck import App
from raincheck.core.model import Job
from raincheck.store.base import Filter
from tests.acceptance import crashing
from tests.acceptance.support import Command, running
from tests.contract.leaks import assert_no_leaks, listed
from tests.folders import on_disk
from tests.servers import server

pytestmark = pytest.mark.acceptance

MEMBERS = crashing.MEMBERS
LEASE = 1
TIMEOUT = 120.0
"""Seconds after which a run that has not ended counts as lost."""


class Scale(NamedTuple):
    """The number of runs, the seconds in which they are triggered, and the number of kills."""

    runs: int
    seconds: float
    kills: int


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder of the database."""
    with on_disk() as path:
        yield path


@pytest.fixture(params=["sqlite", pytest.param("valkey", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The URL of the store."""
    if request.param == "sqlite":
        yield f"sqlite:///{folder / 'db'}"
    else:
        with server(folder) as valkey:
            yield f"{valkey.url}?shards=3"


async def trigger(command: Command, wait: float, number: int) -> str:
    """Trigger the group until a run is acknowledged; returns its id."""
    await asyncio.sleep(wait)
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
        while True:
            try:
                response = await client.post(
                    f"{await command.url()}/v1/group/crash",
                    json={"data": {"number": number}},
                    headers={"Idempotency-Key": f'"run-{number}"'},
                )
            except httpx2.TransportError:  # the server was killed, perhaps after it stored the run
                await asyncio.sleep(0.01)
                continue
            if response.status_code != 503:
                assert response.status_code in (200, 202), response.text
                return str(response.json()["id"])


async def kill_at_random(chance: random.Random, kills: int, victims: list[Command]) -> None:
    """Kill and restart the commands in turn."""
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        victim = chance.choice(victims)
        await victim.kill()
        await victim.start()


@pytest.mark.parametrize(
    "scale", [Scale(6, 2.0, 4), pytest.param(Scale(30, 8.0, 15), marks=pytest.mark.long)], ids=["6", "30"]
)
async def test_every_run_has_one_follow_up_although_processes_are_killed(
    url: str, folder: Path, scale: Scale
) -> None:
    """It starts after all jobs of its run have ended, and has their results in order."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown if it fails
    chance = random.Random(seed)
    target, ledger = f"{crashing.__file__}:app", folder / "ledger"
    common = ("--store", url, "--log-level", "warning")
    http = Command("server", target, "--port", "0", *common)
    working = ("--lease", str(LEASE), "--concurrency", "10")
    workers = [Command("worker", target, *common, *working, LEDGER=str(ledger)) for _ in range(2)]
    async with running(http, *workers), App(url) as app:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(kill_at_random(chance, scale.kills, [*workers, http]))
            waits = [chance.uniform(0.0, scale.seconds) for _ in range(scale.runs)]
            runs = [tasks.create_task(trigger(http, wait, n)) for n, wait in enumerate(waits)]
        ended = [(await app.engine.jobs.wait(each.result(), TIMEOUT)).job for each in runs]
        for command in (http, *workers):
            await command.stop()
        jobs = [stored.job for stored in await listed(app.engine.store, Filter(group="crash"))]
        await assert_no_leaks(app.engine.store)
    for run in ended:
        check(run)
    assert Counter(job.run_of for job in jobs) == {None: scale.runs} | {run.id: MEMBERS for run in ended}
    assert {job.state for job in jobs} == {"done"}
    check_ledger(ended, jobs, ledger.read_text("ascii").splitlines())


def check(run: Job) -> None:
    """Check that the run was gathered once, and its follow-up recorded once."""
    assert run.state == "done", run
    gather, then = run.steps
    assert gather.result == b"[" + b",".join(b"%d" % n for n in range(MEMBERS)) + b"]"
    assert then.result == b"%d" % sum(range(MEMBERS))
    assert [event.kind for event in run.events if event.kind != "lost"] == [
        "submitted", "opened", "gathered", "step-done", "done",
    ]  # fmt: skip


def check_ledger(runs: list[Job], jobs: list[Job], lines: list[str]) -> None:
    """Check that no follow-up started before the last job of its run had ended."""
    ends: dict[str, int] = {}
    begins: dict[str, int] = {}
    for moment, line in enumerate(lines):
        what, job_id, *_ = line.split()
        if what == "end":
            ends[job_id] = moment
        else:
            begins.setdefault(job_id, moment)
    members: dict[Any, list[str]] = {}
    for job in jobs:
        members.setdefault(job.run_of, []).append(job.id)
    for run in runs:
        assert max(ends[job_id] for job_id in members[run.id]) < begins[run.id]
