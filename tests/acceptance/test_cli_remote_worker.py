"""``raincheck worker --server`` as a process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from raincheck.auth import Auth
from tests.acceptance.test_cli_serve import call_without_waiting, called, job_of, pids
from tests.auth import forging
from tests.cli.processes import APP, LISTENING, raincheck, running, store_in
from tests.worker.sites import site

pytestmark = pytest.mark.acceptance


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server that has no workers."""
    with running("server", APP, "--port", "0", "--store", store_in(tmp_path)) as server:
        yield server.line(LISTENING)


def test_a_signal_lets_running_attempts_finish(url: str) -> None:
    """The results reach the server, the worker leaves, and the exit code is 0."""
    with running("worker", APP, "--server", url) as worker:
        job_id = call_without_waiting(url, "nap", 0.7)
        worker.line("napping")
        worker.signal(signal.SIGTERM)
        assert "Stopping." in worker.rest()
        assert worker.process.wait() == 0
    assert job_of(url, job_id)["state"] == "done"
    assert pids(url) == []


def test_several_processes(url: str) -> None:
    """Each has its own registration."""
    with running("worker", APP, "--server", url, "--processes", "2") as workers:
        workers.line(f"Server: {url}")
        assert called(url, "add", 1, 2) == 3
        while len(pids(url)) < 2:
            pass
        workers.signal(signal.SIGTERM)
        workers.rest()
        assert workers.process.wait() == 0
    assert pids(url) == []


async def test_what_a_token_does_not_allow_is_named(tmp_path: Path) -> None:
    """The error names each function outside of its scope; without a token, it says how to pass one."""
    auth = Auth(secret=forging.SECRET, users=tmp_path / "users.json")
    token = tmp_path / "token"
    token.write_text(forging.token(forging.claims(scope="worker:add worker:e*")))
    token.chmod(0o600)
    async with site(store_in(tmp_path), auth) as guarded:
        options = ("--server", guarded.url, "--token-file", str(token))
        refused = await asyncio.to_thread(raincheck, "worker", APP, *options)
        assert "the token has no scope worker:team/fail" in refused.stderr
        assert refused.returncode == 2
        unknown = await asyncio.to_thread(raincheck, "worker", APP, "--server", guarded.url)
        assert "--token-file FILE, or RAINCHECK_TOKEN" in unknown.stderr
        assert unknown.returncode == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--server", "http://127.0.0.1:9", "--store", "sqlite:///jobs.db"), "pass --server or --store"),
        (("--token-file", "token"), "--token-file needs --server"),
        (("--server", "jobs"), "'jobs' is not the URL of a server"),
        (("--server", "http://127.0.0.1:9", "--token-file", "no such file"), "cannot read no such file"),
    ],
)
def test_wrong_options(options: tuple[str, ...], message: str) -> None:
    """The error says what to change."""
    done = raincheck("worker", APP, *options)
    assert message in done.stderr
    assert done.returncode == 2
