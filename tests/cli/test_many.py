"""The commands retry, cancel and rm for many jobs."""

from __future__ import annotations

import json
import os
import signal
from uuid import uuid4

import pytest
from starlette.requests import Request
from starlette.responses import Response

from raincheck import Client
from tests.cli.conftest import Run
from tests.client.servers import gateway


@pytest.fixture
def failed(run: Run) -> tuple[str, list[str]]:
    """The name of three failed jobs, and their ids, oldest first."""
    name = f"failed {uuid4()}"
    body = json.dumps({"name": name, "functions": [{"name": "team/fail"}]})
    ids = [run("submit", "-", "--wait", "--json", stdin=body).job_id for _ in range(3)]
    return name, ids


def states(run: Run, name: str) -> list[str]:
    """The states of the jobs of a name, newest first."""
    return [job["state"] for job in json.loads(run("jobs", "--name", name, "--json").out)["jobs"]]


def test_jobs_are_deleted(run: Run, failed: tuple[str, list[str]]) -> None:
    """All that match; the number is printed."""
    name, _ = failed
    assert run("rm", "--name", name, "--state", "failed", "--yes") == (0, "Deleted 3 jobs\n", "")
    assert states(run, name) == []
    assert run("rm", "--name", name, "--yes") == (0, "Deleted 0 jobs\n", "")


def test_jobs_are_retried(run: Run, failed: tuple[str, list[str]]) -> None:
    """Chosen by state, function, error and time; as JSON, the result is that of the server."""
    name, ids = failed
    chosen = ("--state", "failed", "--function", "team/fail", "--error", "ValueError", "--since", "1h")
    ran = run("retry", "--name", name, *chosen, "--yes", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {
        "matched": 3,
        "changed": 3,
        "skipped": {},
        "dry_run": False,
        "cursor": None,
    }
    assert run("status", ids[0], "--json").job.run == 2


def test_jobs_are_cancelled(run: Run) -> None:
    """Only those that have not ended match."""
    name = f"later {uuid4()}"
    body = json.dumps({"name": name, "functions": [{"name": "add"}], "delay": 600})
    for _ in range(2):
        run("submit", "-", stdin=body)
    assert run("cancel", "--name", name, "-y") == (0, "Cancelled 2 jobs\n", "")
    assert states(run, name) == ["cancelled", "cancelled"]
    ran = run("cancel", "--name", name, "--state", "cancelled", "--yes")
    assert ran.out == "Cancelled 0 jobs (skipped: 2 unchanged)\n"


def test_a_dry_run_changes_nothing(run: Run, failed: tuple[str, list[str]]) -> None:
    """It prints the number on stdout and some of the jobs on stderr."""
    name, ids = failed
    ran = run("rm", "--name", name, "--dry-run")
    assert (ran.code, ran.out) == (0, "Would delete 3 jobs\n")
    assert [line.split()[0] for line in ran.err.splitlines()] == ["ID", *ids[::-1]]
    assert states(run, name) == ["failed"] * 3


def test_without_a_terminal_nobody_can_be_asked(run: Run, failed: tuple[str, list[str]]) -> None:
    """So --yes is required, and nothing is changed without it."""
    name, _ = failed
    ran = run("rm", "--name", name)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith("Error: Delete 3 jobs? Use --yes to do so without a terminal.\n")
    assert states(run, name) == ["failed"] * 3


@pytest.mark.parametrize("command", ["rm", "retry", "cancel"])
def test_a_command_needs_a_choice(run: Run, command: str) -> None:
    """An id, or options: not both, and not neither."""
    for arguments in ([], ["--yes"], ["some-id", "--name", "n"], ["some-id", "--all"], ["some-id", "--yes"]):
        ran = run(command, *arguments)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("Error: give ")


@pytest.mark.parametrize(
    "option", [["--state", "odd"], ["--since", "yesterday"], ["--since", "1h", "--until", "2h"]]
)
def test_an_invalid_choice_is_refused(run: Run, option: list[str]) -> None:
    """The exit code is 2, and nothing is changed."""
    assert run("rm", *option, "--yes").code == 2


def test_one_job_is_deleted(run: Run) -> None:
    """By its id; it must have ended."""
    job_id = run("call", "add", "--json").job_id
    assert run("rm", job_id) == (0, "", "")
    assert run("status", job_id).code == 3


def test_ctrl_c_stops_between_two_requests(run: Run, url: str) -> None:
    """It prints what was done, and the rest stays as it was; the command run again continues."""
    name = f"stopped {uuid4()}"
    with Client(url) as client:
        group = {"name": name, "functions": [{"name": "add"}], "delay": 600}
        for _ in range(510):
            client.request("POST", "/v1/job", json.dumps(group).encode())

    with gateway(url) as front:

        async def interrupt(request: Request) -> Response:
            os.kill(os.getpid(), signal.SIGINT)
            return await front.forward(request)

        front.handlers += [front.forward, front.forward, interrupt]  # the first two only count
        ran = run("cancel", "--name", name, "--yes", "--url", front.url)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err == "Stopped. Cancelled 500 jobs. Run the command again for the other jobs.\n"
    assert run("cancel", "--name", name, "--yes").out == "Cancelled 10 jobs\n"
