"""Commands for schedules: schedules, schedule."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import quote

from rich.console import Group
from rich.table import Table
from rich.text import Text

from raincheck.cli.connection import DEFAULT_CONNECTION, Connection
from raincheck.cli.exit_codes import Exit
from raincheck.cli.job_view import elapsed, local_now
from raincheck.cli.listings import print_table
from raincheck.cli.terminal import cut, new_table, note, out, plain, print_json, show
from raincheck.client import Reply
from raincheck.core.clock import new_id
from raincheck.engine.documents import JobDocument
from raincheck.engine.schedules.documents import PlannedFunction, ScheduleDocument

Action = Literal["show", "pause", "resume", "run", "delete"]


def schedules(*, connection: Connection = DEFAULT_CONNECTION) -> int:
    """List schedules."""
    with connection.client() as client:
        reply = client.request("GET", "/v1/schedule")
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    now = local_now()
    rows = new_table("NAME", "WHEN", "NEXT", "IN", "LAST", "FUNCTIONS")
    for schedule in reply.read(list[ScheduleDocument]):
        first = schedule.next[0] if schedule.next else None
        rows.add_row(
            plain(schedule.name),
            cut(_format_timing(schedule), 60),
            Text("paused", "yellow") if schedule.paused else _format_moment(first),
            "" if first is None else elapsed(now, first),
            _format_moment(schedule.last_fired_at),
            _format_functions(schedule),
        )
    print_table(rows, "No schedules")
    return Exit.OK


def schedule(name: str, action: Action = "show", /, *, connection: Connection = DEFAULT_CONNECTION) -> int:
    """Show, pause, resume, run or delete a schedule.

    Parameters
    ----------
    name
        Name of the schedule.
    action
        What to do with the schedule; run submits its job now and prints the id.
    """
    path = f"/v1/schedule/{quote(name, safe=':@')}"
    with connection.client() as client:
        if action == "delete":
            client.request("DELETE", path)
            note(f"Deleted the schedule {name}. Its jobs remain.")
            return Exit.OK
        if action == "show":
            reply = client.request("GET", path)
        else:  # a key keeps run from submitting two jobs
            key = new_id() if action == "run" else None
            reply = client.request("POST", f"{path}/{action}", idempotency_key=key)
    if connection.json:
        print_json(reply.body)
    elif action == "run":
        out.print(reply.read(JobDocument).id)
    else:
        _show(reply)
    return Exit.OK


def _format_timing(schedule: ScheduleDocument) -> str:
    """The interval or the cron expression of a schedule."""
    return f"every {schedule.every:g} s" if schedule.cron is None else f"{schedule.cron} {schedule.zone}"


def _show(reply: Reply) -> None:
    schedule, now = reply.read(ScheduleDocument), local_now()
    state = ("paused", "yellow") if schedule.paused else ("active", "green")
    head = Text.assemble((plain(schedule.name), "bold"), "  ", state, "  ", plain(_format_timing(schedule)))
    rows = Table.grid(padding=(0, 2))
    last = (
        f"{_format_moment(schedule.last_fired_at)}  job {schedule.last_job}" if schedule.last_job else "never"
    )
    rows.add_row("  runs", _format_functions(schedule))
    rows.add_row("  last", plain(last))
    for i, firing in enumerate(schedule.next):
        rows.add_row("" if i else "  next", f"{_format_moment(firing)}  in {elapsed(now, firing)}")
    show(Group(head, rows))


def _format_functions(schedule: ScheduleDocument) -> str:
    """The functions or the group that a schedule runs."""
    if schedule.group is not None:
        return cut(f"group {schedule.group}", 80)
    entries = [entry if isinstance(entry, list) else [entry] for entry in schedule.functions]
    members: list[PlannedFunction] = [function for entry in entries for function in entry]
    return cut(" ".join(function.name for function in members), 80)


def _format_moment(moment: datetime | None) -> str:
    """A moment in the local time zone; empty if it is None."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
