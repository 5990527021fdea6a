"""FastAPI and taskiq: ``async def`` endpoints; results are polled every millisecond."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from benchmarks.peers.http.documents import Job, NewJob, Prefer
from benchmarks.peers.systems.taskiq import broker, nothing


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect."""
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
async def ready() -> str:
    """The server is ready when it responds."""
    return "ready"


@app.post("/v1/job", status_code=202)
async def create(job: NewJob, prefer: Prefer = None) -> Job:
    """Enqueue a job; with ``Prefer: wait``, wait for its result."""
    task = await nothing.kiq()
    if not prefer:
        return Job(id=task.task_id, state="pending")
    result = await task.wait_result(check_interval=0.001)
    return Job(id=task.task_id, state="done", result=result.return_value)


@app.get("/v1/job/{job_id}")
async def find(job_id: str) -> Job:
    """The state of a job."""
    if not await broker.result_backend.is_result_ready(job_id):
        return Job(id=job_id, state="pending")
    result = await broker.result_backend.get_result(job_id)
    return Job(id=job_id, state="done", result=result.return_value)
