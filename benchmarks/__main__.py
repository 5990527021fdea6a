"""The command ``python -m benchmarks``: runs the measures, prints a table and writes it to files."""

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
"""Columns of the output if it is a file or a pipe."""

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run the measures that the options select; returns 1 if one failed."""
    options = _options()
    repeat = options.repeat or (1 if options.quick else 3)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that child processes are stopped
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
        console.print("Interrupted. No files were written.")
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
        help=f"run only this measure; can be repeated: {', '.join(MEASURES)}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="smaller sizes, and by default one run")
    parser.add_argument("--repeat", type=int, metavar="N", help="runs of each measure (default: 3)")
    parser.add_argument("--folder", type=Path, help="folder for temporary databases")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for the results (default: benchmarks/results, if all measures run in full)",
    )
    return parser.parse_args()


def _warnings(facts: dict[str, float], only: list[str] | None) -> list[str]:
    warnings = []
    if facts["fsync_4k_ms"] < machine.FASTER_THAN_DISKS:
        warnings.append("The folder is not on a disk, so syncs cost nothing. Choose another --folder.")
    if load.generator() != "wrk" and "http" in (only or MEASURES):
        warnings.append(
            f"{load.INSTALL}. A generator in Python creates the load and uses CPU time of the servers."
        )
    return warnings


if __name__ == "__main__":
    sys.exit(main())
