"""The command call."""

from __future__ import annotations

import re

import msgspec
import pytest

from tests.cli.conftest import Run


def test_it_prints_the_result(run: Run) -> None:
    """Only the result is on stdout."""
    assert run("call", "add", "1", "2.5") == (0, "3.5\n", "")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("1", "1"),
        ("-1", "-1"),
        ("-1,2", '"-1,2"'),
        ("-.5m", '"-.5m"'),
        ("text", '"text"'),
        ('"text"', '"text"'),
        ("[1, null]", "[1,null]"),
        ('{"a": true}', '{"a":true}'),
        ("NaN", '"NaN"'),
        ("01", '"01"'),
        ("{", '"{"'),
        ("", '""'),
        ("ünï", '"ünï"'),
        ("123456789012345678", "123456789012345678"),
    ],
)
def test_an_argument_is_json_or_else_text(run: Run, argument: str, value: str) -> None:
    """An argument that is not JSON is a string."""
    ran = run("call", "echo", argument)
    assert msgspec.json.format(ran.out, indent=-1) == f"[[{value}],{{}}]"


def test_arguments_can_begin_with_a_dash(run: Run) -> None:
    """After --, no argument is an option."""
    ran = run("call", "echo", "--", "--json", "-x", "--wait")
    assert msgspec.json.decode(ran.out) == [["--json", "-x", "--wait"], {}]


def test_a_negative_number_can_come_before_an_option(run: Run) -> None:
    """The option after it is still one."""
    ran = run("call", "echo", "-1,2", "-3", "--json")
    assert msgspec.json.decode(ran.out)["result"] == [["-1,2", -3], {}]


@pytest.mark.parametrize("word", ["-x", "--jsn", "-[1]"])
def test_an_unknown_option_is_no_argument(run: Run, word: str) -> None:
    """It may be a slip. The exit code is 2."""
    ran = run("call", "echo", word)
    assert (ran.code, ran.out) == (2, "")
    assert word in ran.err


def test_arguments_by_name(run: Run) -> None:
    """--kw can be repeated."""
    ran = run("call", "greet", "--kw", "name=Ann", "--kw", "greeting=Hi=")
    assert ran == (0, '"Hi=, Ann!"\n', "")


def test_arguments_by_position_and_by_name(run: Run) -> None:
    """Such a call is sent as a job."""
    assert run("call", "greet", "Ann", "--kw", "greeting=Hi") == (0, '"Hi, Ann!"\n', "")


@pytest.mark.parametrize("kw", ["name", "=x", ""])
def test_a_name_without_a_value_is_refused(run: Run, kw: str) -> None:
    """The message shows the format."""
    ran = run("call", "greet", "--kw", kw)
    assert ran.code == 2
    assert "name=value" in ran.err


def test_with_json_it_prints_the_response(run: Run) -> None:
    """The response has the job's id, its state and the result."""
    ran = run("call", "add", "1", "2", "--json")
    response = msgspec.json.decode(ran.out)
    assert (ran.code, response["state"], response["result"], ran.err) == (0, "done", 3, "")


def test_a_failure_is_printed_on_stderr(run: Run) -> None:
    """The exit code is 1, and stdout is empty."""
    ran = run("call", "team/fail", "because")
    assert (ran.code, ran.out) == (1, "")
    error, hint = ran.err.splitlines()
    assert "team/fail raised ValueError: because" in error
    job_id = re.fullmatch(r"To see why: raincheck status (\S+)(?: --url \S+)?", hint)
    assert job_id is not None
    assert run("status", job_id[1]).code == 1


def test_a_failure_as_json_is_the_failed_job(run: Run) -> None:
    """The error is in the same field as in every job."""
    ran = run("call", "team/fail", "--json")
    assert ran.code == 1
    assert ran.job.error is not None
    assert ran.job.error.function == "team/fail"


def test_an_unknown_function_is_not_found(run: Run) -> None:
    """The exit code is 3."""
    ran = run("call", "nowhere")
    assert (ran.code, ran.out) == (3, "")
    assert "no function is named 'nowhere'" in ran.err


def test_invalid_arguments_are_printed_with_their_pointers(run: Run) -> None:
    """The exit code is 2."""
    ran = run("call", "greet", "1", "2", "3")
    assert (ran.code, ran.out) == (2, "")
    assert "/0" in ran.err
    assert "expected `str`, got `int`" in ran.err


def test_no_wait_prints_the_id(run: Run) -> None:
    """Only the id is on stdout; the command that watches it is on stderr."""
    ran = run("call", "nap", "0.01", "--no-wait")
    assert ran.code == 0
    assert ran.err == f"To watch it: raincheck watch {ran.out}"
    assert run("watch", ran.out.strip()).code == 0


def test_a_call_that_takes_longer_prints_the_id(run: Run) -> None:
    """The exit code is 5."""
    ran = run("call", "nap", "60", "--wait", "0.1")
    assert ran.code == 5
    assert f"raincheck watch {ran.out.strip()}" in ran.err
    assert run("cancel", ran.out.strip()).code == 0


def test_the_function_sets_the_default_wait(run: Run) -> None:
    """Without --wait."""
    ran = run("call", "work")
    assert ran.code == 5
    assert run("watch", ran.out.strip()).code == 0


@pytest.mark.parametrize("wait", [["--wait"], ["--wait", "20"], ["--wait=20"]])
def test_wait_sets_the_wait(run: Run, wait: list[str]) -> None:
    """Without a number, the command waits until the job has ended."""
    assert run("call", *wait, "work") == (0, '"worked"\n', "")


def test_wait_and_no_wait_exclude_each_other(run: Run) -> None:
    """The exit code is 2."""
    assert run("call", "add", "--wait", "1", "--no-wait").code == 2


def test_the_url_of_another_server_is_part_of_the_hint(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed command can be run unchanged."""
    monkeypatch.delenv("RAINCHECK_URL")
    ran = run("call", "add", "--no-wait", "--url", url)
    assert ran.err.strip().endswith(f"--url {url}")


def test_control_characters_in_a_result_are_escaped(run: Run) -> None:
    """In JSON notation."""
    ran = run("call", "escapes")
    assert ran.out == '"\\u001b[31mred\\u001b[0m \\u009b2J \\u202eleft"\n'


def test_control_characters_in_an_error_are_escaped(run: Run) -> None:
    """In Python notation."""
    ran = run("call", "fail-with-escapes")
    assert "\\x1b[31mred\\x1b[0m \\x9b2J \\u202eleft" in ran.err
    assert not {"\x1b", "\x9b", "\u202e"} & set(ran.err)


def test_it_warns_if_no_worker_offers_the_function(run: Run) -> None:
    """A second after the call, while it waits."""
    ran = run("call", "ech", "1", "--kw", "a=1", "--wait", "1.2")
    assert ran.code == 5
    assert ran.err.startswith("Warning: no worker offers 'ech'. Did you mean 'echo'?\n")
    run("cancel", ran.out.strip())
