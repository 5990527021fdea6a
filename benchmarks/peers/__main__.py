"""The command ``python -m benchmarks.peers``: measure raincheck and its peers, and write it down."""

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
from benchmarks.peers import roster, versions, written
from benchmarks.peers.measures import NAMES, measures
from benchmarks.peers.place import Place, python
from benchmarks.run import run_all


def main() -> int:
    """Run what the command line asks for; 1 if something could not be measured."""
    options = _options()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that children are ended then, too
    peers = [
        peer for peer in roster.PEERS if peer.key in {roster.RAINCHECK.key, *(options.peer or [peer.key])}
    ]
    if missing := {venv for venv in (peer.venv for peer in peers) if not Path(python(venv)).exists()}:
        console.print(f"Not installed: {', '.join(sorted(map(str, missing)))}. make bench-peers does that.")
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="raincheck-peers-", dir=options.folder) as folder:
            place = Place(Path(folder), peers, quick=options.quick)
            facts = {
                "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "quick": options.quick,
                "repeat": options.repeat,
                "machine": machine.machine(Path(folder)),
                "versions": versions.found(peers),
                "settings": versions.settings(peers),
            }
            for line in filter(None, (*report.introduction(facts), report.caution(facts))):
                console.print(line, markup=False)
            with place.open():
                chosen = [each for each in measures(place) if each.name in (options.only or [each.name])]
                results = run_all(chosen, place, options.repeat, console)
    except KeyboardInterrupt:
        console.print("Interrupted: nothing was written.")
        return 130
    report.show(results, console)
    for problem in place.problems:
        console.print(problem, style="red", markup=False)
    if output := options.output or (
        None if options.only or options.peer or options.quick else written.RESULTS
    ):
        written.write(output, facts | {"problems": place.problems}, results, peers)
        console.print(f"Written: peers.json and peers.md in {output}, and the chart", markup=False)
    return int(bool(place.problems) or any(result.problem for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    names = ", ".join(NAMES)
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="NAME",
        help=f"measure this alone; may be given several times: {names}",
    )  # fmt: skip
    keys = [peer.key for peer in roster.PEERS]
    parser.add_argument(
        "--peer", action="append", choices=keys, metavar="PEER",
        help=f"raincheck and this alone; may be given several times: {', '.join(keys)}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a fifth of the size")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each measure (1)")
    parser.add_argument("--folder", type=Path, help="where the servers' files go for the while")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where the results go (benchmarks/results, if all was run)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
