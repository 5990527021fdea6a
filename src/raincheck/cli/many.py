"""Retry, cancel and delete many jobs: count them, ask, then change them in parts with a progress bar."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Annotated, NamedTuple

import msgspec
from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raincheck.cli.connection import Connection
from raincheck.cli.exit_codes import Exit, UsageError
from raincheck.cli.listings import job_table
from raincheck.cli.matching import Matching
from raincheck.cli.terminal import err, note, out, print_json, show
from raincheck.client import Client
from raincheck.client.requests import list_request
from raincheck.core.errors import RaincheckError
from raincheck.engine.documents import JobPage
from raincheck.engine.filters import BulkResult, JobFilter, Operation

SAMPLE = 5
"""Jobs that are shown before the question."""


class Command(NamedTuple):
    """An operation on many jobs, the word for what it did, and the method of the client."""

    operation: Operation
    done: str
    method: Callable[..., BulkResult]


RETRY = Command(Operation.RETRY, "Retried", Client.retry_jobs)
CANCEL = Command(Operation.CANCEL, "Cancelled", Client.cancel_jobs)
DELETE = Command(Operation.DELETE, "Deleted", Client.forget_jobs)


@Parameter(name="*")
@dataclass(frozen=True)
class Many:
    """How a command changes many jobs."""

    all: Annotated[bool, Parameter(show_default=False)] = False
    """Change every job that can be changed."""
    dry_run: Annotated[bool, Parameter(show_default=False)] = False
    """Only count the jobs and show some of them."""
    yes: Annotated[bool, Parameter(name=("--yes", "-y"), show_default=False)] = False
    """Do not ask. Without a terminal, this option is required."""


NO_OPTIONS = Many()


class _Stopped(RaincheckError):
    """Ctrl-C was pressed during a part, which has ended."""


def is_about_many(job_id: str | None, matching: Matching, many: Many) -> bool:
    """Whether a command is about the jobs that match. Raises `UsageError` unless it chooses one way."""
    is_many = matching.filter != JobFilter() or many.all
    if job_id is not None and (is_many or many != Many()):
        raise UsageError("give either the ID of a job, or options that choose jobs")
    if job_id is None and not is_many:
        raise UsageError("give the ID of a job, options that choose jobs, or --all")
    return is_many


def change_many(command: Command, matching: Matching, many: Many, connection: Connection) -> int:
    """Change all jobs that match; returns the exit code."""
    with connection.client() as client:
        apply = partial(command.method, client, every_job=many.all, **matching.keywords)
        counted = apply(dry_run=True)
        if counted.changed and (many.dry_run or not many.yes):
            _show_sample(client, command, matching, counted)
        if many.dry_run or not counted.changed:
            return _print_result(command, counted, connection)
        if not (many.yes or _is_confirmed(command, counted.changed)):
            note("Nothing was changed")
            return Exit.INTERRUPTED
        parts: list[BulkResult] = []
        try:
            with _progress_bar(command, counted.matched) as bar, _interrupts() as pressed:

                def report(so_far: BulkResult) -> None:
                    parts.append(so_far)
                    bar.update(bar.task_ids[0], completed=so_far.matched)
                    if pressed and so_far.cursor is not None:
                        raise _Stopped

                return _print_result(command, apply(progress=report), connection)
        except _Stopped:
            note(f"Stopped. {_summary(command, parts[-1])}. Run the command again for the other jobs.")
            return Exit.INTERRUPTED
        except (RaincheckError, KeyboardInterrupt):
            note(f"{_summary(command, parts[-1] if parts else BulkResult())}, and perhaps some more")
            raise


def _show_sample(client: Client, command: Command, matching: Matching, counted: BulkResult) -> None:
    """Show the newest jobs that will be changed."""
    which = matching.filter
    if not which.states:
        which = msgspec.structs.replace(which, state=command.operation.states)
    request = list_request(which, "newest", None, SAMPLE)
    jobs = client.request(request.method, request.path, params=request.params).read(JobPage).jobs
    show(job_table(jobs), on=err)
    if counted.matched > len(jobs):
        note(f"... and {counted.matched - len(jobs)} more")


def _is_confirmed(command: Command, jobs: int) -> bool:
    """Ask on a terminal. Raises `UsageError` if there is none."""
    question = f"{command.operation.capitalize()} {_count(jobs)}?"
    if not (sys.stdin.isatty() and err.is_terminal):
        raise UsageError(f"{question} Use --yes to do so without a terminal.")
    return err.input(f"{question} [y/N] ", markup=False).strip().lower() in ("y", "yes")


def _progress_bar(command: Command, jobs: int) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    progress.add_task(command.operation.capitalize(), total=jobs)
    return progress


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The first Ctrl-C is only noted, so that a part is not cut off; the second one interrupts."""
    pressed: list[int] = []

    def note_interrupt(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, note_interrupt)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _print_result(command: Command, result: BulkResult, connection: Connection) -> int:
    if connection.json:
        print_json(msgspec.json.encode(result))
    elif result.dry_run and result.changed:
        out.print(f"Would {command.operation} {_count(result.changed)}{_reasons(result)}")
    else:
        out.print(_summary(command, result))
    return Exit.OK


def _summary(command: Command, result: BulkResult) -> str:
    return f"{command.done} {_count(result.changed)}{_reasons(result)}"


def _reasons(result: BulkResult) -> str:
    """The numbers of jobs that were skipped, by reason."""
    reasons = ", ".join(f"{jobs} {name}" for name, jobs in result.skipped.items())
    return f" (skipped: {reasons})" if reasons else ""


def _count(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"
