"""A server of this program's own, for a command that needs one: a process that stops with the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raincheck.cli.runner import ignore_ctrl_c
from raincheck.core.errors import Unreachable

_LISTENING = "Listening and serving HTTP on "
_KILL_AFTER = 10.0
"""Seconds after which a server that does not stop is killed."""


@contextmanager
def own_server(folder: Path, command: str, target: str, *options: str) -> Iterator[str]:
    """Run ``raincheck COMMAND TARGET`` on a new SQLite file in ``folder``; yields its URL.

    The process stops with this one. Raises `Unreachable` if it does not start.
    """
    log = folder / "log"
    words = (command, target, "--child", "--port=0", "--log-level=error", *options)
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - runs raincheck itself
            [sys.executable, "-m", "raincheck", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env={name: value for name, value in os.environ.items() if not name.startswith("RAINCHECK_")},
            **ignore_ctrl_c(),
        )
    with process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None  # noqa: S101 - it is a pipe
        assert stdout is not None  # noqa: S101 - it is a pipe
        try:
            stdin.write(f"sqlite:///{(folder / 'jobs.db').as_posix()}\n")
            stdin.flush()
            lines = iter(stdout.readline, "")
            url = next((line.strip() for line in lines if line.startswith(_LISTENING)), None)
            if url is None:
                raise Unreachable(f"the server did not start: {log.read_text('utf-8').strip()}")
            yield url.removeprefix(_LISTENING)
        finally:
            stdin.close()
            try:
                process.wait(_KILL_AFTER)
            except subprocess.TimeoutExpired:
                process.kill()
