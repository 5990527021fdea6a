"""The command top: throughput, queues, workers and the latest failures, until q or Ctrl-C."""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number
from msgspec import Struct
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raincheck.cli.connection import DEFAULT_CONNECTION, Connection
from raincheck.cli.exit_codes import Exit
from raincheck.cli.job_view import STYLES, elapsed, format_problem, local_now
from raincheck.cli.terminal import cut, out, plain, print_json, show
from raincheck.client import Client
from raincheck.client.blocking.compat import sleep
from raincheck.core.clock import monotonic
from raincheck.core.errors import Unreachable
from raincheck.core.model import State
from raincheck.engine.documents import CountDocument, JobPage, JobSummary, WorkerDocument

ROWS = 8
"""Queues, workers and failures that are shown."""

WINDOW = 10
"""Snapshots over which the throughput is averaged."""

QUIT = "q"

_BAR_WIDTH = 10


class Snapshot(Struct, frozen=True):
    """What the server says, and when it was asked (monotonic seconds)."""

    at: float
    counts: CountDocument
    workers: list[WorkerDocument]
    failed: list[JobSummary]


def top(
    *,
    once: Annotated[bool, Parameter(show_default=False)] = False,
    interval: Annotated[float, Parameter(validator=Number(gte=0.5), metavar="SECONDS")] = 1.0,
    connection: Connection = DEFAULT_CONNECTION,
) -> int:
    """Show throughput, queues, workers and the latest failures, until q or Ctrl-C.

    Parameters
    ----------
    once
        Print them once. Without a terminal, this is the default.
    interval
        Seconds between two updates; each takes three requests.
    """
    with connection.client() as client:
        if connection.json:
            print_json(msgspec.json.encode(_read(client)))
        elif once or not out.is_terminal:
            first = _read(client)
            sleep(interval)
            show(render([first, _read(client)], connection.url))
        else:
            return _watch(client, interval, connection.url)
    return Exit.OK


def _read(client: Client) -> Snapshot:
    def get(path: str) -> bytes:
        return client.request("GET", path).body

    return Snapshot(
        monotonic(),
        msgspec.json.decode(get("/v1/count"), type=CountDocument),
        msgspec.json.decode(get("/v1/worker"), type=list[WorkerDocument]),
        msgspec.json.decode(get(f"/v1/job?state=failed&limit={ROWS}"), type=JobPage).jobs,
    )


def _watch(client: Client, interval: float, url: str) -> int:
    """Refresh the screen until q or Ctrl-C. If the server does not respond, try again."""
    snapshots = deque([_read(client)], WINDOW)
    problem = ""
    try:
        with Live(console=out, screen=True, auto_refresh=False) as live, _keys() as pressed:
            while True:
                live.update(render(snapshots, url, problem), refresh=True)
                if pressed(interval).lower() == QUIT:
                    return Exit.OK
                try:
                    snapshots.append(_read(client))
                    problem = ""
                except Unreachable as error:
                    problem = str(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits some seconds for a key, and returns it without showing it; empty: none came."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield _pause
        return
    import termios
    import tty

    def read(seconds: float) -> str:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        if not ready:
            return ""
        try:
            return os.read(sys.stdin.fileno(), 1).decode(errors="replace") or QUIT
        except OSError:  # the terminal was closed: it would be ready again at once, for ever
            return QUIT

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield read
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pause(seconds: float) -> str:
    sleep(seconds)
    return ""


def render(snapshots: Sequence[Snapshot], url: str, problem: str = "") -> RenderableType:
    """The latest snapshot, with the throughput since the first one."""
    first, last = snapshots[0], snapshots[-1]
    parts: list[RenderableType] = [_heading(first, last, url)]
    if problem:
        parts.append(Text(plain(problem), "yellow"))
    for title, table in (
        ("QUEUES", _queues(last)),
        ("WORKERS", _workers(last)),
        ("LATEST FAILURES", _failures(last)),
    ):
        parts += [Text(), Text(title, "dim"), table]
    return Group(*parts)


def _heading(first: Snapshot, last: Snapshot, url: str) -> Text:
    text = Text.assemble((f"{local_now():%H:%M:%S}", "bold"), f"  {plain(url)}\n")
    for state, word in ((State.DONE, "done/s"), (State.FAILED, "failed/s")):
        text.append(f"{_rate(first, last, state)} {word}   ", STYLES[state])
    text.append(f"{last.counts.running} running, {sum(last.counts.queued.values())} queued\n")
    for state, jobs in last.counts.jobs.items():
        text.append(f"{state} {jobs}   ", STYLES[state] if jobs else "dim")
    text.rstrip()
    return text


def _rate(first: Snapshot, last: Snapshot, state: State) -> str:
    """How many jobs reached a state per second. Jobs that were removed meanwhile are not counted."""
    seconds = last.at - first.at
    if not seconds:
        return "-"
    return f"{max(last.counts.jobs[state] - first.counts.jobs[state], 0) / seconds:.1f}"


def _grid(columns: int) -> Table:
    """A table whose last column shrinks on a narrow terminal."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(columns - 1):
        table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def _queues(snapshot: Snapshot) -> RenderableType:
    """The longest queues, with how many workers offer the function."""
    queues = sorted(snapshot.counts.queued.items(), key=lambda queue: (-queue[1], queue[0]))
    table = _grid(3)
    for name, steps in queues[:ROWS]:
        offered = sum(name in worker.functions for worker in snapshot.workers)
        workers = Text(f"{offered} workers" if offered != 1 else "1 worker", "" if offered else "yellow")
        table.add_row(Text(str(steps), justify="right"), cut(name, 60), workers)
    return _or_none(table, len(queues))


def _workers(snapshot: Snapshot) -> RenderableType:
    """The busiest workers."""
    workers = sorted(snapshot.workers, key=lambda worker: (-worker.running, worker.id))
    table = _grid(4)
    for worker in workers[:ROWS]:
        bar = ProgressBar(max(worker.concurrency, 1), worker.running, width=_BAR_WIDTH)
        style = "green" if worker.state == "active" else "yellow"
        running = f"{worker.running} of {worker.concurrency}"
        table.add_row(bar, running, Text(plain(worker.state), style), cut(worker.id, 60))
    return _or_none(table, len(workers))


def _failures(snapshot: Snapshot) -> RenderableType:
    """The latest failed jobs."""
    now = local_now()
    table = _grid(3)
    for job in snapshot.failed:
        error = "" if job.error is None else format_problem(job.error)
        table.add_row(elapsed(job.finished_at, now), cut(job.name, 30), Text(cut(error, 200), "red"))
    return _or_none(table, len(snapshot.failed))


def _or_none(table: Table, rows: int) -> RenderableType:
    """The table, and how many rows it does not show."""
    if not rows:
        return Text("none", "dim")
    return Group(table, Text(f"and {rows - ROWS} more", "dim")) if rows > ROWS else table
