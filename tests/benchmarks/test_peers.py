"""The benchmarks against peers run as a command; here raincheck alone: peers are installed elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.measures import NAMES, measures
from benchmarks.peers.place import Place
from benchmarks.peers.roster import PEERS

ROOT = Path(__file__).parents[2]


@pytest.mark.acceptance
def test_raincheck_is_measured_on_a_valkey_of_its_own(tmp_path: Path) -> None:
    """The command starts a server and a worker, and writes what it has measured."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers",
        "--quick",
        "--peer",
        "raincheck",
        "--only",
        "latency",
    ]
    done = subprocess.run(
        [*command, "--output", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "peers.json").read_text())
    figures = {row["key"]: row["figure"][0] for row in found["measures"][0]["rows"]}
    assert figures.keys() == {"raincheck_p50", "raincheck_p99"}
    assert 0 < figures["raincheck_p50"] <= figures["raincheck_p99"]
    assert "| raincheck |" in (tmp_path / "peers.md").read_text()


def test_every_measure_can_be_named(tmp_path: Path) -> None:
    """What the command offers is what there is, and whatever a row is held against is a row."""
    every = measures(Place(tmp_path, PEERS, quick=True))
    assert tuple(measure.name for measure in every) == NAMES
    for measure in every:
        keys = {row.key for row in measure.rows}
        assert {check.against for row in measure.rows for check in row.checks} - {None} <= keys
