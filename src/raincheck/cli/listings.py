"""Commands that list: jobs, functions, workers, counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table
from rich.text import Text

from raincheck.cli.connection import DEFAULT_CONNECTION, Connection
from raincheck.cli.exit_codes import Exit
from raincheck.cli.job_view import (
    STYLES,
    elapsed,
    format_problem,
    format_state,
    function_names,
    local_now,
)
from raincheck.cli.matching import EVERY_JOB, Matching
from raincheck.cli.terminal import cut, new_table, note, plain, print_json, show
from raincheck.client.requests import list_request
from raincheck.engine.documents import CountDocument, FunctionSummary, JobPage, JobSummary, WorkerDocument
from raincheck.engine.filters import Order


def jobs(
    *,
    matching: Matching = EVERY_JOB,
    sort: Order = "newest",
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    cursor: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    connection: Connection = DEFAULT_CONNECTION,
) -> int:
    """List jobs, newest first.

    Parameters
    ----------
    sort
        Which jobs come first: the newest or the oldest.
    limit
        Maximum number of jobs.
    cursor
        Continue a listing at the cursor that it printed.
    """
    with connection.client() as client:
        request = list_request(matching.filter, sort, cursor, limit)
        reply = client.request("GET", request.path, params=request.params)
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    page = reply.read(JobPage)
    print_table(job_table(page.jobs), "No jobs")
    if page.cursor is not None:
        note(f"For the next page: --cursor {page.cursor}")
    return Exit.OK


def job_table(jobs: Sequence[JobSummary]) -> Table:
    """A table of jobs; it has a column for errors if a job has one."""
    now = local_now()
    has_errors = any(job.error is not None for job in jobs)
    rows = new_table("ID", "NAME", "STATE", "AGE", "FUNCTIONS", *["ERROR"] * has_errors)
    for job in jobs:
        error = "" if job.error is None else cut(format_problem(job.error), 100)
        rows.add_row(
            plain(job.id),
            cut(job.name, 40),
            Text(format_state(job), STYLES[job.state]),
            elapsed(job.created_at, now),
            cut(function_names(job), 80),
            *[Text(error, "red")] * has_errors,
        )
    return rows


def functions(*, connection: Connection = DEFAULT_CONNECTION) -> int:
    """List functions."""
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
    print_table(rows, "No functions")
    return Exit.OK


def workers(*, connection: Connection = DEFAULT_CONNECTION) -> int:
    """List workers."""
    with connection.client() as client:
        reply = client.request("GET", "/v1/worker")
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    now = local_now()
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
    print_table(rows, "No workers")
    return Exit.OK


def counts(*, connection: Connection = DEFAULT_CONNECTION) -> int:
    """Count jobs by state, and queued steps by function."""
    with connection.client() as client:
        reply = client.request("GET", "/v1/count")
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    document = reply.read(CountDocument)
    states = new_table("STATE", "JOBS")
    for state, jobs in document.jobs.items():
        states.add_row(Text(state, STYLES[state]), str(jobs))
    show(states)
    if document.queued:
        queued = new_table("FUNCTION", "QUEUED")
        for name, steps in document.queued.items():
            queued.add_row(plain(name), str(steps))
        show(Text(), queued)
    return Exit.OK


def _signature(summary: FunctionSummary) -> str:
    """The parameters of a function; optional ones are in brackets."""
    required = summary.parameters.get("required", [])
    properties: dict[str, Any] = summary.parameters.get("properties", {})
    return " ".join(name if name in required else f"[{name}]" for name in properties)


def print_table(rows: Table, if_empty: str) -> None:
    """Print a table on stdout. If it has no rows, print the message ``if_empty`` on stderr."""
    if rows.row_count:
        show(rows)
    else:
        note(if_empty)
