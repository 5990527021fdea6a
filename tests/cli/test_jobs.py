"""The commands submit, status, watch, cancel and retry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from raincheck.engine.documents import JobDocument
from tests.cli.app import ESCAPES
from tests.cli.conftest import Run


def job(*functions: Any, name: str = "test", **more: Any) -> str:
    return json.dumps({"name": name, "functions": [*functions], **more})


ADD = {"name": "add", "args": [1, 2]}
FAIL = {"name": "team/fail"}
NAP = {"name": "nap", "args": [60]}
UNKNOWN = {"name": "nobody-offers-this"}
NO_ID = "01890000-0000-7000-8000-000000000000"


def submitted(run: Run, *functions: Any, wait: bool = True) -> str:
    """Submit a job; returns its id."""
    document = run("submit", "-", "--json", *(["--wait"] if wait else []), stdin=job(*functions)).job
    return document.id


def test_submit_prints_the_id(run: Run) -> None:
    """Only the id is on stdout; the command that watches it is on stderr."""
    ran = run("submit", "-", stdin=job(ADD))
    assert ran.code == 0
    assert ran.err == f"To watch it: raincheck watch {ran.out}"


def test_submit_reads_a_file(run: Run, tmp_path: Path) -> None:
    """Or stdin, for the name -."""
    file = tmp_path / "job.json"
    file.write_text(job(ADD), "utf-8")
    assert run("submit", str(file), "--wait", "--json").job.result == 3


def test_submit_of_a_missing_file_is_an_error(run: Run, tmp_path: Path) -> None:
    """The exit code is 2, and the message has the reason."""
    ran = run("submit", str(tmp_path / "none.json"))
    assert (ran.code, ran.out) == (2, "")
    assert "No such file" in ran.err


def test_submit_can_wait(run: Run) -> None:
    """It prints the ended job."""
    ran = run("submit", "-", "--wait", stdin=job(ADD))
    assert ran.code == 0
    assert "add(1, 2)" in ran.out
    assert "Result: 3" in ran.out


def test_submit_that_waits_prints_a_failure(run: Run) -> None:
    """The exit code is 1."""
    ran = run("submit", "-", "--wait", stdin=job(ADD, FAIL, ADD))
    assert ran.code == 1
    assert "try 2/2" in ran.out
    assert "team/fail raised ValueError: always" in ran.out
    assert ran.err.startswith("To see why: raincheck status ")
    assert "never ran" in ran.out


def test_submit_that_waits_too_short_prints_the_job(run: Run) -> None:
    """The exit code is 5."""
    ran = run("submit", "-", "--wait", "0", "--json", stdin=job(NAP))
    assert ran.code == 5
    assert ran.job.state in ("pending", "doing")
    assert f"raincheck watch {ran.job.id}" in ran.err
    run("cancel", ran.job.id)


def test_submit_warns_if_no_worker_offers_a_function(run: Run) -> None:
    """The job is accepted, as a worker can start later."""
    ran = run("submit", "-", stdin=job(UNKNOWN))
    assert ran.code == 0
    assert "Warning: no worker offers 'nobody-offers-this'." in ran.err
    assert "No worker offers 'nobody-offers-this'." in run("status", ran.out.strip()).out


@pytest.mark.parametrize(
    ("document", "messages"),
    [
        ("{", ["not JSON"]),
        ("", ["the body is empty"]),
        ("[]", ["/"]),
        (job(), ["/functions"]),
        (job(ADD, other=1), ["/other"]),
        (job(ADD, {"name": "greet"}), ["/functions/1", "'name' is missing"]),
    ],
)
def test_submit_prints_every_fault_with_its_pointer(run: Run, document: str, messages: list[str]) -> None:
    """The exit code is 2."""
    ran = run("submit", "-", stdin=document)
    assert (ran.code, ran.out) == (2, "")
    for message in messages:
        assert message in ran.err


def test_status_shows_a_job(run: Run) -> None:
    """Its state, its steps and its result."""
    ran = run("status", submitted(run, [ADD, ADD], ADD))
    assert ran.code == 0
    assert "✓ test  done after" in ran.out
    assert "┌ ✓  add(1, 2)" in ran.out
    assert "└ ✓  add(1, 2)" in ran.out
    assert "Result: 3" in ran.out


def test_status_of_a_failed_job(run: Run) -> None:
    """The exit code is 1."""
    assert run("status", submitted(run, FAIL)).code == 1


def test_status_of_an_unfinished_job(run: Run) -> None:
    """The exit code is 0."""
    job_id = submitted(run, NAP, wait=False)
    assert run("status", job_id).code == 0
    run("cancel", job_id)


def test_status_as_json_is_the_response_of_the_server(run: Run, url: str) -> None:
    """Unchanged."""
    job_id = submitted(run, ADD)
    assert json.loads(run("status", job_id, "--json").out) == httpx2.get(f"{url}/v1/job/{job_id}").json()


@pytest.mark.parametrize("command", ["status", "watch", "cancel", "retry"])
@pytest.mark.parametrize("job_id", [NO_ID, "no-id", "a/b", ""])
def test_an_unknown_job(run: Run, command: str, job_id: str) -> None:
    """The exit code is 3, or that of the server's response to such a path."""
    ran = run(command, job_id)
    assert ran.code in ((3,) if job_id else (2, 3, 4))
    assert ran.out == ""
    assert ran.err.startswith("Error: ")


def test_a_deleted_job(run: Run, url: str) -> None:
    """The exit code is 3."""
    job_id = submitted(run, ADD)
    assert httpx2.delete(f"{url}/v1/job/{job_id}").status_code == 204
    assert run("status", job_id).code == 3


def test_watch_prints_a_line_for_each_change(run: Run) -> None:
    """If stdout is not a terminal; the heading and the error come last."""
    job_id = submitted(run, {"name": "work"}, FAIL, wait=False)
    ran = run("watch", job_id)
    lines = ran.out.splitlines()
    assert ran.code == 1
    assert any("work()" in line and "doing" in line and "25%  part 1" in line for line in lines)
    assert any("work()" in line and "done" in line for line in lines)
    assert lines[-1] == "team/fail raised ValueError: always"
    assert "failed after" in lines[-2]
    assert ran.err.startswith(f"To see why: raincheck status {job_id}")


def test_watch_as_json_prints_a_line_for_each_change(run: Run) -> None:
    """The last line is the ended job."""
    ran = run("watch", submitted(run, {"name": "work"}, wait=False), "--json")
    jobs = [msgspec.json.decode(line, type=JobDocument) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert len(jobs) > 2
    assert jobs[-1].result == "worked"


def test_status_of_a_scheduled_job(run: Run) -> None:
    """It prints the time of the schedule."""
    ran = run("submit", "-", stdin=job(ADD, delay=86400))
    assert "scheduled for 20" in run("status", ran.out.strip()).out
    run("cancel", ran.out.strip())


def test_cancel_and_retry(run: Run) -> None:
    """A cancelled job can be resumed."""
    job_id = submitted(run, NAP, wait=False)
    assert run("cancel", job_id).code == 0
    assert run("watch", job_id).code == 1
    ran = run("retry", job_id, "--json")
    assert (ran.code, ran.job.run) == (0, 2)
    assert run("cancel", job_id).code == 0


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_a_done_job_can_be_neither_cancelled_nor_retried(run: Run, command: str) -> None:
    """The exit code is 2."""
    ran = run(command, submitted(run, ADD))
    assert (ran.code, ran.out) == (2, "")
    assert "is done" in ran.err


@pytest.mark.parametrize("command", [["status"], ["watch"], ["jobs"]])
def test_control_characters_in_a_job_are_escaped(run: Run, command: list[str]) -> None:
    """In its arguments, its data, its result and its error."""
    functions = [{"name": "echo", "args": [ESCAPES]}, {"name": "fail-with-escapes"}]
    ran = run("submit", "-", "--wait", "--json", stdin=job(*functions, data={ESCAPES: ESCAPES}))
    arguments = [] if command == ["jobs"] else [ran.job.id]
    for more in ([], ["--json"]):
        shown = run(*command, *arguments, *more)
        assert not {"\x1b", "\x9b", "\u202e"} & set(ran.out + ran.err + shown.out + shown.err)


def test_status_shows_the_traceback_of_the_latest_failure(run: Run) -> None:
    """Below the job; as JSON it is the job alone."""
    job_id = submitted(run, FAIL)
    ran = run("status", job_id)
    _, _, shown = ran.out.partition("Traceback of team/fail, attempt 2: failed after")
    assert ran.out.count("Traceback (most recent call last):") == 1
    assert "raise ValueError(reason)" in shown
    assert shown.splitlines()[-1] == "  ValueError: always"
    assert run("status", job_id, "--json").job.id == job_id


def test_status_shows_all_attempts(run: Run) -> None:
    """Each with its outcome, its error and its traceback."""
    job_id = submitted(run, ADD, FAIL)
    ran = run("status", job_id, "--attempts")
    heads = [line.partition(" after ")[0] for line in ran.out.splitlines() if ", attempt " in line]
    assert heads == ["add, attempt 1: done", "team/fail, attempt 1: retried", "team/fail, attempt 2: failed"]
    assert ran.out.count("  ValueError: always") == 2
    attempts = msgspec.json.decode(run("status", job_id, "--attempts", "--json").out)
    assert [each["outcome"] for each in attempts] == ["done", "retried", "failed"]
    assert ran.code == 1


def test_status_escapes_control_characters_in_a_traceback(run: Run) -> None:
    """They could change the terminal."""
    ran = run("status", submitted(run, {"name": "fail-with-escapes"}))
    assert "ValueError: \\x1b[31mred" in ran.out
    assert "\x1b" not in ran.out


def test_a_job_without_failures_has_no_traceback(run: Run) -> None:
    """Its attempts are shown on request."""
    job_id = submitted(run, ADD)
    assert "attempt" not in run("status", job_id).out
    assert "add, attempt 1: done after" in run("status", job_id, "--attempts").out
