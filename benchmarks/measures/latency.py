"""Latency: milliseconds from the submit of a no-op job to its result, on an idle system.

One caller submits one job at a time, with a pause of a millisecond between jobs. *In one process*:
``await nothing.call()`` in a program that has the App and a `Worker`. *Across two*: the caller in one
process, ``raincheck worker`` in another. *Over HTTP*: ``POST /v1/job`` with ``Prefer: wait`` on an open
connection, to ``raincheck serve`` (API and worker in one process), and to ``raincheck server`` with a
``raincheck worker``.
huey: ``nothing()(blocking=True)`` with its consumer; both poll, so only a few calls are measured.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles

from benchmarks import peer
from benchmarks.bench import Bench
from benchmarks.drain import working
from benchmarks.figures import Measure, Readings, Row, at_most, ratio_to
from benchmarks.load import Caller
from benchmarks.processes import ChildError
from benchmarks.programs.functions import app, nothing
from benchmarks.serve import free_port, server_command, serving
from raincheck import Worker

PAUSE = 0.001
WARM_UP = 50


def run(bench: Bench) -> Readings:
    """Measure each way on a new store."""
    calls = bench.size(1000)
    return {
        **_readings("one", bench.call(in_one_process, url=bench.store(), calls=calls)),
        **_readings("two", _across(bench, calls)),
        **_readings("serve", _over_http(bench, calls, apart=False)),
        **_readings("server", _over_http(bench, calls, apart=True)),
        **_readings("huey", _huey(bench, bench.size(20))),
    }


def _readings(key: str, took: list[float]) -> Readings:
    cuts = quantiles(took, n=100, method="inclusive")
    return {f"{key}_p50": cuts[49] * 1000, f"{key}_p99": cuts[98] * 1000}


async def in_one_process(url: str, calls: int) -> list[float]:
    """In a child process: App and Worker on one event loop."""
    app.url = url
    async with app, Worker(app):
        return await _time(nothing.call, calls)


def _across(bench: Bench, calls: int) -> list[float]:
    url = bench.store()
    with working(bench, url) as workers:
        workers.open_gate()
        took: list[float] = bench.call(from_outside, url=url, calls=calls)
    return took


async def from_outside(url: str, calls: int) -> list[float]:
    """In a child process: the App; the worker is another process."""
    app.url = url
    async with app:
        return await _time(nothing.call, calls)


def _over_http(bench: Bench, calls: int, *, apart: bool) -> list[float]:
    url, port = bench.store(), free_port()
    with serving(bench, server_command(url, port, "server" if apart else "serve"), port):
        if not apart:
            return _post(bench, port, calls)
        with working(bench, url) as workers:
            workers.open_gate()
            return _post(bench, port, calls)


def _post(bench: Bench, port: int, calls: int) -> list[float]:
    took: list[float] = bench.call(over_http, url=f"http://127.0.0.1:{port}/v1/job", calls=calls)
    return took


async def over_http(url: str, calls: int) -> list[float]:
    """In a child process: POST a job; the response has its result."""
    body = json.dumps({"name": "bench", "functions": [{"name": nothing.name}]})
    async with Caller(url, body, Prefer="wait=10") as post:
        took = await _time(post, calls)
        if (state := json.loads(await post())["state"]) != "done":
            raise ChildError(f"the job is {state}, not done, although the request waited")
        return took


async def _time(call: Callable[[], Awaitable[object]], calls: int) -> list[float]:
    took = []
    for number in range(WARM_UP + calls):
        await asyncio.sleep(PAUSE)
        started_at = time.perf_counter()
        await call()
        if number >= WARM_UP:
            took.append(time.perf_counter() - started_at)
    return took


def _huey(bench: Bench, calls: int) -> list[float]:
    file = bench.fresh() / "huey.db"
    with peer.consuming(bench, file):
        took: list[float] = bench.call(from_huey, peer.environment(file), calls=calls)
    return took


def from_huey(calls: int) -> list[float]:
    """In a child process: enqueue, and wait for the result as huey's documentation says."""
    from benchmarks.programs.peer import nothing as task

    task()(blocking=True)
    took = []
    for _ in range(calls):
        time.sleep(PAUSE)
        started_at = time.perf_counter()
        task()(blocking=True)
        took.append(time.perf_counter() - started_at)
    return took


MEASURE = Measure(
    "latency",
    "Submit to result, idle",
    (
        Row("one_p50", "in one process, p50", "ms", (at_most(1.0), ratio_to("huey_p50"))),
        Row("one_p99", "in one process, p99", "ms", (at_most(4.0),)),
        Row("two_p50", "across two processes, p50", "ms", (ratio_to("one_p50"), ratio_to("huey_p50"))),
        Row("two_p99", "across two processes, p99", "ms"),
        Row("serve_p50", "over HTTP, raincheck serve, p50", "ms", (at_most(2.0),)),
        Row("serve_p99", "over HTTP, raincheck serve, p99", "ms"),
        Row("server_p50", "over HTTP, server + worker, p50", "ms", (at_most(2.0),)),
        Row("server_p99", "over HTTP, server + worker, p99", "ms"),
        Row("huey_p50", "huey across two processes, p50", "ms"),
        Row("huey_p99", "huey across two processes, p99", "ms"),
    ),
    run,
)
