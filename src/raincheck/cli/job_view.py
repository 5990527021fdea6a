"""Renders a job for the terminal: a heading, a row for each step, and a footer with the error."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raincheck.cli.terminal import cut, one_line, plain
from raincheck.core.clock import monotonic, now, to_datetime
from raincheck.core.model import Problem, State
from raincheck.engine.documents import FunctionDocument, JobDocument

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
_BAR_WIDTH = 12
_ARGUMENTS_WIDTH = 24
"""Characters of a step's arguments that are shown."""


def render_job(job: JobDocument, now: datetime, *, live: bool = False) -> RenderableType:
    """Render a job. Durations of what still runs are measured up to ``now``.

    With ``live`` the rows have progress bars and animations, for a display that is refreshed.
    """
    return Group(heading(job, now), Padding(_step_table(job, now, live), (0, 0, 0, 2)), *footer(job))


def _step_table(job: JobDocument, now: datetime, live: bool) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(6 if live else 5):
        table.add_column(no_wrap=True)
    table.add_column()  # the summary: it shrinks first on a narrow terminal
    for entry in job.functions:
        members = entry if isinstance(entry, list) else [entry]
        for i, step in enumerate(members):
            table.add_row(*_step_row(job, step, _bracket(i, len(members)), now, live))
    return table


def _step_row(
    job: JobDocument, step: FunctionDocument, bracket: str, now: datetime, live: bool
) -> Iterator[RenderableType]:
    style, doing = STYLES[step.state], step.state is State.DOING
    glyph = _FRAMES[int(monotonic() * 10) % len(_FRAMES)] if live and doing else _GLYPHS[step.state]
    yield Text.assemble((f"{bracket} ", "dim"), (glyph, style))
    yield Text.assemble((plain(step.name), "bold" if doing else ""), (format_arguments(step), "dim"))
    if live:
        yield _progress_bar(step)
    yield Text(step.state, style)
    yield Text(format_attempts(step), "dim")
    yield Text(elapsed(step.started_at, step.finished_at or now), "dim")
    summary_style = "" if step.state is State.DONE else style
    yield Text(step_summary(job, step), summary_style, no_wrap=True, overflow="ellipsis")


def heading(job: JobDocument, now: datetime) -> Text:
    """One line with the job's name, state, duration and id."""
    style = STYLES[job.state]
    duration = elapsed(job.created_at, job.finished_at or now)
    return Text.assemble(
        (f"{_GLYPHS[job.state]} ", style),
        (plain(job.name), "bold"),
        "  ",
        (format_state(job), style),
        (f" after {duration}" if job.state.ended else f" for {duration}", "dim"),
        (f"  {plain(job.id)}", "dim"),
    )


def format_state(job: JobDocument) -> str:
    """The state of a job as text."""
    if job.cancel_requested_at is not None and not job.state.ended:
        return f"{job.state}, being cancelled"
    if job.state is State.SCHEDULED and job.scheduled_at is not None:
        return f"scheduled for {job.scheduled_at.astimezone():%Y-%m-%d %H:%M:%S}"
    return str(job.state)


def footer(job: JobDocument) -> Iterator[RenderableType]:
    """The lines below the steps: functions without a worker, and the error."""
    if job.waiting_for:
        names = ", ".join(plain(name) for name in job.waiting_for)
        yield Text(f"No worker offers {names}. The job waits for such a worker.", "yellow")
    if job.error is not None:
        yield Text(format_problem(job.error), "red")


def format_problem(error: Problem) -> str:
    """A problem on one line."""
    return cut(f"{error.title}: {error.detail}" if error.detail else error.title, 1000)


def format_arguments(step: FunctionDocument) -> str:
    """The arguments of a step as in a call: ``(1, name="x")``."""
    args = [one_line(value, _ARGUMENTS_WIDTH) for value in step.args]
    kwargs = [f"{name}={one_line(value, _ARGUMENTS_WIDTH)}" for name, value in step.kwargs.items()]
    return f"({cut(', '.join([*args, *kwargs]), _ARGUMENTS_WIDTH)})"


def step_summary(job: JobDocument, step: FunctionDocument) -> str:
    """The message, the result or the error of a step."""
    if step.state is State.DOING:
        return cut(parse_progress(step)[1], 100)
    if step.state is State.DONE:
        return "" if step.result is None else one_line(step.result, 100)
    if step.error is not None:
        return cut(step.error.detail or step.error.title, 100)
    return "never ran" if job.state.ended and step.state is State.PENDING else ""


def parse_progress(step: FunctionDocument) -> tuple[float | None, str]:
    """The share that is done (0 to 1, or None) and the message. Functions can report any JSON."""
    progress = step.progress
    if not isinstance(progress, dict):
        return None, "" if progress is None else one_line(progress)
    message = str(progress.get("message") or "")
    try:
        share = progress["done"] / (1.0 if progress.get("total") is None else progress["total"])
        return min(max(float(share), 0.0), 1.0), message
    except (ArithmeticError, KeyError, TypeError):
        return None, message


def format_attempts(step: FunctionDocument) -> str:
    """The number of the attempt and the limit, and how many attempts were lost with their worker.

    Empty if there is only one attempt and none was lost.
    """
    limit, lost = step.retry_options.retry_limit, step.lost_count
    count = step.retry_count + (step.state is State.DOING)
    attempts = f"try {count}/{limit}" if count and limit > 1 else ""
    return f"{attempts} lost {lost}".strip() if lost else attempts


def flatten_steps(job: JobDocument) -> list[FunctionDocument]:
    """The steps of a job, those of parallel stages included."""
    return [step for entry in job.functions for step in (entry if isinstance(entry, list) else [entry])]


def local_now() -> datetime:
    """The current time in the local time zone."""
    return to_datetime(now()).astimezone()


def elapsed(since: datetime | None, until: datetime) -> str:
    """The time between two moments with at most two units; empty if ``since`` is None."""
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


def _progress_bar(step: FunctionDocument) -> ProgressBar:
    share, _ = parse_progress(step)
    style = STYLES[step.state]
    if step.state is State.DOING and share is None:
        return ProgressBar(width=_BAR_WIDTH, pulse=True, pulse_style=style)
    completed = 1.0 if step.state is State.DONE else share or 0.0
    return ProgressBar(1.0, completed, width=_BAR_WIDTH, complete_style=style, finished_style=style)


def _bracket(i: int, size: int) -> str:
    """The line that connects the steps of a parallel stage."""
    if size == 1:
        return " "
    return "┌" if i == 0 else "└" if i == size - 1 else "│"
