"""A store in memory: one process, no file."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from raincheck import App, JobFailed, NotFound, Worker, step

elsewhere = App("sqlite:///:memory:")


@elsewhere.function(process=True)
def submits() -> str:
    """Submits a job to the store of its app, from a child process."""
    return elsewhere.blocking.submit("lost", [step("submits")]).id


async def test_a_worker_runs_jobs_that_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain and a wide stage, with no file anywhere."""
    monkeypatch.chdir(tmp_path)
    app = App("sqlite:///:memory:")

    @app.function
    def double(number: int) -> int:
        return 2 * number

    async with app, Worker(app), asyncio.timeout(50):
        job = await app.submit("double", [double.step(1), [double.step(n) for n in range(100)]])
        assert (await app.wait(job.id)).result == [2 * n for n in range(100)]
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - a folder in memory


async def test_each_app_has_a_memory_of_its_own() -> None:
    """It is gone when the app is closed."""
    one, other = App("sqlite:///:memory:"), App("sqlite:///:memory:")
    async with one, other:
        job = await one.submit("a", [step("a")])
        with pytest.raises(NotFound):
            await other.status(job.id)
        await one.close()
        with pytest.raises(NotFound):
            await one.status(job.id)
    await one.close()


async def test_apps_share_a_memory_by_its_name() -> None:
    """A submit by one app wakes the worker of the other."""
    one, other = App("sqlite:///:memory:shared"), App("sqlite:///:memory:shared")

    @other.function
    async def twice(word: str) -> str:
        return 2 * word

    async with one, other, Worker(other), asyncio.timeout(50):
        assert await one.call(step("twice", "a")) == "aa"


async def test_a_child_process_cannot_use_a_store_in_memory() -> None:
    """Its jobs would be lost: the call fails, and the message says what to use."""
    async with elsewhere, Worker(elsewhere, process_slots=1), asyncio.timeout(50):
        with pytest.raises(JobFailed, match=r"is in the memory of one process.*Use a file, such as sqlite:"):
            await elsewhere.call(submits.step())


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["worker"], "no server can reach it"),
        (["server"], "no worker can reach it"),
        (["serve", "--workers", "2"], "workers in processes of their own cannot share it"),
    ],
)
def test_a_command_of_several_processes_refuses_a_store_in_memory(command: list[str], why: str) -> None:
    """Before it starts anything."""
    target = f"{Path(__file__)}:elsewhere"
    done = subprocess.run(
        [sys.executable, "-m", "raincheck", *command, target], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"sqlite:///:memory: is in the memory of one process: {why}" in " ".join(done.stderr.split())
