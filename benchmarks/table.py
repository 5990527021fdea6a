"""Formats figures as the cells of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.figures import Check, Line, Spread, Verdict

HEADINGS = ("measure", "median", "min to max", "compared with", "ratio", "target", "met")
RIGHT = {"median", "min to max", "ratio", "target"}


class Cells(NamedTuple):
    """One line of the table."""

    label: str
    figure: str
    spread: str
    against: str
    ratio: str
    target: str
    met: str


def cells(lines: Sequence[Line]) -> Iterator[Cells]:
    """Yield a line for each row, and another one for each further comparison."""
    for line in lines:
        unit = line.row.unit
        figure = "not measured" if line.figure is None else f"{number(line.figure.middle)} {unit}"
        first, *more = line.verdicts or (None,)
        yield Cells(line.row.label, figure, _spread(line.figure), *_verdict(first, unit))
        yield from (Cells("", "", "", *_verdict(verdict, unit)) for verdict in more)


def number(value: float) -> str:
    """A figure with about three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    digits = 1 if value >= 10 else 2
    return f"{value:.{digits}f}".removesuffix(".00").removesuffix(".0")


def _spread(spread: Spread | None) -> str:
    if spread is None or spread.least == spread.most:
        return ""
    return f"{number(spread.least)} to {number(spread.most)}"


def _verdict(verdict: Verdict | None, unit: str) -> tuple[str, str, str, str]:
    if verdict is None:
        return "", "", "", ""
    ratio = "" if verdict.ratio is None else f"{number(verdict.ratio.middle)} x"
    met = {True: "yes", False: "NO", None: ""}[verdict.met]
    return verdict.against or "", ratio, _target(verdict.check, unit), met


def _target(check: Check, unit: str) -> str:
    limit = check.most if check.least is None else check.least
    if limit is None:
        return ""
    return f"{'≤' if check.least is None else '≥'} {number(limit)} {'x' if check.against else unit}"
