"""Following a job until it ends: waiting in silence, or looking again and again."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from datetime import datetime
from threading import Event

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from raincheck.cli.terminal import out, plain, show, warn
from raincheck.cli.views import (
    STYLES,
    arguments_of,
    heading,
    job_view,
    notes,
    progress_of,
    remark,
    steps_of,
    tries,
)
from raincheck.client import Client, JobHandle
from raincheck.clock import monotonic, now, to_datetime
from raincheck.engine.documents import FunctionDocument, JobDocument
from raincheck.errors import Unreachable
from raincheck.model import State

_PAUSE = 0.15
"""Seconds between two looks at a job."""

_QUICK_LOOKS = 12
"""Looks that find nothing new before the server is rather asked to wait for the end."""

_STILL = 1.0
"""Seconds that it then waits."""

_LOOK = 25.0
"""Seconds that one look waits for the end; longer waits are several."""

_PATIENCE = 30.0
"""Seconds for which a server that was there before may be away."""


def wait(client: Client, job_id: str, seconds: float) -> JobHandle:
    """The job once it has ended, or as it is after ``seconds``."""
    until = monotonic() + seconds
    while True:
        job = _look(client, job_id, min(max(until - monotonic(), 0.0), _LOOK))
        if job.ended or monotonic() >= until:
            return job


def looks(client: Client, job_id: str) -> Iterator[JobHandle]:
    """The job now, and again whenever it has changed, until it has ended."""
    job, idle = client.status(job_id), 0
    yield job
    while not job.ended:
        pause()
        seen, job = job, _look(client, job_id, 0 if idle < _QUICK_LOOKS else _STILL)
        if job.raw == seen.raw:
            idle += 1
        else:
            idle = 0
            yield job


def follow(looks: Iterator[JobHandle]) -> JobDocument:
    """Show a job as it goes: live on a terminal, else a line for each change. The job as it ended."""
    return _follow_live(looks) if out.is_terminal else _follow_lines(looks)


def warn_if_waiting(job: JobDocument) -> None:
    """Say so if a job waits for a function that no worker offers."""
    if job.waiting_for:
        names = ", ".join(repr(name) for name in job.waiting_for)
        warn(f"no worker offers {names} now; the job waits for one")


def here_and_now() -> datetime:
    """The time on the clock on the wall."""
    return to_datetime(now()).astimezone()


def pause(seconds: float = _PAUSE) -> None:
    """Do nothing between two looks."""
    Event().wait(seconds)


def _look(client: Client, job_id: str, seconds: float) -> JobHandle:
    """The job, even if the server is being restarted just now."""
    until = monotonic() + seconds + _PATIENCE
    warned = False
    while True:
        try:
            return client.wait(job_id, seconds)
        except Unreachable as error:
            if monotonic() > until:
                raise
            if not warned:
                warn(f"{error}; trying again for {_PATIENCE:g} s")
            warned = True
        pause(1.0)


def _follow_live(looks: Iterator[JobHandle]) -> JobDocument:
    job = next(looks).document

    def frame() -> RenderableType:
        return job_view(job, here_and_now(), live=True)

    with Live(get_renderable=frame, console=out, refresh_per_second=12) as live:
        for look in looks:
            job = look.document
            live.refresh()
    return job


def _follow_lines(looks: Iterator[JobHandle]) -> JobDocument:
    seen: set[Hashable] = set()
    for look in looks:
        job = look.document
        if (waits := tuple(job.waiting_for)) not in seen:
            warn_if_waiting(job)
            seen.add(waits)
        width = max(len(step.name + arguments_of(step)) for step in steps_of(job))
        for i, step in enumerate(steps_of(job)):
            mark = (i, *_mark(step))
            if mark not in seen and step.started_at is not None:
                out.print(_line(job, step, width), soft_wrap=True)
                seen.add(mark)
    show(heading(job, here_and_now()), *notes(job))
    return job


def _mark(step: FunctionDocument) -> tuple[Hashable, ...]:
    """What must change for a new line: of progress that is counted, a quarter."""
    share, word = progress_of(step)
    return step.state, step.retry_count, step.lost_count, word if share is None else int(share * 4)


def _line(job: JobDocument, step: FunctionDocument, width: int) -> Text:
    share, _ = progress_of(step)
    percent = f"{share:.0%}" if share is not None and step.state is State.DOING else ""
    told = [tries(step), percent, remark(job, step)]
    line = Text.assemble(
        (f"{here_and_now():%H:%M:%S}  ", "dim"),
        f"{plain(step.name) + arguments_of(step):{width}}  ",
        (f"{step.state:11}", STYLES[step.state]),
        "  ".join(part for part in told if part),
    )
    line.rstrip()
    return line
