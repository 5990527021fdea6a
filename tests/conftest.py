"""What every test gets: a loop that must not be blocked, a hypothesis profile, a time limit and a place
in the order."""

import gc
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.folders import use_memory
from tests.servers import KINDS, REDIS

IN_CI = bool(os.environ.get("CI"))

settings.register_profile("short", max_examples=15, deadline=None, derandomize=IN_CI)
settings.register_profile("long", max_examples=200, deadline=None, derandomize=IN_CI)
settings.load_profile("short")  # `make test-long` asks for the other one

NOT_RUN = f"NOT RUN: all that is to hold on Redis too, for there is no {REDIS}; `make setup` puts it there"

SLOW_FOLDERS = ("contract", "worker", "client", "cli")
"""Folders of tests that wait much."""

PROCESSES_LIMIT = 240.0
"""Seconds that a test with processes of its own may take; others have those of ``pyproject.toml``.

Both only end what hangs: a test takes seconds, and several times as long on a busy machine.
"""


def pytest_configure(config: pytest.Config) -> None:
    """Files go into memory. In CI, nothing may be left out."""
    use_memory()
    if "redis" not in KINDS and IN_CI:
        raise pytest.UsageError(NOT_RUN)


@pytest.hookimpl(optionalhook=True)  # of xdist, which may be switched off
def pytest_xdist_auto_num_workers() -> int:
    """Three processes a core: a test waits for more than half of its time."""
    return 3 * (os.cpu_count() or 1)


class FileByFile(LoadScopeScheduling):  # type: ignore[misc] # it ships no types
    """Gives the tests of a file to one process, which starts once what they share.

    Tests with processes of their own are given out one by one, unless their file has an ``xdist_group``.
    (xdist's own grouping by that mark needs pytest below 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if _is_one_by_one(self.config.rootpath / file) else file


@cache
def _is_one_by_one(file: Path) -> bool:
    text = file.read_text("utf-8")
    return "mark.acceptance" in text and "xdist_group" not in text


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileByFile:
    """How the processes share the tests."""
    return FileByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with processes begin first: they take longest. The slow folders follow, so that all processes
    end at about the same time."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.generated)
        if item.get_closest_marker("acceptance") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(PROCESSES_LIMIT))
    items.sort(key=_place)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without the garbage collector: what is collected stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _place(item: pytest.Item) -> int:
    """Where in the order a test is."""
    if item.get_closest_marker("acceptance"):
        return 0
    folder = item.path.parent.name
    return 1 + SLOW_FOLDERS.index(folder) if folder in SLOW_FOLDERS else 1 + len(SLOW_FOLDERS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Elsewhere, what was left out is said."""
    if "redis" not in KINDS:
        terminalreporter.write_line(NOT_RUN, yellow=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def unblocked_loop() -> Iterator[None]:
    """Fail any blocking call that raincheck makes on a running event loop."""
    with blockbuster_ctx("raincheck"):
        yield
