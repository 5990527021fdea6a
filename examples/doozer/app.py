"""Tasks behind a sign-in: returns a result within five seconds, or the id of a task (see README.md)."""

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
"""Seconds that a request waits for a task; after that the task is deferred."""

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
    """``POST /login``: a JWT for a username and a password."""
    credentials = msgspec.json.decode(await request.body(), type=Login)
    address = request.client.host if request.client else ""
    token = await auth.sign_in(credentials.username, credentials.password, address=address)
    return JSONResponse({"token": token.access_token})


def restricted(endpoint: Endpoint, scope: str) -> Endpoint:
    """The endpoint, for requests with a JWT that has the scope."""

    async def checked(request: Request) -> JSONResponse:
        await auth.check(request.headers.get("authorization"), scope)
        return await endpoint(request)

    return checked


def task(function: Function) -> Endpoint:
    """``POST /restricted/{name}``: the result, or the id of the task."""

    async def run(request: Request) -> JSONResponse:
        body = msgspec.json.decode(await request.body(), type=Numbers)
        job = await tasks.submit(function.name, [function.step(*body.numbers)])
        job = await tasks.wait(job.id, timeout=WAIT)
        return JSONResponse(task_document(job), status_code=200 if job.state.ended else 202)

    return run


async def lookup(request: Request) -> JSONResponse:
    """``POST /restricted/tasks``: the state of a task."""
    body = msgspec.json.decode(await request.body(), type=Task)
    if not body.task_id.startswith(PREFIX):
        raise NotFound(f"there is no task {body.task_id}: ids begin with {PREFIX}")
    return JSONResponse(task_document(await tasks.status(body.task_id.removeprefix(PREFIX))))


def task_document(job: JobDocument) -> dict[str, Any]:
    """A job as a task."""
    task = {"task_id": PREFIX + job.id, "status": STATUS[job.state]}
    if job.state is State.DONE:
        return {**task, "result": job.result}
    if job.state.ended:
        return {**task, "error": job.error.detail if job.error else "it was cancelled"}
    return task


def error_handler(code: int, **headers: str) -> Callable[[Any, Exception], JSONResponse]:
    """A handler that responds with the message of an exception."""
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
        msgspec.DecodeError: error_handler(400),
        InvalidInput: error_handler(400),
        NotSignedIn: error_handler(401, **{"www-authenticate": "Bearer"}),
        NotAllowed: error_handler(403),
        NotFound: error_handler(404),
        TooManyAttempts: error_handler(429),
        StoreError: error_handler(503),
    },
    lifespan=lifespan,
)
