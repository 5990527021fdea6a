"""What a measure gives: readings, the rows they make, and what each is held against. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.bench import Bench

Readings = dict[str, float]
"""The figures of one run of a measure, by the key of their row."""


@dataclass(frozen=True)
class Check:
    """What a figure is held against: another row of the same run (its ratio to it), or itself.

    ``least`` and ``most`` are the target; with neither the ratio is only shown.
    """

    against: str | None = None
    least: float | None = None
    most: float | None = None

    @property
    def is_target(self) -> bool:
        """Whether there is something to be met."""
        return self.least is not None or self.most is not None

    def holds(self, value: float) -> bool | None:
        """Whether the target is met; None: there is none."""
        if self.least is not None:
            return value >= self.least
        return None if self.most is None else value <= self.most


def at_least(limit: float, against: str | None = None) -> Check:
    """The figure, or its ratio to the row ``against``, is to be ``limit`` or more."""
    return Check(against, least=limit)


def at_most(limit: float, against: str | None = None) -> Check:
    """The figure, or its ratio to the row ``against``, is to be ``limit`` or less."""
    return Check(against, most=limit)


def ratio_to(against: str) -> Check:
    """Show the ratio to the row ``against``."""
    return Check(against)


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    key: str
    label: str
    unit: str
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Measure:
    """Something that can be measured; ``once``: its figures are steady, one run of it will do."""

    name: str
    title: str
    rows: tuple[Row, ...]
    run: Callable[[Bench], Readings]
    once: bool = False


@dataclass(frozen=True)
class Spread:
    """The median of several runs, between the least and the most."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one or more values."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Verdict:
    """A check with what came of it.

    ``ratio`` is None where the figure itself is held to the target; ``met`` is None where there is no
    target, or nothing was measured.
    """

    check: Check
    against: str | None
    ratio: Spread | None
    met: bool | None


@dataclass(frozen=True)
class Line:
    """A row with its figures; ``figure`` is None where it could not be measured."""

    row: Row
    figure: Spread | None
    verdicts: tuple[Verdict, ...]


def lines(measure: Measure, runs: Sequence[Readings]) -> list[Line]:
    """The rows of a measure after its runs. Ratios are taken within each run, then their median."""
    return [_line(row, measure, runs) for row in measure.rows]


def _line(row: Row, measure: Measure, runs: Sequence[Readings]) -> Line:
    values = [run[row.key] for run in runs if row.key in run]
    figure = Spread.of(values) if values else None
    return Line(row, figure, tuple(_verdict(check, row, figure, measure, runs) for check in row.checks))


def _verdict(
    check: Check, row: Row, figure: Spread | None, measure: Measure, runs: Sequence[Readings]
) -> Verdict:
    if check.against is None:
        return Verdict(check, None, None, None if figure is None else check.holds(figure.middle))
    label = next(other.label for other in measure.rows if other.key == check.against)
    both = [run for run in runs if row.key in run and check.against in run]
    if not both:
        return Verdict(check, label, None, None)
    ratio = Spread.of([run[row.key] / run[check.against] for run in both])
    return Verdict(check, label, ratio, check.holds(ratio.middle))
