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
from tests.cli.processes import APP, LISTENING, raincheck, running, serving, store_in

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


def dying_app(folder: Path) -> str:
    """An app whose worker processes end when they load it."""
    target = folder / "app.py"
    target.write_text(
        "import sys\nfrom raincheck import App\n"
        "if '--child' in sys.argv:\n    sys.exit('this worker cannot start')\napp = App()\n"
        "@app.function\ndef one() -> int:\n    return 1\n",
        "utf-8",
    )
    return str(target)


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
        target = dying_app(tmp_path)
        with running("worker", target, "--store", store, "--processes", "1") as worker:
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
        options = ("--functions", "ad*, n*", "--functions", "!nap*", "--processes", "1")
        with running("worker", APP, "--store", store, *options) as worker:
            worker.line("Working in 1 process")
            assert call(app, "add", 1, 2) == 3
            (info,) = asyncio.run(workers(store))
            assert [function.name for function in info.functions] == ["add"]
            assert "".join(worker.lines[:2]) == "Offering 1 of 15 function(s):\n    - add\n"
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


class TestBurst:
    """`--burst`."""

    @pytest.mark.parametrize("processes", [(), ("--processes", "2")])
    def test_it_ends_when_nothing_is_left_to_run(
        self, store: str, app: App, processes: tuple[str, ...]
    ) -> None:
        """It prints what it did. The exit code tells of failures if it is asked to."""
        for n in range(20):
            app.blocking.submit("add", [step("add", n), step("echo", n)])
        app.blocking.submit("fail", [step("team/fail").options(retry=1)])
        ran = raincheck("worker", APP, "--store", store, "--burst", *processes)
        assert ran.stdout.splitlines()[-1] == "Nothing is left to run: 41 attempt(s), 40 done, 1 failed."
        assert ran.returncode == 0
        app.blocking.submit("fail", [step("team/fail").options(retry=1)])
        ran = raincheck("worker", APP, "--store", store, "--burst", "--fail-if-failed", *processes)
        assert ran.stdout.splitlines()[-1] == "Nothing is left to run: 1 attempt(s), 0 done, 1 failed."
        assert ran.returncode == 1

    def test_a_signal_stops_it(self, store: str, app: App) -> None:
        """As any worker; the summary says that something may be left."""
        app.blocking.submit("nap", [step("nap", 0.3), step("nap", 60)])
        with running("worker", APP, "--store", store, "--burst", "--processes", "2") as worker:
            worker.line("napping")
            worker.signal(signal.SIGTERM)
            assert worker.rest().endswith("Stopped: 1 attempt(s), 1 done, 0 failed.\n")
            assert worker.process.wait() == 0

    def test_it_runs_what_a_server_has(self, store: str, app: App) -> None:
        """Without a store; of a function with ``concurrency``, no more than that at once."""
        jobs = [app.blocking.submit("solo", [step("alone"), step("add", n)]) for n in range(5)]
        with running("server", APP, "--store", store, "--port", "0") as server:
            url = server.line(LISTENING)
            options = ("--burst", "--processes", "1", "--functions", "alone,add", "--max-jobs", "6")
            ran = raincheck("worker", APP, "--server", url, *options)
        assert ran.stdout.splitlines()[-1] == "Nothing is left to run: 10 attempt(s), 10 done, 0 failed."
        assert {app.blocking.status(job.id).state for job in jobs} == {"done"}

    @pytest.mark.long
    def test_it_ends_although_its_processes_die(self, store: str, tmp_path: Path) -> None:
        """After three deaths in a row of each; the exit code tells."""
        ran = raincheck("worker", dying_app(tmp_path), "--store", store, "--burst", "--processes", "2")
        assert ran.stderr.count("is not replaced any more") == 2
        assert ran.returncode == 1

    @pytest.mark.parametrize("option", ["--reload", "--fail-if-failed"])
    def test_options_that_do_not_go_together(self, store: str, option: str) -> None:
        """They are an error."""
        options = ["--burst"] if option == "--reload" else []
        ran = raincheck("worker", APP, "--store", store, option, *options)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "--burst" in ran.stderr


class TestRecycling:
    """`--max-jobs` and `--max-memory`."""

    def test_a_process_is_replaced_after_its_number_of_attempts(self, store: str, app: App) -> None:
        """At once; no job is lost, and no attempt is counted as lost."""
        jobs = [app.blocking.submit("add", [step("add", n)]) for n in range(5)]
        options = ("--processes", "1", "--max-jobs", "3", "--burst")
        ran = raincheck("worker", APP, "--store", store, *options)
        assert ran.stderr.count("the worker ends: it has begun 3 attempts") == 1
        assert ran.stdout.splitlines()[-1] == "Nothing is left to run: 5 attempt(s), 5 done, 0 failed."
        assert "a new one starts" not in ran.stderr
        ended = [app.blocking.status(job.id) for job in jobs]
        assert [job.functions[0].lost_count for job in ended] == [0] * 5  # type: ignore[union-attr]
        assert len({job.functions[0].worker for job in ended}) == 2  # type: ignore[union-attr]

    def test_a_single_worker_ends(self, store: str, app: App) -> None:
        """With exit code 0, and it says why: its supervisor starts it again."""
        app.blocking.submit("add", [step("add", 1)])
        ran = raincheck("worker", APP, "--store", store, "--max-jobs", "1")
        assert (
            ran.stdout.splitlines()[-1] == "Ended at the limit of --max-jobs: 1 attempt(s), 1 done, 0 failed."
        )
        assert ran.returncode == 0

    def test_the_worker_of_a_server_has_a_process_of_its_own(self, tmp_path: Path) -> None:
        """So that it can be replaced while the server goes on."""
        with serving(tmp_path, "--max-jobs", "1") as (server, url):
            waiting = {"Prefer": "wait=60"}
            pids = {server.process.pid}
            for _ in range(2):
                response = httpx2.post(f"{url}/v1/function/pid", headers=waiting, timeout=70)
                pids.add(response.json()["result"])
            assert len(pids) == 3
