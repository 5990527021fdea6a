"""Runs the measures, and collects their results."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from benchmarks.bench import Bench
from benchmarks.figures import Line, Measure, Readings, lines
from benchmarks.processes import ChildError


@dataclass(frozen=True)
class Result:
    """The result of a measure. ``problem`` says why figures are missing; None if none are."""

    measure: Measure
    lines: list[Line]
    runs: int
    seconds: float
    problem: str | None


def run_all(measures: Sequence[Measure], bench: Bench, repeat: int, console: Console) -> list[Result]:
    """Run the measures one after another, and print the progress."""
    results = []
    for number, measure in enumerate(measures, 1):
        results.append(result := _run(measure, bench, repeat, console, f"{number}/{len(measures)}"))
        console.print(f"[dim]{number}/{len(measures)}[/] {measure.title} [dim]{result.seconds:.0f} s[/]")
        if result.problem:
            console.print(result.problem, style="red", markup=False)
    return results


def _run(measure: Measure, bench: Bench, repeat: int, console: Console, number: str) -> Result:
    started_at, runs, problem = time.perf_counter(), list[Readings](), None
    times = 1 if measure.once else repeat
    with console.status("") as status:
        while len(runs) < times:
            status.update(f"{number} {measure.title}: run {len(runs) + 1} of {times}")
            try:
                runs.append(measure.run(bench))
            except (ChildError, OSError, subprocess.SubprocessError) as error:
                problem = f"{measure.name} could not be measured: {error}"
                break
    return Result(measure, lines(measure, runs), len(runs), time.perf_counter() - started_at, problem)
