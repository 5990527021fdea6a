"""What the benchmarks say about figures: ratios, targets, and who has what."""

from benchmarks.figures import Measure, Readings, Row, at_least, at_most, lines, ratio_to
from benchmarks.peers import written
from benchmarks.peers.roster import Peer
from benchmarks.report import caution, summary
from benchmarks.run import Result
from benchmarks.table import Cells, cells

OURS, THEIRS = Peer("ours", "Ours", "", 1), Peer("theirs", "Theirs", "", 1)


def result(name: str, rows: tuple[Row, ...], *runs: Readings) -> Result:
    """What came of runs that gave these figures."""
    measure = Measure(name, name.title(), rows, lambda bench: {})
    return Result(measure, lines(measure, runs), len(runs), 0.0, None)


def drain(least: float, *runs: Readings) -> Result:
    """Ours held against theirs."""
    rows = (Row("ours", "Ours", "jobs/s", (at_least(least, "theirs"),)), Row("theirs", "Theirs", "jobs/s"))
    return result("drain", rows, *runs)


def test_a_ratio_is_the_median_of_those_within_each_run() -> None:
    """A ratio is taken within each run, and their median is shown."""
    runs: tuple[Readings, ...] = (
        {"ours": 30, "theirs": 10},
        {"ours": 40, "theirs": 10},
        {"ours": 100, "theirs": 50},
    )
    assert next(cells(drain(3.0, *runs).lines)) == Cells(
        "Ours", "40 jobs/s", "30 to 100", "Theirs", "3 x", "≥ 3 x", "yes"
    )


def test_a_target_that_is_missed_is_said_loudly() -> None:
    """A target that is missed says NO."""
    assert next(cells(drain(20.0, {"ours": 30, "theirs": 10}).lines)).met == "NO"


def test_a_target_may_be_a_figure() -> None:
    """A figure can be held against a limit of its own."""
    rows = (Row("ours", "Ours", "ms", (at_most(1.0), ratio_to("theirs"))), Row("theirs", "Theirs", "ms"))
    assert [cell[3:] for cell in cells(result("latency", rows, {"ours": 0.5, "theirs": 2.0}).lines)] == [
        ("", "", "≤ 1 ms", "yes"),
        ("Theirs", "0.25 x", "", ""),
        ("", "", "", ""),
    ]


def test_a_peer_that_failed_is_not_counted_as_beaten() -> None:
    """A target whose peer could not be measured is neither met nor missed."""
    failed = drain(2.0, {"ours": 30})
    assert [cell.met for cell in cells(failed.lines)] == ["", ""]
    assert summary([failed]) == "0 of 1 targets met, 1 not measured."


def test_the_overview_has_a_dash_for_what_a_peer_lacks() -> None:
    """The overview has a line for each peer, and a dash for what it has not."""
    bulk = result("enqueue-bulk", (Row("ours", "Ours", "jobs/s"),), {"ours": 1234})
    assert list(written.overview([bulk, drain(2.0, {"ours": 30, "theirs": 10})], [OURS, THEIRS])) == [
        "| | bulk, /s | drain, /s |",
        "|---|--:|--:|",
        "| Ours | 1,234 | 30 |",
        "| Theirs | - | 10 |",
    ]


def test_a_busy_machine_is_owned_up_to() -> None:
    """Figures of a machine that had other work come with a warning."""
    assert "busy" in caution({"machine": {"load_before": 1.1, "cores": 2}})
    assert caution({"machine": {"load_before": 0.9, "cores": 2}}) == ""
