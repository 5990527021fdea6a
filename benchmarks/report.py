"""The report of a run: a table on the terminal and in Markdown, and all figures in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.figures import Line, Spread, Verdict
from benchmarks.run import Result
from benchmarks.table import HEADINGS, RIGHT, cells

STYLES = {"yes": "green", "NO": "bold red"}


def introduction(facts: dict[str, Any]) -> Iterator[str]:
    """The machine, the versions and the settings, on one line each."""
    machine = facts["machine"]
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}; "
        f"load before {machine['load_before']}; a synced write of 4 KiB takes {machine['fsync_4k_ms']} ms"
    )
    yield ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    yield from (f"{side}: {text}" for side, text in facts["settings"].items())


def show(results: Sequence[Result], console: Console) -> None:
    """Print the table."""
    table = Table(header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in RIGHT else "left")
    for result in results:
        table.add_section()
        table.add_row(Text(result.measure.title, style="bold"))
        for line in cells(result.lines):
            table.add_row(*(Text(text, style=STYLES.get(text, "")) for text in line))
    console.print(table)
    console.print(summary(results))


def caution(facts: dict[str, Any]) -> str:
    """A warning if the machine was busy; else empty."""
    machine = facts["machine"]
    busy = machine["load_before"] > 0.5 * machine["cores"]
    return "The machine was busy, so these figures are not reliable." if busy else ""


def summary(results: Sequence[Result]) -> str:
    """The number of targets that are met."""
    met = [
        verdict.met
        for result in results
        for line in result.lines
        for verdict in line.verdicts
        if verdict.check.is_target
    ]
    missing = f", {met.count(None)} not measured" if None in met else ""
    return f"{met.count(True)} of {len(met)} targets met{missing}."


def write(
    folder: Path,
    facts: dict[str, Any],
    results: Sequence[Result],
    name: str = "latest",
    overview: Sequence[str] = (),
) -> None:
    """Write ``NAME.json`` and ``NAME.md``. The lines of ``overview`` are printed before the table."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {**facts, "measures": [_measure(result) for result in results]}
    (folder / f"{name}.json").write_text(_json(document), "utf-8")
    (folder / f"{name}.md").write_text("\n".join(_markdown(facts, results, overview)) + "\n", "utf-8")


def _markdown(facts: dict[str, Any], results: Sequence[Result], overview: Sequence[str]) -> Iterator[str]:
    runs = f"medians of {facts['repeat']} runs" if facts["repeat"] > 1 else "one run"
    quick = ", a fifth of the size" if facts["quick"] else ""
    yield from (
        "# Benchmarks",
        "",
        f"{facts['date']}, {runs}{quick}. {summary(results)} {caution(facts)}".rstrip(),
        "",
    )
    yield from (f"- {line}" for line in introduction(facts))
    yield from ("", *overview)
    yield f"| {' | '.join(HEADINGS)} |"
    yield f"|{'|'.join('--:' if heading in RIGHT else '---' for heading in HEADINGS)}|"
    for result in results:
        yield f"| **{result.measure.title}** |" + " |" * (len(HEADINGS) - 1)
        yield from (f"| {' | '.join(line)} |" for line in cells(result.lines))


def _measure(result: Result) -> dict[str, Any]:
    return {
        "name": result.measure.name,
        "title": result.measure.title,
        "runs": result.runs,
        "seconds": round(result.seconds, 1),
        **({"problem": result.problem} if result.problem else {}),
        "rows": [_row(line) for line in result.lines],
    }


def _row(line: Line) -> dict[str, Any]:
    row = line.row
    return {
        "key": row.key,
        "label": row.label,
        "unit": row.unit,
        "figure": _numbers(line.figure),
        **({"checks": [_check(verdict) for verdict in line.verdicts]} if line.verdicts else {}),
    }


def _check(verdict: Verdict) -> dict[str, Any]:
    check = verdict.check
    fields = {
        "against": check.against,
        "ratio": _numbers(verdict.ratio),
        "at_least": check.least,
        "at_most": check.most,
        "met": verdict.met,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _numbers(spread: Spread | None) -> list[float] | None:
    """Median, minimum and maximum."""
    if spread is None:
        return None
    return [float(f"{value:.4g}") for value in (spread.middle, spread.least, spread.most)]


def _json(document: dict[str, Any]) -> str:
    """JSON with one line for each row of the table, for readable diffs."""
    rows = {
        f"<{m}.{r}>": row for m, each in enumerate(document["measures"]) for r, row in enumerate(each["rows"])
    }
    marked = [
        {**each, "rows": [f"<{m}.{r}>" for r in range(len(each["rows"]))]}
        for m, each in enumerate(document["measures"])
    ]
    text = json.dumps({**document, "measures": marked}, indent=1, ensure_ascii=False)
    for mark, row in rows.items():
        text = text.replace(f'"{mark}"', json.dumps(row, ensure_ascii=False))
    return text + "\n"
