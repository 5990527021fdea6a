"""Maths, done later: a small API of its own on raincheck. README.md tells its story."""

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

from raincheck import App, Context, InvalidInput, NotFound, RetryOptions, State, StoreError

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
    """The sum, after much thought."""
    await asyncio.sleep(3)
    return a + b


@jobs.function("math:shy-add", retry=RetryOptions(retry_limit=2, delay=3))
def shy_add(ctx: Context, a: Number, b: Number) -> Number:
    """The sum, for those who ask twice."""
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
    """What is to be done, and after how many seconds."""

    op: str
    a: Number
    b: Number
    delay: float = 0


async def create(request: Request) -> JSONResponse:
    """``POST /maths``"""
    asked = msgspec.json.decode(await request.body(), type=Maths)
    function = jobs.functions.get(asked.op)
    if function is None:
        known = ", ".join(each.name for each in jobs.functions)
        return refuse(400, f"there is no op {asked.op!r}: use one of {known}")
    job = await jobs.submit(asked.op, [function.step(asked.a, asked.b)], delay=asked.delay)  # CreateJob
    return JSONResponse({"success": True, "res": f"{QUEUE}@{job.id}"})


async def status(request: Request) -> JSONResponse:
    """``GET /maths/{id}``"""
    queue, _, job_id = request.path_params["id"].partition("@")
    if queue != QUEUE:
        return refuse(404, f"there is no queue {queue!r}: an id begins with {QUEUE}@")
    job = await jobs.status(job_id)  # GetStatus
    code = STATUS[job.state]
    answer = {"state_code": code, "status": code.name, "res": job.result}
    if code is Status.FAILED:
        answer["error"] = job.error.detail if job.error else "it was cancelled"
    return JSONResponse(answer)


def refuse(code: int, error: str) -> JSONResponse:
    """The answer to a request that cannot be met."""
    return JSONResponse({"success": False, "error": error}, status_code=code)


def refusal(code: int) -> Callable[[Any, Exception], JSONResponse]:
    """A handler of exceptions, which answers with what they say."""
    return lambda request, error: refuse(code, str(error))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with jobs:  # Start
        yield


api = Starlette(
    routes=[Route("/maths", create, methods=["POST"]), Route("/maths/{id}", status)],
    exception_handlers={
        msgspec.DecodeError: refusal(400),
        InvalidInput: refusal(400),
        NotFound: refusal(404),
        StoreError: refusal(503),
    },
    lifespan=lifespan,
)
