"""The commands group, groups and check."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from raincheck.engine.groups.documents import RunDocument
from tests.cli.conftest import Run

VALID = """\
groups:
  nightly:
    jobs:
      - name: one
        functions: [add]
      - name: two
        functions: [{name: add, args: [1, 2]}]
    then: [gathered]
"""
INVALID = """\
groups:
  good:
    jobs: [{name: one, functions: [add]}]
  bad:
    on_failure: whatever
    after: []
    jobs: [3]
  worse:
    jobs:
      - name: one
        functions:
          - name: add
            args: [x]
          - nom: add
      - name: two
        functions: ["a b"]
        data: 3
    then: []
  "no/name":
    jobs: [{name: one, functions: [{name: add, args: [x]}]}]
"""


def test_groups_are_listed(run: Run) -> None:
    """With the errors of those that cannot be triggered."""
    lines = run("groups").out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["sad", "2", "fail"],
        ["sums", "2", "gathered"],
        ["wrong", "0", "1:"],
    ]
    assert "expected `float`" in lines[3]


def test_a_group_is_triggered(run: Run) -> None:
    """Only the id of its run is on stdout."""
    ran = run("group", "sums")
    assert (ran.code, len(ran.out.split())) == (0, 1)
    assert "2 jobs. To watch the run: raincheck watch" in ran.err
    ran = run("watch", ran.out.strip(), "--json")
    assert (ran.code, msgspec.json.decode(ran.out.splitlines()[-1])["result"]["sums"]) == (0, [3, 40])


def test_a_run_can_be_watched(run: Run) -> None:
    """The output has its counts, its state and its result."""
    ran = run("group", "sums", "--watch", "--data", '{"a": 1}', "--args", '{"small": [5]}')
    lines, _, result = ran.out.partition("{")
    assert (ran.code, msgspec.json.decode("{" + result)) == (0, {"sums": [5, 40], "data": {"a": 1}})
    assert "  2 done\nsums done  " in lines


def test_a_failed_run_prints_its_error(run: Run) -> None:
    """The exit code is 1."""
    ran = run("group", "sad", "--watch")
    assert ran.code == 1
    assert "sad failed" in ran.out
    assert "1 of 2 jobs failed, were cancelled or removed" in ran.err


def test_json_output(run: Run) -> None:
    """The documents of the API."""
    ran = run("group", "sums", "--json", "--watch")
    assert msgspec.json.decode(ran.out.splitlines()[-1], type=RunDocument).state == "done"
    assert msgspec.json.decode(run("group", "sums", "--json").out, type=RunDocument).group == "sums"
    assert len(msgspec.json.decode(run("groups", "--json").out)) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["wrong"], 2, "/jobs/0/functions/0/args/0"),
        (["nothing"], 3, "no group is named 'nothing'"),
        (["sums", "--args", '{"other": []}'], 2, "the group has no job with this name"),
    ],
)
def test_invalid_triggers_are_refused(run: Run, arguments: list[str], code: int, message: str) -> None:
    """The message says what is wrong."""
    ran = run("group", *arguments)
    assert (ran.code, message in ran.err) == (code, True)


def test_jobs_of_a_group_are_listed(run: Run) -> None:
    """Filtered by the name of the group."""
    run_id = run("group", "sad", "--json").job_id
    assert run_id in run("jobs", "--group", "sad").out
    assert run_id not in run("jobs", "--group", "sums").out


def test_a_valid_file_is_summarized(run: Run, tmp_path: Path) -> None:
    """With the number of its groups and jobs."""
    file = tmp_path / "raincheck.yaml"
    file.write_text(VALID)
    assert run("check", str(file)) == (0, f"{file}: 1 group(s), 2 job(s), no errors\n", "")


def test_every_error_has_file_line_and_field(run: Run, tmp_path: Path) -> None:
    """Arguments are checked too if the app is given."""
    file = tmp_path / "f"
    file.write_text(INVALID)
    errors = [
        "5: /groups/bad/on_failure: Invalid enum value 'whatever'",
        "6: /groups/bad/after: Object contains unknown field `after`",
        "7: /groups/bad/jobs/0: Expected `object`, got `int`",
        "14: /groups/worse/jobs/0/functions/1/nom: Object contains unknown field `nom`",
        "16: /groups/worse/jobs/1/functions/0/name: 'a b' is not a valid function name",
        "17: /groups/worse/jobs/1/data: expected an object",
        "19: /groups/no~1name: 'no/name' is not a valid group name: use letters, digits and _ - . : @, "
        "at most 200 characters, and no dot at the start",
    ]
    ran = run("check", str(file))
    assert (ran.code, ran.out.splitlines()) == (2, [f"{file}:{line}" for line in errors])
    ran = run("check", str(file), "tests/cli/app.py")
    assert f"{file}:20: /groups/no~1name/jobs/0/functions/0/args/0: argument 'numbers': " in ran.out


def test_an_unreadable_file_is_an_error(run: Run, tmp_path: Path) -> None:
    """The exit code is 2, as for an invalid file."""
    assert run("check", str(tmp_path / "f"))[:2] == (
        2,
        f"{tmp_path}/f:1: cannot be read: No such file or directory\n",
    )
    (tmp_path / "f").write_text("grops: {}")
    ran = run("check", str(tmp_path / "f"))
    known = "allowed_networks, functions, groups, schedules"
    assert ran.out == f"{tmp_path}/f:1: /grops: unknown section: use one of {known}\n"
