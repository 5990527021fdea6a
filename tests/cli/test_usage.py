"""What all commands have in common: help, usage errors, exit codes."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from inspect import getdoc
from threading import Thread

import cyclopts
import pytest

from raincheck import cli
from raincheck.cli import main
from raincheck.cli.exit_codes import Exit, code_of
from raincheck.core.errors import NotFound, StoreUnavailable, TargetError
from raincheck.version import VERSION

COMMANDS = [
    "call", "cancel", "check", "demo", "functions", "group", "groups", "init", "install-completion", "jobs",
    "login", "logout", "retry", "serve", "server", "status", "submit", "token", "version", "watch", "worker",
    "workers",
]  # fmt: skip
FAMILIES = {"key": ["add", "list", "remove"], "user": ["add", "list", "remove"]}
WORDS = [[command] for command in COMMANDS] + [
    [family, member] for family, members in FAMILIES.items() for member in members
]
CLIENTS = [
    ["call", "add"],
    ["cancel", "x"],
    ["functions"],
    ["group", "nightly"],
    ["groups"],
    ["jobs"],
    ["login", "--username", "ann"],
    ["retry", "x"],
    ["status", "x"],
    ["watch", "x"],
    ["workers"],
]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """And every exit code."""
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    for command in [*COMMANDS, *FAMILIES]:
        assert f"│ {command} " in output
    codes = {int(line.split()[0]) for line in output.partition("Exit codes")[2].splitlines() if line.strip()}
    assert codes == set(Exit)


def command_of(words: list[str]) -> cyclopts.App:
    """The command with this name of one or two words."""
    found = cli.cli
    for word in words:
        found = found[word]
    return found


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_command_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It begins with the text in the list of commands, as does the docstring."""
    assert main([*words, "--help"]) == 0
    output = capsys.readouterr().out
    app = command_of(words)
    assert f"Usage: raincheck {' '.join(words)}" in output
    assert app.help in output
    assert app.default_command is not None
    assert (getdoc(app.default_command) or "").splitlines()[0] == app.help


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_parameter_has_help(words: list[str]) -> None:
    """Except hidden ones."""
    collection = command_of(words).assemble_argument_collection(parse_docstring=True)
    undocumented = [each.name for each in collection if not each.parameter.help and each.show]
    assert undocumented == []


@pytest.mark.parametrize("arguments", [["version", "--json"], ["--version"], ["version"]])
def test_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Printed in three ways."""
    assert main(arguments) == 0
    assert VERSION in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sreve"], 'Did you mean "serve"?'),
        (["serve"], "TARGET requires an argument"),
        (["call"], "NAME requires an argument"),
        (["call", "add", "--wait", "-1"], "Must be >= 0"),
        (["jobs", "--verbose"], "Unknown option"),
        (["serve", "app.py", "--port", "65536"], "Must be <= 65535"),
        (["serve", "app.py", "--workers", "0"], "Must be >= 1"),
        (["serve", "app.py", "--log-level", "loud"], "Choose from"),
        (["jobs", "--url", "ftp://example.org"], "is not the URL of a server"),
        (["jobs", "--url", "http://"], "is not the URL of a server"),
        (["jobs", "--url", "http://[::1"], "is not the URL of a server"),
        (["serve", "nowhere.py"], "does not exist"),
        (["group", "g", "--data", "[1]"], "--data requires a JSON object"),
    ],
)
def test_invalid_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 2, and stderr says what is wrong."""
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(str(end.code))
    output = capsys.readouterr()
    assert (code, output.out) == (2, "")
    assert output.err.startswith("Error: ")
    assert message in " ".join(output.err.split())


@pytest.mark.parametrize("arguments", CLIENTS)
def test_without_a_server(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is 4, and stderr has the URL."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("a password"))
    assert main([*arguments, "--url", "http://127.0.0.1:1", "--json"]) == 4
    output = capsys.readouterr()
    assert output.out == ""
    assert "no response from http://127.0.0.1:1: Connection refused" in output.err


RESPONSES = {
    "/503": (503, "application/problem+json", b'{"title": "The store is away", "status": 503}', 4),
    "/429": (429, "application/problem+json", b'{"title": "Too many", "status": 429}', 4),
    "/410": (410, "application/problem+json", b'{"title": "Gone", "status": 410}', 3),
    "/409": (409, "application/problem+json", b'{"title": "No", "detail": "not now", "status": 409}', 2),
    "/odd": (400, "application/problem+json", b"no JSON", 4),
    "/404": (404, "text/html", b"<h1>not here</h1>", 4),
    "/200": (200, "text/html", b"<h1>welcome</h1>", 4),
    "/json": (200, "application/json", b'{"something": "else"}', 4),
    "/302": (302, "text/html", b"", 4),
}


class OtherServer(BaseHTTPRequestHandler):
    """A server that is not raincheck, or is unavailable."""

    def do_GET(self) -> None:
        status, kind, body, _ = RESPONSES[f"/{self.path.split('/')[1]}"]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def other_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), OtherServer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", RESPONSES)
def test_responses_of_another_or_unavailable_server(
    path: str, other_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code follows from the response, and stdout is empty."""
    assert main(["jobs", "--url", other_server + path]) == RESPONSES[path][3]
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("Error: ")


@pytest.mark.parametrize(
    ("error", "code"), [(NotFound("x"), 3), (TargetError("x"), 2), (StoreUnavailable("x"), 4)]
)
def test_errors_have_exit_codes(error: NotFound, code: int) -> None:
    """Each class of exception has one."""
    assert code_of(error) == code


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--wait"], ["--wait=inf"]),
        (["--wait", "5"], ["--wait", "5"]),
        (["--wait", ".5"], ["--wait", ".5"]),
        (["--wait", "-5"], ["--wait", "-5"]),
        (["--wait", "job.json"], ["--wait=inf", "job.json"]),
        (["--wait", "--json"], ["--wait=inf", "--json"]),
        (["--", "--wait"], ["--", "--wait"]),
        ([], []),
    ],
)
def test_a_wait_needs_no_number(words: list[str], expected: list[str]) -> None:
    """Without a number, the wait has no limit."""
    assert list(cli._fill_in_waits(words)) == expected
