"""The commands schedules, schedule and counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.cli.conftest import Run


@pytest.fixture
def nightly(url: str) -> str:
    """The name of a schedule that exists."""
    body: dict[str, Any] = {
        "cron": "0 3 * * *",
        "zone": "Europe/Paris",
        "functions": [{"name": "add", "args": [1, 2]}, [{"name": "greet", "args": ["x"]}, {"name": "add"}]],
        "paused": False,
    }
    httpx2.put(f"{url}/v1/schedule/nightly", json=body).raise_for_status()
    return "nightly"


def test_schedules_are_listed(run: Run, nightly: str) -> None:
    """With their timing and their functions."""
    ran = run("schedules")
    assert ran.code == 0
    head, line = ran.out.splitlines()
    assert head.split() == ["NAME", "WHEN", "NEXT", "IN", "LAST", "FUNCTIONS"]
    assert line.startswith("nightly   0 3 * * * Europe/Paris   ")
    assert line.endswith("   add greet add")


def test_a_schedule_is_shown(run: Run, nightly: str) -> None:
    """With its next five firings."""
    lines = run("schedule", nightly).out.splitlines()
    assert lines[0] == "nightly  active  0 3 * * * Europe/Paris"
    assert [line.split()[0] for line in lines[1:4]] == ["runs", "last", "next"]
    assert len(lines) == 8


def test_a_schedule_is_paused_and_resumed(run: Run, nightly: str) -> None:
    """The output has the new state."""
    assert run("schedule", nightly, "pause").out.splitlines()[0].split()[1] == "paused"
    assert "paused" in run("schedules").out
    assert run("schedule", nightly, "resume").out.splitlines()[0].split()[1] == "active"


def test_a_schedule_is_run(run: Run, nightly: str) -> None:
    """Only the job's id is printed."""
    ran = run("schedule", nightly, "run")
    assert (ran.code, ran.err) == (0, "")
    job = json.loads(run("status", ran.out.strip(), "--json").out)
    assert (job["name"], job["schedule"]) == ("nightly", "nightly")


def test_a_schedule_as_json(run: Run, nightly: str) -> None:
    """Alone and in the list."""
    shown = json.loads(run("schedule", nightly, "--json").out)
    assert (shown["name"], len(shown["next"])) == ("nightly", 5)
    assert [each["name"] for each in json.loads(run("schedules", "--json").out)] == ["nightly"]


def test_a_schedule_is_deleted(run: Run, nightly: str) -> None:
    """Then the exit code for it is 3."""
    ran = run("schedule", nightly, "delete")
    assert ran == (0, "", "Deleted the schedule nightly. Its jobs remain.\n")
    assert run("schedule", nightly).code == 3
    assert run("schedules") == (0, "", "No schedules\n")


def test_an_unknown_action_is_refused(run: Run, nightly: str) -> None:
    """Before any request."""
    assert run("schedule", nightly, "explode").code == 2


def test_jobs_are_counted(run: Run) -> None:
    """By state, and queued steps by function."""
    run("call", "add", "1")
    lines = [line.split() for line in run("counts").out.splitlines()]
    assert lines[0] == ["STATE", "JOBS"]
    assert [line[0] for line in lines[1:8]] == [
        *("scheduled", "pending", "doing", "retrying", "done", "failed", "cancelled")
    ]
    counted = json.loads(run("counts", "--json").out)
    assert counted["jobs"]["done"] >= 1
    assert counted["running"] == 0


def test_check_validates_schedules(run: Run, tmp_path: Path) -> None:
    """Each error has its line; the summary has the number of schedules."""
    file = tmp_path / "raincheck.yaml"
    file.write_text("schedules:\n  nightly:\n    cron: 0 3 * * *\n    functions: [add]\n")
    assert run("check", str(file)) == (0, f"{file}: 0 group(s), 0 job(s), 1 schedule(s), no errors\n", "")
    file.write_text("schedules:\n  nightly:\n    cron: 0 25 * * *\n    functions: [add]\n")
    ran = run("check", str(file))
    assert (ran.code, ran.out) == (
        2,
        f"{file}:3: /schedules/nightly/cron: is not a cron expression: Bad hour\n",
    )
