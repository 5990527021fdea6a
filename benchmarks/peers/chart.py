"""Draws the main figures of ``peers.json``: ``python -m benchmarks.peers.chart RESULTS.json CHART.svg``.

Runs in the virtualenv of the peers, which has matplotlib. The greys are readable on white and on black.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.table import number

NAMES = {
    "raincheck": "raincheck",
    "celery": "Celery",
    "dramatiq": "Dramatiq",
    "taskiq": "taskiq",
    "arq": "arq",
    "huey": "huey",
    "bullmq": "BullMQ (Node)",
    "pgqueuer": "PgQueuer (PostgreSQL)",
}
BEHIND_FASTAPI = {
    "raincheck": "raincheck",
    **{key: f"FastAPI + {NAMES[key]}" for key in ("celery", "taskiq", "arq")},
    "echo": "FastAPI, bare echo",
}
PANELS = (
    ("Drain, one worker process, jobs/s", "drain", "{}", NAMES),
    ("Enqueue, 50 callers, jobs/s", "enqueue-together", "{}", NAMES),
    ("Submit to result, p50, ms: lower is better", "latency", "{}_p50", NAMES),
    ("POST /v1/job, requests/s", "http", "{}_post", BEHIND_FASTAPI),
)
OURS, THEIRS, INK = "#2f81c7", "#9aa0a6", "#7d848b"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "raincheck",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "ytick.color": INK,
}


def main(source: str, target: str) -> None:
    """Draw the panels that have figures in the results."""
    medians = figures(json.loads(Path(source).read_text()))
    panels = [
        (
            title,
            {
                name: medians[row]
                for key, name in names.items()
                if (row := (measure, row_key.format(key))) in medians
            },
        )
        for title, measure, row_key, names in PANELS
    ]
    panels = [(title, bars) for title, bars in panels if len(bars) > 1]
    if not panels:
        return
    mpl.rcParams.update(STYLE)
    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9.2, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, bars) in zip(axes.flat, panels, strict=False):
        _draw(axis, title, bars)
    figure.tight_layout(h_pad=2.0, w_pad=2.0)
    figure.savefig(target, transparent=True, metadata={"Date": None})


def figures(document: dict[str, Any]) -> dict[tuple[str, str], float]:
    """The medians, by measure and row."""
    return {
        (measure["name"], row["key"]): row["figure"][0]
        for measure in document["measures"]
        for row in measure["rows"]
        if row["figure"] is not None
    }


def _draw(axis: Any, title: str, bars: dict[str, float]) -> None:
    names = sorted(bars, key=lambda name: bars[name], reverse="lower is better" not in title)
    values = [bars[name] for name in names]
    colors = [OURS if name == "raincheck" else THEIRS for name in names]
    drawn = axis.barh(names, values, color=colors, height=0.62)
    axis.bar_label(drawn, [number(value) for value in values], padding=4, color=INK)
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axis.invert_yaxis()
    axis.set_xlim(0, max(values) * 1.16)
    axis.xaxis.set_visible(False)
    axis.tick_params(axis="y", length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


if __name__ == "__main__":
    main(*sys.argv[1:])
