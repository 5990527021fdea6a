"""Commands for jobs: submit, call, status, watch, cancel, retry, rm."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number
from msgspec import Raw
from rich.text import Text

from raincheck.cli.attempt_view import has_error, latest_failure, render_attempts, render_failure
from raincheck.cli.connection import DEFAULT_CONNECTION, DEFAULT_URL, Connection
from raincheck.cli.exit_codes import Exit, UsageError, code_of_job
from raincheck.cli.job_view import (
    format_problem,
    heading,
    local_now,
    render_job,
    show_changes,
    wait_for_end,
    warn_if_no_worker,
    watch_changes,
)
from raincheck.cli.many import CANCEL, DELETE, NO_OPTIONS, RETRY, Many, change_many, is_about_many
from raincheck.cli.matching import EVERY_JOB, Matching
from raincheck.cli.terminal import json_text, note, out, print_json, print_json_line, show
from raincheck.client import Client, JobHandle
from raincheck.client.requests import PATIENCE, function_path
from raincheck.client.responses import CallResponse
from raincheck.core.clock import monotonic
from raincheck.core.errors import JobFailed, NotFound
from raincheck.core.model import State
from raincheck.engine.documents import AttemptDocument, JobDocument

Wait = Annotated[float | None, Parameter(validator=Number(gte=0), metavar="[SECONDS]")]

DEFAULT_WAIT = 5.0
"""Seconds that a call waits if it is sent as a job."""


def submit(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    wait: Wait = None,
    connection: Connection = DEFAULT_CONNECTION,
) -> int:
    """Submit a job and print its id.

    Parameters
    ----------
    file
        File with the job in JSON, in the format of POST /v1/job; - reads stdin.
    wait
        Wait this many seconds, or without a number until the job has ended, and print the job.
    """
    document = _read(file)
    with connection.client() as client:
        job = JobHandle(client, client.request("POST", "/v1/job", document).body)
        warn_if_no_worker(job.document)
        if wait is None:
            _print_id(job, connection)
            return Exit.OK
        job = wait_for_end(client, job.id, wait)
    show_job(job, connection)
    if job.state is State.FAILED:
        _hint_at_status(job.id, connection)
    elif not job.ended:
        note(f"The job has not ended. To watch it: {command('watch', job.id, connection)}")
    return code_of_job(job.state)


def call(
    name: str,
    /,
    *arguments: str,
    kw: Annotated[tuple[str, ...], Parameter(show_default=False, metavar="NAME=VALUE")] = (),
    wait: Wait = None,
    no_wait: Annotated[bool, Parameter(show_default=False)] = False,
    connection: Connection = DEFAULT_CONNECTION,
) -> int:
    """Call a function and print its result.

    Parameters
    ----------
    name
        Name of the function.
    arguments
        Positional arguments, as JSON or else as text. After --, one that is no number can begin with a dash.
    kw
        Argument by name; repeat the option for further ones.
    wait
        Wait this many seconds, or without a number until the job has ended (default: set by the function).
    no_wait
        Print the id of the job without waiting.
    """
    if no_wait and wait is not None:
        raise UsageError("--wait and --no-wait exclude each other. Use one of them.")
    args, kwargs = [_parse_argument(argument) for argument in arguments], dict(map(_parse_named, kw))
    with connection.client() as client:
        body = _call(client, name, args, kwargs, 0.0 if no_wait else wait)
        response = msgspec.json.decode(body, type=CallResponse)
        if response.state.ended:
            return _print_outcome(body, response, connection)
        job = JobHandle(client, body)
        _print_id(job, connection)
        return Exit.OK if no_wait else Exit.UNFINISHED


def status(
    id: str,  # noqa: A002 - its name in --help
    /,
    *,
    attempts: Annotated[bool, Parameter(negative=())] = False,
    connection: Connection = DEFAULT_CONNECTION,
) -> int:
    """Show a job.

    If it failed, the traceback of its latest failure follows.

    Parameters
    ----------
    id
        Id of the job.
    attempts
        Show all attempts, with their errors and tracebacks; with --json, print them instead of the job.
    """
    with connection.client() as client:
        job = client.status(id)
        ended = _attempts(client, job, attempts, connection)
    if not (attempts and connection.json):
        show_job(job, connection)
    if attempts:
        show_attempts(ended, connection)
    elif (latest := latest_failure(ended)) is not None:
        show(render_failure(latest))
    return code_of_job(job.state) if job.ended else Exit.OK


def _attempts(
    client: Client, job: JobHandle, is_requested: bool, connection: Connection
) -> list[AttemptDocument]:
    """The attempts to show with a job."""
    if is_requested:
        return client.attempts(job.id)
    if connection.json or not has_error(job.document):
        return []
    with suppress(NotFound):  # removed meanwhile, or the server is of an older version
        return client.attempts(job.id)
    return []


def show_attempts(attempts: list[AttemptDocument], connection: Connection) -> None:
    """Print the attempts of a job."""
    if connection.json:
        print_json(msgspec.json.encode(attempts))
    elif attempts:
        show(render_attempts(attempts))


def watch(id: str, /, *, connection: Connection = DEFAULT_CONNECTION) -> int:  # noqa: A002 - its name in --help
    """Watch a job until it ends.

    Parameters
    ----------
    id
        Id of the job.
    """
    with connection.client() as client:
        return watch_job(client, id, connection)


def cancel(
    id: str | None = None,  # noqa: A002 - its name in --help
    /,
    *,
    matching: Matching = EVERY_JOB,
    many: Many = NO_OPTIONS,
    connection: Connection = DEFAULT_CONNECTION,
) -> int:
    """Cancel a job, or all unfinished jobs that match the options.

    Parameters
    ----------
    id
        Id of the job.
    """
    if is_about_many(id, matching, many) or id is None:
        return change_many(CANCEL, matching, many, connection)
    with connection.client() as client:
        return _print_heading(client.cancel(id), connection)


def retry(
    id: str | None = None,  # noqa: A002 - its name in --help
    /,
    *,
    matching: Matching = EVERY_JOB,
    many: Many = NO_OPTIONS,
    connection: Connection = DEFAULT_CONNECTION,
) -> int:
    """Resume a failed or cancelled job, or all that match the options.

    Parameters
    ----------
    id
        Id of the job.
    """
    if is_about_many(id, matching, many) or id is None:
        return change_many(RETRY, matching, many, connection)
    with connection.client() as client:
        return _print_heading(client.retry(id), connection)


def rm(
    id: str | None = None,  # noqa: A002 - its name in --help
    /,
    *,
    matching: Matching = EVERY_JOB,
    many: Many = NO_OPTIONS,
    connection: Connection = DEFAULT_CONNECTION,
) -> int:
    """Delete an ended job, or all that match the options.

    Parameters
    ----------
    id
        Id of the job.
    """
    if is_about_many(id, matching, many) or id is None:
        return change_many(DELETE, matching, many, connection)
    with connection.client() as client:
        client.forget(id)
    return Exit.OK


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
        ended = show_changes(jobs)
        if ended.state is State.FAILED and ended.group is None:
            _hint_at_status(job_id, connection)
        return code_of_job(ended.state)
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


def _call(client: Client, name: str, args: list[Raw], kwargs: dict[str, Raw], wait: float | None) -> bytes:
    """Call a function and wait; returns the body of the last response, a result or a job.

    With ``wait`` it warns after a second if no worker offers the function, else when the server responds.
    """
    started_at = monotonic()
    path: str
    body: object
    if args and kwargs:  # POST /v1/function takes only one of them
        path, wait = "/v1/job", DEFAULT_WAIT if wait is None else wait
        body = {"name": name, "functions": [{"name": name, "args": args, "kwargs": kwargs}]}
    else:
        path, body = function_path(name), kwargs or args
    first_wait = None if wait is None else min(wait, PATIENCE)
    try:
        reply = client.request("POST", path, msgspec.json.encode(body), wait=first_wait)
    except JobFailed as error:
        return client.status(error.job_id).raw
    response = reply.read(CallResponse)
    if response.state.ended:
        return reply.body
    warn_if_no_worker(JobHandle(client, reply.body).document)
    left = (wait or 0.0) - (monotonic() - started_at)
    return reply.body if left <= 0 else wait_for_end(client, response.id, left).raw


def _print_outcome(body: bytes, response: CallResponse, connection: Connection) -> int:
    """Print the result or the error of an ended call; returns the exit code."""
    if connection.json:
        print_json(body)
    elif response.state is State.DONE:
        out.print(json_text(bytes(response.result)), soft_wrap=True)
    else:
        error = msgspec.json.decode(body, type=JobDocument).error
        note(format_problem(error) if error else f"job {response.id} was {response.state}", "Error", "red")
        if response.state is State.FAILED:
            _hint_at_status(response.id, connection)
    return code_of_job(response.state)


def _hint_at_status(job_id: str, connection: Connection) -> None:
    """Print on stderr the command that says why a job failed."""
    if not connection.json:
        note(f"To see why: {command('status', job_id, connection)}")


def _print_id(job: JobHandle, connection: Connection) -> None:
    """Print the job's id on stdout, and on stderr the command that watches it."""
    if connection.json:
        print_json(job.raw)
        return
    out.print(job.id, soft_wrap=True)
    note(f"To watch it: {command('watch', job.id, connection)}")


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None


def _parse_argument(text: str) -> Raw:
    """Parse an argument of the command line: as JSON if possible, else as text."""
    try:
        return msgspec.json.decode(text, type=Raw)
    except (msgspec.DecodeError, UnicodeError):
        return Raw(msgspec.json.encode(text))


def _parse_named(text: str) -> tuple[str, Raw]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--kw requires name=value (got {text!r})")
    return name, _parse_argument(value)
