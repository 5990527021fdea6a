"""raincheck group, groups, check."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from raincheck.engine.groups.documents import RunDocument
from tests.cli.conftest import Run

GOOD = """\
groups:
  nightly:
    jobs:
      - name: one
        functions: [add]
      - name: two
        functions: [{name: add, args: [1, 2]}]
    then: [gathered]
"""
BAD = """\
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
    """With what is wrong with those that cannot be triggered."""
    lines = run("groups").out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["sad", "2", "fail"],
        ["sums", "2", "gathered"],
        ["wrong", "0", "1:"],
    ]
    assert "expected `float`" in lines[3]


def test_a_group_is_triggered(run: Run) -> None:
    """Its run's id is printed, for scripts."""
    ran = run("group", "sums")
    assert (ran.code, len(ran.out.split())) == (0, 1)
    assert "2 jobs. To follow the run: raincheck watch" in ran.err
    ran = run("watch", ran.out.strip(), "--json")
    assert (ran.code, msgspec.json.decode(ran.out.splitlines()[-1])["result"]["sums"]) == (0, [3, 40])


def test_a_run_is_followed_to_its_end(run: Run) -> None:
    """Its counts as they change, its state, its result."""
    ran = run("group", "sums", "--watch", "--data", '{"a": 1}', "--args", '{"small": [5]}')
    lines, _, result = ran.out.partition("{")
    assert (ran.code, msgspec.json.decode("{" + result)) == (0, {"sums": [5, 40], "data": {"a": 1}})
    assert "  2 done\nsums done  " in lines


def test_a_run_that_fails_says_why(run: Run) -> None:
    """Exit code 1."""
    ran = run("group", "sad", "--watch")
    assert ran.code == 1
    assert "sad failed" in ran.out
    assert "1 of 2 jobs failed, were cancelled or removed" in ran.err


def test_as_json(run: Run) -> None:
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
        (["sums", "--args", '{"other": []}'], 2, "no job of the group has this name"),
    ],
)
def test_what_cannot_be_triggered(run: Run, arguments: list[str], code: int, message: str) -> None:
    """Says why."""
    ran = run("group", *arguments)
    assert (ran.code, message in ran.err) == (code, True)


def test_jobs_of_a_group_are_listed(run: Run) -> None:
    """By its name."""
    run_id = run("group", "sad", "--json").job_id
    assert run_id in run("jobs", "--group", "sad").out
    assert run_id not in run("jobs", "--group", "sums").out


def test_a_good_file_is_said_to_be_good(run: Run, tmp_path: Path) -> None:
    """With how much there is in it."""
    file = tmp_path / "raincheck.yaml"
    file.write_text(GOOD)
    assert run("check", str(file)) == (0, f"{file}: 1 group(s), 2 job(s), nothing wrong\n", "")


def test_every_fault_is_told_with_file_line_and_field(run: Run, tmp_path: Path) -> None:
    """Arguments too, if the app is named."""
    file = tmp_path / "f"
    file.write_text(BAD)
    without = [
        "5: /groups/bad/on_failure: Invalid enum value 'whatever'",
        "6: /groups/bad/after: Object contains unknown field `after`",
        "7: /groups/bad/jobs/0: Expected `object`, got `int`",
        "14: /groups/worse/jobs/0/functions/1/nom: Object contains unknown field `nom`",
        "16: /groups/worse/jobs/1/functions/0/name: 'a b' cannot be a function's name",
        "17: /groups/worse/jobs/1/data: expected an object",
        "19: /groups/no~1name: 'no/name' cannot be a group's name: "
        "letters, digits and _ - . : @, at most 200, and the first no dot",
    ]
    ran = run("check", str(file))
    assert (ran.code, ran.out.splitlines()) == (2, [f"{file}:{line}" for line in without])
    ran = run("check", str(file), "tests/cli/app.py")
    assert f"{file}:20: /groups/no~1name/jobs/0/functions/0/args/0: argument 'numbers': " in ran.out


def test_a_file_that_cannot_be_read_is_told_so(run: Run, tmp_path: Path) -> None:
    """Exit code 2, as for what is wrong in it."""
    assert run("check", str(tmp_path / "f"))[:2] == (
        2,
        f"{tmp_path}/f:1: cannot be read: No such file or directory\n",
    )
    (tmp_path / "f").write_text("grops: {}")
    assert run("check", str(tmp_path / "f")).out == f"{tmp_path}/f:1: /grops: is no section of this file\n"
