"""Child processes: each in a session of its own, and ended by its pid however the run ends."""

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

PATIENCE = 10.0
"""Seconds that a child gets to end when it is told to, and to be ready when it was started."""

LOOK = 0.002
"""Seconds between two looks at whether it is."""

ROOT = Path(__file__).parents[1]
"""Where children are started, so that they find ``benchmarks``."""


class ChildError(Exception):
    """A child process did not do what it was started for."""


class Child:
    """A running child process, with what it prints in ``log``."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log

    def check(self) -> None:
        """Raise `ChildError` if it has ended."""
        if (code := self._process.poll()) is not None:
            raise ChildError(f"a child ended with exit code {code}:\n{tail(self._log)}")

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        return self._process.wait()

    def until(self, ready: Callable[[], bool], seconds: float = PATIENCE, look: float = LOOK) -> float:
        """Ask again and again until it is ready; the time at which it was (`time.perf_counter`)."""
        give_up = time.perf_counter() + seconds
        while not ready():
            self.check()
            if time.perf_counter() > give_up:
                raise ChildError(f"a child was not ready after {seconds:g} s:\n{tail(self._log)}")
            time.sleep(look)
        return time.perf_counter()


@contextmanager
def running(command: Sequence[str], log: Path, env: Mapping[str, str], **who: Any) -> Iterator[Child]:
    """A child process while the block runs; ``who``: the user and groups of it, where not ours."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **who,
        )
        try:
            yield Child(process, log)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Tell a child to end; kill it, and whatever it has started itself, if it does not."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Our environment with ``env``, and with compiled modules kept, as an installed program has them."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAINCHECK_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | dict(env)


def tail(log: Path) -> str:
    """The end of what a child printed."""
    return log.read_text(errors="replace")[-2000:]


def call(
    function: Callable[..., Any],
    log: Path,
    env: Mapping[str, str],
    arguments: Mapping[str, Any],
    python: str = sys.executable,
) -> Any:
    """Call a function of a module in a fresh Python; what crosses is JSON. A coroutine runs on uvloop."""
    command = [python, "-m", __name__, f"{function.__module__}:{function.__qualname__}"]
    answer = log.with_name(f"{log.stem}-answer.json")
    answer.unlink(missing_ok=True)
    with running([*command, json.dumps(arguments), str(answer)], log, env) as child:
        code = child.wait()
    if code or not answer.exists():
        raise ChildError(f"{function.__qualname__} ended with exit code {code}:\n{tail(log)}")
    return json.loads(answer.read_text())


def _main(target: str, arguments: str, answer: str) -> None:
    """In the child of `call`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its own children are ended, too
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    result = function(**json.loads(arguments))
    if inspect.iscoroutine(result):
        import uvloop

        result = uvloop.run(result)
    Path(answer).write_text(json.dumps(result))


if __name__ == "__main__":
    _main(*sys.argv[1:])
