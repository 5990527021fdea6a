"""The demo: starts a server with two worker processes, and runs one job over HTTP."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from rich.highlighter import JSONHighlighter
from rich.text import Text

from raincheck.cli.demo.app import JOB
from raincheck.cli.exit_codes import code_of_job
from raincheck.cli.job_view import show_changes, watch_changes
from raincheck.cli.own_server import own_server
from raincheck.cli.start import FILE, own_command
from raincheck.cli.terminal import one_line, out
from raincheck.client import Client, JobHandle
from raincheck.client.requests import job_path
from raincheck.core.clock import monotonic
from raincheck.engine.documents import FunctionDocument, JobDocument

NEXT = (f"init {FILE}", f"serve {FILE}", "call add 1 2")
"""The commands that follow the demo."""


def demo() -> int:
    """Run a demo: a server, two workers and a job."""
    started_at = monotonic()
    with TemporaryDirectory(prefix="raincheck-", ignore_cleanup_errors=True) as folder:
        _print_title("Starting a server and two workers, each in its own process, with a new SQLite file")
        options = ("--workers=2", "--grace=2")
        with (
            own_server(Path(folder), "serve", f"{__name__}.app:app", *options) as url,
            Client(url) as client,
        ):
            _print_title(f"Submitting a job: POST {url}/v1/job")
            _print(_chain())
            job_id = JobHandle(client, client.request("POST", "/v1/job", msgspec.json.encode(JOB)).body).id
            _print_title("Watching the job")
            job = show_changes(watch_changes(client, job_id))
            _print_title(f"The ended job, shortened: GET {job_path(job_id)}")
            _print(_short_json(job))
    _print_title(f"Stopped and cleaned up after {monotonic() - started_at:.1f} s")
    _print_title("Next: write a file with an app, serve it, then call it from a second terminal")
    _print(Text("\n").join(Text(f"{own_command()} {words}") for words in NEXT))
    return code_of_job(job.state)


def _chain() -> Text:
    """The functions of the job, a line for each stage."""
    stages = (stage if isinstance(stage, list) else [stage] for stage in JOB["functions"])
    return Text("\n→ ").join(Text(" + ").join(map(_format_call, stage)) for stage in stages)


def _format_call(function: dict[str, Any]) -> Text:
    arguments = ", ".join(map(one_line, function.get("args", [])))
    return Text.assemble((function["name"], "bold"), f"({arguments})")


def _short_json(job: JobDocument) -> Text:
    """The job as JSON with its main fields, a line for each function."""
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


def _print_title(title: str) -> None:
    out.print(Text.assemble(("\n● ", "green"), (title, "bold")), soft_wrap=True)


def _print(text: Text) -> None:
    for line in text.split():
        out.print(Text("  ") + line, soft_wrap=True)
