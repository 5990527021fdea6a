"""The pytest plugin: fixtures for tests of an app. pytest loads it by itself where raincheck is installed.

It imports the rest of raincheck in the fixtures, so that a test run which uses none of them pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from raincheck.app import App
    from raincheck.testing import BlockingManualWorker, Clock


@pytest.fixture
def raincheck_clock() -> Clock:
    """A clock that stands still until the test moves it; `raincheck_worker` uses it."""
    from raincheck.testing import Clock

    return Clock()


@pytest.fixture
def raincheck_worker(raincheck_clock: Clock) -> Iterator[Callable[[App], BlockingManualWorker]]:
    """``raincheck_worker(app)`` opens an app in a test that is not async, until the test ends.

    The app gets a store in memory. The worker runs what is ready with ``drain()``. In an async test, use
    ``async with raincheck.testing.running(app, clock=raincheck_clock) as worker``.
    """
    from raincheck.testing import running

    with ExitStack() as stack:
        yield lambda app: stack.enter_context(running(app, clock=raincheck_clock))
