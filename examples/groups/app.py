"""The fifth seed: groups of long-running jobs, with its own routes to trigger and watch them."""

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

STATE_NAMES = {
    State.SCHEDULED: "PENDING",
    State.PENDING: "PENDING",
    State.DOING: "STARTED",
    State.RETRYING: "RETRY",
    State.DONE: "SUCCESS",
    State.FAILED: "FAILURE",
    State.CANCELLED: "REVOKED",
}
"""The names of the states in the document."""


@app.function
async def system_sleep(seconds: float) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)


@app.function
async def log(ctx: Context, message: str, times: int = 1) -> None:
    """Log a message several times."""
    for _ in range(times):
        ctx.log.info(message)
        await asyncio.sleep(0.05)


@app.function
async def run_forever(ctx: Context) -> None:
    """Run until it is cancelled."""
    while True:
        ctx.log.info("still here")
        await asyncio.sleep(1)


async def trigger(request: Request) -> Response:
    """Start the jobs of a group; respond with the path of each job's status."""
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
    """The state of a job."""
    job_id = request.path_params["id"]
    try:
        job = await app.status(job_id)
    except NotFound:
        return PlainTextResponse(f"Job with given id doesn't exists : {job_id}", 404)
    return JSONResponse({"state": STATE_NAMES[job.state], "task_id": job.id})


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with app, Worker(app):
        yield


api = Starlette(
    routes=[
        Route("/group/{name}", trigger),
        Route("/status/{id}", status),
        Mount("/", app.asgi),  # raincheck's own API beside them
    ],
    lifespan=lifespan,
)
