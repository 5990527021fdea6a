"""Commands for groups: group, groups, check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
from cyclopts import Parameter
from msgspec import Raw
from rich.text import Text

from raincheck.cli.connection import DEFAULT_CONNECTION, Connection
from raincheck.cli.exit_codes import Exit, UsageError, code_of_job
from raincheck.cli.job_view import STYLES, format_problem, local_now
from raincheck.cli.jobs import command
from raincheck.cli.listings import print_table
from raincheck.cli.target import load
from raincheck.cli.terminal import cut, json_text, new_table, note, out, plain, print_json, print_json_line
from raincheck.client import Client, Reply
from raincheck.client.blocking.compat import sleep
from raincheck.core.clock import new_id, now
from raincheck.core.errors import FileFault, InvalidFile
from raincheck.core.limits import Limits
from raincheck.core.model import Schedule
from raincheck.engine.config_file import read_config
from raincheck.engine.groups.definitions import Group, groups_in
from raincheck.engine.groups.documents import GroupSummary, RunDocument
from raincheck.engine.push.definitions import PushFunctions
from raincheck.engine.schedules.definitions import schedules_in
from raincheck.engine.validation import Validator
from raincheck.functions.registry import Functions

_WAIT = 1.0
"""Seconds that a request waits for the end of a run."""

_POLL_INTERVAL = 0.15
"""Seconds between two requests for a run that is watched."""


def groups(*, connection: Connection = DEFAULT_CONNECTION) -> int:
    """List groups."""
    with connection.client() as client:
        reply = client.request("GET", "/v1/group")
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    rows = new_table("NAME", "JOBS", "THEN", "ON FAILURE", "ERRORS")
    for each in reply.read(list[GroupSummary]):
        errors = "" if each.error is None else f"{len(each.error.errors)}: {each.error.errors[0].detail}"
        rows.add_row(
            plain(each.name),
            str(each.jobs),
            cut(" ".join(each.then), 60),
            each.on_failure or "",
            Text(cut(errors, 100), "red"),
        )
    print_table(rows, "No groups")
    return Exit.OK


def group(
    name: str,
    /,
    *,
    data: Annotated[str | None, Parameter(metavar="JSON")] = None,
    args: Annotated[str | None, Parameter(metavar="JSON")] = None,
    watch: Annotated[bool, Parameter(show_default=False)] = False,
    connection: Connection = DEFAULT_CONNECTION,
) -> int:
    """Trigger a group and print the id of its run.

    Parameters
    ----------
    name
        Name of the group.
    data
        JSON object merged over every job's data.
    args
        JSON object that maps names of jobs to new arguments for their first function.
    watch
        Watch the run until it ends.
    """
    body = {
        key: _parse_object(key, text) for key, text in (("data", data), ("args", args)) if text is not None
    }
    with connection.client() as client:
        path = f"/v1/group/{quote(name, safe='')}"
        reply = client.request("POST", path, msgspec.json.encode(body), idempotency_key=new_id())
        run = reply.read(RunDocument)
        if watch:
            return _watch_run(client, run, connection)
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    out.print(run.id, soft_wrap=True)
    note(f"{sum(run.counts.values())} jobs. To watch the run: {command('watch', run.id, connection)}")
    return Exit.OK


def check(file: Path, target: str | None = None, /) -> int:
    """Check a configuration file and print its errors.

    Parameters
    ----------
    file
        The configuration file, for example raincheck.yaml.
    target
        The app that uses the file, as module:app; arguments are then checked against its functions.
    """
    app = None if target is None else load(target)
    validator = app.engine.validator if app else Validator(Functions(), Limits())
    groups: list[Group] = []
    schedules: list[Schedule] = []
    faults: list[FileFault] = []
    pushed = 0
    try:
        document = read_config(file)
        push = app.engine.push if app else PushFunctions(validator.functions, validator.limits)
        pushed = push.read(document)
        groups = list(groups_in(document, validator))
        faults = [document.locate(fault) for each in groups for fault in each.faults]
        schedules = schedules_in(document, validator, now())
    except InvalidFile as error:
        faults += error.faults
    for fault in sorted(faults):
        out.print(plain(str(fault)), soft_wrap=True)
    if faults:
        return Exit.USAGE
    jobs = sum(len(each.members) for each in groups)
    summary = f"{len(groups)} group(s), {jobs} job(s)"
    for count, kind in ((len(schedules), "schedule"), (pushed, "function")):
        summary += f", {count} {kind}(s)" if count else ""
    out.print(f"{plain(str(file))}: {summary}, no errors", soft_wrap=True)
    return Exit.OK


def _parse_object(name: str, text: str) -> Raw:
    try:
        msgspec.json.decode(text, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeError):
        raise UsageError(f"--{name} requires a JSON object (got {text[:100]!r})") from None
    return Raw(text.encode())


def _watch_run(client: Client, run: RunDocument, connection: Connection) -> int:
    """Watch a run until it ends, with a line for each change of its counts; returns the exit code."""
    printed = ""
    try:
        for reply in _poll(client, run):
            if connection.json:
                print_json_line(reply.body)
            run = reply.read(RunDocument)
            line = ", ".join(f"{count} {state}" for state, count in sorted(run.counts.items()))
            if line != printed and not connection.json:
                out.print(Text.assemble((f"{local_now():%H:%M:%S}  ", "dim"), line), soft_wrap=True)
            printed = line
    except KeyboardInterrupt:
        note(f"The run continues. To watch it: {command('watch', run.id, connection)}")
        return Exit.INTERRUPTED
    if not connection.json:
        out.print(
            Text.assemble(plain(run.group), " ", (str(run.state), STYLES[run.state]), (f"  {run.id}", "dim"))
        )
        if run.error is not None:
            note(format_problem(run.error), "Error", "red")
        elif run.result is not None:
            out.print(json_text(msgspec.json.encode(run.result)), soft_wrap=True)
    return code_of_job(run.state)


def _poll(client: Client, run: RunDocument) -> Iterator[Reply]:
    """Yield the response for a run again and again, until it has ended."""
    path, wait = f"/v1/group/{quote(run.group, safe='')}/{run.id}", 0.0
    while True:
        reply = client.request("GET", path, wait=wait)
        yield reply
        if reply.read(RunDocument).state.ended:
            return
        sleep(_POLL_INTERVAL)
        wait = _WAIT
