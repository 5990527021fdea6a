"""The report of the benchmarks: ratios, targets and the overview."""

from benchmarks.figures import Measure, Readings, Row, at_least, at_most, lines, ratio_to
from benchmarks.peers import output
from benchmarks.peers.roster import Peer
from benchmarks.report import caution, summary
from benchmarks.run import Result
from benchmarks.table import Cells, cells

OURS, THEIRS = Peer("ours", "Ours", "", 1), Peer("theirs", "Theirs", "", 1)


def result(name: str, rows: tuple[Row, ...], *runs: Readings) -> Result:
    """The result of runs with these readings."""
    measure = Measure(name, name.title(), rows, lambda bench: {})
    return Result(measure, lines(measure, runs), len(runs), 0.0, None)


def drain(least: float, *runs: Readings) -> Result:
    """A measure that compares ours with theirs."""
    rows = (Row("ours", "Ours", "jobs/s", (at_least(least, "theirs"),)), Row("theirs", "Theirs", "jobs/s"))
    return result("drain", rows, *runs)


def test_a_ratio_is_the_median_of_those_within_each_run() -> None:
    """A ratio is computed within each run, and the median is shown."""
    runs: tuple[Readings, ...] = (
        {"ours": 30, "theirs": 10},
        {"ours": 40, "theirs": 10},
        {"ours": 100, "theirs": 50},
    )
    assert next(cells(drain(3.0, *runs).lines)) == Cells(
        "Ours", "40 jobs/s", "30 to 100", "Theirs", "3 x", "≥ 3 x", "yes"
    )


def test_a_missed_target_is_marked() -> None:
    """It has NO in the last column."""
    assert next(cells(drain(20.0, {"ours": 30, "theirs": 10}).lines)).met == "NO"


def test_a_target_can_be_for_the_figure_itself() -> None:
    """A figure can have its own limit."""
    rows = (Row("ours", "Ours", "ms", (at_most(1.0), ratio_to("theirs"))), Row("theirs", "Theirs", "ms"))
    assert [cell[3:] for cell in cells(result("latency", rows, {"ours": 0.5, "theirs": 2.0}).lines)] == [
        ("", "", "≤ 1 ms", "yes"),
        ("Theirs", "0.25 x", "", ""),
        ("", "", "", ""),
    ]


def test_a_target_against_a_failed_peer_is_not_met() -> None:
    """It is neither met nor missed."""
    failed = drain(2.0, {"ours": 30})
    assert [cell.met for cell in cells(failed.lines)] == ["", ""]
    assert summary([failed]) == "0 of 1 targets met, 1 not measured."


def test_the_overview_has_a_dash_for_a_missing_figure() -> None:
    """It has a line for each peer."""
    bulk = result("enqueue-bulk", (Row("ours", "Ours", "jobs/s"),), {"ours": 1234})
    assert list(output.overview([bulk, drain(2.0, {"ours": 30, "theirs": 10})], [OURS, THEIRS])) == [
        "| | bulk, /s | drain, /s |",
        "|---|--:|--:|",
        "| Ours | 1,234 | 30 |",
        "| Theirs | - | 10 |",
    ]


def test_a_busy_machine_is_reported() -> None:
    """The figures of a busy machine have a warning."""
    assert "busy" in caution({"machine": {"load_before": 1.1, "cores": 2}})
    assert caution({"machine": {"load_before": 0.9, "cores": 2}}) == ""
