"""Commands for one job: status, watch, cancel, retry."""

from __future__ import annotations

import os

import msgspec
from rich.text import Text

from raincheck.cli.exit_codes import Exit, code_of_job
from raincheck.cli.job_view import heading, local_now, render_job
from raincheck.cli.options import DEFAULT_CONNECTION, DEFAULT_URL, Connection
from raincheck.cli.terminal import json_text, note, out, print_json, print_json_line, show
from raincheck.cli.watching import show_changes
from raincheck.cli.watching import watch as watch_changes
from raincheck.client import Client, JobHandle


def status(id: str, /, *, connection: Connection = DEFAULT_CONNECTION) -> int:  # noqa: A002 - its name in --help
    """Show a job.

    Parameters
    ----------
    id
        Id of the job.
    """
    with connection.client() as client:
        job = client.status(id)
    show_job(job, connection)
    return code_of_job(job.state) if job.ended else Exit.OK


def watch(id: str, /, *, connection: Connection = DEFAULT_CONNECTION) -> int:  # noqa: A002 - its name in --help
    """Watch a job until it ends.

    Parameters
    ----------
    id
        Id of the job.
    """
    with connection.client() as client:
        return watch_job(client, id, connection)


def cancel(id: str, /, *, connection: Connection = DEFAULT_CONNECTION) -> int:  # noqa: A002 - its name in --help
    """Cancel a job.

    Parameters
    ----------
    id
        Id of the job.
    """
    with connection.client() as client:
        return _print_heading(client.cancel(id), connection)


def retry(id: str, /, *, connection: Connection = DEFAULT_CONNECTION) -> int:  # noqa: A002 - its name in --help
    """Resume a failed or cancelled job at the step where it stopped.

    Parameters
    ----------
    id
        Id of the job.
    """
    with connection.client() as client:
        return _print_heading(client.retry(id), connection)


def _print_heading(job: JobHandle, connection: Connection) -> int:
    if connection.json:
        print_json(job.raw)
    else:
        out.print(heading(job.document, local_now()))
    return Exit.OK


def watch_job(client: Client, job_id: str, connection: Connection) -> int:
    """Watch a job until it ends; returns the exit code."""
    jobs = watch_changes(client, job_id)
    try:
        if connection.json:
            for job in jobs:
                print_json_line(job.raw)
            return code_of_job(job.state)
        return code_of_job(show_changes(jobs).state)
    except KeyboardInterrupt:
        note(f"The job continues. To cancel it: {command('cancel', job_id, connection)}")
        return Exit.INTERRUPTED


def show_job(handle: JobHandle, connection: Connection) -> None:
    """Print a job, its data and its result."""
    if connection.json:
        print_json(handle.raw)
        return
    job = handle.document
    show(render_job(job, local_now()))
    for label, value in (("Data", job.data or None), ("Result", job.result)):
        if value is not None:
            out.print(Text(f"{label}:", "dim"), json_text(msgspec.json.encode(value)), soft_wrap=True)


def command(name: str, job_id: str, connection: Connection) -> str:
    """A command line for a job on this server, to show to the user."""
    option = (
        "" if connection.url == os.environ.get("RAINCHECK_URL", DEFAULT_URL) else f" --url {connection.url}"
    )
    return f"raincheck {name} {job_id}{option}"
