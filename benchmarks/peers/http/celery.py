"""FastAPI and Celery: ``def`` endpoints, which FastAPI runs in threads, as Celery's API blocks."""

from __future__ import annotations

from celery.result import AsyncResult
from fastapi import FastAPI

from benchmarks.peers.http.documents import Job, NewJob, Prefer
from benchmarks.peers.systems.celery import app as celery
from benchmarks.peers.systems.celery import nothing

app = FastAPI()


@app.get("/readyz")
def ready() -> str:
    """The server is ready when it responds."""
    return "ready"


@app.post("/v1/job", status_code=202)
def create(job: NewJob, prefer: Prefer = None) -> Job:
    """Enqueue a job; with ``Prefer: wait``, wait for its result."""
    task = nothing.delay()
    return Job(id=task.id, state="done", result=task.get()) if prefer else Job(id=task.id, state="pending")


@app.get("/v1/job/{job_id}")
def find(job_id: str) -> Job:
    """The state of a job."""
    task = AsyncResult(job_id, app=celery)
    return (
        Job(id=job_id, state="done", result=task.result) if task.ready() else Job(id=job_id, state="pending")
    )
