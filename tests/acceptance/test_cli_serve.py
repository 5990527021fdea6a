"""The commands serve, server and worker as processes that are started, stopped and killed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from raincheck.server import ROUTES
from tests.cli.processes import APP, LISTENING, raincheck, running, serving, store_in

pytestmark = pytest.mark.acceptance

WORKERS = pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.long), "2"])
"""In the process of the server, or in processes of their own."""

STOPPING = "Stopping. Running attempts have 30 s to finish. Press Ctrl-C again to stop now."


def called(url: str, name: str, *arguments: object) -> object:
    """Call a function and wait for its result."""
    response = httpx2.post(
        f"{url}/v1/function/{name}", json=arguments, headers={"Prefer": "wait=60"}, timeout=70
    )
    assert response.status_code == 200, response.text
    return response.json()["result"]


def call_without_waiting(url: str, name: str, *arguments: object) -> str:
    """Call a function; returns the job's id."""
    response = httpx2.post(f"{url}/v1/function/{name}", json=arguments, headers={"Prefer": "respond-async"})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def job_of(url: str, job_id: str) -> Any:
    """The job in its current state."""
    return httpx2.get(f"{url}/v1/job/{job_id}").json()


def pids(url: str) -> list[int]:
    """The process ids of the workers."""
    return [worker["pid"] for worker in httpx2.get(f"{url}/v1/worker").json()]


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGINT, "1"),
        (signal.SIGTERM, "2"),
        pytest.param(signal.SIGTERM, "1", marks=pytest.mark.long),
        pytest.param(signal.SIGINT, "2", marks=pytest.mark.long),
    ],
)
def test_a_signal_lets_running_attempts_finish(tmp_path: Path, workers: str, number: int) -> None:
    """The exit code is 0, and a restarted server has the result."""
    with serving(tmp_path, "--workers", workers) as (server, url):
        job_id = call_without_waiting(url, "nap", 0.7)
        server.line("napping")
        server.signal(number)
        assert STOPPING in server.rest()
        assert server.process.wait() == 0
    with serving(tmp_path) as (_, url):
        job = job_of(url, job_id)
        assert (job["state"], job["functions"][0]["retry_count"]) == ("done", 1)


@WORKERS
def test_an_attempt_longer_than_the_grace_period_is_requeued(tmp_path: Path, workers: str) -> None:
    """It is not counted as an attempt."""
    with serving(tmp_path, "--workers", workers, "--grace", "0.1") as (server, url):
        job_id = call_without_waiting(url, "nap", 30)
        server.line("napping")
        server.signal(signal.SIGTERM)
        server.rest()
        assert server.process.wait() == 0
    store = store_in(tmp_path)
    with running("server", APP, "--port", "0", "--store", store) as server:
        url = server.line(LISTENING)
        job = job_of(url, job_id)
        assert (job["state"], job["functions"][0]["retry_count"]) == ("pending", 0)
        assert job["functions"][0]["lost_count"] == 0


@WORKERS
def test_a_second_signal_ends_the_server_immediately(tmp_path: Path, workers: str) -> None:
    """The exit code is 130, and no process remains."""
    with serving(tmp_path, "--workers", workers) as (server, url):
        call_without_waiting(url, "nap", 60)
        server.line("napping")
        server.signal(signal.SIGINT)
        server.line(STOPPING)
        server.signal(signal.SIGINT)
        server.rest()
        assert server.process.wait() == 130


def test_a_function_that_blocks_its_loop_does_not_block_the_server(tmp_path: Path) -> None:
    """The worker in the server's process has its own event loop."""
    with serving(tmp_path) as (server, url):
        job_id = call_without_waiting(url, "block", 2)
        server.line("blocking")
        assert job_of(url, job_id)["state"] == "doing"


def test_dead_workers_are_replaced(tmp_path: Path) -> None:
    """Both are killed, and a call succeeds."""
    with serving(tmp_path, "--workers", "2") as (server, url):
        assert called(url, "add", 1, 2) == 3
        killed = pids(url)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        for _ in killed:
            server.line(
                f"a worker process ended with exit code -{signal.SIGKILL.value}; a new one starts in 0.5 s"
            )
        assert called(url, "add", 2, 2) == 4


def test_workers_stop_if_the_server_is_killed(tmp_path: Path) -> None:
    """They claim no more jobs, and finish the running ones."""
    with serving(tmp_path, "--workers", "2") as (server, url):
        call_without_waiting(url, "nap", 0.5)
        server.line("napping")
        server.signal(signal.SIGKILL)
        server.rest()  # until the last worker has closed its output


@WORKERS
def test_the_workers_are_registered_when_serve_says_that_it_listens(tmp_path: Path, workers: str) -> None:
    """So the first call needs no warning that no worker offers its function."""
    with serving(tmp_path, "--workers", workers) as (_, url):
        assert job_of(url, call_without_waiting(url, "nap", 0.1))["waiting_for"] == []
        assert len(pids(url)) == int(workers)


def test_serve_listens_although_its_worker_processes_fail(tmp_path: Path) -> None:
    """It does not wait for a worker that has failed."""
    app = tmp_path / "app.py"
    app.write_text(
        "import sys\nfrom raincheck import App\n"
        "if '--child' in sys.argv:\n    sys.exit('this worker cannot start')\napp = App()\n"
        "@app.function\ndef one() -> int:\n    return 1\n",
        "utf-8",
    )
    with running("serve", str(app), "--workers", "2", "--port", "0", "--store", store_in(tmp_path)) as server:
        url = server.line(LISTENING)
        assert "this worker cannot start" in "".join(server.lines)
        assert pids(url) == []


def test_serve_listens_although_its_worker_starts_slowly(tmp_path: Path) -> None:
    """It waits at most a few seconds, for example for a lifespan that loads a model."""
    app, gate = tmp_path / "app.py", tmp_path / "gate"
    app.write_text(
        "import asyncio\nfrom contextlib import asynccontextmanager\nfrom pathlib import Path\n"
        "from raincheck import App\n"
        "@asynccontextmanager\nasync def lifespan(app):\n"
        f"    while not Path({str(gate)!r}).exists():\n        await asyncio.sleep(0.01)\n    yield None\n"
        "app = App(lifespan=lifespan)\n@app.function\ndef one() -> int:\n    return 1\n",
        "utf-8",
    )
    with running("serve", str(app), "--port", "0", "--store", store_in(tmp_path)) as server:
        url = server.line(LISTENING)
        assert pids(url) == []
        gate.touch()
        assert called(url, "one") == 1


def test_a_server_and_a_worker_can_share_a_store(tmp_path: Path) -> None:
    """In two processes."""
    store = store_in(tmp_path)
    with running("server", APP, "--port", "0", "--store", store) as server:
        url = server.line(LISTENING)
        assert job_of(url, call_without_waiting(url, "add", 1))["waiting_for"] == ["add"]
        with running("worker", APP, "--store", store, "--concurrency", "7") as worker:
            worker.line("Working, up to 7 attempts at once.")
            assert called(url, "add", 1, 2) == 3
            worker.signal(signal.SIGINT)
            worker.rest()
            assert worker.process.wait() == 0
        server.signal(signal.SIGINT)
        assert server.rest() == "Stopping.\n"
        assert server.process.wait() == 0


@WORKERS
def test_a_child_process_finds_its_function(tmp_path: Path, workers: str) -> None:
    """Also in a file that other processes cannot import by name."""
    with serving(tmp_path, "--workers", workers) as (server, url):
        assert called(url, "elsewhere") not in [*pids(url), server.process.pid]


def test_all_routes_are_printed_on_request(tmp_path: Path) -> None:
    """Each with its method."""
    with running("server", APP, "--port", "0", "--routes", "--store", store_in(tmp_path)) as server:
        server.line("Having ")
    printed = [line.split() for line in server.lines[:-1]]
    routes = [[method, path] for path, methods in ROUTES.items() for method in methods]
    assert printed == [[method, path.replace(":path}", "}")] for method, path in routes]


def test_the_password_of_the_store_is_hidden(tmp_path: Path) -> None:
    """An unknown kind of store is refused with exit code 2."""
    ran = raincheck("server", APP, "--store", "redis+other://user:secret@localhost/0")
    assert ran.returncode == 2
    assert "Store: redis+other://user:***@localhost/0" in ran.stdout
    assert "secret" not in ran.stdout + ran.stderr


def test_a_public_address_is_refused(tmp_path: Path) -> None:
    """Unless --insecure is given."""
    ran = raincheck("serve", APP, "--host", "0.0.0.0", "--store", store_in(tmp_path))
    assert ran.returncode == 2
    assert "--insecure" in ran.stderr
    with serving(tmp_path, "--host", "0.0.0.0", "--insecure") as (server, _):
        assert "Warning: open to everyone who can reach this address" in "".join(server.lines)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_in_use_is_an_error(tmp_path: Path, taken: int) -> None:
    """The exit code is 2, and the message has the address. A starting worker stops in silence."""
    ran = raincheck("serve", APP, "--port", str(taken), "--store", store_in(tmp_path))
    assert ran.returncode == 2
    assert f"Error: cannot listen on 127.0.0.1:{taken} " in ran.stderr
    assert "asyncio" not in ran.stderr


@pytest.mark.parametrize("command", ["serve", "server", "worker"])
def test_an_exception_in_the_target_is_shown_with_its_line(tmp_path: Path, command: str) -> None:
    """The exit code is 2, without a traceback."""
    bad = tmp_path / "bad.py"
    bad.write_text("import raincheck\n\napp = raincheck.Apple()\n", "utf-8")
    ran = raincheck(command, str(bad))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"{bad}, line 3:\n    app = raincheck.Apple()\n" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_an_app_without_functions_is_an_error(tmp_path: Path, command: str) -> None:
    """A worker would run nothing; the message names the command that needs no functions."""
    empty = tmp_path / "empty.py"
    empty.write_text("import raincheck\n\napp = raincheck.App()\n", "utf-8")
    ran = raincheck(command, str(empty))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "has no functions, so a worker has nothing to run" in ran.stderr
    assert "`raincheck server`" in ran.stderr


def test_a_worker_without_its_store_is_an_error(tmp_path: Path) -> None:
    """The exit code is 4 or 2, without a traceback."""
    ran = raincheck("worker", APP, "--store", store_in(tmp_path / "no-folder"))
    assert ran.returncode in (2, 4)
    assert "\nError: " in f"\n{ran.stderr}"
    assert "Traceback" not in ran.stderr
