"""The rendering of jobs, durations and user text."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from rich.console import Console

from raincheck.cli.job_view import elapsed, format_arguments, format_attempts, parse_progress, render_job
from raincheck.cli.terminal import cut, json_text, one_line, plain
from raincheck.core.model import Problem, RetryOptions, State
from raincheck.engine.documents import FunctionDocument, JobDocument

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def step(state: State = State.PENDING, name: str = "f", **more: Any) -> FunctionDocument:
    empty = dict.fromkeys(("result", "error", "started_at", "finished_at", "worker", "progress", "timeout"))
    counts = {"retry_count": 0, "lost_count": 0, "retry_options": RetryOptions()}
    return FunctionDocument(
        **{"args": [], "kwargs": {}, **empty, **counts, "name": name, "state": state, **more}
    )


def job(*functions: Any, state: State = State.DOING, **more: Any) -> JobDocument:
    empty = dict.fromkeys(field for field in JobDocument.__struct_fields__)
    known: dict[str, Any] = {"waiting_for": []}
    known |= {"id": "0", "name": "test", "warnings": [], "created_at": NOW, "state": state, "data": {}}
    return JobDocument(**{**empty, **known, "functions": [*functions], **more})


def render(document: JobDocument, *, width: int = 80, live: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(render_job(document, NOW + timedelta(seconds=2), live=live))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_job_has_a_heading_and_a_row_for_each_step() -> None:
    """The steps of a parallel stage are connected by a line."""
    retry = RetryOptions(retry_limit=3)
    document = job(
        step(State.DONE, "load", args=["x"], result=[1], started_at=NOW, finished_at=NOW, retry_count=1),
        [
            step(State.DOING, "a", started_at=NOW, progress={"done": 1, "total": 4, "message": "hm"}),
            step(
                State.RETRYING,
                "b",
                retry_count=2,
                retry_options=retry,
                started_at=NOW,
                error=Problem(title="no"),
            ),
            step(State.PENDING, "c"),
        ],
        step(State.PENDING, "end"),
    )
    assert render(document) == [
        "▸ test  doing for 2.0 s  0",
        '    ✓  load("x")  done               0 ms   [1]',
        "  ┌ ▸  a()        doing              2.0 s  hm",
        "  │ ↻  b()        retrying  try 2/3  2.0 s  no",
        "  └ ·  c()        pending",
        "    ·  end()      pending",
    ]


def test_a_live_view_has_progress_bars() -> None:
    """Their length is the progress."""
    first, second = (
        row.split("doing")[0].split()[-1]
        for row in render(
            job(
                step(State.DOING, "a", started_at=NOW, progress={"done": 1, "total": 2}),
                step(State.DOING, "b", started_at=NOW, progress={"done": 2, "total": 2}),
            ),
            live=True,
        )[1:]
    )
    assert (first.count("━"), second.count("━")) == (6, 12)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_rows_are_cut_on_a_narrow_terminal(width: int) -> None:
    """No row wraps."""
    steps = [step(State.DONE, "a" * 30, args=["b" * 90], result="c" * 300) for _ in range(3)]
    lines = render(job(*steps), width=width, live=True)
    assert len([line for line in lines if "━" in line]) == len([line for line in lines if "aa" in line]) == 3
    assert max(map(len, lines)) <= width


def test_a_job_shows_what_it_waits_for() -> None:
    """A function that no worker offers, or a cancel request."""
    lines = render(job(step(), warnings=["no worker offers 'f'. Did you mean 'g'?"]))
    assert "No worker offers 'f'. Did you mean 'g'?" in lines
    assert "being cancelled" in render(job(step(), cancel_requested_at=NOW))[0]


def test_a_failed_job_shows_its_error_and_the_steps_that_never_ran() -> None:
    """The error has a title and a detail."""
    problem = Problem(title="The function failed", detail="f raised it")
    lines = render(
        job(step(State.FAILED, error=problem), step(), state=State.FAILED, error=problem, finished_at=NOW)
    )
    assert lines[2].endswith("never ran")
    assert lines[3] == "The function failed: f raised it"


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (None, (None, "")),
        ({"done": 1, "total": 4}, (0.25, "")),
        ({"done": 0.5, "message": "half"}, (0.5, "half")),
        ({"done": 9, "total": 4}, (1.0, "")),
        ({"done": -1, "total": 4}, (0.0, "")),
        ({"done": 1, "total": 0}, (None, "")),
        ({"done": "x", "total": []}, (None, "")),
        ({"done": 10**400, "total": 1}, (None, "")),
        ({"message": ["odd"]}, (None, "['odd']")),
        ("words", (None, '"words"')),
        ([1, 2], (None, "[1,2]")),
    ],
)
def test_progress_can_be_any_json(progress: Any, expected: tuple[float | None, str]) -> None:
    """As remote workers can report anything."""
    assert parse_progress(step(State.DOING, progress=progress)) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ""),
        ({"retry_count": 1}, ""),
        ({"retry_count": 1, "retry_options": RetryOptions(retry_limit=3)}, "try 1/3"),
        ({"retry_count": 1, "retry_options": RetryOptions(retry_limit=3), "state": State.DOING}, "try 2/3"),
        ({"lost_count": 2}, "lost 2"),
    ],
)
def test_the_attempt_is_shown_if_there_can_be_several(more: dict[str, Any], expected: str) -> None:
    """A single attempt shows nothing."""
    assert format_attempts(step(**more)) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 ms"), (0.0123, "12 ms"), (0.2, "0.2 s"), (59.94, "59.9 s"), (61, "1 min 01 s"),
        (3600, "1 h 00 min"), (90061, "1 d 1 h"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: float, expected: str) -> None:
    """Two units at most."""
    assert elapsed(NOW, NOW + timedelta(seconds=seconds)) == expected


def test_arguments_look_like_a_call() -> None:
    """By position, then by name; long ones are cut."""
    assert format_arguments(step(args=[1, "a"], kwargs={"b": None})) == '(1, "a", b=null)'
    assert len(format_arguments(step(args=["x" * 100, "y" * 100]))) < 30


@pytest.mark.parametrize(
    "character", ["\x00", "\x07", "\x1b", "\r", "\x7f", "\x9b", "\u202e", "\u2066", "\ud800"]
)
def test_control_characters_are_escaped(character: str) -> None:
    """In text and in JSON."""
    assert plain(f"a{character}b") != f"a{character}b"
    assert plain(f"a{character}b").isprintable()
    if character != "\ud800":  # JSON in UTF-8 has none
        document = msgspec.json.encode([character])
        assert msgspec.json.decode(json_text(document).plain) == [character]
        assert json_text(document).plain.replace("\n", "").isprintable()


def test_text_keeps_its_letters_and_lines() -> None:
    """Only control characters change."""
    assert plain("ünï ☂ 日本\n\tb") == "ünï ☂ 日本\n\tb"


def test_cut_text_ends_with_an_ellipsis() -> None:
    """And is on one line."""
    assert cut("a\nb   c") == "a b c"
    assert one_line("x" * 50, 10) == '"xxxxxxxx…'
