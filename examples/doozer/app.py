"""Tasks behind a sign-in: a result within five seconds, or the id of a task. README.md tells its story."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from raincheck import App, Function, InvalidInput, JobDocument, NotFound, State, StoreError
from raincheck.auth import Auth
from raincheck.core.errors import NotAllowed, NotSignedIn, TooManyAttempts

Endpoint = Callable[[Request], Awaitable[JSONResponse]]

WAIT = 5.0
"""Seconds in which a task is done, or deferred."""

PREFIX = "task_"

tasks = App(title="doozer")
auth = Auth(secret_file="secret", users="users.json")


@tasks.function
def add(*numbers: int) -> int:
    return sum(numbers)


@tasks.function
def mul(*numbers: int) -> int:
    return math.prod(numbers)


STATUS = {
    State.SCHEDULED: "PENDING",
    State.PENDING: "PENDING",
    State.DOING: "STARTED",
    State.RETRYING: "RETRY",
    State.DONE: "SUCCESS",
    State.FAILED: "FAILURE",
    State.CANCELLED: "FAILURE",
}


class Login(msgspec.Struct):
    """The body of ``POST /login``."""

    username: str
    password: str


class Numbers(msgspec.Struct):
    """The body of ``POST /restricted/add`` and ``mul``."""

    numbers: list[int]


class Task(msgspec.Struct):
    """The body of ``POST /restricted/tasks``."""

    task_id: str


async def login(request: Request) -> JSONResponse:
    """``POST /login``: a JWT for a name and a password."""
    asked = msgspec.json.decode(await request.body(), type=Login)
    address = request.client.host if request.client else ""
    token = await auth.sign_in(asked.username, asked.password, address=address)
    return JSONResponse({"token": token.access_token})


def restricted(endpoint: Endpoint, scope: str) -> Endpoint:
    """The endpoint, for those who send a JWT that allows it."""

    async def guarded(request: Request) -> JSONResponse:
        await auth.check(request.headers.get("authorization"), scope)
        return await endpoint(request)

    return guarded


def task(function: Function) -> Endpoint:
    """``POST /restricted/{name}``: the result, or the id of the task."""

    async def run(request: Request) -> JSONResponse:
        asked = msgspec.json.decode(await request.body(), type=Numbers)
        job = await tasks.submit(function.name, [function.step(*asked.numbers)])
        job = await tasks.wait(job.id, timeout=WAIT)
        return JSONResponse(shown(job), status_code=200 if job.state.ended else 202)

    return run


async def lookup(request: Request) -> JSONResponse:
    """``POST /restricted/tasks``: how a task is."""
    asked = msgspec.json.decode(await request.body(), type=Task)
    if not asked.task_id.startswith(PREFIX):
        raise NotFound(f"there is no task {asked.task_id}: an id begins with {PREFIX}")
    return JSONResponse(shown(await tasks.status(asked.task_id.removeprefix(PREFIX))))


def shown(job: JobDocument) -> dict[str, Any]:
    """A job as a task."""
    task = {"task_id": PREFIX + job.id, "status": STATUS[job.state]}
    if job.state is State.DONE:
        return {**task, "result": job.result}
    if job.state.ended:
        return {**task, "error": job.error.detail if job.error else "it was cancelled"}
    return task


def refusal(code: int, **headers: str) -> Callable[[Any, Exception], JSONResponse]:
    """A handler of exceptions, which answers with what they say."""
    return lambda request, error: JSONResponse({"error": str(error)}, code, headers)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    await auth.open()
    async with tasks:
        yield


api = Starlette(
    routes=[
        Route("/login", login, methods=["POST"]),
        Route("/restricted/add", restricted(task(add), "job:write"), methods=["POST"]),
        Route("/restricted/mul", restricted(task(mul), "job:write"), methods=["POST"]),
        Route("/restricted/tasks", restricted(lookup, "job:read"), methods=["POST"]),
    ],
    exception_handlers={
        msgspec.DecodeError: refusal(400),
        InvalidInput: refusal(400),
        NotSignedIn: refusal(401, **{"www-authenticate": "Bearer"}),
        NotAllowed: refusal(403),
        NotFound: refusal(404),
        TooManyAttempts: refusal(429),
        StoreError: refusal(503),
    },
    lifespan=lifespan,
)
