"""Maths as jobs: a small API with its own routes on top of raincheck (see README.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Lifespan

from raincheck import App, Context, InvalidInput, NotFound, RetryOptions, State, StoreError, Worker

Number = int | float

QUEUE = "default"

jobs = App(title="maths")  # NewJobController


@jobs.function("math:add")  # AddHandler
def add(a: Number, b: Number) -> Number:
    return a + b


@jobs.function("math:subtract")
def subtract(a: Number, b: Number) -> Number:
    return a - b


@jobs.function("math:multiply")
def multiply(a: Number, b: Number) -> Number:
    return a * b


@jobs.function("math:divide")
def divide(a: Number, b: Number) -> Number:
    return a / b


@jobs.function("math:slow-add")
async def slow_add(a: Number, b: Number) -> Number:
    """The sum, after 3 s."""
    await asyncio.sleep(3)
    return a + b


@jobs.function("math:shy-add", retry=RetryOptions(retry_limit=2, delay=3))
def shy_add(ctx: Context, a: Number, b: Number) -> Number:
    """The sum, at the second attempt."""
    if ctx.attempt == 1:
        raise RuntimeError("not today")
    return a + b


class Status(IntEnum):
    """The six states, with their codes."""

    ACTIVE = 1
    PENDING = 2
    FUTURE = 3
    RETRYING = 4
    FAILED = 5
    COMPLETED = 6


STATUS = {
    State.DOING: Status.ACTIVE,
    State.PENDING: Status.PENDING,
    State.SCHEDULED: Status.FUTURE,
    State.RETRYING: Status.RETRYING,
    State.FAILED: Status.FAILED,
    State.CANCELLED: Status.FAILED,
    State.DONE: Status.COMPLETED,
}


class Maths(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /maths``; ``delay`` is in seconds."""

    op: str
    a: Number
    b: Number
    delay: float = 0


async def create(request: Request) -> JSONResponse:
    """``POST /maths``"""
    body = msgspec.json.decode(await request.body(), type=Maths)
    function = jobs.functions.get(body.op)
    if function is None:
        known = ", ".join(each.name for each in jobs.functions)
        return error_response(400, f"there is no op {body.op!r}. Use one of {known}")
    job = await jobs.submit(body.op, [function.step(body.a, body.b)], delay=body.delay)  # CreateJob
    return JSONResponse({"success": True, "res": f"{QUEUE}@{job.id}"})


async def status(request: Request) -> JSONResponse:
    """``GET /maths/{id}``"""
    queue, _, job_id = request.path_params["id"].partition("@")
    if queue != QUEUE:
        return error_response(404, f"there is no queue {queue!r}: ids begin with {QUEUE}@")
    job = await jobs.status(job_id)  # GetStatus
    code = STATUS[job.state]
    document = {"state_code": code, "status": code.name, "res": job.result}
    if code is Status.FAILED:
        document["error"] = job.error.detail if job.error else "it was cancelled"
    return JSONResponse(document)


def error_response(code: int, error: str) -> JSONResponse:
    """The response to a request that fails."""
    return JSONResponse({"success": False, "error": error}, status_code=code)


def error_handler(code: int) -> Callable[[Any, Exception], JSONResponse]:
    """A handler that responds with the message of an exception."""
    return lambda request, error: error_response(code, str(error))


@asynccontextmanager
async def alone(_: Starlette) -> AsyncIterator[None]:
    """For the API of which the workers are other processes."""
    async with jobs:
        yield


@asynccontextmanager
async def with_worker(_: Starlette) -> AsyncIterator[None]:
    """For the API whose process has a worker, too."""
    async with jobs, Worker(jobs):  # Start
        yield


def maths_api(lifespan: Lifespan[Starlette]) -> Starlette:
    """The two routes."""
    return Starlette(
        routes=[Route("/maths", create, methods=["POST"]), Route("/maths/{id}", status)],
        exception_handlers={
            msgspec.DecodeError: error_handler(400),
            InvalidInput: error_handler(400),
            NotFound: error_handler(404),
            StoreError: error_handler(503),
        },
        lifespan=lifespan,
    )


main = maths_api(with_worker)
api = maths_api(alone)
