"""The command ``python -m benchmarks.peers``: measures raincheck and its peers, and writes the results."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks import machine, report
from benchmarks.__main__ import WIDTH
from benchmarks.peers import output, roster, versions
from benchmarks.peers.measures import NAMES, measures
from benchmarks.peers.peer_bench import PeerBench, python
from benchmarks.run import run_all


def main() -> int:
    """Run the measures that the options select; returns 1 if one failed."""
    options = _options()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that child processes are stopped
    peers = [
        peer for peer in roster.PEERS if peer.key in {roster.RAINCHECK.key, *(options.peer or [peer.key])}
    ]
    if missing := {venv for venv in (peer.venv for peer in peers) if not Path(python(venv)).exists()}:
        console.print(f"Not installed: {', '.join(sorted(map(str, missing)))}. Run: make bench-peers")
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="raincheck-peers-", dir=options.folder) as temporary:
            bench = PeerBench(Path(temporary), peers, quick=options.quick)
            facts = {
                "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "quick": options.quick,
                "repeat": options.repeat,
                "machine": machine.machine(Path(temporary)),
                "versions": versions.versions(peers),
                "settings": versions.settings(peers),
            }
            for line in filter(None, (*report.introduction(facts), report.caution(facts))):
                console.print(line, markup=False)
            with bench.open():
                chosen = [each for each in measures(bench) if each.name in (options.only or [each.name])]
                results = run_all(chosen, bench, options.repeat, console)
    except KeyboardInterrupt:
        console.print("Interrupted: nothing was output.")
        return 130
    report.show(results, console)
    for problem in bench.problems:
        console.print(problem, style="red", markup=False)
    if folder := options.output or (
        None if options.only or options.peer or options.quick else output.RESULTS
    ):
        output.write(folder, facts | {"problems": bench.problems}, results, peers)
        console.print(f"Written: peers.json and peers.md in {folder}, and the chart", markup=False)
    return int(bool(bench.problems) or any(result.problem for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    names = ", ".join(NAMES)
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="NAME",
        help=f"run only this measure; can be repeated: {names}",
    )  # fmt: skip
    keys = [peer.key for peer in roster.PEERS]
    parser.add_argument(
        "--peer", action="append", choices=keys, metavar="PEER",
        help=f"measure only raincheck and this peer; can be repeated: {', '.join(keys)}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a fifth of the size")
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="runs of each measure (default: 1)"
    )
    parser.add_argument("--folder", type=Path, help="folder for temporary files of the servers")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for the results (default: benchmarks/results, if all measures run in full)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
