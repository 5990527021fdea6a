"""raincheck submit, status, watch, cancel, retry."""

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
    """The id of a job that was submitted, and has ended."""
    document = run("submit", "-", "--json", *(["--wait"] if wait else []), stdin=job(*functions)).job
    return document.id


def test_submit_prints_the_id(run: Run) -> None:
    """The id alone is on stdout, how to go on on stderr."""
    ran = run("submit", "-", stdin=job(ADD))
    assert ran.code == 0
    assert ran.err == f"To follow it: raincheck watch {ran.out}"


def test_submit_reads_a_file(run: Run, tmp_path: Path) -> None:
    """A file, or stdin."""
    file = tmp_path / "job.json"
    file.write_text(job(ADD), "utf-8")
    assert run("submit", str(file), "--wait", "--json").job.result == 3


def test_submit_without_a_file_says_so(run: Run, tmp_path: Path) -> None:
    """Exit code 2, and the reason."""
    ran = run("submit", str(tmp_path / "none.json"))
    assert (ran.code, ran.out) == (2, "")
    assert "No such file" in ran.err


def test_submit_can_wait_to_the_end(run: Run) -> None:
    """It prints the job as it ended."""
    ran = run("submit", "-", "--wait", stdin=job(ADD))
    assert ran.code == 0
    assert "add(1, 2)" in ran.out
    assert "Result: 3" in ran.out


def test_submit_that_waits_tells_of_failure(run: Run) -> None:
    """Exit code 1."""
    ran = run("submit", "-", "--wait", stdin=job(ADD, FAIL, ADD))
    assert ran.code == 1
    assert "try 2/2" in ran.out
    assert "team/fail raised ValueError: always" in ran.out
    assert "never ran" in ran.out


def test_submit_that_waited_in_vain_says_so(run: Run) -> None:
    """Exit code 5, and the job as it is."""
    ran = run("submit", "-", "--wait", "0", "--json", stdin=job(NAP))
    assert ran.code == 5
    assert ran.job.state in ("pending", "doing")
    assert f"raincheck watch {ran.job.id}" in ran.err
    run("cancel", ran.job.id)


def test_submit_warns_of_what_no_worker_offers(run: Run) -> None:
    """The job is accepted, for a worker may come."""
    ran = run("submit", "-", stdin=job(UNKNOWN))
    assert ran.code == 0
    assert "Warning: no worker offers 'nobody-offers-this' now" in ran.err
    assert "No worker offers nobody-offers-this now" in run("status", ran.out.strip()).out


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
def test_submit_shows_what_is_wrong_and_where(run: Run, document: str, messages: list[str]) -> None:
    """Exit code 2, and each pointer of the problem."""
    ran = run("submit", "-", stdin=document)
    assert (ran.code, ran.out) == (2, "")
    for message in messages:
        assert message in ran.err


def test_status_shows_a_job(run: Run) -> None:
    """Its state, its functions, its result."""
    ran = run("status", submitted(run, [ADD, ADD], ADD))
    assert ran.code == 0
    assert "✓ test  done after" in ran.out
    assert "┌ ✓  add(1, 2)" in ran.out
    assert "└ ✓  add(1, 2)" in ran.out
    assert "Result: 3" in ran.out


def test_status_of_a_failed_job(run: Run) -> None:
    """Exit code 1."""
    assert run("status", submitted(run, FAIL)).code == 1


def test_status_of_a_job_that_goes_on(run: Run) -> None:
    """Exit code 0: nothing is wrong with it."""
    job_id = submitted(run, NAP, wait=False)
    assert run("status", job_id).code == 0
    run("cancel", job_id)


def test_status_as_json_is_what_the_server_says(run: Run, url: str) -> None:
    """Nothing is lost or added."""
    job_id = submitted(run, ADD)
    assert json.loads(run("status", job_id, "--json").out) == httpx2.get(f"{url}/v1/job/{job_id}").json()


@pytest.mark.parametrize("command", ["status", "watch", "cancel", "retry"])
@pytest.mark.parametrize("job_id", [NO_ID, "no-id", "a/b", ""])
def test_a_job_that_is_not_there(run: Run, command: str, job_id: str) -> None:
    """Exit code 3, or what the server makes of such a path."""
    ran = run(command, job_id)
    assert ran.code in ((3,) if job_id else (2, 3, 4))
    assert ran.out == ""
    assert ran.err.startswith("Error: ")


def test_a_job_that_is_gone(run: Run, url: str) -> None:
    """Exit code 3."""
    job_id = submitted(run, ADD)
    assert httpx2.delete(f"{url}/v1/job/{job_id}").status_code == 204
    assert run("status", job_id).code == 3


def test_watch_prints_a_line_for_each_change(run: Run) -> None:
    """Where there is no terminal: one line a change, the end last."""
    job_id = submitted(run, {"name": "work"}, FAIL, wait=False)
    ran = run("watch", job_id)
    lines = ran.out.splitlines()
    assert ran.code == 1
    assert any("work()" in line and "doing" in line and "25%  part 1" in line for line in lines)
    assert any("work()" in line and "done" in line for line in lines)
    assert lines[-1] == "team/fail raised ValueError: always"
    assert "failed after" in lines[-2]


def test_watch_as_json_is_a_line_for_each_change(run: Run) -> None:
    """The last line is the job as it ended."""
    ran = run("watch", submitted(run, {"name": "work"}, wait=False), "--json")
    jobs = [msgspec.json.decode(line, type=JobDocument) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert len(jobs) > 2
    assert jobs[-1].result == "worked"


def test_status_of_a_scheduled_job(run: Run) -> None:
    """It says when it is due."""
    ran = run("submit", "-", stdin=job(ADD, delay=86400))
    assert "scheduled for 20" in run("status", ran.out.strip()).out
    run("cancel", ran.out.strip())


def test_cancel_and_retry(run: Run) -> None:
    """A job is stopped, and goes on when it is wanted again."""
    job_id = submitted(run, NAP, wait=False)
    assert run("cancel", job_id).code == 0
    assert run("watch", job_id).code == 1
    ran = run("retry", job_id, "--json")
    assert (ran.code, ran.job.run) == (0, 2)
    assert run("cancel", job_id).code == 0


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_an_ended_job_is_neither_cancelled_nor_retried(run: Run, command: str) -> None:
    """Exit code 2: the state forbids it."""
    ran = run(command, submitted(run, ADD))
    assert (ran.code, ran.out) == (2, "")
    assert "is done" in ran.err


@pytest.mark.parametrize("command", [["status"], ["watch"], ["jobs"]])
def test_a_job_brings_no_escapes_to_the_terminal(run: Run, command: list[str]) -> None:
    """Neither its arguments, its data, its result nor its error."""
    functions = [{"name": "echo", "args": [ESCAPES]}, {"name": "fail-with-escapes"}]
    ran = run("submit", "-", "--wait", "--json", stdin=job(*functions, data={ESCAPES: ESCAPES}))
    arguments = [] if command == ["jobs"] else [ran.job.id]
    for more in ([], ["--json"]):
        shown = run(*command, *arguments, *more)
        assert not {"\x1b", "\x9b", "\u202e"} & set(ran.out + ran.err + shown.out + shown.err)
