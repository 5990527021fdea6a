"""The command worker as an operator runs it: several processes, stopped, killed and failing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from raincheck import App, step
from raincheck.core.model import WorkerInfo
from tests.cli.processes import APP, raincheck, running, serving, store_in

pytestmark = pytest.mark.acceptance


@pytest.fixture
def store(tmp_path: Path) -> str:
    return store_in(tmp_path)


@pytest.fixture
def app(store: str) -> Iterator[App]:
    """Submits jobs to the store of the workers, and waits for them."""
    app = App(store)
    with closing(app.blocking):
        yield app


def call(app: App, name: str, *arguments: object) -> object:
    """Call a function that a worker runs."""
    return app.blocking.call(step(name, *arguments))


async def workers(store: str) -> list[WorkerInfo]:
    """The registered workers."""
    async with App(store) as app:
        return await app.engine.workers.read()


class TestProcesses:
    """`--processes N`."""

    def test_a_signal_lets_running_attempts_finish(self, store: str, app: App) -> None:
        """All processes stop, and the exit code is 0."""
        with running("worker", APP, "--store", store, "--processes", "2") as worker:
            worker.line("Working in 2 processes, each with up to 100 attempts at once.")
            jobs = [app.blocking.submit("nap", [step("nap", 0.5)]) for _ in range(2)]
            worker.line("napping")
            worker.line("napping")
            worker.signal(signal.SIGTERM)
            assert "Stopping. Running attempts have 30 s to finish." in worker.rest()
            assert worker.process.wait() == 0
        assert [app.blocking.status(job.id).state for job in jobs] == ["done", "done"]

    def test_dead_processes_are_replaced(self, store: str, app: App) -> None:
        """A job that is submitted meanwhile is run by their successors."""
        with running("worker", APP, "--store", store, "--processes", "2") as worker:
            assert call(app, "add", 1, 2) == 3
            for each in asyncio.run(workers(store)):
                os.kill(each.pid, signal.SIGKILL)
                worker.line("a worker process ended with exit code -9; a new one starts in 0.5 s")
            assert call(app, "add", 2, 2) == 4

    def test_a_second_signal_stops_now(self, store: str, app: App) -> None:
        """The exit code is 130, and no process remains."""
        with running("worker", APP, "--store", store, "--processes", "2") as worker:
            app.blocking.submit("nap", [step("nap", 60)])
            worker.line("napping")
            worker.signal(signal.SIGINT)
            worker.line("Stopping.")
            worker.signal(signal.SIGINT)
            worker.rest()
            assert worker.process.wait() == 130

    def test_no_process_outlives_the_command(self, store: str, app: App) -> None:
        """If it is killed, its processes finish what they run, and end."""
        with running("worker", APP, "--store", store, "--processes", "2") as worker:
            job = app.blocking.submit("nap", [step("nap", 0.3)])
            worker.line("napping")
            worker.signal(signal.SIGKILL)
            worker.rest()  # until the last process has closed its output
        assert app.blocking.status(job.id).state == "done"

    def test_the_exit_code_tells_that_processes_kept_dying(self, store: str, tmp_path: Path) -> None:
        """They were replaced, with growing pauses, until the command was stopped."""
        target = tmp_path / "app.py"
        target.write_text(
            "import sys\nfrom raincheck import App\n"
            "if '--child' in sys.argv:\n    sys.exit('this worker cannot start')\napp = App()\n"
            "@app.function\ndef one() -> int:\n    return 1\n",
            "utf-8",
        )
        with running("worker", str(target), "--store", store, "--processes", "1") as worker:
            worker.line("a new one starts in 1 s")
            worker.signal(signal.SIGTERM)
            worker.rest()
            assert worker.process.wait() == 1

    def test_without_its_store_no_process_starts(self, tmp_path: Path) -> None:
        """The command ends with the error of the store."""
        ran = raincheck("worker", APP, "--store", store_in(tmp_path / "no-folder"), "--processes", "2")
        assert ran.returncode == 4
        assert ran.stderr.count("Error: ") == 1


class TestFunctions:
    """`--functions PATTERN`."""

    def test_a_worker_offers_only_those_that_match(self, store: str, app: App) -> None:
        """It says so at its start and in the register of workers, and claims no others."""
        other = app.blocking.submit("echo", [step("echo", 1)])
        options = ("--functions", "a*, n*", "--functions", "!nap*", "--processes", "1")
        with running("worker", APP, "--store", store, *options) as worker:
            worker.line("Working in 1 process")
            assert call(app, "add", 1, 2) == 3
            (info,) = asyncio.run(workers(store))
            assert [function.name for function in info.functions] == ["add"]
            assert "".join(worker.lines[:2]) == "Offering 1 of 13 function(s):\n    - add\n"
        assert app.blocking.status(other.id).state == "pending"

    @pytest.mark.parametrize("command", ["worker", "serve"])
    def test_a_pattern_that_matches_nothing_is_an_error(self, store: str, command: str) -> None:
        """With the names that are like it."""
        ran = raincheck(command, APP, "--store", store, "--functions", "adds")
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr == "Error: no function matches 'adds'. Did you mean 'add'?\n"

    def test_the_workers_of_a_server_too(self, tmp_path: Path) -> None:
        """In its process."""
        with serving(tmp_path, "--functions", "add") as (_, url):
            (worker,) = httpx2.get(f"{url}/v1/worker").json()
            assert worker["functions"] == ["add"]
