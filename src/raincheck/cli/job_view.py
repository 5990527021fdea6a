"""Shows a job: its steps and its error once, or watched: live on a terminal, elsewhere a line per change."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raincheck.cli.terminal import cut, one_line, out, plain, show, warn
from raincheck.client import Client, JobHandle
from raincheck.client.blocking.compat import sleep
from raincheck.core.clock import monotonic, now, to_datetime
from raincheck.core.errors import Unreachable
from raincheck.core.model import Problem, State
from raincheck.engine.documents import FunctionDocument, JobDocument, JobSummary

T = TypeVar("T")

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


def format_state(job: JobDocument | JobSummary) -> str:
    """The state of a job as text."""
    if job.cancel_requested_at is not None and not job.state.ended:
        return f"{job.state}, being cancelled"
    if job.state is State.SCHEDULED and job.scheduled_at is not None:
        return f"scheduled for {job.scheduled_at.astimezone():%Y-%m-%d %H:%M:%S}"
    return str(job.state)


def footer(job: JobDocument) -> Iterator[RenderableType]:
    """The lines below the steps: functions without a worker, and the error."""
    for warning in job.warnings:
        yield Text(f"{warning[:1].upper()}{warning[1:]}", "yellow")
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
    return _flattened(job.functions)


def function_names(job: JobSummary) -> str:
    """The functions of a job, separated by spaces."""
    return " ".join(step.name for step in _flattened(job.functions))


def _flattened(stages: Sequence[T | list[T]]) -> list[T]:
    return [step for entry in stages for step in (entry if isinstance(entry, list) else [entry])]


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


_LONGEST_WAIT = 25.0
"""Seconds that one request waits for the end of a job; a longer wait takes several."""

_OUTAGE = 30.0
"""Seconds for which the server may be unreachable, for example during a restart."""

_RETRY_INTERVAL = 1.0
"""Seconds between two attempts to reach it again."""


def wait_for_end(client: Client, job_id: str, seconds: float) -> JobHandle:
    """Wait until the job has ended, or for ``seconds``, and return the job."""
    until = monotonic() + seconds
    outage = _Outage()
    while True:
        try:
            job = client.wait(job_id, min(max(until - monotonic(), 0.0), _LONGEST_WAIT))
        except Unreachable as error:
            outage.tolerate(error)
            continue
        outage.end()
        if job.ended or monotonic() >= until:
            return job


def watch_changes(client: Client, job_id: str) -> Iterator[JobHandle]:
    """Yield the job now and after every change, until it has ended. Continues after an outage."""
    last: JobHandle | None = None
    outage = _Outage()
    while last is None or not last.ended:
        try:
            for job in client.watch(job_id):
                outage.end()
                if last is None or job.raw != last.raw:
                    yield job
                last = job
        except Unreachable as error:
            if last is None:
                raise
            outage.tolerate(error)


class _Outage:
    """Limits how long the server may be unreachable, and warns once when it is."""

    def __init__(self) -> None:
        self._until: float | None = None

    def tolerate(self, error: Unreachable) -> None:
        """Pause before the next attempt. Raises the error if the outage is too long."""
        if self._until is None:
            self._until = monotonic() + _OUTAGE
            warn(f"{error} Trying again for {_OUTAGE:g} s.")
        elif monotonic() > self._until:
            raise error
        sleep(_RETRY_INTERVAL)

    def end(self) -> None:
        """End the outage: the server has responded."""
        self._until = None


def show_changes(jobs: Iterator[JobHandle]) -> JobDocument:
    """Show a watched job: live on a terminal, elsewhere a line for each change. Returns the ended job."""
    return _show_live(jobs) if out.is_terminal else _show_lines(jobs)


def warn_if_no_worker(job: JobDocument) -> None:
    """Warn if the job waits for functions that no worker offers."""
    for warning in job.warnings:
        warn(warning)


def _show_live(jobs: Iterator[JobHandle]) -> JobDocument:
    document = next(jobs).document

    def frame() -> RenderableType:
        return render_job(document, local_now(), live=True)

    with Live(get_renderable=frame, console=out, refresh_per_second=12) as live:
        for job in jobs:
            document = job.document
            live.refresh()
    return document


def _show_lines(jobs: Iterator[JobHandle]) -> JobDocument:
    printed: set[Hashable] = set()
    for handle in jobs:
        job = handle.document
        if (waiting_for := tuple(job.waiting_for)) not in printed:
            warn_if_no_worker(job)
            printed.add(waiting_for)
        steps = flatten_steps(job)
        width = max(len(step.name + format_arguments(step)) for step in steps)
        for i, step in enumerate(steps):
            change = (i, *_change_of(step))
            if change not in printed and step.started_at is not None:
                out.print(_format_line(job, step, width), soft_wrap=True)
                printed.add(change)
    show(heading(job, local_now()), *footer(job))
    return job


def _change_of(step: FunctionDocument) -> tuple[Hashable, ...]:
    """The values whose change prints a new line. Of numeric progress, every quarter counts."""
    share, message = parse_progress(step)
    return step.state, step.retry_count, step.lost_count, message if share is None else int(share * 4)


def _format_line(job: JobDocument, step: FunctionDocument, width: int) -> Text:
    share, _ = parse_progress(step)
    percent = f"{share:.0%}" if share is not None and step.state is State.DOING else ""
    details = [format_attempts(step), percent, step_summary(job, step)]
    line = Text.assemble(
        (f"{local_now():%H:%M:%S}  ", "dim"),
        f"{plain(step.name) + format_arguments(step):{width}}  ",
        (f"{step.state:11}", STYLES[step.state]),
        "  ".join(detail for detail in details if detail),
    )
    line.rstrip()
    return line
