"""Child processes. Each has its own session and is stopped by its pid at the end of the run."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TIMEOUT = 10.0
"""Seconds that a child has to become ready after its start, and to end after SIGTERM."""

POLL_INTERVAL = 0.002
"""Seconds between two checks of whether a child is ready."""

ROOT = Path(__file__).parents[1]
"""The working directory of children, so that they can import ``benchmarks``."""


class ChildError(Exception):
    """A child process failed."""


class Child:
    """A running child process; its output is in ``log``."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log

    def check(self) -> None:
        """Raise `ChildError` if it has ended."""
        if (code := self._process.poll()) is not None:
            raise ChildError(f"a child ended with exit code {code}:\n{tail(self._log)}")

    def wait(self) -> int:
        """Wait until it ends; returns its exit code."""
        return self._process.wait()

    def until(
        self, ready: Callable[[], bool], seconds: float = TIMEOUT, interval: float = POLL_INTERVAL
    ) -> float:
        """Poll until ``ready`` returns True; returns the time (`time.perf_counter`). Raises `ChildError`."""
        give_up_at = time.perf_counter() + seconds
        while not ready():
            self.check()
            if time.perf_counter() > give_up_at:
                raise ChildError(f"a child was not ready after {seconds:g} s:\n{tail(self._log)}")
            time.sleep(interval)
        return time.perf_counter()


@contextmanager
def running(command: Sequence[str], log: Path, env: Mapping[str, str], **user: Any) -> Iterator[Child]:
    """Run a child process. ``user`` are its user and groups, if they are not those of this process."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **user,
        )
        try:
            yield Child(process, log)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a child; kill it and the processes that it has started if they do not end in time."""
    process.terminate()
    try:
        process.wait(TIMEOUT)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process with ``env``. Compiled modules are kept, as in an installation."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("RAINCHECK_")}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables | dict(env)


def tail(log: Path) -> str:
    """The last 2000 characters of a child's output."""
    return log.read_text(errors="replace")[-2000:]


def call(
    function: Callable[..., Any],
    log: Path,
    env: Mapping[str, str],
    arguments: Mapping[str, Any],
    python: str = sys.executable,
) -> Any:
    """Call a function in a new Python process. Arguments and result are JSON; a coroutine runs on uvloop."""
    command = [python, "-m", __name__, f"{function.__module__}:{function.__qualname__}"]
    result = log.with_name(f"{log.stem}-result.json")
    result.unlink(missing_ok=True)
    with running([*command, json.dumps(arguments), str(result)], log, env) as child:
        code = child.wait()
    if code or not result.exists():
        raise ChildError(f"{function.__qualname__} ended with exit code {code}:\n{tail(log)}")
    return json.loads(result.read_text())


def _main(target: str, arguments: str, file: str) -> None:
    """The main function of the child process of `call`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its own children are stopped
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    result = function(**json.loads(arguments))
    if inspect.iscoroutine(result):
        import uvloop

        result = uvloop.run(result)
    Path(file).write_text(json.dumps(result))


if __name__ == "__main__":
    _main(*sys.argv[1:])
