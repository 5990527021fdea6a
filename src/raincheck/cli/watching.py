"""Waits for a job, or watches it: live on a terminal, elsewhere a line for each change."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from raincheck.cli.job_view import (
    STYLES,
    flatten_steps,
    footer,
    format_arguments,
    format_attempts,
    heading,
    local_now,
    parse_progress,
    render_job,
    step_summary,
)
from raincheck.cli.terminal import out, plain, show, warn
from raincheck.client import Client, JobHandle
from raincheck.client.blocking.compat import sleep
from raincheck.core.clock import monotonic
from raincheck.core.errors import Unreachable
from raincheck.core.model import State
from raincheck.engine.documents import FunctionDocument, JobDocument

_LONGEST_WAIT = 25.0
"""Seconds that one request waits for the end of a job; a longer wait takes several."""

_OUTAGE = 30.0
"""Seconds for which the server may be unreachable, for example during a restart."""

_RETRY_INTERVAL = 1.0
"""Seconds between two attempts to reach it again."""


def wait(client: Client, job_id: str, seconds: float) -> JobHandle:
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


def watch(client: Client, job_id: str) -> Iterator[JobHandle]:
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
    if job.waiting_for:
        names = ", ".join(repr(name) for name in job.waiting_for)
        warn(f"no worker offers {names}. The job waits for such a worker.")


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
