"""raincheck serve, server and worker, as processes: started, stopped, killed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.cli.processes import APP, LISTENING, raincheck, running, serving, store_in

pytestmark = pytest.mark.acceptance

WORKERS = pytest.mark.parametrize("workers", ["1", "2"])
STOPPING = "Stopping; what runs gets 30 s to end. Ctrl-C again stops at once."


def called(url: str, name: str, *arguments: object) -> object:
    """The result of a call that is waited for."""
    answer = httpx2.post(
        f"{url}/v1/function/{name}", json=arguments, headers={"Prefer": "wait=60"}, timeout=70
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def begun(url: str, name: str, *arguments: object) -> str:
    """The id of a call that is not."""
    answer = httpx2.post(f"{url}/v1/function/{name}", json=arguments, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def job_at(url: str, job_id: str) -> Any:
    """A job as it is now."""
    return httpx2.get(f"{url}/v1/job/{job_id}").json()


def pids(url: str) -> list[int]:
    """The processes of the workers."""
    return [worker["pid"] for worker in httpx2.get(f"{url}/v1/worker").json()]


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_runs_end(tmp_path: Path, workers: str, number: int) -> None:
    """The exit code is 0, and the result is there when the server is back."""
    with serving(tmp_path, "--workers", workers) as (server, url):
        job_id = begun(url, "nap", 0.7)
        server.line("napping")
        server.signal(number)
        assert STOPPING in server.rest()
        assert server.process.wait() == 0
    with serving(tmp_path) as (_, url):
        job = job_at(url, job_id)
        assert (job["state"], job["functions"][0]["retry_count"]) == ("done", 1)


@WORKERS
def test_what_runs_longer_than_the_grace_is_given_back(tmp_path: Path, workers: str) -> None:
    """It waits for the next worker, and no attempt is counted."""
    with serving(tmp_path, "--workers", workers, "--grace", "0.1") as (server, url):
        job_id = begun(url, "nap", 30)
        server.line("napping")
        server.signal(signal.SIGTERM)
        server.rest()
        assert server.process.wait() == 0
    store = store_in(tmp_path)
    with running("server", APP, "--port", "0", "--store", store) as server:
        url = server.line(LISTENING)
        job = job_at(url, job_id)
        assert (job["state"], job["functions"][0]["retry_count"]) == ("pending", 0)
        assert job["functions"][0]["lost_count"] == 0


@WORKERS
def test_a_second_signal_ends_it_at_once(tmp_path: Path, workers: str) -> None:
    """Exit code 130, whatever runs, and no process stays behind."""
    with serving(tmp_path, "--workers", workers) as (server, url):
        begun(url, "nap", 60)
        server.line("napping")
        server.signal(signal.SIGINT)
        server.line(STOPPING)
        server.signal(signal.SIGINT)
        server.rest()
        assert server.process.wait() == 130


def test_a_function_that_blocks_its_loop_does_not_block_the_server(tmp_path: Path) -> None:
    """The worker in the server's process has a loop of its own."""
    with serving(tmp_path) as (server, url):
        job_id = begun(url, "block", 2)
        server.line("blocking")
        assert job_at(url, job_id)["state"] == "doing"


def test_workers_that_die_are_followed_by_others(tmp_path: Path) -> None:
    """Both are killed, and a call is answered all the same."""
    with serving(tmp_path, "--workers", "2") as (server, url):
        assert called(url, "add", 1, 2) == 3
        killed = pids(url)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        for _ in killed:
            server.line(
                f"a worker process ended with exit code -{signal.SIGKILL.value}; another starts in 0.5 s"
            )
        assert called(url, "add", 2, 2) == 4


def test_workers_end_with_the_server_that_is_killed(tmp_path: Path) -> None:
    """They take no more, and let what runs end."""
    with serving(tmp_path, "--workers", "2") as (server, url):
        begun(url, "nap", 0.5)
        server.line("napping")
        server.signal(signal.SIGKILL)
        server.rest()  # until the last of them has closed it


def test_a_worker_on_its_own_serves_a_server_without(tmp_path: Path) -> None:
    """Two processes, and a store in common."""
    store = store_in(tmp_path)
    with running("server", APP, "--port", "0", "--store", store) as server:
        url = server.line(LISTENING)
        assert job_at(url, begun(url, "add", 1))["waiting_for"] == ["add"]
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
def test_a_function_in_a_process_is_found_there(tmp_path: Path, workers: str) -> None:
    """Also one from a file, whose module no other process knows by its name."""
    with serving(tmp_path, "--workers", workers) as (server, url):
        assert called(url, "elsewhere") not in [*pids(url), server.process.pid]


def test_the_store_is_told_without_its_password(tmp_path: Path) -> None:
    """And a store that there is not is refused with exit code 2."""
    ran = raincheck("server", APP, "--store", "redis+other://user:secret@localhost/0")
    assert ran.returncode == 2
    assert "Store: redis+other://user:***@localhost/0" in ran.stdout
    assert "secret" not in ran.stdout + ran.stderr


def test_an_address_that_others_reach_is_refused(tmp_path: Path) -> None:
    """Unless --insecure says that it is meant."""
    ran = raincheck("serve", APP, "--host", "0.0.0.0", "--store", store_in(tmp_path))
    assert ran.returncode == 2
    assert "--insecure" in ran.stderr
    with serving(tmp_path, "--host", "0.0.0.0", "--insecure") as (server, _):
        assert "Warning: open to everybody who can reach it" in "".join(server.seen)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_that_is_taken_is_refused(tmp_path: Path, taken: int) -> None:
    """Exit code 2, and the advice to take another."""
    ran = raincheck("serve", APP, "--port", str(taken), "--store", store_in(tmp_path))
    assert ran.returncode == 2
    assert f"127.0.0.1:{taken}" in ran.stderr


@pytest.mark.parametrize("command", ["serve", "server", "worker"])
def test_a_target_that_fails_is_shown_with_its_line(tmp_path: Path, command: str) -> None:
    """Exit code 2, and no traceback."""
    bad = tmp_path / "bad.py"
    bad.write_text("import raincheck\n\napp = raincheck.Apple()\n", "utf-8")
    ran = raincheck(command, str(bad))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"{bad}, line 3:\n    app = raincheck.Apple()\n" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_worker_without_its_store_says_so(tmp_path: Path) -> None:
    """Exit code 4 or 2, and no traceback."""
    ran = raincheck("worker", APP, "--store", store_in(tmp_path / "no-folder"))
    assert ran.returncode in (2, 4)
    assert "\nError: " in f"\n{ran.stderr}"
    assert "Traceback" not in ran.stderr
