"""A bare FastAPI app with ``async def`` endpoints that return the pydantic model that they receive."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel


class Function(BaseModel):
    """One entry of a job's functions."""

    name: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Job(BaseModel):
    """A job."""

    name: str
    functions: list[Function]
    data: dict[str, Any] = {}


app = FastAPI()
_last: list[Job] = []


@app.get("/readyz")
async def ready() -> dict[str, str]:
    """The server is ready when it responds."""
    return {"status": "ready"}


@app.post("/v1/job", status_code=202)
async def create(job: Job) -> Job:
    """The job that was sent."""
    _last[:] = [job]
    return job


@app.get("/v1/job/{job_id}")
async def find(job_id: str) -> Job:
    """The job that was sent last."""
    return _last[0]
