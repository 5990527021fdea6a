"""``--reload``: an app that runs again after each change of its files."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx2
import pytest

from tests.cli.processes import LISTENING, running, store_in

pytestmark = pytest.mark.acceptance

SAME_TIME = 1_700_000_000
"""Python takes a module for unchanged if its size and its time, in seconds, are those of its bytecode."""

APP = """
import time

from raincheck import App
from helper import ANSWER

app = App()


@app.function
def answer(seconds: float = 0) -> int:
    print("answering", flush=True)
    time.sleep({seconds})
    return ANSWER
"""


def write(folder: Path, answer: object, seconds: str = "seconds") -> None:
    """Write the app; ``answer`` and ``seconds`` are parts of its code.

    All versions are of the same time, as those of a quick developer are: only their content differs.
    """
    files = {"app.py": APP.replace("{seconds}", seconds), "helper.py": f"ANSWER = {answer}\n"}
    for name, content in files.items():
        new = folder / f"{name}.new"
        new.write_text(content, "utf-8")
        os.utime(new, (SAME_TIME, SAME_TIME))
        new.replace(folder / name)


def answer(url: str) -> object:
    """Call the function."""
    response = httpx2.post(f"{url}/v1/function/answer", json=[], headers={"Prefer": "wait=60"}, timeout=70)
    return response.json()["result"]


def wait_for_a_worker(url: str) -> None:
    """Wait until a worker has registered: the command that started it watches the files."""
    while not httpx2.get(f"{url}/v1/worker", timeout=70).json():
        time.sleep(0.05)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_a_change_restarts_the_app_and_loses_no_job(tmp_path: Path, workers: str) -> None:
    """A running attempt goes back to the queue, is not counted, and runs again with the new code."""
    write(tmp_path, 1)
    options = ["--port", "0", "--store", store_in(tmp_path), "--grace", "60", "--workers", workers]
    with running("serve", "app.py", "--reload", *options, cwd=tmp_path) as server:
        url = server.line(LISTENING)
        running_job = httpx2.post(
            f"{url}/v1/function/answer", json=[600], headers={"Prefer": "respond-async"}
        ).json()["id"]
        server.line("answering")
        write(tmp_path, 2, seconds="0")
        server.line("Restarting: ")
        url = server.line(LISTENING)
        job = httpx2.get(f"{url}/v1/job/{running_job}", headers={"Prefer": "wait=60"}, timeout=70).json()
        assert (job["state"], job["result"]) == ("done", 2)
        assert (job["functions"][0]["retry_count"], job["functions"][0]["lost_count"]) == (1, 0)
        server.signal(signal.SIGINT)
        server.rest()
        assert server.process.wait() == 0


def test_a_broken_file_shows_its_error_and_waits_for_the_next_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the start, and also if bytecode could hide the change."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    write(tmp_path, "1 / 0")
    with running(
        "serve", "app.py", "--reload", "--port", "0", "--store", store_in(tmp_path), cwd=tmp_path
    ) as server:
        server.line("ZeroDivisionError: division by zero")
        server.line("Ended with exit code 2. Waiting for a change.")
        write(tmp_path, 3)
        assert answer(server.line(LISTENING)) == 3
        write(tmp_path, "(")
        server.line("Restarting: ")
        server.line("SyntaxError: ")
        server.line("Waiting for a change.")
        write(tmp_path, 4)
        assert answer(server.line(LISTENING)) == 4


@pytest.mark.long
def test_a_server_and_a_worker_reload_too(tmp_path: Path) -> None:
    """Each restarts after a change, also after one of the configuration file."""
    write(tmp_path, 5)
    store = ["--store", store_in(tmp_path)]
    with (
        running("server", "app.py", "--reload", "--port", "0", *store, cwd=tmp_path) as server,
        running("worker", "app.py", "--reload", *store, cwd=tmp_path) as worker,
    ):
        wait_for_a_worker(server.line(LISTENING))
        (tmp_path / "notes.txt").write_text("no part of the app", "utf-8")
        (tmp_path / "raincheck.yaml").write_text("", "utf-8")
        worker.line("Restarting: raincheck.yaml changed.")
        assert answer(server.line(LISTENING)) == 5


def test_a_second_signal_ends_a_reloading_server_immediately(tmp_path: Path) -> None:
    """No process remains."""
    write(tmp_path, 7)
    with running(
        "serve", "app.py", "--reload", "--port", "0", "--store", store_in(tmp_path), cwd=tmp_path
    ) as server:
        server.line(LISTENING)
        server.signal(signal.SIGINT)
        server.line("Stopping.")
        server.signal(signal.SIGINT)
        server.rest()
        assert server.process.wait() in (0, 130)


def test_reload_of_a_file_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """Nothing would ever change."""
    with running("serve", "app.py", "--reload", cwd=tmp_path) as server:
        assert "app.py does not exist" in server.rest()
        assert server.process.wait() == 2
