"""The end of a worker that ends by itself: its reports, what it prints, and its exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from raincheck.cli.exit_codes import RECYCLED, Exit
from raincheck.cli.terminal import out
from raincheck.core.model import State
from raincheck.worker.lifetime import Cause, Report

_OPTIONS = {Cause.MAX_JOBS: "--max-jobs", Cause.MAX_MEMORY: "--max-memory"}


@contextmanager
def report_file(*, burst: bool) -> Iterator[Path | None]:
    """A file for the reports of worker processes, if they run a burst."""
    if not burst:
        yield None
        return
    with TemporaryDirectory(prefix="raincheck-") as folder:
        file = Path(folder) / "reports"
        file.touch()
        yield file


def read_reports(file: Path | None) -> Report:
    """The sum of all reports. A burst was stopped if one of its processes was."""
    lines = [] if file is None else file.read_bytes().splitlines()
    reports = [msgspec.json.decode(line, type=Report) for line in lines]
    attempts: Counter[State] = Counter()
    for report in reports:
        attempts.update(report.attempts)
    is_stopped = file is None or any(report.cause is Cause.STOPPED for report in reports)
    return Report(Cause.STOPPED if is_stopped else Cause.IDLE, attempts)


def end_of_process(report: Report, file: Path | None) -> int:
    """Report what a worker process did; returns its exit code, which says whether to replace it."""
    if file is not None:
        with file.open("ab") as opened:  # one write: other processes append, too
            opened.write(msgspec.json.encode(report) + b"\n")
    return RECYCLED if report.cause in _OPTIONS else Exit.OK


def end_of_worker(report: Report, *, burst: bool, fail_if_failed: bool) -> Exit:
    """Print what a worker did that ended by itself; returns the exit code of the command."""
    if (option := _OPTIONS.get(report.cause)) is not None:
        out.print(f"Ended at the limit of {option}: {_summary(report)}.")
    elif burst:
        left = "Nothing is left to run" if report.cause is Cause.IDLE else "Stopped"
        out.print(f"{left}: {_summary(report)}.")
    failed = fail_if_failed and report.attempts.get(State.FAILED)
    return Exit.FAILED if failed else Exit.OK


def _summary(report: Report) -> str:
    shown = {State.DONE: "done", State.FAILED: "failed", State.RETRYING: "to be retried"}
    others = {state: state.value for state in report.attempts if state not in shown}
    counts = [
        f"{count} {text}"
        for state, text in (shown | others).items()
        if (count := report.attempts.get(state, 0)) or state in (State.DONE, State.FAILED)
    ]
    return f"{sum(report.attempts.values())} attempt(s), {', '.join(counts)}"
