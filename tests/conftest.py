"""What every test gets: a loop that must not be blocked, and a hypothesis profile."""

import os
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from tests.servers import KINDS, REDIS

settings.register_profile("fast", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "fast")


NOT_RUN = f"NOT RUN: all that is to hold on Redis too, for there is no {REDIS}; `make setup` puts it there"


def pytest_configure(config: pytest.Config) -> None:
    """In CI, nothing may be left out."""
    if "redis" not in KINDS and os.environ.get("CI"):
        raise pytest.UsageError(NOT_RUN)


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
