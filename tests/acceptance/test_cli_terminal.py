"""What a user sees: the demo, a job live on a terminal, Ctrl-C, and the time to start."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.processes import APP, LISTENING, Running, raincheck, running, serving, store_in
from tests.folders import quick

pytestmark = pytest.mark.acceptance

pty = pytest.importorskip("pty", reason="needs a terminal")


class Terminal:
    """raincheck on a terminal with 100 columns."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._reader, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "raincheck", *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"} | environment,
        )
        os.close(terminal)
        self.shown = ""

    def until(self, words: str, then: str = "") -> str:
        """Wait for these texts, one after the other; returns all output so far, without control sequences."""
        while then not in self.shown.partition(words)[2] or words not in self.shown:
            read = self._read()
            assert read, self.shown
            self.shown += read
        return self.shown

    def until_like(self, pattern: str) -> None:
        """Wait for output that matches the pattern."""
        while not re.search(pattern, self.shown):
            read = self._read()
            assert read, self.shown
            self.shown += read

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._reader, text.encode())

    def close(self) -> None:
        """Close the window."""
        os.close(self._reader)

    def rest(self) -> str:
        """All output until raincheck has ended."""
        while read := self._read():
            self.shown += read
        os.close(self._reader)
        return self.shown

    def _read(self) -> str:
        try:
            text = os.read(self._reader, 65536).decode(errors="replace")
        except OSError:  # the other end is closed
            return ""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text) or " "


@pytest.mark.long
def test_the_demo_on_a_terminal_is_live(tmp_path: Path) -> None:
    """With an animated progress bar for each step."""
    terminal = Terminal("demo", TMPDIR=str(tmp_path))
    shown = terminal.rest()
    assert terminal.process.wait() == 0
    assert '┌ ✓  /rain/measure("harbour")  ━━━━━━━━━━━━  done' in shown
    assert len(re.findall(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]  /rain/stations", shown)) > 2


def test_an_interrupted_demo_cleans_up(tmp_path: Path) -> None:
    """The exit code is 130, and no file remains."""
    terminal = Terminal("demo", TMPDIR=str(tmp_path))
    terminal.until("Watching the job")
    terminal.process.send_signal(signal.SIGINT)
    terminal.rest()
    assert terminal.process.wait() == 130
    assert list(tmp_path.iterdir()) == []


def test_many_jobs_are_changed_after_a_question(tmp_path: Path) -> None:
    """It shows some of them; the answer no changes nothing, and the exit code is 130."""
    with serving(tmp_path) as (_, url):
        body = json.dumps({"name": "many", "functions": [{"name": "add"}], "delay": 600})
        for _ in range(3):
            raincheck("submit", "-", "--url", url, stdin=body)
        for answer, words, code in (("n", "Nothing was changed", 130), ("y", "Cancelled 3 jobs", 0)):
            terminal = Terminal("cancel", "--name", "many", "--url", url)
            shown = terminal.until("Cancel 3 jobs? [y/N]")
            assert shown.count("many  ") == 3
            terminal.type(f"{answer}\n")
            assert words in terminal.rest()
            assert terminal.process.wait() == code


@pytest.mark.parametrize(("columns", "code"), [("100", 0), pytest.param("40", 130, marks=pytest.mark.long)])
def test_top_is_refreshed_until_a_key(tmp_path: Path, columns: str, code: int) -> None:
    """Either q or Ctrl-C; a narrow terminal cuts its lines, and wraps none."""
    with serving(tmp_path) as (_, url):
        raincheck("call", "team/fail", "no reason at all, and a long one", "--url", url)
        terminal = Terminal("top", "--interval", "0.5", "--url", url, COLUMNS=columns)
        terminal.until("LATEST FAILURES")
        raincheck("call", "add", "1", "--url", url)
        terminal.until("done 1")
        if code:
            terminal.process.send_signal(signal.SIGINT)
        else:
            terminal.type("q")
        shown = terminal.rest()
        assert terminal.process.wait() == code
    assert "team/fail" in shown
    assert "1 running" not in shown
    assert max(len(line.strip()) for line in shown.split("\r\n")) <= int(columns)


def test_top_ends_with_its_terminal(tmp_path: Path) -> None:
    """Rather than to send requests without a pause for ever."""
    with serving(tmp_path) as (_, url):
        terminal = Terminal("top", "--url", url)
        terminal.until("LATEST FAILURES")
        terminal.close()
        terminal.process.wait(30)


def test_a_job_can_be_watched_on_a_terminal(tmp_path: Path) -> None:
    """The last view of the job remains."""
    with quick() as folder, serving(tmp_path) as (_, url):
        gate = folder / "gate"
        job_id = raincheck("call", "gated", str(gate), "--no-wait", url=url).stdout.strip()
        terminal = Terminal("watch", job_id, "--url", url)
        terminal.until_like(r"━ +doing +\S+ s +part \d")
        gate.touch()
        shown = terminal.rest()
        assert terminal.process.wait() == 0
        assert re.search(r"gated\(.+\)  ━{12}  done", shown)


def test_watch_warns_if_a_job_waits_for_a_worker(tmp_path: Path) -> None:
    """The watch continues when a worker starts."""
    store = store_in(tmp_path)
    with running("server", APP, "--port", "0", "--store", store) as server:
        url = server.line(LISTENING)
        job_id = raincheck("call", "work", "--no-wait", url=url).stdout.strip()
        with running("watch", job_id, "--url", url) as watch:
            watch.line("Warning: no worker offers 'work'.")
            with running("worker", APP, "--store", store):
                watch.line("done after")


def test_ctrl_c_does_not_cancel_a_watched_job(tmp_path: Path) -> None:
    """The exit code is 130, and the output has the command that cancels it."""
    with serving(tmp_path, "--grace", "0.1") as (_, url):
        job_id = raincheck("call", "nap", "60", "--no-wait", url=url).stdout.strip()
        terminal = Terminal("watch", job_id, "--url", url)
        terminal.until("nap(60)")
        terminal.process.send_signal(signal.SIGINT)
        assert f"The job continues. To cancel it: raincheck cancel {job_id} --url {url}" in " ".join(
            terminal.rest().split()
        )
        assert terminal.process.wait() == 130
        assert json.loads(raincheck("status", job_id, "--json", url=url).stdout)["state"] == "doing"


def test_a_watch_continues_after_a_restart_of_the_server(tmp_path: Path) -> None:
    """It warns while the server is away."""
    with serving(tmp_path, "--lease", "1") as (server, url):
        job_id = raincheck("call", "hang", "--no-wait", url=url).stdout.strip()
        with running("watch", job_id, "--url", url) as watch:
            watch.line("hang()")
            server.signal(signal.SIGKILL)
            watch.line("Warning: no response from")
            with serving(tmp_path, "--port", url.rpartition(":")[2]):
                watch.line("done after")
                assert watch.process.wait() == 0


@pytest.mark.parametrize("arguments", [["version"], ["version", "--json"]])
def test_a_closed_stdout_is_no_error(arguments: list[str]) -> None:
    """A reader such as head can close it."""
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "raincheck", *arguments], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_on_a_terminal_log_lines_are_short(tmp_path: Path) -> None:
    """Time, level and message, with control characters escaped."""
    terminal = Terminal("serve", APP, "--port", "0", "--store", store_in(tmp_path))
    url = terminal.until("Listening and serving HTTP on http://127.0.0.1:", "\n").split()[-1]
    assert raincheck("call", "fail-with-escapes", url=url).returncode == 1
    shown = terminal.until("fail-with-escapes raised", "\n")
    assert re.search(
        r"\n\d\d:\d\d:\d\d  warning job \S+, fail-with-escapes raised ValueError: \\x1b\[31m", shown
    )
    terminal.process.send_signal(signal.SIGINT)
    assert "Stopping. Running attempts have 30 s to finish." in terminal.rest()
    assert terminal.process.wait() == 0


@pytest.mark.parametrize("code", ["import raincheck", "from raincheck import App"])
def test_importing_is_quick(code: str, record_property: Callable[[str, object], None]) -> None:
    """The time is recorded, not asserted; the imported modules are asserted."""
    started_at = time.perf_counter()
    modules = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    record_property("milliseconds", round((time.perf_counter() - started_at) * 1000))
    assert not {"starlette", "uvicorn", "httpx2", "cyclopts", "rich", "raincheck.worker"} & set(modules)
    if code == "import raincheck":
        assert not {"asyncio", "msgspec", "apsw", "raincheck.app"} & set(modules)


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], {"asyncio", "msgspec", "apsw", "httpx2", "starlette"}),
        (["jobs"], {"apsw", "starlette", "uvicorn"}),
    ],
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], unwanted: set[str]) -> None:
    """Help imports no command, and a client command no server."""
    code = (
        "import sys\nfrom raincheck.cli import main\n"
        f"main([*{arguments!r}, *{['--url', 'http://127.0.0.1:1'] if arguments == ['jobs'] else []!r}])\n"
        "sys.stderr.write('\\n'.join(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not unwanted & set(ran.stderr.split())


def test_the_start_is_quick(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """The times are recorded, not asserted, as machines differ."""
    started_at = time.perf_counter()
    assert raincheck("--help").returncode == 0
    record_property("help", round((time.perf_counter() - started_at) * 1000))
    started_at = time.perf_counter()
    server: Running
    with serving(tmp_path) as (server, _):
        record_property("server ready", round((time.perf_counter() - started_at) * 1000))
        assert server.process.poll() is None
