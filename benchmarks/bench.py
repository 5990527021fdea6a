"""The place where measures run: a temporary folder, sizes, and children that end with it."""

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
"""How many attempts a raincheck worker runs at once: its default."""


class Bench:
    """One run of the benchmarks: all files of both sides lie in one folder, on one file system."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self._folder = folder
        self._numbers = count(1)
        self.quick = quick

    def size(self, full: int) -> int:
        """How many to do: fewer of everything when it is to be quick."""
        return max(full // 5, 1) if self.quick else full

    def seconds(self, full: float) -> float:
        """How long to do it."""
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
        """What ``function`` returns, called in a fresh Python; a coroutine runs on uvloop."""
        return processes.call(function, self.fresh() / "log", env or {}, arguments)

    def start(self, command: Sequence[str], **env: str) -> AbstractContextManager[Child]:
        """A child process while the block runs."""
        return processes.running(command, self.fresh() / "log", env)


def raincheck(*arguments: str) -> list[str]:
    """The command ``raincheck``, as a user runs it."""
    return [script("raincheck"), *arguments]


def script(name: str) -> str:
    """A command that is installed beside this Python."""
    return str(Path(sys.executable).with_name(name))
