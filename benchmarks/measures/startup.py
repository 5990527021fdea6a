"""Start-up: milliseconds from the start of a process to its exit or to its first 200 response.

Each run has the median of several starts with compiled modules, after one start to warm up. *Ready*: until
``GET /readyz`` returns 200.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from statistics import median

from benchmarks.bench import Bench, raincheck
from benchmarks.figures import Measure, Readings, Row, at_most
from benchmarks.processes import ROOT, environment
from benchmarks.serve import free_port, is_ready, server_command

TIMES = 10


def run(bench: Bench) -> Readings:
    """Start each command several times."""
    times = bench.size(TIMES)
    return {
        "python": _exits(times, [sys.executable, "-c", "pass"]),
        "import": _exits(times, [sys.executable, "-c", "import raincheck"]),
        "app": _exits(times, [sys.executable, "-c", "from raincheck import App; App()"]),
        "worker": _exits(times, [sys.executable, "-c", "from raincheck import App, Worker"]),
        "help": _exits(times, raincheck("--help")),
        "version": _exits(times, raincheck("version")),
        "server": _ready(bench, times, "server"),
        "serve": _ready(bench, times, "serve"),
    }


def _exits(times: int, command: Sequence[str]) -> float:
    took = []
    env = environment({})
    for _ in range(1 + times):
        started_at = time.perf_counter()
        subprocess.run(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True
        )
        took.append(time.perf_counter() - started_at)
    return median(took[1:]) * 1000


def _ready(bench: Bench, times: int, kind: str) -> float:
    took = []
    for _ in range(1 + max(times // 2, 1)):
        port = free_port()
        started_at = time.perf_counter()
        with bench.start(server_command(bench.store(), port, kind)) as server:
            took.append(server.until(partial(is_ready, port)) - started_at)
    return median(took[1:]) * 1000


MEASURE = Measure(
    "startup",
    "Start-up",
    (
        Row("import", "python -c 'import raincheck'", "ms", (at_most(150.0),)),
        Row("app", "… from raincheck import App; App()", "ms", (at_most(150.0),)),
        Row("worker", "… from raincheck import App, Worker", "ms"),
        Row("help", "raincheck --help", "ms", (at_most(150.0),)),
        Row("version", "raincheck version", "ms"),
        Row("server", "raincheck server, ready", "ms", (at_most(500.0),)),
        Row("serve", "raincheck serve, ready", "ms", (at_most(500.0),)),
        Row("python", "python -c pass", "ms"),
    ),
    run,
)
