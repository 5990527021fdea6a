"""FastAPI and arq: ``async def`` endpoints; results are polled as often as the worker polls the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arq import create_pool
from arq.jobs import Job as ArqJob
from fastapi import FastAPI

from benchmarks.peers.http.documents import Job, NewJob, Prefer
from benchmarks.peers.systems.arq import POLL, SETTINGS


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect."""
    app.state.pool = await create_pool(SETTINGS)
    yield
    await app.state.pool.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
async def ready() -> str:
    """The server is ready when it responds."""
    return "ready"


@app.post("/v1/job", status_code=202)
async def create(job: NewJob, prefer: Prefer = None) -> Job:
    """Enqueue a job; with ``Prefer: wait``, wait for its result."""
    queued = await app.state.pool.enqueue_job("nothing")
    if not prefer:
        return Job(id=queued.job_id, state="pending")
    return Job(id=queued.job_id, state="done", result=await queued.result(poll_delay=POLL))


@app.get("/v1/job/{job_id}")
async def find(job_id: str) -> Job:
    """The state of a job."""
    info = await ArqJob(job_id, app.state.pool).result_info()
    return Job(id=job_id, state="done", result=info.result) if info else Job(id=job_id, state="pending")
