"""What the contract tests are written with: jobs, and the usual steps of their lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.clock import new_id
from raincheck.core.model import (
    Change,
    Claim,
    Job,
    Key,
    Lease,
    Problem,
    RetryOptions,
    State,
    Step,
    Stored,
    WorkerInfo,
)
from raincheck.core.triggers import Cancel, Failed, Lost, Stopped, Succeeded, Trigger
from raincheck.store.base import Ended, Held, Missing, Outcome, Store

T = TypeVar("T")

HOUR = 3600.0
SOON = 30.0
"""Longer than anything takes that is not broken."""


def draft(*stages: str | tuple[str, ...], name: str = "job", **fields: Any) -> Job:
    """A job as it is before it is submitted; a stage is a function, or several."""
    entries = [(stage,) if isinstance(stage, str) else stage for stage in stages or ("f",)]
    steps = tuple(Step(f, stage=i) for i, functions in enumerate(entries) for f in functions)
    return Job(**{"id": new_id(), "name": name, "steps": steps, "result_ttl": HOUR, **fields})


def submission(store: Store, job: Job, key: Key | None = None) -> Change:
    """The change that submits a job now."""
    return lifecycle.submit(job, store.now(), key)


async def submit(store: Store, *stages: str | tuple[str, ...], **fields: Any) -> Job:
    """Submit one job."""
    change = submission(store, draft(*stages, **fields))
    assert await store.commit([change]) == [None]
    return change.job


async def submit_many(store: Store, count: int, *stages: str | tuple[str, ...], **fields: Any) -> list[Job]:
    """Submit some jobs of one kind in one batch."""
    changes = [submission(store, draft(*stages, **fields)) for _ in range(count)]
    assert await store.commit(changes) == [None] * count
    return [change.job for change in changes]


def later(store: Store, seconds: float = HOUR) -> float:
    """A time to come."""
    return store.now() + seconds


async def take(
    store: Store, *functions: str, limit: int = 100, lease: float = HOUR, worker: str = "w"
) -> list[Claim]:
    """Claim without waiting."""
    return await store.claim(worker, functions or ("f",), limit, lease)


async def take_one(store: Store, *functions: str, lease: float = HOUR, worker: str = "w") -> Claim:
    """Claim one step, which is there."""
    (claim,) = await take(store, *functions, limit=1, lease=lease, worker=worker)
    return claim


def succeeded(store: Store, claim: Claim, result: bytes = b"1", data: bytes | None = None) -> Change:
    """What follows when the attempt succeeds."""
    return after(store, claim.job, Succeeded(lifecycle.attempt_of(claim.lease), result, data))


def failed(store: Store, claim: Claim, options: RetryOptions = RetryOptions()) -> Change:
    """What follows when the attempt fails."""
    error = Problem(title="It failed")
    return after(store, claim.job, Failed(lifecycle.attempt_of(claim.lease), error, options=options))


async def fail_all(store: Store, function: str) -> None:
    """Let all queued steps of a function fail."""
    while claims := await take(store, function):
        assert set(await store.commit([failed(store, claim) for claim in claims])) == {None}


def lost(store: Store, claim: Claim, options: RetryOptions = RetryOptions()) -> Change:
    """What follows when the lease has run out."""
    return after(store, claim.job, Lost(lifecycle.attempt_of(claim.lease), options))


def stopped(store: Store, job: Job, lease: Lease) -> Change:
    """What follows when an attempt is stopped because its job is to be cancelled."""
    return after(store, job, Stopped(lifecycle.attempt_of(lease)))


def cancelled(store: Store, stored: Stored) -> Change:
    """What follows when somebody cancels."""
    return after(store, stored.job, Cancel(stored.leases))


def after(store: Store, job: Job, trigger: Trigger) -> Change:
    """What follows from a trigger now."""
    return lifecycle.advance(job, [trigger], store.now())


async def write(store: Store, change: Change) -> Outcome:
    """Commit one change."""
    (outcome,) = await store.commit([change])
    return outcome


async def finish(store: Store, claim: Claim, result: bytes = b"1") -> Job:
    """Commit the success of a claimed step; the job after it."""
    change = succeeded(store, claim, result)
    assert await write(store, change) is None
    return change.job


async def done(store: Store, **fields: Any) -> Job:
    """A job of one step that has ended well."""
    job = await submit(store, f"to be done {fields}", **fields)
    return await finish(store, await take_one(store, job.steps[0].function))


async def get(store: Store, job_id: str) -> Stored:
    """A job that is there."""
    (found,) = await store.find([job_id])
    assert not isinstance(found, Missing)
    return found


async def look(store: Store, job_id: str) -> Stored | Missing:
    """A job, if it is there."""
    (found,) = await store.find([job_id])
    return found


async def state_of(store: Store, job_id: str) -> State:
    """The state that a job is shown in."""
    return (await get(store, job_id)).state


def held(claim: Claim) -> Held:
    """A claimed lease as its worker knows it."""
    return Held(claim.job.id, claim.lease.step, claim.lease.token)


async def extend(store: Store, claims: list[Claim], lease: float) -> list[int | None]:
    """Extend as a worker does: from a thread."""
    return await beat(store, [held(claim) for claim in claims], lease)


async def beat(
    store: Store, held: Sequence[Held] = (), lease: float = HOUR, worker: WorkerInfo | None = None
) -> list[int | None]:
    """A heartbeat of a worker (by default of one that has left), from a thread."""
    return await asyncio.to_thread(store.heartbeat, worker or info(state="stopped"), held, lease)


def info(worker_id: str = "w1", **fields: Any) -> WorkerInfo:
    """What a worker tells of itself."""
    made = WorkerInfo(
        id=worker_id, host="here", pid=1, version="1.0", concurrency=10, functions=(), started_at=5.0
    )
    return replace(made, **fields)


async def removed(store: Store, *jobs: Job, remember: float = HOUR) -> list[bool]:
    """Remove jobs as they are known."""
    return await store.remove([Ended(job.id, job.rev) for job in jobs], remember)


async def prune(store: Store, limit: int, remember: float) -> int:
    """Remove what was kept long enough, as maintenance does; how many."""
    return sum(await store.remove((await store.due(limit)).ended, remember))


async def settle(store: Store) -> None:
    """Wait until every call made before has begun to wait."""
    await asyncio.sleep(0)
    await store.release([])
    await store.find([])


@asynccontextmanager
async def waiting(store: Store, call: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """A call that has begun to wait."""
    task = asyncio.create_task(call)
    await settle(store)
    assert not task.done()
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Ear:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Job | None]] = []
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def __call__(self, jobs: Any) -> None:
        self.told.append(dict(jobs))
        self._loop.call_soon_threadsafe(self._event.set)

    async def until(self, heard: Callable[[], bool]) -> None:
        """Wait until what was heard is enough."""
        async with asyncio.timeout(SOON):
            while not heard():
                await self._event.wait()
                self._event.clear()

    async def of(self, job_id: str) -> None:
        """Wait until it was told of a job, or that anything may have changed."""
        await self.until(lambda: any(not jobs or job_id in jobs for jobs in self.told))
