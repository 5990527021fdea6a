"""The fifth seed: groups of long-running jobs, triggered and looked after by routes of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from raincheck import App, Context, InvalidInput, NotFound, State, Worker

app = App(config=Path(__file__).parent / "resources" / "config.yaml")

CALLED = {
    State.SCHEDULED: "PENDING",
    State.PENDING: "PENDING",
    State.DOING: "STARTED",
    State.RETRYING: "RETRY",
    State.DONE: "SUCCESS",
    State.FAILED: "FAILURE",
    State.CANCELLED: "REVOKED",
}
"""The states of jobs, in the words of the document."""


@app.function
async def system_sleep(seconds: float) -> None:
    """Takes its time."""
    await asyncio.sleep(seconds)


@app.function
async def log(ctx: Context, message: str, times: int = 1) -> None:
    """Says something, again and again."""
    for _ in range(times):
        ctx.log.info(message)
        await asyncio.sleep(0.05)


@app.function
async def run_forever(ctx: Context) -> None:
    """Never ends, as a system that fails; it can be cancelled."""
    while True:
        ctx.log.info("still here")
        await asyncio.sleep(1)


async def trigger(request: Request) -> Response:
    """Start the jobs of a group, and say where each can be looked at."""
    name = request.path_params["name"]
    try:
        run = await app.trigger(name)
    except NotFound:
        return PlainTextResponse(f"Group with given name doesn't exists : {name}", 404)
    except InvalidInput as error:
        return JSONResponse(
            {"error": f"{name} cannot be triggered", "faults": [f.detail for f in error.faults]}, 422
        )
    return JSONResponse({"Check job status at": [f"/status/{job.id}" for job in run.jobs]})


async def status(request: Request) -> Response:
    """Say how a job goes."""
    job_id = request.path_params["id"]
    try:
        job = await app.status(job_id)
    except NotFound:
        return PlainTextResponse(f"Job with given id doesn't exists : {job_id}", 404)
    return JSONResponse({"state": CALLED[job.state], "task_id": job.id})


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with app, Worker(app):
        yield


api = Starlette(
    routes=[
        Route("/group/{name}", trigger),
        Route("/status/{id}", status),
        Mount("/", app.asgi),  # all of raincheck's own API beside them
    ],
    lifespan=lifespan,
)
