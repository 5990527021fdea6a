"""How things look: jobs, times, texts that others wrote."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from rich.console import Console

from raincheck.cli.terminal import cut, json_text, one_line, plain
from raincheck.cli.views import arguments_of, elapsed, job_view, progress_of, tries
from raincheck.engine.documents import FunctionDocument, JobDocument
from raincheck.model import Problem, RetryOptions, State

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def step(state: State = State.PENDING, name: str = "f", **more: Any) -> FunctionDocument:
    nothing = dict.fromkeys(("result", "error", "started_at", "finished_at", "worker", "progress", "timeout"))
    counts = {"retry_count": 0, "lost_count": 0, "retry_options": RetryOptions()}
    return FunctionDocument(
        **{"args": [], "kwargs": {}, **nothing, **counts, "name": name, "state": state, **more}
    )


def job(*functions: Any, state: State = State.DOING, **more: Any) -> JobDocument:
    nothing = dict.fromkeys(field for field in JobDocument.__struct_fields__)
    known = {"id": "0", "name": "test", "waiting_for": [], "created_at": NOW, "state": state, "data": {}}
    return JobDocument(**{**nothing, **known, "functions": [*functions], **more})


def drawn(document: JobDocument, *, width: int = 80, live: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(job_view(document, NOW + timedelta(seconds=2), live=live))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_job_is_a_heading_and_a_row_a_step() -> None:
    """The members of a parallel stage are tied together."""
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
    assert drawn(document) == [
        "▸ test  doing for 2.0 s  0",
        '    ✓  load("x")  done               0 ms   [1]',
        "  ┌ ▸  a()        doing              2.0 s  hm",
        "  │ ↻  b()        retrying  try 2/3  2.0 s  no",
        "  └ ·  c()        pending",
        "    ·  end()      pending",
    ]


def test_a_live_view_has_a_bar_a_step() -> None:
    """As long as what is done."""
    first, second = (
        row.split("doing")[0].split()[-1]
        for row in drawn(
            job(
                step(State.DOING, "a", started_at=NOW, progress={"done": 1, "total": 2}),
                step(State.DOING, "b", started_at=NOW, progress={"done": 2, "total": 2}),
            ),
            live=True,
        )[1:]
    )
    assert (first.count("━"), second.count("━")) == (6, 12)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_narrow_terminal_breaks_no_line(width: int) -> None:
    """A row stays a row; what has no room is cut."""
    steps = [step(State.DONE, "a" * 30, args=["b" * 90], result="c" * 300) for _ in range(3)]
    lines = drawn(job(*steps), width=width, live=True)
    assert len([line for line in lines if "━" in line]) == len([line for line in lines if "aa" in line]) == 3
    assert max(map(len, lines)) <= width


def test_a_job_says_what_keeps_it() -> None:
    """A function that nobody offers, or a request to stop."""
    assert "No worker offers f, g now; the job waits for one." in drawn(job(step(), waiting_for=["f", "g"]))
    assert "being cancelled" in drawn(job(step(), cancel_requested_at=NOW))[0]


def test_an_ended_job_says_why_and_what_never_ran() -> None:
    """The problem's title and detail."""
    problem = Problem(title="The function failed", detail="f raised it")
    lines = drawn(
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
def test_progress_may_be_anything(progress: Any, expected: tuple[float | None, str]) -> None:
    """Remote workers may report what they like."""
    assert progress_of(step(State.DOING, progress=progress)) == expected


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
def test_tries_are_told_where_there_may_be_several(more: dict[str, Any], expected: str) -> None:
    """One that is done at the first try says nothing."""
    assert tries(step(**more)) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 ms"), (0.0123, "12 ms"), (0.2, "0.2 s"), (59.94, "59.9 s"), (61, "1 min 01 s"),
        (3600, "1 h 00 min"), (90061, "1 d 1 h"),
    ],
)  # fmt: skip
def test_times_are_short(seconds: float, expected: str) -> None:
    """Two units at most."""
    assert elapsed(NOW, NOW + timedelta(seconds=seconds)) == expected


def test_arguments_look_like_a_call() -> None:
    """By position, then by name; long ones are cut."""
    assert arguments_of(step(args=[1, "a"], kwargs={"b": None})) == '(1, "a", b=null)'
    assert len(arguments_of(step(args=["x" * 100, "y" * 100]))) < 30


@pytest.mark.parametrize(
    "character", ["\x00", "\x07", "\x1b", "\r", "\x7f", "\x9b", "\u202e", "\u2066", "\ud800"]
)
def test_a_character_that_a_terminal_would_obey_is_shown(character: str) -> None:
    """As an escape, in text and in JSON."""
    assert plain(f"a{character}b") != f"a{character}b"
    assert plain(f"a{character}b").isprintable()
    if character != "\ud800":  # JSON in UTF-8 has none
        document = msgspec.json.encode([character])
        assert msgspec.json.decode(json_text(document).plain) == [character]
        assert json_text(document).plain.replace("\n", "").isprintable()


def test_text_keeps_its_letters_and_lines() -> None:
    """Only what a terminal would obey is changed."""
    assert plain("ünï ☂ 日本\n\tb") == "ünï ☂ 日本\n\tb"


def test_what_is_cut_ends_with_an_ellipsis() -> None:
    """And is on one line."""
    assert cut("a\nb   c") == "a b c"
    assert one_line("x" * 50, 10) == '"xxxxxxxx…'
