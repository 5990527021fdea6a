"""How a job looks: a heading, a row a step with how far it has come, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raincheck.cli.terminal import cut, one_line, plain
from raincheck.clock import monotonic
from raincheck.engine.documents import FunctionDocument, JobDocument
from raincheck.model import Problem, State

STYLES = {
    State.SCHEDULED: "cyan",
    State.PENDING: "dim",
    State.DOING: "blue",
    State.RETRYING: "yellow",
    State.DONE: "green",
    State.FAILED: "red",
    State.CANCELLED: "magenta",
}
_GLYPHS = {
    State.SCHEDULED: "◷",
    State.PENDING: "·",
    State.DOING: "▸",
    State.RETRYING: "↻",
    State.DONE: "✓",
    State.FAILED: "✗",
    State.CANCELLED: "■",
}
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_BAR = 12
_ARGUMENTS = 24
"""How much of them is shown, in characters."""


def job_view(job: JobDocument, now: datetime, *, live: bool = False) -> RenderableType:
    """A job as it is, ``now`` being the time until which running things have taken.

    ``live`` is for a view that is drawn again and again: it has bars, and moves.
    """
    return Group(heading(job, now), Padding(_steps(job, now, live), (0, 0, 0, 2)), *notes(job))


def _steps(job: JobDocument, now: datetime, live: bool) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(6 if live else 5):
        table.add_column(no_wrap=True)
    table.add_column()  # the remark: what is narrowed if the terminal is narrow
    for entry in job.functions:
        members = entry if isinstance(entry, list) else [entry]
        for i, step in enumerate(members):
            table.add_row(*_step(job, step, _bracket(i, len(members)), now, live))
    return table


def _step(
    job: JobDocument, step: FunctionDocument, bracket: str, now: datetime, live: bool
) -> Iterator[RenderableType]:
    style, doing = STYLES[step.state], step.state is State.DOING
    glyph = _FRAMES[int(monotonic() * 10) % len(_FRAMES)] if live and doing else _GLYPHS[step.state]
    yield Text.assemble((f"{bracket} ", "dim"), (glyph, style))
    yield Text.assemble((plain(step.name), "bold" if doing else ""), (arguments_of(step), "dim"))
    if live:
        yield _bar(step)
    yield Text(step.state, style)
    yield Text(tries(step), "dim")
    yield Text(elapsed(step.started_at, step.finished_at or now), "dim")
    said = "" if step.state is State.DONE else style
    yield Text(remark(job, step), said, no_wrap=True, overflow="ellipsis")


def heading(job: JobDocument, now: datetime) -> Text:
    """One line: the job's name and state, how long it took, its id."""
    style = STYLES[job.state]
    taken = elapsed(job.created_at, job.finished_at or now)
    return Text.assemble(
        (f"{_GLYPHS[job.state]} ", style),
        (plain(job.name), "bold"),
        "  ",
        (state_of(job), style),
        (f" after {taken}" if job.state.ended else f" for {taken}", "dim"),
        (f"  {plain(job.id)}", "dim"),
    )


def state_of(job: JobDocument) -> str:
    """The state of a job in words."""
    if job.cancel_requested_at is not None and not job.state.ended:
        return f"{job.state}, being cancelled"
    if job.state is State.SCHEDULED and job.scheduled_at is not None:
        return f"scheduled for {job.scheduled_at.astimezone():%Y-%m-%d %H:%M:%S}"
    return str(job.state)


def notes(job: JobDocument) -> Iterator[RenderableType]:
    """What is to be said below the steps."""
    if job.waiting_for:
        names = ", ".join(plain(name) for name in job.waiting_for)
        yield Text(f"No worker offers {names} now; the job waits for one.", "yellow")
    if job.error is not None:
        yield Text(blame(job.error), "red")


def blame(error: Problem) -> str:
    """A problem in a sentence."""
    what = error.title
    if error.detail:
        what = f"{what}: {error.detail}"
    return cut(what, 1000)


def arguments_of(step: FunctionDocument) -> str:
    """A step's arguments, as they would be written in a call."""
    named = [f"{name}={one_line(value, _ARGUMENTS)}" for name, value in step.kwargs.items()]
    return f"({cut(', '.join([*(one_line(value, _ARGUMENTS) for value in step.args), *named]), _ARGUMENTS)})"


def remark(job: JobDocument, step: FunctionDocument) -> str:
    """What there is to say of a step: what it reports, gave, or why it failed."""
    if step.state is State.DOING:
        return cut(progress_of(step)[1], 100)
    if step.state is State.DONE:
        return "" if step.result is None else one_line(step.result, 100)
    if step.error is not None:
        return cut(step.error.detail or step.error.title, 100)
    return "never ran" if job.state.ended and step.state is State.PENDING else ""


def progress_of(step: FunctionDocument) -> tuple[float | None, str]:
    """The share of a step that is done, if it said so, and its word on it. It may have said anything."""
    progress = step.progress
    if not isinstance(progress, dict):
        return None, "" if progress is None else one_line(progress)
    word = str(progress.get("message") or "")
    try:
        share = progress["done"] / (1.0 if progress.get("total") is None else progress["total"])
        return min(max(float(share), 0.0), 1.0), word
    except (ArithmeticError, KeyError, TypeError):
        return None, word


def tries(step: FunctionDocument) -> str:
    """The number of the attempt, of how many there may be, and how many were lost with their worker.

    Nothing if that goes without saying: there was, and may be, only one.
    """
    limit, lost = step.retry_options.retry_limit, step.lost_count
    count = step.retry_count + (step.state is State.DOING)
    tried = f"try {count}/{limit}" if count and limit > 1 else ""
    return f"{tried} lost {lost}".strip() if lost else tried


def steps_of(job: JobDocument) -> list[FunctionDocument]:
    """The steps of a job, stages or not."""
    return [step for entry in job.functions for step in (entry if isinstance(entry, list) else [entry])]


def elapsed(since: datetime | None, until: datetime) -> str:
    """The time between two moments, short enough for a table."""
    if since is None:
        return ""
    seconds = max((until - since).total_seconds(), 0.0)
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _bar(step: FunctionDocument) -> ProgressBar:
    share, _ = progress_of(step)
    style = STYLES[step.state]
    if step.state is State.DOING and share is None:
        return ProgressBar(width=_BAR, pulse=True, pulse_style=style)
    completed = 1.0 if step.state is State.DONE else share or 0.0
    return ProgressBar(1.0, completed, width=_BAR, complete_style=style, finished_style=style)


def _bracket(i: int, size: int) -> str:
    """What ties the members of a parallel stage together."""
    if size == 1:
        return " "
    return "┌" if i == 0 else "└" if i == size - 1 else "│"
