"""Commands that make a job: submit, call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number
from msgspec import Raw

from raincheck.cli.exits import Exit, UsageError, code_of_job
from raincheck.cli.follow import wait as wait_for
from raincheck.cli.follow import warn_if_waiting
from raincheck.cli.jobs import command, show_job
from raincheck.cli.options import HERE, Connection
from raincheck.cli.terminal import json_text, note, out, print_json
from raincheck.cli.views import blame
from raincheck.client import Client, JobHandle
from raincheck.client.answers import Called
from raincheck.client.requests import function_path
from raincheck.clock import monotonic
from raincheck.engine.documents import JobDocument
from raincheck.errors import JobFailed
from raincheck.model import State

Wait = Annotated[float | None, Parameter(validator=Number(gte=0), metavar="[SECONDS]")]

DEFAULT_WAIT = 5.0
"""Seconds that a call waits which had to be sent as a job."""


def submit(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    wait: Wait = None,
    connection: Connection = HERE,
) -> int:
    """Submit a job, and print its id.

    Parameters
    ----------
    file
        The job as JSON, as POST /v1/job takes it; - for stdin.
    wait
        Wait until the job has ended, or for this many seconds, and print the job.
    """
    document = _read(file)
    with connection.client() as client:
        job = JobHandle(client, client.request("POST", "/v1/job", document).body)
        warn_if_waiting(job.document)
        if wait is None:
            _hand_over(job, connection)
            return Exit.OK
        job = wait_for(client, job.id, wait)
    show_job(job, connection)
    if not job.ended:
        note(f"Not finished. To follow it: {command('watch', job.id, connection)}")
    return code_of_job(job.state)


def call(
    name: str,
    /,
    *arguments: str,
    kw: Annotated[tuple[str, ...], Parameter(show_default=False, metavar="NAME=VALUE")] = (),
    wait: Wait = None,
    no_wait: Annotated[bool, Parameter(show_default=False)] = False,
    connection: Connection = HERE,
) -> int:
    """Call a function, and print its result.

    Parameters
    ----------
    name
        The function's name.
    arguments
        Its arguments by position: JSON, else taken as text. After -- they may begin with a dash.
    kw
        An argument by name; again for another.
    wait
        Wait for this many seconds, or without a number to the end, whatever the function says.
    no_wait
        Do not wait for the result.
    """
    if no_wait and wait is not None:
        raise UsageError("--wait and --no-wait exclude each other")
    args, kwargs = [_json(argument) for argument in arguments], dict(map(_named, kw))
    with connection.client() as client:
        answer = _call(client, name, args, kwargs, 0.0 if no_wait else wait)
        called = msgspec.json.decode(answer, type=Called)
        if called.state.ended:
            return _tell_end(answer, called, connection)
        job = JobHandle(client, answer)
        warn_if_waiting(job.document)
        _hand_over(job, connection)
        return Exit.OK if no_wait else Exit.UNFINISHED


def _call(client: Client, name: str, args: list[Raw], kwargs: dict[str, Raw], wait: float | None) -> bytes:
    """Call, and wait as long as was asked for; the last answer, which is a result or a job."""
    begun = monotonic()
    path: str
    body: object
    if args and kwargs:  # a call takes either, a job takes both
        path, wait = "/v1/job", DEFAULT_WAIT if wait is None else wait
        body = {"name": name, "functions": [{"name": name, "args": args, "kwargs": kwargs}]}
    else:
        path, body = function_path(name), kwargs or args
    try:
        reply = client.request("POST", path, msgspec.json.encode(body), wait=wait)
    except JobFailed as error:
        return client.status(error.job_id).raw
    called = reply.read(Called)
    left = (wait or 0.0) - (monotonic() - begun)
    return reply.body if called.state.ended or left <= 0 else wait_for(client, called.id, left).raw


def _tell_end(answer: bytes, called: Called, connection: Connection) -> int:
    """Print the result, or why there is none."""
    if connection.json:
        print_json(answer)
    elif called.state is State.DONE:
        out.print(json_text(bytes(called.result)), soft_wrap=True)
    else:
        error = msgspec.json.decode(answer, type=JobDocument).error
        note(blame(error) if error else f"job {called.id} was {called.state}", "Error", "red")
    return code_of_job(called.state)


def _hand_over(job: JobHandle, connection: Connection) -> None:
    """Print the id alone, for scripts, and beside it how to go on."""
    if connection.json:
        print_json(job.raw)
        return
    out.print(job.id, soft_wrap=True)
    note(f"To follow it: {command('watch', job.id, connection)}")


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _json(text: str) -> Raw:
    """An argument from the command line: JSON if it is, else the text itself."""
    try:
        return msgspec.json.decode(text, type=Raw)
    except (msgspec.DecodeError, UnicodeError):
        return Raw(msgspec.json.encode(text))


def _named(text: str) -> tuple[str, Raw]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--kw takes name=value, got {text!r}")
    return name, _json(value)
