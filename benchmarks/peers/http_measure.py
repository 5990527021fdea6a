"""Measures over HTTP: submit, run, read. Each system has one server process and one worker.

*POST to result*: one caller, an idle worker, ``Prefer: wait``. *GET* reads a done job. *POST*: 32 connections
and no worker; each job is durable, or in the queue, before the response. Peers are behind a short FastAPI app
(``http/``) on uvicorn. *FastAPI echo* stores nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.figures import Check, Measure, Readings, Row, at_least, at_most, ratio_to
from benchmarks.load import Caller, put_on
from benchmarks.measures.latency import over_http
from benchmarks.peers import drive
from benchmarks.peers.peer_bench import PeerBench, python
from benchmarks.peers.roster import RAINCHECK, Peer
from benchmarks.processes import ChildError
from benchmarks.serve import free_port, is_ready, server_command

BODY = json.dumps({"name": "bench", "functions": [{"name": "nothing"}]})
BEHIND_FASTAPI = ("celery", "taskiq", "arq")
LEAST = {"post": {"celery": 10.0, "arq": 5.0, "echo": 2.0}, "get": {"arq": 4.0}}
TITLES = {"post": "POST /v1/job", "get": "GET /v1/job/{id}, done", "p50": "POST to result, idle, p50"}
UNITS = {"post": "req/s", "get": "req/s", "p50": "ms"}
ECHO = "echo"
TIMEOUT = 20.0
"""Seconds that a server has to become ready."""


def measure(bench: PeerBench) -> Measure:
    """The measure, with its rows ordered by request."""
    systems = [peer for peer in bench.peers if peer.key in (RAINCHECK.key, *BEHIND_FASTAPI)]
    return Measure("http", "HTTP, one server process", tuple(_rows(systems)), lambda _: _run(bench, systems))


def _rows(systems: list[Peer]) -> Iterator[Row]:
    for what, title in TITLES.items():
        for peer in systems:
            behind = "" if peer.key == RAINCHECK.key else "FastAPI + "
            checks = () if behind else tuple(_checks(what, systems))
            yield Row(f"{peer.key}_{what}", f"{title}: {behind}{peer.name}", UNITS[what], checks)
        if what != "p50":
            yield Row(f"{ECHO}_{what}", f"{title}: FastAPI echo, bare", UNITS[what])


def _checks(what: str, systems: list[Peer]) -> Iterator[Check]:
    if what == "p50":
        yield at_most(2.0)
    least = LEAST.get(what, {})
    others = [peer.key for peer in systems if peer.key != RAINCHECK.key]
    for key in (*others, *(() if what == "p50" else (ECHO,))):
        yield at_least(least[key], f"{key}_{what}") if key in least else ratio_to(f"{key}_{what}")


def _run(bench: PeerBench, systems: list[Peer]) -> Readings:
    readings = {peer.key: _of(bench, peer) for peer in systems}
    readings[ECHO] = _of_echo(bench)
    return {f"{key}_{what}": figure for key, figures in readings.items() for what, figure in figures.items()}


def _of(bench: PeerBench, peer: Peer) -> Readings:
    print(f"  {peer.name}: HTTP", file=sys.stderr, flush=True)
    try:
        return _measured(bench, peer)
    except ChildError as error:
        bench.problems.append(f"{peer.name}, HTTP: {error}")
        return {}


def _measured(bench: PeerBench, peer: Peer) -> Readings:
    env, port = bench.env(peer), free_port()
    worker: list[str] = bench.call_drive(peer, drive.prepare)
    if peer.key == RAINCHECK.key:
        command = server_command(env["BENCH_URL"], port)
    else:
        app = f"benchmarks.peers.http.{peer.key}:app"
        command = [python(peer.venv), "-m", "uvicorn", app, "--port", str(port)]
        command += ["--log-level", "warning", "--no-access-log"]
    with _serving(bench, command, port, env) as url:
        with bench.start(worker, **env):
            took = bench.call(over_http, url=url, calls=peer.calls)
            job = asyncio.run(_done(url))
            got = put_on(bench, f"{url}/{job}", bench.seconds(3.0))
        return {"p50": median(took) * 1000, "get": got.rate, "post": _post(bench, url)}


def _of_echo(bench: PeerBench) -> Readings:
    port = free_port()
    command = [python("peers"), "-m", "benchmarks.programs.echo", "fastapi", str(port)]
    with _serving(bench, command, port, {}) as url:
        posted = _post(bench, url)
        return {"post": posted, "get": put_on(bench, f"{url}/any", bench.seconds(3.0)).rate}


@contextmanager
def _serving(bench: PeerBench, command: list[str], port: int, env: dict[str, str]) -> Iterator[str]:
    """Run a server; yields the URL of its jobs."""
    with bench.start(command, **env) as child:
        child.until(lambda: is_ready(port), TIMEOUT)
        yield f"http://127.0.0.1:{port}/v1/job"


def _post(bench: PeerBench, url: str) -> float:
    put_on(bench, url, bench.seconds(1.0), BODY.encode())  # to warm up
    return put_on(bench, url, bench.seconds(4.0), BODY.encode()).rate


async def _done(url: str) -> str:
    async with Caller(url, BODY, Prefer="wait=10") as post:
        job: dict[str, str] = json.loads(await post())
        return job["id"]
