"""The benchmarks against peers, run as a command for raincheck alone: the peers are not installed here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.measures import NAMES, measures
from benchmarks.peers.peer_bench import PeerBench
from benchmarks.peers.roster import PEERS

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.acceptance
def test_raincheck_is_measured_on_its_own_valkey(tmp_path: Path) -> None:
    """The command starts a server and a worker, and writes the figures."""
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
    completed = subprocess.run(
        [*command, "--output", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    results = json.loads((tmp_path / "peers.json").read_text())
    figures = {row["key"]: row["figure"][0] for row in results["measures"][0]["rows"]}
    assert figures.keys() == {"raincheck_p50", "raincheck_p99"}
    assert 0 < figures["raincheck_p50"] <= figures["raincheck_p99"]
    assert "| raincheck |" in (tmp_path / "peers.md").read_text()


def test_every_measure_can_be_named(tmp_path: Path) -> None:
    """The names of the command are those of the measures, and every comparison is with an existing row."""
    every = measures(PeerBench(tmp_path, PEERS, quick=True))
    assert tuple(measure.name for measure in every) == NAMES
    for measure in every:
        keys = {row.key for row in measure.rows}
        assert {check.against for row in measure.rows for check in row.checks} - {None} <= keys
