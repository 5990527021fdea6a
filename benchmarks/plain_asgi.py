"""Measures the cost of routing a request to an endpoint: plain ASGI, or the classes of Starlette.

Both variants do the same work; a third server returns its input. Requires ``wrk``. The figures are the
server's CPU time per request, which other load affects less than requests per second. Used by
docs/decisions/0002; run it as ``python -m benchmarks.plain_asgi``.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from raincheck import App
from raincheck.engine.documents import encode, job_document, raw
from raincheck.engine.requests import decode_job
from raincheck.server import Server
from raincheck.server.http_protocol import Protocol

SECONDS = 4
ROUNDS = 5
CONNECTIONS = 32
POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"name": "one", "functions": [{"name": "add", "args": [1, 2]}]}'
"""


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Return the body of the request."""
    body = (await receive()).get("body") or b"{}" if scope["type"] == "http" else b""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def classes(app: App) -> Any:
    """The two endpoints with the classes of Starlette."""

    async def create(request: Request) -> Response:
        job = decode_job(await request.body())
        engine = app.engine
        draft = engine.validator.draft(job.name, job.functions, job, engine.store.now())
        stored = await engine.jobs.submit(draft)
        await app.engine.workers.refresh()
        content = encode(job_document(stored, app.engine.workers.warning, raw))
        return Response(content, 202, {"location": f"/v1/job/{draft.id}"}, "application/json")

    async def find(request: Request) -> Response:
        stored = await app.engine.jobs.find(request.path_params["id"])
        await app.engine.workers.refresh()
        content = encode(job_document(stored, app.engine.workers.warning, raw))
        return Response(content, 200, media_type="application/json")

    return Starlette(
        routes=[
            Route("/v1/job", create, methods=["POST"]),
            Route("/v1/job/{id}", find),
        ]
    )


async def serve(variant: str, folder: str) -> None:
    """Serve a variant on a free port; print the port and the path of a job."""
    app = App(f"sqlite:///{folder}/jobs.db")

    @app.function
    def add(*numbers: int) -> int:
        return sum(numbers)

    async with app:
        job = await app.submit("one", [add.step(1, 2)])
        application: Any = {"bare": bare, "classes": classes(app)}.get(variant) or Server(app.engine)
        config = uvicorn.Config(
            application,
            port=0,
            http=Protocol,
            log_level="critical",
            access_log=False,
            lifespan="off",
            proxy_headers=False,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], f"/v1/job/{job.id}", flush=True)
        await serving


def measure(variant: str, call: str) -> tuple[float, float]:
    """Microseconds of CPU per request, and requests per second."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        script.write_text(POST)
        command = [sys.executable, "-m", "benchmarks.plain_asgi", variant, folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port, path = server.stdout.readline().split()
            options = ["-s", str(script)] if call == "POST" else []
            url = f"http://127.0.0.1:{port}" + ("/v1/job" if call == "POST" else path)
            used_before = cpu(server.pid)
            wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", *options, url]
            output = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
            used = cpu(server.pid) - used_before
            server.terminate()
    match = re.search(r"(\d+) requests in ([\d.]+)s", output)
    assert match is not None, output
    assert "Non-2xx" not in output, output
    return used / int(match[1]) * 1e6, int(match[1]) / float(match[2])


def cpu(pid: int) -> float:
    """The CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    """Measure all variants in turn, and print the medians."""
    variants = ("bare", "plain", "classes")
    for call in ("GET", "POST"):
        runs = [{variant: measure(variant, call) for variant in variants} for _ in range(ROUNDS)]
        for variant in variants:
            used, rate = (statistics.median(run[variant][i] for run in runs) for i in (0, 1))
            print(f"{call:5} {variant:8} {used:7.1f} µs CPU per request {rate:9.0f} requests/s", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop = __import__("uvloop")
        uvloop.run(serve(sys.argv[1], sys.argv[2]))
    else:
        main()
