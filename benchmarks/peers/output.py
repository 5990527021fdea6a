"""Writes the results of a run: JSON, tables in Markdown, and a chart for the documentation."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.peers.peer_bench import python
from benchmarks.peers.roster import Peer
from benchmarks.processes import ROOT
from benchmarks.run import Result
from benchmarks.table import number

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "explanation" / "performance.md"
"""The page with the chart; it has the overview between two comments."""

BEGIN, END = "<!-- figures: make bench-peers -->", "<!-- end of figures -->"
NAME = "peers"

COLUMNS = {
    "enqueue one, /s": ("enqueue-one", "{}"),
    "50 callers, /s": ("enqueue-together", "{}"),
    "bulk, /s": ("enqueue-bulk", "{}"),
    "drain, /s": ("drain", "{}"),
    "two workers, /s": ("drain", "{}_2"),
    "chain, steps/s": ("chain", "{}"),
    "result p50, ms": ("latency", "{}_p50"),
    "p99, ms": ("latency", "{}_p99"),
    "worker CPU, µs per job": ("cpu", "{}"),
    "Valkey CPU, µs per job": ("cpu", "{}_server"),
    "worker idle, MiB": ("memory", "{}"),
    "bytes per job": ("bytes", "{}"),
    "HTTP POST, /s": ("http", "{}_post"),
    "HTTP GET, /s": ("http", "{}_get"),
    "POST to result, ms": ("http", "{}_p50"),
}
"""The columns of the overview: their measure and row; ``{}`` is the key of the peer."""


def write(folder: Path, facts: dict[str, Any], results: Sequence[Result], peers: Sequence[Peer]) -> None:
    """Write ``peers.json`` and ``peers.md``, and draw the chart if there are peers.

    If ``folder`` is `RESULTS`, also update the performance page.
    """
    table = list(overview(results, peers))
    report.write(folder, facts, results, NAME, [*table, ""])
    if not any(peer.venv for peer in peers):
        return  # there is nothing to compare
    if folder == RESULTS:
        _update_page(facts, report.summary(results), table)
    chart = (PAGE.parent if folder == RESULTS else folder) / "peers.svg"
    command = [python("peers"), "-m", "benchmarks.peers.chart", str(folder / f"{NAME}.json"), str(chart)]
    subprocess.run(command, cwd=ROOT, check=True)


def _update_page(facts: dict[str, Any], summary: str, table: Sequence[str]) -> None:
    machine = next(report.introduction(facts))
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    new = "\n".join((f"{facts['date']}. {summary} {machine}. {report.caution(facts)}".rstrip(), "", *table))
    PAGE.write_text(f"{before}{BEGIN}\n\n{new}\n\n{END}{after}", "utf-8")


def overview(results: Sequence[Result], peers: Sequence[Peer]) -> Iterator[str]:
    """Yield a line for each peer, with a column for each figure; a dash is a figure that it does not have."""
    figures = {
        (result.measure.name, line.row.key): number(line.figure.middle)
        for result in results
        for line in result.lines
        if line.figure is not None
    }
    columns = {
        heading: cells
        for heading, (measure, key) in COLUMNS.items()
        if any(cells := [figures.get((measure, key.format(peer.key)), "") for peer in peers])
    }
    yield f"| | {' | '.join(columns)} |"
    yield f"|---|{'--:|' * len(columns)}"
    for index, peer in enumerate(peers):
        yield f"| {peer.name} | {' | '.join(cells[index] or '-' for cells in columns.values())} |"
