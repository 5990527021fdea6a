"""What every command has: help, ways to say no, exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from inspect import getdoc
from threading import Thread

import pytest

from raincheck import cli
from raincheck.cli import main
from raincheck.cli.exits import Exit, code_of
from raincheck.errors import NotFound, StoreUnavailable, TargetError
from raincheck.version import VERSION

COMMANDS = [
    "call", "cancel", "check", "demo", "functions", "group", "groups", "install-completion", "jobs", "retry",
    "serve", "server", "status", "submit", "version", "watch", "worker", "workers",
]  # fmt: skip
CLIENTS = [
    ["call", "add"],
    ["cancel", "x"],
    ["functions"],
    ["group", "nightly"],
    ["groups"],
    ["jobs"],
    ["retry", "x"],
    ["status", "x"],
    ["watch", "x"],
    ["workers"],
]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """And every exit code."""
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    for command in COMMANDS:
        assert f"│ {command} " in told
    codes = {int(line.split()[0]) for line in told.partition("Exit codes")[2].splitlines() if line.strip()}
    assert codes == set(Exit)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It begins with what the list of commands says, and so does the docstring."""
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    app = cli.cli[command]
    assert f"Usage: raincheck {command}" in told
    assert app.help in told
    assert app.default_command is not None
    assert (getdoc(app.default_command) or "").splitlines()[0] == app.help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_is_explained(command: str) -> None:
    """No parameter is without a word on it."""
    collection = cli.cli[command].assemble_argument_collection(parse_docstring=True)
    unexplained = [each.name for each in collection if not each.parameter.help and each.show]
    assert unexplained == []


@pytest.mark.parametrize("arguments", [["version", "--json"], ["--version"], ["version"]])
def test_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The version, in three ways."""
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
        (["jobs", "--url", "ftp://example.org"], "is no server's URL"),
        (["jobs", "--url", "http://"], "is no server's URL"),
        (["jobs", "--url", "http://[::1"], "is no server's URL"),
        (["serve", "nowhere.py"], "there is no file"),
        (["group", "g", "--data", "[1]"], "--data takes a JSON object"),
    ],
)
def test_bad_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and on stderr what is wrong."""
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(str(end.code))
    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert told.err.startswith("Error: ")
    assert message in " ".join(told.err.split())


@pytest.mark.parametrize("arguments", CLIENTS)
def test_without_a_server(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4, and where it was looked for."""
    assert main([*arguments, "--url", "http://127.0.0.1:1", "--json"]) == 4
    told = capsys.readouterr()
    assert told.out == ""
    assert "no server answers at http://127.0.0.1:1: Connection refused" in told.err


ANSWERS = {
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


class Stranger(BaseHTTPRequestHandler):
    """A server that is not raincheck's, or not well."""

    def do_GET(self) -> None:
        status, kind, body, _ = ANSWERS[f"/{self.path.split('/')[1]}"]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ANSWERS)
def test_a_server_that_is_a_stranger_or_not_well(
    path: str, stranger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code follows from the answer, and nothing is on stdout."""
    assert main(["jobs", "--url", stranger + path]) == ANSWERS[path][3]
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("Error: ")


@pytest.mark.parametrize(
    ("error", "code"), [(NotFound("x"), 3), (TargetError("x"), 2), (StoreUnavailable("x"), 4)]
)
def test_errors_have_exit_codes(error: NotFound, code: int) -> None:
    """Each kind of error has one."""
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
    """Without one it is to the end."""
    assert list(cli._with_waits(words)) == expected
