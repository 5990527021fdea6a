"""Shows the attempts of a job: how each ended, with its error and its traceback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

from raincheck.cli.job_view import elapsed, flatten_steps, format_problem
from raincheck.cli.terminal import out, plain
from raincheck.core.model import AttemptOutcome
from raincheck.engine.documents import AttemptDocument, JobDocument

_STYLES = {
    AttemptOutcome.DONE: "green",
    AttemptOutcome.RETRIED: "yellow",
    AttemptOutcome.CANCELLED: "magenta",
}
"""The styles of outcomes; the others are red."""


def has_error(job: JobDocument) -> bool:
    """Whether the job failed, or the latest attempt of one of its functions."""
    return job.error is not None or any(step.error is not None for step in flatten_steps(job))


def latest_failure(attempts: Sequence[AttemptDocument]) -> AttemptDocument | None:
    """The latest attempt with a traceback."""
    return next((attempt for attempt in reversed(attempts) if attempt.traceback), None)


def render_failure(attempt: AttemptDocument) -> RenderableType:
    """Render an attempt and its traceback, below its job."""
    return Group(Text(), _heading(attempt, "Traceback of "), *_details(attempt))


def render_attempts(attempts: Sequence[AttemptDocument]) -> RenderableType:
    """Render attempts, each with its error and its traceback."""
    parts: list[RenderableType] = []
    for attempt in attempts:
        parts += [Text(), _heading(attempt)]
        if attempt.error is not None:
            parts.append(Padding(Text(format_problem(attempt.error), _style(attempt)), (0, 0, 0, 2)))
        parts += _details(attempt)
    return Group(*parts)


def _heading(attempt: AttemptDocument, before: str = "") -> Text:
    """One line: function, run, attempt, outcome, duration, start and worker."""
    run = f" of run {attempt.run}" if attempt.run > 1 else ""
    return Text.assemble(
        (before, "dim"),
        (plain(attempt.function), "bold"),
        f", attempt {attempt.number}{run}: ",
        (str(attempt.outcome), _style(attempt)),
        (f" after {elapsed(attempt.started_at, attempt.finished_at)}", "dim"),
        (f", started {attempt.started_at.astimezone():%Y-%m-%d %H:%M:%S}", "dim"),
        (f" by {plain(attempt.worker)}", "dim"),
    )


def _details(attempt: AttemptDocument) -> Iterator[RenderableType]:
    if attempt.traceback:
        yield Padding(_traceback(plain(attempt.traceback)), (0, 0, 0, 2))


def _traceback(text: str) -> RenderableType:
    if not out.is_terminal:
        return Text(text)
    return Syntax(text, "pytb", theme="ansi_dark", background_color="default", word_wrap=True)


def _style(attempt: AttemptDocument) -> str:
    return _STYLES.get(attempt.outcome, "red")
