"""A primary is killed while jobs are submitted and run: a replica has all acknowledged jobs."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from raincheck import App
from raincheck.core.errors import StoreError
from tests.acceptance import crashing
from tests.acceptance.support import Command, running
from tests.acceptance.test_crash import TIMEOUT, Order, check, orders
from tests.clusters import cluster, follows, until, watched
from tests.contract.leaks import all_jobs, assert_no_leaks

pytestmark = [pytest.mark.acceptance, pytest.mark.long, pytest.mark.parametrize("jobs", [200, 2000])]

BEFORE = 1 / 3
"""The share of jobs that are acknowledged when the primary is killed."""

PAUSE = 0.15
SUBMITTERS = 6
LEASE = 2
FUNCTIONS = {"on_the_loop": crashing.on_the_loop, "in_a_thread": crashing.in_a_thread}


async def submit(app: App, todo: list[Order], acknowledged: dict[str, Order]) -> None:
    """Submit all orders, each one until it is acknowledged."""
    while todo:
        order = todo.pop()
        steps = [
            FUNCTIONS[function].step(part, number).options(retry=crashing.OPTIONS)
            for part, (function, number) in enumerate(order.steps)
        ]
        await asyncio.sleep(random.uniform(0.0, PAUSE))
        while True:
            try:
                job = await app.submit("failover", steps, idempotency_key=order.key)
            except StoreError:
                await asyncio.sleep(0.05)
                continue
            acknowledged[job.id] = order
            break


async def run_through_failover(url: str, jobs: int, kill: Callable[[], None]) -> None:
    """Submit and run jobs, call ``kill`` meanwhile, and check the results."""
    todo, acknowledged = orders(random.Random(), jobs), dict[str, Order]()
    with tempfile.TemporaryDirectory(prefix="rc-") as folder:
        options = ("--lease", str(LEASE), "--concurrency", "10", "--log-level", "warning")
        ledger = str(Path(folder) / "ledger")
        worker = Command("worker", f"{crashing.__file__}:app", "--store", url, *options, LEDGER=ledger)
        async with running(worker), App(url) as app:
            async with asyncio.TaskGroup() as group:
                for _ in range(SUBMITTERS):
                    group.create_task(submit(app, todo, acknowledged))
                await asyncio.to_thread(until, lambda: len(acknowledged) >= BEFORE * jobs)
                await asyncio.to_thread(kill)
            for job_id, order in acknowledged.items():
                check((await app.engine.jobs.wait(job_id, TIMEOUT)).job, order)
            assert await worker.stop() == 0
            assert len(await all_jobs(app.engine.store)) == len(acknowledged) == jobs
            await assert_no_leaks(app.engine.store)


async def test_sentinels_promote_a_replica(jobs: int) -> None:
    """Submitters and workers find the new primary."""
    with watched(appendonly="yes") as servers:
        await run_through_failover(f"{servers.url}?ack=replicated", jobs, servers.primary.kill)


async def test_a_cluster_promotes_a_replica(jobs: int) -> None:
    """One of three primaries is killed and comes back as a replica; all jobs end."""
    with cluster(primaries=3, replicas=3, appendonly="yes") as nodes:

        def kill() -> None:
            victim, successor = nodes.primaries[0], nodes.replicas[0]
            victim.kill()
            until(lambda: successor.has(0))
            victim.start()
            until(lambda: follows(victim))

        await run_through_failover(f"{nodes.url}?ack=replicated", jobs, kill)
