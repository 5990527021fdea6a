"""A worker by hand: claims a step and says what becomes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2

from raincheck.core import lifecycle
from raincheck.core.clock import now
from raincheck.core.codec import to_json
from raincheck.core.model import Claim, FunctionInfo, Problem, WorkerInfo
from raincheck.core.triggers import Failed, Stopped, Succeeded, Trigger
from raincheck.store.base import Store

LEASE = 60.0

Answer = httpx2.Response


class Hands:
    """Works on the jobs of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def claim(self, *functions: str) -> Claim:
        """Take the next ready step of these functions, waiting for one."""
        (claim,) = await self.store.claim("hands", functions, 1, LEASE, 5.0)
        return claim

    async def succeed(self, *functions: str, result: Any = None) -> None:
        """Run the next step, with this result."""
        claim = await self.claim(*functions)
        await self.end(claim, Succeeded(lifecycle.attempt_of(claim.lease), to_json(result)))

    async def fail(self, *functions: str, detail: str = "no luck") -> None:
        """Run the next step, and let it fail for good."""
        claim = await self.claim(*functions)
        error = Problem(type="function-failed", title="ValueError", detail=detail, exception="ValueError")
        await self.end(claim, Failed(lifecycle.attempt_of(claim.lease), error))

    async def stop(self, claim: Claim) -> None:
        """Obey a cancel."""
        await self.end(claim, Stopped(lifecycle.attempt_of(claim.lease)))

    async def end(self, claim: Claim, trigger: Trigger) -> None:
        """Write what became of an attempt."""
        (stored,) = await self.store.find([claim.job.id])
        change = lifecycle.advance(stored.job, [trigger], self.store.now())  # type: ignore[union-attr]
        assert await self.store.commit([change]) == [None]

    async def register(self, *infos: FunctionInfo) -> None:
        """Be known as a worker that offers these functions."""
        worker = WorkerInfo(
            id="hands",
            host="here",
            pid=1,
            version="1",
            concurrency=1,
            functions=infos,
            started_at=now(),
        )
        await asyncio.to_thread(self.store.heartbeat, worker, [], LEASE)


async def count_jobs(client: httpx2.AsyncClient) -> int:
    """How many jobs there are, of the first two hundred."""
    return len((await client.get("/v1/job?limit=200")).json()["jobs"])
