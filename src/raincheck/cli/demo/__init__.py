"""The demo: a server and two workers as processes, one job through HTTP, from submit to result."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import msgspec
from rich.highlighter import JSONHighlighter
from rich.text import Text

from raincheck.cli.children import out_of_reach
from raincheck.cli.demo.app import JOB
from raincheck.cli.exits import code_of_job
from raincheck.cli.follow import follow, looks
from raincheck.cli.terminal import one_line, out
from raincheck.client import Client, JobHandle
from raincheck.client.requests import job_path
from raincheck.clock import monotonic
from raincheck.engine.documents import FunctionDocument, JobDocument
from raincheck.errors import Unreachable

_LISTENING = "Listening and serving HTTP on "
_STOP_AFTER = 10.0
"""Seconds in which the processes end, or are ended."""


def demo() -> int:
    """Show raincheck at work: a server, two workers, a job."""
    begun = monotonic()
    with TemporaryDirectory(prefix="raincheck-", ignore_cleanup_errors=True) as folder:
        _say("Starting a server and two workers, a process each, on a fresh SQLite file")
        with _server(Path(folder)) as url, Client(url) as client:
            _await_workers(client)
            _say(f"Submitting a job: POST {url}/v1/job")
            _print(_chain())
            job_id = JobHandle(client, client.request("POST", "/v1/job", msgspec.json.encode(JOB)).body).id
            _say("Following it")
            job = follow(looks(client, job_id))
            _say(f"The job as it ended, in short: GET {job_path(job_id)}")
            _print(_in_short(job))
    _say(f"All stopped and cleaned up, after {monotonic() - begun:.1f} s")
    _print(Text("Next: raincheck serve app.py, with functions of your own", "dim"))
    return code_of_job(job.state)


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """A server with two workers, as processes that end with this one; its URL."""
    app = f"{__name__}.app:app"
    options = ["--child", "--port=0", "--workers=2", "--grace=2", "--log-level=error"]
    log = folder / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "raincheck", "serve", app, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env={name: value for name, value in os.environ.items() if not name.startswith("RAINCHECK_")},
            **out_of_reach(),
        )
    with process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None  # noqa: S101 - it was asked for
        assert stdout is not None  # noqa: S101 - this too
        try:
            stdin.write(f"sqlite:///{(folder / 'demo.db').as_posix()}\n")
            stdin.flush()
            lines = iter(stdout.readline, "")
            url = next((line.strip() for line in lines if line.startswith(_LISTENING)), None)
            if url is None:
                raise Unreachable(f"the server did not start: {log.read_text('utf-8').strip()}")
            yield url.removeprefix(_LISTENING)
        finally:
            stdin.close()
            try:
                process.wait(_STOP_AFTER)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_workers(client: Client) -> None:
    """Wait until both have come, for a while: a job would wait for them, and say so."""
    for _ in range(100):
        if len(client.workers()) == 2:
            return
        Event().wait(0.05)


def _chain() -> Text:
    """The job's functions: a line a stage."""
    stages = (stage if isinstance(stage, list) else [stage] for stage in JOB["functions"])
    return Text("\n→ ").join(Text(" + ").join(map(_called, stage)) for stage in stages)


def _called(function: dict[str, Any]) -> Text:
    arguments = ", ".join(map(one_line, function.get("args", [])))
    return Text.assemble((function["name"], "bold"), f"({arguments})")


def _in_short(job: JobDocument) -> Text:
    """The job as JSON, a function a line, without what says little here."""
    functions = ",\n    ".join(
        "[\n      " + ",\n      ".join(map(_fields, stage)) + "\n    ]"
        if isinstance(stage, list)
        else _fields(stage)
        for stage in job.functions
    )
    lines = [f'"id": "{job.id}"', f'"name": "{job.name}"', f'"state": "{job.state}"']
    lines += [f'"functions": [\n    {functions}\n  ]', f'"result": {one_line(job.result)}']
    return JSONHighlighter()(Text("{\n  " + ",\n  ".join(lines) + "\n}"))


def _fields(function: FunctionDocument) -> str:
    shown = {name: getattr(function, name) for name in ("name", "state", "retry_count", "result")}
    return one_line(shown)


def _say(what: str) -> None:
    out.print(Text.assemble(("\n● ", "green"), (what, "bold")), soft_wrap=True)


def _print(text: Text) -> None:
    for line in text.split():
        out.print(Text("  ") + line, soft_wrap=True)
