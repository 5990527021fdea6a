"""A server for each file of tests, and the commands run against it in this process."""

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


class Ran(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str

    @property
    def job(self) -> JobDocument:
        """The job that it printed as JSON."""
        return msgspec.json.decode(self.out, type=JobDocument)

    @property
    def job_id(self) -> str:
        """The id in what it printed as JSON."""
        return str(msgspec.json.decode(self.out)["id"])


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens."""
    with serving(tmp_path_factory.mktemp("server")) as (_, url):
        yield url


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command against the server, with some stdin."""
    monkeypatch.setenv("RAINCHECK_URL", url)

    def run_command(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return Ran(code, *capsys.readouterr())

    return run_command
