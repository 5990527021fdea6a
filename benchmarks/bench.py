"""The environment of the measures: a temporary folder, sizes, and child processes that end with the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.processes import Child

CONCURRENCY = 100
"""Attempts that a raincheck worker runs at the same time, its default."""


class Bench:
    """One run of the benchmarks. All files are in one folder, on one file system."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self._folder = folder
        self._numbers = count(1)
        self.quick = quick

    def size(self, full: int) -> int:
        """The size of a measure: ``full``, or a fifth of it with ``quick``."""
        return max(full // 5, 1) if self.quick else full

    def seconds(self, full: float) -> float:
        """The duration of a measure in seconds: ``full``, or a third of it with ``quick``."""
        return full / 3 if self.quick else full

    def fresh(self) -> Path:
        """A new empty folder."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        return folder

    def store(self) -> str:
        """The URL of a new store."""
        return f"sqlite:///{self.fresh() / 'bench.db'}"

    def call(
        self, function: Callable[..., Any], env: Mapping[str, str] | None = None, /, **arguments: Any
    ) -> Any:
        """Call a function in a new Python process; returns its result. A coroutine runs on uvloop."""
        return processes.call(function, self.fresh() / "log", env or {}, arguments)

    def start(self, command: Sequence[str], **env: str) -> AbstractContextManager[Child]:
        """A context in which a child process runs."""
        return processes.running(command, self.fresh() / "log", env)


def raincheck(*arguments: str) -> list[str]:
    """The command line of ``raincheck``."""
    return [script("raincheck"), *arguments]


def script(name: str) -> str:
    """The path of a command that is installed with this Python."""
    return str(Path(sys.executable).with_name(name))
