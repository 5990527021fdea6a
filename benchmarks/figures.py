"""The figures of a measure: readings, rows, and the comparison of each row with others. No I/O."""

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
    """A comparison of a figure: its ratio to another row of the same run, or the figure itself.

    ``least`` and ``most`` are the target. Without a target, the ratio is only shown.
    """

    against: str | None = None
    least: float | None = None
    most: float | None = None

    @property
    def is_target(self) -> bool:
        """Whether it has a target."""
        return self.least is not None or self.most is not None

    def is_met(self, value: float) -> bool | None:
        """Whether the value meets the target; None if there is no target."""
        if self.least is not None:
            return value >= self.least
        return None if self.most is None else value <= self.most


def at_least(limit: float, against: str | None = None) -> Check:
    """A target: the figure, or its ratio to the row ``against``, is ``limit`` or more."""
    return Check(against, least=limit)


def at_most(limit: float, against: str | None = None) -> Check:
    """A target: the figure, or its ratio to the row ``against``, is ``limit`` or less."""
    return Check(against, most=limit)


def ratio_to(against: str) -> Check:
    """The ratio to the row ``against``, without a target."""
    return Check(against)


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    key: str
    label: str
    unit: str
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Measure:
    """A measure. With ``once`` it runs only once, as its figures do not vary."""

    name: str
    title: str
    rows: tuple[Row, ...]
    run: Callable[[Bench], Readings]
    once: bool = False


@dataclass(frozen=True)
class Spread:
    """The median, minimum and maximum of several runs."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one or more values."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Verdict:
    """The result of a check.

    ``ratio`` is None if the target is for the figure itself. ``met`` is None if there is no target, or if
    the figure could not be measured.
    """

    check: Check
    against: str | None
    ratio: Spread | None
    met: bool | None


@dataclass(frozen=True)
class Line:
    """A row with its figures; ``figure`` is None if it could not be measured."""

    row: Row
    figure: Spread | None
    verdicts: tuple[Verdict, ...]


def lines(measure: Measure, runs: Sequence[Readings]) -> list[Line]:
    """The lines of a measure. A ratio is computed within each run; the line has the median of the ratios."""
    return [_line(row, measure, runs) for row in measure.rows]


def _line(row: Row, measure: Measure, runs: Sequence[Readings]) -> Line:
    values = [run[row.key] for run in runs if row.key in run]
    figure = Spread.of(values) if values else None
    return Line(row, figure, tuple(_verdict(check, row, figure, measure, runs) for check in row.checks))


def _verdict(
    check: Check, row: Row, figure: Spread | None, measure: Measure, runs: Sequence[Readings]
) -> Verdict:
    if check.against is None:
        return Verdict(check, None, None, None if figure is None else check.is_met(figure.middle))
    label = next(other.label for other in measure.rows if other.key == check.against)
    comparable = [run for run in runs if row.key in run and check.against in run]
    if not comparable:
        return Verdict(check, label, None, None)
    ratio = Spread.of([run[row.key] / run[check.against] for run in comparable])
    return Verdict(check, label, ratio, check.is_met(ratio.middle))
