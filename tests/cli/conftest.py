"""A server for each test module, and a fixture that runs commands in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import pytest

from raincheck.cli import main
from raincheck.engine.documents import JobDocument
from tests.cli.processes import serving


class Outcome(NamedTuple):
    """The outcome of a command."""

    code: int
    out: str
    err: str

    @property
    def job(self) -> JobDocument:
        """The job that it printed as JSON."""
        return msgspec.json.decode(self.out, type=JobDocument)

    @property
    def job_id(self) -> str:
        """The id in the JSON that it printed."""
        return str(msgspec.json.decode(self.out)["id"])


Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server."""
    with serving(tmp_path_factory.mktemp("server")) as (_, url):
        yield url


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command against the server."""
    monkeypatch.setenv("RAINCHECK_URL", url)

    def run_command(*arguments: str, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return Outcome(code, *capsys.readouterr())

    return run_command
