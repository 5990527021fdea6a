"""The command ``python -m benchmarks``: measure, print the table, write it down."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks import load, machine, report
from benchmarks.bench import Bench
from benchmarks.measures import MEASURES
from benchmarks.run import run_all

WIDTH = 150
"""Columns of what is printed into a file or a pipe."""

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run what the command line asks for; 1 if something could not be measured."""
    options = _options()
    repeat = options.repeat or (1 if options.quick else 3)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that children are ended then, too
    try:
        with tempfile.TemporaryDirectory(prefix="raincheck-bench-", dir=options.folder) as folder:
            bench = Bench(Path(folder), quick=options.quick)
            facts = {
                "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "quick": options.quick,
                "repeat": repeat,
                "machine": machine.machine(Path(folder)),
                "versions": machine.versions(),
                "settings": machine.settings(bench),
            }
            warnings = (*_warnings(facts["machine"], options.only), report.caution(facts))
            for line in filter(None, (*report.introduction(facts), *warnings)):
                console.print(line, markup=False)
            measures = [MEASURES[name] for name in MEASURES if name in (options.only or MEASURES)]
            results = run_all(measures, bench, repeat, console)
    except KeyboardInterrupt:
        console.print("Interrupted: nothing was written.")
        return 130
    report.show(results, console)
    if output := options.output or (None if options.only or options.quick else RESULTS):
        report.write(output, facts, results)
        console.print(f"Written: latest.json and latest.md in {output}", markup=False)
    return int(any(result.problem for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=MEASURES, metavar="NAME",
        help=f"measure this alone; may be given several times: {', '.join(MEASURES)}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="smaller and, unless told otherwise, one run")
    parser.add_argument("--repeat", type=int, metavar="N", help="runs of each measure (3)")
    parser.add_argument("--folder", type=Path, help="where the databases of both sides go for the while")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where the results go (benchmarks/results, if all was run)",
    )
    return parser.parse_args()


def _warnings(facts: dict[str, float], only: list[str] | None) -> list[str]:
    said = []
    if facts["fsync_4k_ms"] < machine.HARDLY_A_DISK:
        said.append("That is no disk: choose another folder with --folder, or durability costs nothing.")
    if load.generator() != "wrk" and "http" in (only or MEASURES):
        said.append(
            f"{load.INSTALL}: a generator in Python makes the load instead, at the cost of the servers."
        )
    return said


if __name__ == "__main__":
    sys.exit(main())
