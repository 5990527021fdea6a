"""Commands about schedules: schedules, schedule."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import quote

from rich.console import Group
from rich.table import Table
from rich.text import Text

from raincheck.cli.exits import Exit
from raincheck.cli.follow import here_and_now
from raincheck.cli.lists import print_table
from raincheck.cli.options import HERE, Connection
from raincheck.cli.terminal import cut, new_table, note, out, plain, print_json, show
from raincheck.cli.views import elapsed
from raincheck.client import Reply
from raincheck.clock import new_id
from raincheck.engine.documents import JobDocument
from raincheck.engine.schedules.documents import PlannedFunction, ScheduleDocument

Action = Literal["show", "pause", "resume", "run", "delete"]


def schedules(*, connection: Connection = HERE) -> int:
    """List the schedules."""
    with connection.client() as client:
        reply = client.request("GET", "/v1/schedule")
    if connection.json:
        print_json(reply.body)
        return Exit.OK
    now = here_and_now()
    rows = new_table("NAME", "WHEN", "NEXT", "IN", "LAST", "FUNCTIONS")
    for schedule in reply.read(list[ScheduleDocument]):
        first = schedule.next[0] if schedule.next else None
        rows.add_row(
            plain(schedule.name),
            cut(when(schedule), 60),
            Text("paused", "yellow") if schedule.paused else _clock(first),
            "" if first is None else elapsed(now, first),
            _clock(schedule.last_fired_at),
            _functions(schedule),
        )
    print_table(rows, "no schedules")
    return Exit.OK


def schedule(name: str, action: Action = "show", /, *, connection: Connection = HERE) -> int:
    """Show a schedule and its next firings, or pause, resume, run or delete it.

    Parameters
    ----------
    name
        The schedule's name.
    action
        What to do about it; run submits its job now, beside its firings, and prints the job's id.
    """
    path = f"/v1/schedule/{quote(name, safe=':@')}"
    with connection.client() as client:
        if action == "delete":
            client.request("DELETE", path)
            note(f"{name} is deleted; its jobs stay.")
            return Exit.OK
        if action == "show":
            reply = client.request("GET", path)
        else:  # only run makes something: its key keeps it from being made twice
            key = new_id() if action == "run" else None
            reply = client.request("POST", f"{path}/{action}", idempotency_key=key)
    if connection.json:
        print_json(reply.body)
    elif action == "run":
        out.print(reply.read(JobDocument).id)
    else:
        _show(reply)
    return Exit.OK


def when(schedule: ScheduleDocument) -> str:
    """When a schedule fires, in its own words."""
    return f"every {schedule.every:g} s" if schedule.cron is None else f"{schedule.cron} {schedule.zone}"


def _show(reply: Reply) -> None:
    schedule, now = reply.read(ScheduleDocument), here_and_now()
    state = ("paused", "yellow") if schedule.paused else ("active", "green")
    head = Text.assemble((plain(schedule.name), "bold"), "  ", state, "  ", plain(when(schedule)))
    rows = Table.grid(padding=(0, 2))
    last = f"{_clock(schedule.last_fired_at)}  job {schedule.last_job}" if schedule.last_job else "never"
    rows.add_row("  runs", _functions(schedule))
    rows.add_row("  last", plain(last))
    for i, firing in enumerate(schedule.next):
        rows.add_row("" if i else "  next", f"{_clock(firing)}  in {elapsed(now, firing)}")
    show(Group(head, rows))


def _functions(schedule: ScheduleDocument) -> str:
    """What it runs."""
    if schedule.group is not None:
        return cut(f"group {schedule.group}", 80)
    entries = [entry if isinstance(entry, list) else [entry] for entry in schedule.functions]
    members: list[PlannedFunction] = [function for entry in entries for function in entry]
    return cut(" ".join(function.name for function in members), 80)


def _clock(moment: datetime | None) -> str:
    """A moment by the clock of this machine."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
