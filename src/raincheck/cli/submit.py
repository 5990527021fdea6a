"""Commands that submit a job: submit, call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number
from msgspec import Raw

from raincheck.cli.exit_codes import Exit, UsageError, code_of_job
from raincheck.cli.job_view import format_problem
from raincheck.cli.jobs import command, show_job
from raincheck.cli.options import DEFAULT_CONNECTION, Connection
from raincheck.cli.terminal import json_text, note, out, print_json
from raincheck.cli.watching import wait as wait_for
from raincheck.cli.watching import warn_if_no_worker
from raincheck.client import Client, JobHandle
from raincheck.client.requests import function_path
from raincheck.client.responses import CallResponse
from raincheck.core.clock import monotonic
from raincheck.core.errors import JobFailed
from raincheck.core.model import State
from raincheck.engine.documents import JobDocument

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
        job = wait_for(client, job.id, wait)
    show_job(job, connection)
    if not job.ended:
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
        Positional arguments, as JSON or else as text. After --, they can begin with a dash.
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
        warn_if_no_worker(job.document)
        _print_id(job, connection)
        return Exit.OK if no_wait else Exit.UNFINISHED


def _call(client: Client, name: str, args: list[Raw], kwargs: dict[str, Raw], wait: float | None) -> bytes:
    """Call a function and wait; returns the body of the last response, a result or a job."""
    started_at = monotonic()
    path: str
    body: object
    if args and kwargs:  # POST /v1/function takes only one of them
        path, wait = "/v1/job", DEFAULT_WAIT if wait is None else wait
        body = {"name": name, "functions": [{"name": name, "args": args, "kwargs": kwargs}]}
    else:
        path, body = function_path(name), kwargs or args
    try:
        reply = client.request("POST", path, msgspec.json.encode(body), wait=wait)
    except JobFailed as error:
        return client.status(error.job_id).raw
    response = reply.read(CallResponse)
    left = (wait or 0.0) - (monotonic() - started_at)
    return reply.body if response.state.ended or left <= 0 else wait_for(client, response.id, left).raw


def _print_outcome(body: bytes, response: CallResponse, connection: Connection) -> int:
    """Print the result or the error of an ended call; returns the exit code."""
    if connection.json:
        print_json(body)
    elif response.state is State.DONE:
        out.print(json_text(bytes(response.result)), soft_wrap=True)
    else:
        error = msgspec.json.decode(body, type=JobDocument).error
        note(format_problem(error) if error else f"job {response.id} was {response.state}", "Error", "red")
    return code_of_job(response.state)


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
