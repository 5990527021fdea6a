"""The commands jobs, functions and workers."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run


def ids(run: Run, *arguments: str) -> list[str]:
    ran = run("jobs", *arguments, "--json")
    assert (ran.code, ran.err) == (0, "")
    return [job["id"] for job in json.loads(ran.out)["jobs"]]


def test_jobs_are_listed_newest_first(run: Run) -> None:
    """With id, name, state and functions."""
    first, second = (run("call", "add", str(i), "--json").job_id for i in range(2))
    ran = run("jobs", "--limit", "2")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == ["ID", second, first]
    assert ran.out.splitlines()[1].split()[1:3] == ["add", "done"]


def test_jobs_can_be_filtered(run: Run) -> None:
    """By state, by name and by function."""
    failed, done = run("call", "team/fail", "--json").job_id, run("call", "add", "--json").job_id
    assert ids(run, "--state", "failed", "--limit", "1") == [failed]
    assert ids(run, "--name", "add", "--limit", "1") == [done]
    assert ids(run, "--function", "team/fail", "--limit", "1") == [failed]
    assert ids(run, "--name", "no such name") == []


def test_jobs_can_be_filtered_by_several_states_times_and_errors(run: Run) -> None:
    """The states are repeated, or separated by commas; the oldest can come first."""
    first = run("call", "team/fail", "filtered", "--json").job_id
    second = run("call", "add", "--json").job_id
    for states in (["--state", "failed,done"], ["--state", "failed", "--state", "done"]):
        assert ids(run, *states, "--since", "1h", "--limit", "2") == [second, first]
    assert ids(run, "--error", "ValueError", "--limit", "1") == [first]
    assert ids(run, "--until", "1h") == []
    assert ids(run, "--sort", "oldest", "--since", "1h")[-1] == second
    assert ids(run, "--schedule", "none") == []


def test_the_error_of_a_failed_job_is_listed(run: Run) -> None:
    """In a column that a listing without errors does not have."""
    run("call", "team/fail", "no reason")
    header, line = run("jobs", "--state", "failed", "--limit", "1").out.splitlines()
    assert header.split()[-1] == "ERROR"
    assert line.endswith("team/fail raised ValueError: no reason")
    run("call", "add")
    assert "ERROR" not in run("jobs", "--state", "done", "--limit", "1").out


def test_a_listing_continues_at_its_cursor(run: Run) -> None:
    """The cursor is printed on stderr."""
    for _ in range(3):
        run("call", "add")
    ran = run("jobs", "--limit", "2")
    cursor = ran.err.strip().removeprefix("For the next page: --cursor ")
    all_ids = ids(run, "--limit", "3")
    assert ids(run, "--limit", "1", "--cursor", cursor) == all_ids[2:]


def test_a_cursor_can_begin_with_a_dash(run: Run) -> None:
    """It is not an option: the server gets it, and says what is wrong with this one."""
    ran = run("jobs", "--cursor", "-forged")
    assert (ran.code, ran.out) == (2, "")
    assert "/cursor" in ran.err


def test_an_empty_listing_prints_nothing_on_stdout(run: Run) -> None:
    """A script that counts lines counts none."""
    assert run("jobs", "--name", "no such name") == (0, "", "No jobs\n")


@pytest.mark.parametrize(
    "option",
    [
        ["--state", "odd"],
        ["--state", "done,odd"],
        ["--since", "yesterday"],
        ["--limit", "x"],
        ["--limit", "0"],
        ["--cursor", "%"],
    ],
)
def test_an_invalid_filter_is_refused(run: Run, option: list[str]) -> None:
    """The exit code is 2, whether the command or the server refuses it."""
    ran = run("jobs", *option)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Error: ")


def test_functions_are_listed(run: Run) -> None:
    """With arguments, workers and description."""
    run("call", "add")
    lines = run("functions").out.splitlines()
    assert lines[0].split() == ["NAME", "ARGUMENTS", "WORKERS", "QUEUED", "ABOUT"]
    greet = next(line for line in lines if line.startswith("greet"))
    assert greet.split() == ["greet", "name", "[greeting]", "1", "0", "A", "greeting."]


def test_functions_as_json(run: Run) -> None:
    """With their schemas."""
    functions = {each["name"]: each for each in json.loads(run("functions", "--json").out)}
    assert functions["greet"]["parameters"]["required"] == ["name"]


def test_workers_are_listed(run: Run) -> None:
    """With state and functions."""
    run("call", "add")
    lines = run("workers").out.splitlines()
    assert lines[0].split()[:3] == ["ID", "STATE", "RUNNING"]
    assert "active" in lines[1]
    assert len(lines) == 2


def test_workers_as_json(run: Run) -> None:
    """The response of the server."""
    run("call", "add")
    (worker,) = json.loads(run("workers", "--json").out)
    assert (worker["state"], worker["concurrency"]) == ("active", 100)
