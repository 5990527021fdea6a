"""Runs the code blocks of a Markdown document in order, as a reader would.

- `python` runs as a script in the folder of the document. A block after `<!-- file: NAME -->` is written to
  that file instead, also in other languages.
- `console` runs each line that begins with `$ `. The lines after it must be its output: `...` matches any
  text, and the number of spaces between columns does not matter, as the width of a column can depend on a
  duration.
  A command that ends with ` &` is a server or a worker. It runs until the end of the document.
- `<!-- folder: PATH -->` stops the servers. The blocks after it run in a copy of this folder.
- `json` must be valid JSON. Blocks in other languages are not checked; `py` is code for other libraries.

Ports 8000, 8080 and 5100 in a document are replaced by free ports, so that several documents can be tested at
the same time. Port 6379 is replaced by the port of a Valkey server for the document.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.servers import server
from tests.workers.programs import PATH

TIMEOUT = 60.0

HEAVY_PLUGINS = ("schemathesis", "hypothesispytest", "xdist", "randomly", "asyncio")
"""Plugins of pytest that are installed here, not used by a document, and take seconds to load."""

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"^<!-- folder: (?P<folder>\S+) -->$"
    r"|^(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

_COLUMNS = re.compile(r"(?<=\S) {2,}(?=\S)")
"""The spaces between two columns, but not those at the beginning of a line."""


class Block(NamedTuple):
    """A code block, and the file that it is written to, if any; or the folder where the next blocks run."""

    line: int
    folder: str | None
    language: str
    text: str
    file: str | None


def blocks_of(document: str) -> Iterator[Block]:
    """The code blocks of a document."""
    for match in _BLOCK.finditer(document):
        line = document.count("\n", 0, match.start()) + 1
        yield Block(line, match["folder"], match["language"] or "", match["text"] or "", match["file"])


def matches(expected: str, actual: str) -> bool:
    """Whether the actual output matches the expected one."""
    pattern, text = (_COLUMNS.sub("  ", output.strip()) for output in (expected, actual))
    return re.fullmatch(re.escape(pattern).replace(r"\.\.\.", ".*"), text, re.DOTALL) is not None


class Reader:
    """Runs the blocks of a document in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = {port: str(_free_port()) for port in ("8000", "8080", "5100")}
        self._stack = ExitStack()
        self.servers: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            "PATH": PATH,
            "RAINCHECK_URL": f"http://127.0.0.1:{self._ports['8000']}",
            "RAINCHECK_PORT": self._ports["8000"],
            "DOOZER_URL": f"http://localhost:{self._ports['8080']}",
            "XDG_CONFIG_HOME": str(folder / ".config"),
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "PYTEST_ADDOPTS": " ".join(f"-p no:{plugin}" for plugin in HEAVY_PLUGINS),
        }
        write_httpie_options(folder / ".config" / "httpie")
        self._terminal = self._open_terminal()

    def _open_terminal(self) -> int:
        """The stdin of HTTPie, which otherwise reads a body from it."""
        terminal, stdin = os.openpty()
        self._stack.callback(os.close, terminal)
        self._stack.callback(os.close, stdin)
        return stdin

    def read(self, block: Block) -> None:
        """Run one block."""
        if block.folder is not None:
            self._stop_servers()
            self.folder = self.folder / Path(block.folder).name
            shutil.copytree(ROOT / block.folder, self.folder)
        text = re.sub("8000|8080|5100|6379", lambda match: self._port(match[0]), block.text)
        if block.file is not None:
            (self.folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.file).write_text(text, encoding="utf-8")
        elif block.language == "python":
            self._run([sys.executable, "-c", text])
        elif block.language == "json":
            json.loads(text)
        elif block.language == "console":
            for command, expected in _commands(text):
                self._check(command, expected)

    def _port(self, port: str) -> str:
        """The port that replaces one in a document."""
        if port not in self._ports:
            folder = self._stack.enter_context(TemporaryDirectory(prefix="rc-"))
            valkey = self._stack.enter_context(server(Path(folder), appendonly="yes", appendfsync="always"))
            self._ports[port] = str(valkey.port)
        return self._ports[port]

    def _check(self, command: str, expected: str) -> None:
        if command.endswith(" &"):
            actual = self._serve(command.removesuffix(" &"))
        else:
            actual = self._run(["bash", "-c", command])
        assert matches(expected, actual), f"$ {command}\nprinted\n{actual}\nnot\n{expected}"

    def _run(self, command: list[str]) -> str:
        completed = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=self._terminal if command[-1].startswith("http ") else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if command[0] == sys.executable:
            assert completed.returncode == 0, completed.stdout
        return completed.stdout

    def _serve(self, command: str) -> str:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.servers.append(process)
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if re.search("http://|worker|working", line.lower()):
                return printed
        raise AssertionError(f"$ {command}\nended with\n{printed}")

    def _stop_servers(self) -> None:
        while self.servers:
            process = self.servers.pop()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=TIMEOUT)

    def close(self) -> None:
        """Stop all that runs."""
        with self._stack:
            self._stop_servers()


def write_httpie_options(folder: Path) -> None:
    """Let HTTPie print what it prints on a terminal, without colours, and ask no one for a newer version."""
    options = {"default_options": ["--print=hb", "--pretty=format"], "disable_update_warnings": True}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(options), "utf-8")


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    """A reader; its servers are stopped at the end."""
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.close()


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with its expected output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.split("\n")
        end = next(i for i in range(1, len(lines) + 1) if _is_whole("\n".join(lines[:i])))
        yield "\n".join(lines[:end]), "\n".join(lines[end:])


def _is_whole(command: str) -> bool:
    """Whether a command is complete. It continues on the next line inside quotes and after a backslash."""
    try:
        return bool(shlex.split(command))
    except ValueError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
