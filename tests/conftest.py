"""What every test gets: a loop that must not be blocked, and a hypothesis profile."""

import os
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

settings.register_profile("fast", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "fast")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def unblocked_loop() -> Iterator[None]:
    """Fail any blocking call that raincheck makes on a running event loop."""
    with blockbuster_ctx("raincheck"):
        yield
