"""The whole journey over HTTP: submit, work, ask. One server process and one worker for each.

*POST to result*: one caller, an idle worker, ``Prefer: wait``. *GET* of a job that is done. *POST*: 32
connections and no worker, each job durable, or in the queue, before it is answered. Peers are behind a
FastAPI app of a few lines (``http/``) on uvicorn. *FastAPI echo* stores nothing.
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
from benchmarks.peers.place import Place, python
from benchmarks.peers.roster import RAINCHECK, Peer
from benchmarks.processes import ChildError
from benchmarks.serve import free_port, is_ready, server_command

BODY = json.dumps({"name": "bench", "functions": [{"name": "nothing"}]})
BEHIND_FASTAPI = ("celery", "taskiq", "arq")
LEAST = {"post": {"celery": 10.0, "arq": 5.0, "echo": 2.0}, "get": {"arq": 4.0}}
TITLES = {"post": "POST /v1/job", "get": "GET /v1/job/{id}, done", "p50": "POST to result, idle, p50"}
UNITS = {"post": "req/s", "get": "req/s", "p50": "ms"}
ECHO = "echo"
PATIENCE = 20.0
"""Seconds that a server may take to be ready."""


def measure(place: Place) -> Measure:
    """Rows by what is asked, so that what is alike stands together."""
    takers = [peer for peer in place.peers if peer.key in (RAINCHECK.key, *BEHIND_FASTAPI)]
    return Measure(
        "http", "HTTP, one server process", tuple(_rows(takers)), lambda bench: _run(place, takers)
    )


def _rows(takers: list[Peer]) -> Iterator[Row]:
    for what, title in TITLES.items():
        for peer in takers:
            behind = "" if peer.key == RAINCHECK.key else "FastAPI + "
            checks = () if behind else tuple(_checks(what, takers))
            yield Row(f"{peer.key}_{what}", f"{title}: {behind}{peer.name}", UNITS[what], checks)
        if what != "p50":
            yield Row(f"{ECHO}_{what}", f"{title}: FastAPI echo, bare", UNITS[what])


def _checks(what: str, takers: list[Peer]) -> Iterator[Check]:
    if what == "p50":
        yield at_most(2.0)
    least = LEAST.get(what, {})
    others = [peer.key for peer in takers if peer.key != RAINCHECK.key]
    for key in (*others, *(() if what == "p50" else (ECHO,))):
        yield at_least(least[key], f"{key}_{what}") if key in least else ratio_to(f"{key}_{what}")


def _run(place: Place, takers: list[Peer]) -> Readings:
    found = {peer.key: _of(place, peer) for peer in takers}
    found[ECHO] = _of_echo(place)
    return {f"{key}_{what}": figure for key, readings in found.items() for what, figure in readings.items()}


def _of(place: Place, peer: Peer) -> Readings:
    print(f"  {peer.name}: HTTP", file=sys.stderr, flush=True)
    try:
        return _measured(place, peer)
    except ChildError as error:
        place.problems.append(f"{peer.name}, HTTP: {error}")
        return {}


def _measured(place: Place, peer: Peer) -> Readings:
    env, port = place.env(peer), free_port()
    worker: list[str] = place.ask(peer, drive.prepare)
    if peer.key == RAINCHECK.key:
        command = server_command(env["BENCH_URL"], port)
    else:
        app = f"benchmarks.peers.http.{peer.key}:app"
        command = [python(peer.venv), "-m", "uvicorn", app, "--port", str(port)]
        command += ["--log-level", "warning", "--no-access-log"]
    with _serving(place, command, port, env) as url:
        with place.start(worker, **env):
            took = place.call(over_http, url=url, calls=peer.calls)
            job = asyncio.run(_done(url))
            got = put_on(place, f"{url}/{job}", place.seconds(3.0))
        return {"p50": median(took) * 1000, "get": got.rate, "post": _post(place, url)}


def _of_echo(place: Place) -> Readings:
    port = free_port()
    command = [python("peers"), "-m", "benchmarks.programs.echo", "fastapi", str(port)]
    with _serving(place, command, port, {}) as url:
        posted = _post(place, url)
        return {"post": posted, "get": put_on(place, f"{url}/any", place.seconds(3.0)).rate}


@contextmanager
def _serving(place: Place, command: list[str], port: int, env: dict[str, str]) -> Iterator[str]:
    """A server while the block runs; where its jobs are."""
    with place.start(command, **env) as child:
        child.until(lambda: is_ready(port), PATIENCE)
        yield f"http://127.0.0.1:{port}/v1/job"


def _post(place: Place, url: str) -> float:
    put_on(place, url, place.seconds(1.0), BODY.encode())  # to warm up
    return put_on(place, url, place.seconds(4.0), BODY.encode()).rate


async def _done(url: str) -> str:
    async with Caller(url, BODY, Prefer="wait=10") as post:
        job: dict[str, str] = json.loads(await post())
        return job["id"]
