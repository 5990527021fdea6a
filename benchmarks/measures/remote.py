"""Workers over HTTP: jobs per second that one ``raincheck worker --server`` finishes from a full queue.

The share of what one ``raincheck worker`` with the store finishes; both have their default settings. *No-op*
functions show the cost of the protocol. Functions that wait for ten milliseconds are nearer to real ones; a
worker cannot run more than 10,000 of them per second. The server is one ``raincheck server`` process on the
same machine, and shares its cores. CPU is that of the worker, per job.
"""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.drain import drain, fill
from benchmarks.figures import Measure, Readings, Row, ratio_to
from benchmarks.programs.functions import nothing, ten_milliseconds
from benchmarks.serve import free_port, server_command, serving


def run(bench: Bench) -> Readings:
    """Drain the same number of jobs with each kind of worker."""
    jobs = bench.size(20_000)
    store, store_cpu = _with_store(bench, jobs, nothing.name)
    server, server_cpu = _with_server(bench, jobs, nothing.name)
    return {
        "store": store,
        "server": server,
        "store_cpu": store_cpu,
        "server_cpu": server_cpu,
        "store_10": _with_store(bench, jobs, ten_milliseconds.name)[0],
        "server_10": _with_server(bench, jobs, ten_milliseconds.name)[0],
    }


def _with_store(bench: Bench, jobs: int, function: str) -> tuple[float, float]:
    """Jobs per second, and microseconds of CPU per job."""
    url = bench.store()
    bench.call(fill, url=url, jobs=jobs, function=function)
    return _rate(jobs, *drain(bench, url, jobs))


def _with_server(bench: Bench, jobs: int, function: str) -> tuple[float, float]:
    url, port = bench.store(), free_port()
    bench.call(fill, url=url, jobs=jobs, function=function)
    with serving(bench, server_command(url, port), port):
        return _rate(jobs, *drain(bench, url, jobs, server=f"http://127.0.0.1:{port}"))


def _rate(jobs: int, seconds: float, costs: dict[str, float]) -> tuple[float, float]:
    return jobs / seconds, costs["process"] / jobs * 1e6


MEASURE = Measure(
    "remote",
    "Workers over HTTP",
    (
        Row("server", "worker of a server, no-op functions", "jobs/s", (ratio_to("store"),)),
        Row("store", "worker with the store, no-op functions", "jobs/s"),
        Row("server_10", "worker of a server, functions of 10 ms", "jobs/s", (ratio_to("store_10"),)),
        Row("store_10", "worker with the store, functions of 10 ms", "jobs/s"),
        Row("server_cpu", "CPU of the worker of a server", "µs", (ratio_to("store_cpu"),)),
        Row("store_cpu", "CPU of the worker with the store", "µs"),
    ),
    run,
)
