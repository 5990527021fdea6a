"""HTTP: requests per second of one server process over 32 connections, one request at a time on each.

``raincheck server`` without a worker. *POST* submits a job with three functions, arguments and data, which is
durable before the response; afterwards all accepted jobs must be in the store. *GET* reads a job. *FastAPI*
and *raw ASGI* return the same body and store nothing, on uvicorn with the same settings. One thread of wrk
creates the load.
"""

from __future__ import annotations

import asyncio
import json

from benchmarks.bench import Bench
from benchmarks.figures import Measure, Readings, Row, at_least, ratio_to
from benchmarks.load import Caller, Load, put_on
from benchmarks.processes import ChildError
from benchmarks.serve import echo_command, free_port, server_command, serving
from raincheck import App

BODY = json.dumps(
    {
        "name": "welcome",
        "functions": [
            {"name": "/v1/create-account", "args": ["ada@example.com", 42], "kwargs": {"plan": "free"}},
            {
                "name": "/v1/render-letter",
                "args": ["welcome.html"],
                "kwargs": {"language": "en", "retries": 3},
            },
            {
                "name": "/v1/send-mail",
                "args": [],
                "kwargs": {"subject": "Welcome aboard", "copies": [1, 2, 3]},
            },
        ],
        "data": {
            "account": "a2f1c9d0",
            "trace": "00-4bf92f3577b34da6a3ce929d0e0e4736",
            "tags": ["new", "web"],
        },
    }
)


def run(bench: Bench) -> Readings:
    """Measure one server after another."""
    readings: Readings = {}
    url = bench.store()
    for name in ("raincheck", "fastapi", "raw"):
        port = free_port()
        command = server_command(url, port) if name == "raincheck" else echo_command(name, port)
        with serving(bench, command, port):
            posted, got = _load(bench, port)
        readings |= {f"{name}_post": posted.rate, f"{name}_get": got.rate}
        readings |= {f"{name}_post_p99": posted.p99, f"{name}_get_p99": got.p99}
        if name == "raincheck":
            asyncio.run(_check(url, posted.answered))
    return readings


def _load(bench: Bench, port: int) -> tuple[Load, Load]:
    jobs = f"http://127.0.0.1:{port}/v1/job"
    job = asyncio.run(_post(jobs))
    put_on(bench, jobs, bench.seconds(1.0), BODY.encode())  # to warm up
    posted = put_on(bench, jobs, bench.seconds(4.0), BODY.encode())
    return posted, put_on(bench, f"{jobs}/{job.get('id', 'any')}", bench.seconds(3.0))


async def _post(url: str) -> dict[str, str]:
    async with Caller(url, BODY) as call:
        answer: dict[str, str] = json.loads(await call())
        return answer


async def _check(url: str, answered: int) -> None:
    async with App(url) as app:
        stored = sum((await app.engine.store.counts()).states.values())
    if stored < answered:
        raise ChildError(f"{answered} jobs were accepted, but only {stored} are in the store")


MEASURE = Measure(
    "http",
    "HTTP, 32 connections, one server process",
    (
        Row(
            "raincheck_post",
            "POST /v1/job, durable",
            "req/s",
            (at_least(2.0, "fastapi_post"), ratio_to("raw_post")),
        ),
        Row("raincheck_post_p99", "POST /v1/job, p99", "ms", (ratio_to("fastapi_post_p99"),)),
        Row("raincheck_get", "GET /v1/job/{id}", "req/s", (ratio_to("fastapi_get"), ratio_to("raw_get"))),
        Row("raincheck_get_p99", "GET /v1/job/{id}, p99", "ms", (ratio_to("fastapi_get_p99"),)),
        Row("fastapi_post", "FastAPI echo, POST", "req/s"),
        Row("fastapi_post_p99", "FastAPI echo, POST, p99", "ms"),
        Row("fastapi_get", "FastAPI echo, GET", "req/s"),
        Row("fastapi_get_p99", "FastAPI echo, GET, p99", "ms"),
        Row("raw_post", "raw ASGI + msgspec echo, POST", "req/s"),
        Row("raw_get", "raw ASGI + msgspec echo, GET", "req/s"),
    ),
    run,
)
