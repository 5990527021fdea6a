"""Commands about one job that is there: status, watch, cancel, retry."""

from __future__ import annotations

import os

import msgspec
from rich.text import Text

from raincheck.cli.exits import Exit, code_of_job
from raincheck.cli.follow import follow, here_and_now, looks
from raincheck.cli.options import DEFAULT_URL, HERE, Connection
from raincheck.cli.terminal import json_text, note, out, print_json, print_json_line, show
from raincheck.cli.views import heading, job_view
from raincheck.client import Client, JobHandle


def status(id: str, /, *, connection: Connection = HERE) -> int:  # noqa: A002 - what it is called
    """Show a job as it is now.

    Parameters
    ----------
    id
        The job's id.
    """
    with connection.client() as client:
        job = client.status(id)
    show_job(job, connection)
    return code_of_job(job.state) if job.ended else Exit.OK


def watch(id: str, /, *, connection: Connection = HERE) -> int:  # noqa: A002 - what it is called
    """Follow a job live until it ends.

    Parameters
    ----------
    id
        The job's id.
    """
    with connection.client() as client:
        return watch_job(client, id, connection)


def cancel(id: str, /, *, connection: Connection = HERE) -> int:  # noqa: A002 - what it is called
    """Stop a job.

    Parameters
    ----------
    id
        The job's id.
    """
    with connection.client() as client:
        return _tell(client.cancel(id), connection)


def retry(id: str, /, *, connection: Connection = HERE) -> int:  # noqa: A002 - what it is called
    """Let a failed or cancelled job go on where it ended.

    Parameters
    ----------
    id
        The job's id.
    """
    with connection.client() as client:
        return _tell(client.retry(id), connection)


def _tell(job: JobHandle, connection: Connection) -> int:
    if connection.json:
        print_json(job.raw)
    else:
        out.print(heading(job.document, here_and_now()))
    return Exit.OK


def watch_job(client: Client, job_id: str, connection: Connection) -> int:
    """Follow a job until it ends; the exit code it leads to."""
    seen = looks(client, job_id)
    try:
        if connection.json:
            for job in seen:
                print_json_line(job.raw)
            return code_of_job(job.state)
        return code_of_job(follow(seen).state)
    except KeyboardInterrupt:
        note(f"The job goes on. To stop it: {command('cancel', job_id, connection)}")
        return Exit.INTERRUPTED


def show_job(handle: JobHandle, connection: Connection) -> None:
    """Print a job, and its result or data if it has any."""
    if connection.json:
        print_json(handle.raw)
        return
    job = handle.document
    show(job_view(job, here_and_now()))
    for label, value in (("Data", job.data or None), ("Result", job.result)):
        if value is not None:
            out.print(Text(f"{label}:", "dim"), json_text(msgspec.json.encode(value)), soft_wrap=True)


def command(name: str, job_id: str, connection: Connection) -> str:
    """The command to do something about a job, as the user would type it."""
    where = (
        "" if connection.url == os.environ.get("RAINCHECK_URL", DEFAULT_URL) else f" --url {connection.url}"
    )
    return f"raincheck {name} {job_id}{where}"
