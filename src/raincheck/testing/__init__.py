"""Tests of one's own functions: an app in a test, with a store in memory and a clock that the test moves.

``async with running(app) as worker``, or ``with`` in a test that is not async, gives a worker that runs what
is ready when the test says so. `context` makes a `Context` for a direct call of a function.
"""

from raincheck.testing.clock import Clock
from raincheck.testing.contexts import RecordingContext, context
from raincheck.testing.running import BlockingManualWorker, Running, running
from raincheck.testing.worker import ManualWorker, MissingFunction

__all__ = [
    "BlockingManualWorker",
    "Clock",
    "ManualWorker",
    "MissingFunction",
    "RecordingContext",
    "Running",
    "context",
    "running",
]
