"""The two formats of the log, and its configuration."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO

import pytest

from raincheck import logs
from raincheck.logs import CurrentAttempt, JobContextFilter, JSONFormatter, TextFormatter

ATTEMPT = CurrentAttempt(job="the-id", function="add", attempt=2, worker="w1")


def record(message: str = "hello you", *args: object, **fields: object) -> logging.LogRecord:
    """A record of the year 2001, written by a running function."""
    made = logging.LogRecord("app", logging.INFO, __file__, 1, message, args, None)
    made.created = 1_000_000_000.25
    vars(made).update(fields)
    token = logs.running.set(ATTEMPT)
    JobContextFilter().filter(made)
    logs.running.reset(token)
    return made


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("not even this")


LOOP: list[object] = []
LOOP.append(LOOP)


class TestText:
    """Lines for people."""

    def test_it_names_the_job(self) -> None:
        """Before the message, with the attempt if it is not the first."""
        line = TextFormatter("%(name)s: %(message)s").format(record())
        assert line == "app: [the-id add, attempt 2] hello you"

    def test_a_message_with_the_job_is_left_as_it_is(self) -> None:
        """No job is named twice."""
        assert TextFormatter("%(message)s").format(record("job %s", "the-id")) == "job the-id"

    def test_control_characters_are_escaped(self) -> None:
        """Nothing that a function logs can control a terminal."""
        assert TextFormatter("%(message)s").format(record("%s", "\x1b[31m\u202e")).endswith(r"\x1b[31m\u202e")


class TestJSON:
    """Lines for programs."""

    def test_a_record_is_one_object(self) -> None:
        """With the fields of its job and those of ``extra``."""
        assert json.loads(JSONFormatter().format(record("two\nlines", more={"a": [1]}))) == {
            "time": "2001-09-09T01:46:40.250000Z",
            "level": "info",
            "logger": "app",
            "message": "two\nlines",
            "job": "the-id",
            "function": "add",
            "attempt": 2,
            "worker": "w1",
            "more": {"a": [1]},
        }

    def test_an_exception_is_text(self) -> None:
        """The traceback, in a field of its own."""
        made = record()
        try:
            raise ValueError("too bad")
        except ValueError:
            made.exc_info = sys.exc_info()
        line = json.loads(JSONFormatter().format(made))
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].endswith("ValueError: too bad")

    def test_a_field_replaces_nothing(self) -> None:
        """A field named like one of the record gets another name."""
        line = json.loads(JSONFormatter().format(record(level="high", job="print")))
        assert (line["level"], line["level_"], line["job"]) == ("info", "high", "print")

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (float("nan"), None),
            (b"\xff", "/w=="),
            (object, "<class 'object'>"),
            ("\ud800", r"\ud800"),
            ({1: {2}}, {"1": [2]}),
            ({None: 2}, {"None": 2}),
            (LOOP, "[[...]]"),
            (2**80, 2**80),
            (Unprintable(), "<Unprintable: RuntimeError>"),
        ],
    )
    def test_whatever_is_logged_can_be_read(self, value: object, shown: object) -> None:
        """A value that is not JSON becomes its text; the others stay."""
        line = json.loads(JSONFormatter().format(record(value=value, other=1)))
        assert (line["value"], line["other"]) == (shown, 1)

    def test_it_is_one_line_without_control_characters(self) -> None:
        """Also where JSON would allow them."""
        line = JSONFormatter().format(record("%s", "a\n\x1b\x9b\u202e\u2028"))
        assert line.isprintable() or "\u2028" in line
        assert json.loads(line)["message"] == "a\n\x1b\x9b\u202e\u2028"


class TestConfigure:
    """`configure` is what the commands of raincheck do."""

    @pytest.fixture(autouse=True)
    def restored(self) -> Iterator[None]:
        """The configuration as it was."""
        root = logging.root
        handlers, level = root.handlers[:], root.level
        root.handlers = []
        yield
        root.handlers = handlers
        root.setLevel(level)

    def test_lines_go_to_a_stream(self) -> None:
        """In the format and from the level that it is given."""
        stream = StringIO()
        logs.configure("warning", "json", stream=stream)
        logging.getLogger("app").info("left out")
        logging.getLogger("app").warning("kept")
        (line,) = stream.getvalue().splitlines()
        assert json.loads(line)["message"] == "kept"

    def test_it_can_be_called_again(self) -> None:
        """Lines come once."""
        first, second = StringIO(), StringIO()
        logs.configure(stream=first)
        logs.configure(stream=second)
        logging.getLogger("app").info("once")
        assert (first.getvalue(), second.getvalue().count("once")) == ("", 1)


def test_an_import_configures_nothing() -> None:
    """The program that raincheck is part of decides, also about child processes of its own."""
    program = """
import logging, raincheck.worker, raincheck.server, raincheck.logs
raincheck.App().asgi
named = logging.root.manager.loggerDict.values()
loggers = [logging.root, *(each for each in named if hasattr(each, "level"))]
print([each.name for each in loggers if each.handlers or each.name.startswith("raincheck") and each.level])
print(logging.getLogRecordFactory() is logging.LogRecord)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[]", "True"]
