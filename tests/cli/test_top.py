"""The command top."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.conftest import Run


def test_a_snapshot_is_printed_once(run: Run) -> None:
    """Throughput, jobs by state, queues, workers and failures."""
    run("call", "team/fail", "no reason")
    job = json.dumps({"name": "waits", "functions": [{"name": "of-nobody"}]})
    run("submit", "-", stdin=job)
    ran = run("top", "--once", "--interval", "0.5")
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"^[0-9.]+ done/s   [0-9.]+ failed/s   \d+ running, \d+ queued$", ran.out, re.MULTILINE)
    assert re.search(r"^1 +of-nobody +0 workers$", ran.out, re.MULTILINE)
    assert re.search(r"0 of 100 +active +\S+$", ran.out, re.MULTILINE)
    assert re.search(r"team/fail +team/fail raised ValueError: no reason$", ran.out, re.MULTILINE)


def test_a_snapshot_as_json(run: Run) -> None:
    """It has the documents of the HTTP API."""
    run("call", "team/fail")
    snapshot = json.loads(run("top", "--json").out)
    assert snapshot["counts"]["jobs"]["failed"] >= 1
    assert snapshot["workers"][0]["concurrency"] == 100
    assert snapshot["failed"][0]["error"]["exception"] == "ValueError"


@pytest.mark.parametrize("interval", ["0.1", "0", "-1", "x"])
def test_requests_are_limited(run: Run, interval: str) -> None:
    """The interval is half a second at least."""
    assert run("top", "--once", "--interval", interval).code == 2
