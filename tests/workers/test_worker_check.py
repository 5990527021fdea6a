"""``raincheck worker-check`` with correct workers and with faulty ones."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from raincheck.cli import main
from raincheck.cli.worker_check.checks import CHECKS
from tests.auth.forging import SECRET, claims, token
from tests.cli.processes import LISTENING, ROOT, raincheck, running, store_in
from tests.workers.programs import PATH, example, needs_shell_tools

PYTHON = str(Path(__file__).with_name("check.py"))
FAULTY = Path(__file__).with_name("faulty.py")
APP = "raincheck.cli.worker_check.app:app"

WORKERS = pytest.mark.parametrize(
    "command",
    [
        pytest.param(example("node", "check.mjs"), id="node"),
        pytest.param(example("shell", "check.sh"), id="shell", marks=needs_shell_tools),
        pytest.param([sys.executable, "-m", "raincheck", "worker", PYTHON], id="python"),
    ],
)

pytestmark = pytest.mark.acceptance


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs are found."""
    monkeypatch.setenv("PATH", PATH)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for several checks."""
    store = store_in(tmp_path_factory.mktemp("server"))
    with running("server", APP, "--store", store, "--port", "0") as server:
        yield server.line(LISTENING)


def check(command: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Check a worker."""
    return raincheck("worker-check", *options, "--", *command, timeout=500.0)


def results(output: str) -> dict[str, str]:
    """The result of each check that ran."""
    return {name: result for result, name in re.findall(r"^(ok|skipped|failed) +(\S+)", output, re.MULTILINE)}


@WORKERS
def test_a_worker_passes_quick_checks(command: list[str]) -> None:
    """With a server that the command starts."""
    names = ("registration", "chain", "drain-idle")
    done = check(command, *(word for name in names for word in ("--only", name)))
    assert results(done.stdout) == dict.fromkeys(names, "ok"), done.stdout
    assert done.returncode == 0


@WORKERS
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_worker_passes_all_checks(command: list[str]) -> None:
    """The shell runs one attempt at a time, so one check does not apply to it."""
    done = check(command)
    skipped = ["parallel"] if "worker.sh" in command[0] else []
    expected = {each.name: "skipped" if each.name in skipped else "ok" for each in CHECKS}
    assert results(done.stdout) == expected, done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("fault", "name", "says"),
    [
        ("sends another token", "call", "each call has the Worker-Token of the registration"),
        ("claims in a busy loop", "idle", "an idle worker sends at most 10 calls in 5 s"),
        ("finishes twice", "error", "the worker finishes an attempt once, unless it gets no response"),
        ("dies when a connection is cut", "lost-reply", "the worker ended with exit code 1"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                ("offers too few functions", "registration", "without check/echo"),
                ("retries every error", "fatal", "check/fatal fails with its message and retryable: false"),
                ("extends no lease", "extend", "the worker extends the lease of an attempt"),
                ("ignores stop", "cancel", "is told to stop the cancelled attempt, and finishes it"),
                ("ignores stop", "timeout", "the worker stops an attempt that has timed out"),
                ("calls a dead server without a pause", "restart", "at most 60 calls in 3 s"),
                ("does not register again", "register-again", "the worker ended with exit code 1"),
                ("dies of SIGTERM", "drain", "the worker ended with exit code -15"),
                ("dies of SIGTERM", "drain-idle", "got -15 instead of 0"),
                ("claims after SIGTERM", "drain", "the worker ends after SIGTERM"),
                ("does not leave", "drain-idle", "the worker leaves after SIGTERM"),
            )
        ),
    ],
)
def test_a_fault_is_found(url: str, fault: str, name: str, says: str) -> None:
    """The check fails, and says what was expected, what happened instead, and what to read."""
    options = ("--url", url, "--timeout", "10", "--only", name)
    done = check([sys.executable, str(FAULTY), fault], *options)
    assert results(done.stdout) == {name: "failed"}, done.stdout
    assert done.returncode == 1
    assert says in done.stdout
    assert "read: docs/reference/worker-protocol.md#" in done.stdout


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_small_worker_without_a_fault_passes() -> None:
    """The checks find only what is wrong; what is optional is skipped."""
    done = check([sys.executable, str(FAULTY), "none"])
    skipped = ("parallel", "progress")
    assert results(done.stdout) == {
        each.name: "skipped" if each.name in skipped else "ok" for each in CHECKS
    }, done.stdout


def test_a_server_can_require_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker and the check use the same token, which needs a scope for each."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    options = ("--store", store_in(tmp_path), "--port", "0", "--secret-file", str(tmp_path / "secret"))
    with running("server", APP, *options) as server:
        url = server.line(LISTENING)
        for scope, code in (("worker:check/* job:read job:write", 0), ("job:read job:write", 1)):
            monkeypatch.setenv("RAINCHECK_TOKEN", token(claims(scope=scope)))
            done = check(example("node", "check.mjs"), "--url", url, "--only", "call")
            assert done.returncode == code, done.stdout
        assert "expected: the server accepts each call" in done.stdout
        assert "register: 403" in done.stdout


def test_a_worker_that_does_not_register_is_checked_no_further() -> None:
    """Its last lines of output are shown."""
    done = check([sys.executable, "-c", "print('no such host'); raise SystemExit(3)"])
    assert results(done.stdout) == {"registration": "failed"}
    assert "the worker ended with exit code 3; the worker has sent no call" in done.stdout
    assert "output: no such host" in done.stdout
    assert "The other checks did not run" in done.stdout
    assert done.returncode == 1


def test_the_sections_to_read_exist() -> None:
    """Each failed check names a section of the protocol's documentation."""
    page = (ROOT / "docs/reference/worker-protocol.md").read_text("utf-8")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert {each.read.partition("#")[2] for each in CHECKS} - anchors == set()


def test_a_command_that_cannot_run_is_an_error(url: str) -> None:
    """Of the usage, not of a worker."""
    done = check(["/no/such/program"], "--url", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot run /no/such/program: No such file" in done.stderr


def test_another_worker_of_the_server_must_not_offer_the_functions(url: str) -> None:
    """It would get jobs of the checks."""
    functions = [{"name": "check/echo"}]
    other = httpx2.post(f"{url}/v1/worker", json={"name": "other", "functions": functions}).json()
    try:
        done = check(example("node", "check.mjs"), "--url", url)
    finally:
        headers = {"Worker-Token": other["token"]}
        assert httpx2.delete(f"{url}/v1/worker/{other['id']}", headers=headers).status_code == 204
    assert (done.returncode, done.stdout) == (2, "")
    assert f"the worker {other['id']} of {url} offers check/echo already" in done.stderr


def test_a_server_that_does_not_respond_is_an_error() -> None:
    """At once, before a worker starts."""
    done = check(["/no/such/program"], "--url", "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (4, "")
    assert "no response from http://127.0.0.1:9" in done.stderr


def test_wrong_usage_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """It says what is possible."""
    assert [main(["worker-check", "--only", "cal"]), main(["worker-check"])] == [2, 2]
    errors = capsys.readouterr().err
    assert "there is no check 'cal': the checks are registration, call," in errors
    assert "the command that starts the worker is missing" in errors


def test_the_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """With what they expect of the worker."""
    assert main(["worker-check", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [each.name for each in CHECKS]
