"""The pytest plugin, in test runs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

APP = """
from raincheck import App, Context

app = App()

@app.function
def add(a: int, b: int) -> int:
    return a + b

@app.function
async def broken() -> None:
    raise ValueError("broken here")
"""

BLOCKING = """
from app import add, app, broken

def test_fixtures(raincheck_worker, raincheck_clock):
    worker = raincheck_worker(app)
    job = app.blocking.submit("add", [add.step(1, 2)], delay=60)
    assert worker.drain() == 0
    raincheck_clock.advance(60)
    assert worker.drain() == 1
    assert app.blocking.status(job.id).result == 3

def test_again(raincheck_worker):
    worker = raincheck_worker(app)
    assert worker.until(lambda: app.blocking.call(add.step(3, 4))) == 7

def test_fails(raincheck_worker):
    worker = raincheck_worker(app)
    app.blocking.submit("broken", [broken.step()])
    worker.drain()
"""

ASYNC = """
import pytest
from app import add, app
from raincheck.testing import running

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def worker(raincheck_clock):
    async with running(app, clock=raincheck_clock) as worker:
        yield worker

@pytest.mark.anyio
async def test_async(worker, raincheck_clock):
    job = await app.submit("add", [add.step(1, 2)], delay=60)
    raincheck_clock.advance(60)
    assert await worker.drain() == 1
    assert (await app.status(job.id)).result == 3
    assert await worker.until(add.call(3, 4)) == 7
"""


def run(folder: Path, *plugins: str, ini: str = "", **files: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does, in a folder with an app and these tests."""
    for name, text in {"app": APP, **files}.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{ini}")
    loaded = [argument for plugin in ("raincheck.pytest_plugin", *plugins) for argument in ("-p", plugin)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *loaded],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # others take seconds
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_fixtures_are_there_for_all_kinds_of_tests(tmp_path: Path) -> None:
    """Without any setting; a failure shows the user's line, and no file is left."""
    done = run(tmp_path, "anyio", test_blocking=BLOCKING, test_async=ASYNC)
    assert "1 failed, 3 passed" in done.stdout, done.stdout
    assert "app.py:12: ValueError" in done.stdout
    assert "raincheck/" not in done.stdout.partition("Captured log")[0]
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in (".py", ".ini", "")] == []


@pytest.mark.long
def test_the_app_runs_in_a_test_of_pytest_asyncio(tmp_path: Path) -> None:
    """As in one of anyio."""
    asyncio = ASYNC.replace("@pytest.fixture\nasync", "@pytest_asyncio.fixture\nasync")
    asyncio = asyncio.replace("import pytest\n", "import pytest\nimport pytest_asyncio\n")
    asyncio = asyncio.replace("mark.anyio", "mark.asyncio")
    scope = "asyncio_default_fixture_loop_scope = function"
    done = run(tmp_path, "pytest_asyncio.plugin", ini=scope, test_it=asyncio)
    assert "1 passed" in done.stdout, done.stdout


def test_pytest_finds_the_plugin() -> None:
    """Where raincheck is installed."""
    (plugin,) = entry_points(group="pytest11", name="raincheck")
    assert plugin.value == "raincheck.pytest_plugin"


def test_a_test_run_that_does_not_use_it_loads_nothing() -> None:
    """Neither the app nor its store nor the worker."""
    script = (
        "import sys, raincheck.pytest_plugin; print(*(n for n in sys.modules if n.startswith('raincheck')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["raincheck.version", "raincheck", "raincheck.pytest_plugin"]
