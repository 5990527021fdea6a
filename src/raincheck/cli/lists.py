"""Commands that list: jobs, functions, workers, counts."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table
from rich.text import Text

from raincheck.cli.exits import Exit
from raincheck.cli.follow import here_and_now
from raincheck.cli.options import HERE, Connection
from raincheck.cli.terminal import cut, new_table, note, plain, print_json, show
from raincheck.cli.views import STYLES, elapsed, state_of, steps_of
from raincheck.engine.documents import CountDocument, FunctionSummary, JobPage, WorkerDocument
from raincheck.model import State


def jobs(
    *,
    state: State | None = None,
    name: str | None = None,
    function: str | None = None,
    group: str | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    cursor: str | None = None,
    connection: Connection = HERE,
) -> int:
    """List jobs, newest first.

    Parameters
    ----------
    state
        Only jobs in this state.
    name
        Only jobs of this name.
    function
        Only jobs with this function.
    group
        Only runs of this group, and their jobs.
    limit
        How many at most.
    cursor
        Go on where a listing ended, which printed this.
    """
    which = {"state": state, "name": name, "function": function, "group": group}
    asked = {**which, "limit": limit, "cursor": cursor}
    with connection.client() as client:
        reply = client.request(
            "GET", "/v1/job", params={key: value for key, value in asked.items() if value is not None}
        )
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    page, now = reply.read(JobPage), here_and_now()
    rows = new_table("ID", "NAME", "STATE", "AGE", "FUNCTIONS")
    for job in page.jobs:
        rows.add_row(
            plain(job.id),
            cut(job.name, 40),
            Text(state_of(job), STYLES[job.state]),
            elapsed(job.created_at, now),
            cut(" ".join(step.name for step in steps_of(job)), 80),
        )
    print_table(rows, "no jobs")
    if page.cursor is not None:
        note(f"There are more: --cursor {page.cursor}")
    return Exit.OK


def functions(*, connection: Connection = HERE) -> int:
    """List the functions that can be called."""
    with connection.client() as client:
        reply = client.request("GET", "/v1/function")
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    rows = new_table("NAME", "ARGUMENTS", "WORKERS", "QUEUED", "ABOUT")
    for summary in reply.read(list[FunctionSummary]):
        rows.add_row(
            plain(summary.name),
            cut(_signature(summary), 60),
            Text(str(len(summary.workers)), "" if summary.workers else "yellow"),
            str(summary.queued),
            cut(summary.doc.split("\n\n")[0], 100),
        )
    print_table(rows, "no functions")
    return Exit.OK


def workers(*, connection: Connection = HERE) -> int:
    """List the workers."""
    with connection.client() as client:
        reply = client.request("GET", "/v1/worker")
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    now = here_and_now()
    rows = new_table("ID", "STATE", "RUNNING", "SINCE", "SEEN", "VERSION", "FUNCTIONS")
    for worker in reply.read(list[WorkerDocument]):
        rows.add_row(
            plain(worker.id),
            Text(plain(worker.state), "green" if worker.state == "active" else "yellow"),
            f"{worker.running} of {worker.concurrency}"
            + (f", {worker.abandoned} abandoned" if worker.abandoned else ""),
            elapsed(worker.started_at, now),
            f"{elapsed(worker.seen_at, now)} ago",
            plain(worker.version),
            cut(" ".join(worker.functions), 80),
        )
    print_table(rows, "no workers")
    return Exit.OK


def counts(*, connection: Connection = HERE) -> int:
    """Count the jobs by state, and what waits by function."""
    with connection.client() as client:
        reply = client.request("GET", "/v1/count")
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    counted = reply.read(CountDocument)
    states = new_table("STATE", "JOBS")
    for state, jobs in counted.jobs.items():
        states.add_row(Text(state, STYLES[state]), str(jobs))
    show(states)
    if counted.queued:
        queued = new_table("FUNCTION", "QUEUED")
        for name, steps in counted.queued.items():
            queued.add_row(plain(name), str(steps))
        show(Text(), queued)
    return Exit.OK


def _signature(summary: FunctionSummary) -> str:
    """The arguments of a function: those that may be left out in brackets."""
    required = summary.parameters.get("required", [])
    properties: dict[str, Any] = summary.parameters.get("properties", {})
    return " ".join(name if name in required else f"[{name}]" for name in properties)


def print_table(rows: Table, nothing: str) -> None:
    """Print a table; if it is empty, say so beside stdout."""
    if rows.row_count:
        show(rows)
    else:
        note(nothing)
