"""Tests of this example, in a test that is not async: the app is opened by a fixture of raincheck."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from examples.groups.app import app
from raincheck import App, State
from raincheck.testing import BlockingManualWorker

Opened = Callable[[App], BlockingManualWorker]


def test_all_jobs_of_a_group_run(raincheck_worker: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """In the order of the file."""
    worker = raincheck_worker(app)
    run = app.blocking.trigger("group_a")
    with caplog.at_level("INFO", logger="raincheck.function"):
        assert worker.drain() == 4
    assert [app.blocking.status(job.id).state for job in run.jobs] == [State.DONE] * 3
    said = [record.getMessage() for record in caplog.records if record.name == "raincheck.function"]
    assert [line.partition("job_a")[2] for line in said] == ["2 was here"] * 3 + ["3 has slept"]
