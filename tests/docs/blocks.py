"""Runs the code blocks of a Markdown document, in order, as a reader would.

- `python` is run as a script in the document's folder; with `<!-- file: NAME -->` before it, it (like
  `json` and `yaml`) is written to that file.
- `console` runs each line that begins with `$ `; what follows it must be its output, where `...` stands
  for anything. A command that ends with ` &` is a server: it is left running once it has printed an
  address, and stopped at the end of the document.
- `json` must be JSON. Other languages are for the reader's eyes.

Port 8000 in a document is replaced by a free one, so that documents can be tested beside one another.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

TIMEOUT = 60.0

_BLOCK = re.compile(
    r"^(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """One code block, and the file it is written to if it says so."""

    line: int
    language: str
    text: str
    file: str | None


def blocks_of(document: str) -> Iterator[Block]:
    """The code blocks of a document."""
    for match in _BLOCK.finditer(document):
        line = document.count("\n", 0, match.start()) + 1
        yield Block(line, match["language"], match["text"], match["file"])


class Reader:
    """Somebody who tries everything in a document, in a folder of his own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = str(_free_port())
        self.servers: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAINCHECK_URL": f"http://127.0.0.1:{self.port}",
            "RAINCHECK_PORT": self.port,
            "XDG_CONFIG_HOME": str(folder / ".config"),
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }

    def read(self, block: Block) -> None:
        """Try one block."""
        text = block.text.replace("8000", self.port)
        if block.file is not None:
            (self.folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.file).write_text(text, encoding="utf-8")
        elif block.language == "python":
            self._run([sys.executable, "-c", text])
        elif block.language == "json":
            json.loads(text)
        elif block.language == "console":
            for command, expected in _commands(text):
                self._try(command, expected)

    def _try(self, command: str, expected: str) -> None:
        if command.endswith(" &"):
            actual = self._serve(command.removesuffix(" &"))
        else:
            actual = self._run(["bash", "-c", command])
        pattern = re.escape(expected.strip()).replace(r"\.\.\.", ".*")
        assert re.fullmatch(pattern, actual.strip(), re.DOTALL), (
            f"$ {command}\nprinted\n{actual}\nnot\n{expected}"
        )

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if command[0] == sys.executable:
            assert done.returncode == 0, done.stdout
        return done.stdout

    def _serve(self, command: str) -> str:
        server = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.servers.append(server)
        assert server.stdout is not None
        printed = ""
        for line in server.stdout:
            printed += line
            if "http://" in line or "worker" in line.lower():
                return printed
        raise AssertionError(f"$ {command}\nended with\n{printed}")

    def leave(self) -> None:
        """Stop the servers."""
        for server in reversed(self.servers):
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=TIMEOUT)


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    """A reader who stops what he started."""
    someone = Reader(folder)
    try:
        yield someone
    finally:
        someone.leave()


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block with the output shown for each."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.split("\n")
        end = next(i for i, line in enumerate(lines) if not line.endswith("\\")) + 1
        yield "\n".join(lines[:end]), "\n".join(lines[end:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
