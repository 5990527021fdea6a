"""Writes the blocking client, and its tests, from the async ones (docs/decisions/0012).

With ``--check`` it writes nothing, and exits 1 if a file is not as it would be written.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("src/raincheck/client", "tests/client")
BY_HAND = ("__init__.py", "conftest.py", "seam.py")
HEAD = "# Generated from {source} by tools/twin.py: do not edit.\n"

WORDS = {
    r"\basync (def|with|for)\b": r"\1",
    r"\bawait ": "",
    r"\bAsync(Client|JobHandle|Sender|Iterator)\b": r"\1",
    r"\bAwaitable\[(\w+)\]": r"\1",
    r"\b(from collections\.abc import .*)\bAwaitable, ": r"\1",
    r"\b__a(enter|exit)__\b": r"__\1__",
    r"\baclose\b": "close",
    r"\bclient\.asynchronous\b": "client.blocking",
}
"""What is said otherwise in blocking code, in code and in docstrings alike."""

MEND = ("--select=I,F401,C416,SIM117", "--fix-only", "--unsafe-fixes", "--quiet")
"""What is then left to put in order: imports, and what can be said more plainly without await."""


def twins() -> Iterator[tuple[Path, str]]:
    """The generated files, and what is to be in them."""
    for folder in FOLDERS:
        for source in sorted((ROOT / folder / "asynchronous").glob("*.py")):
            if source.name not in BY_HAND:
                path = ROOT / folder / "blocking" / source.name
                yield path, blocking(source, path)


def blocking(source: Path, path: Path) -> str:
    """The blocking twin of a file."""
    text = HEAD.format(source=source.relative_to(ROOT).as_posix()) + source.read_text("utf-8")
    for pattern, replacement in WORDS.items():
        text = re.sub(pattern, replacement, text)
    return _ruff("format", path, _ruff("check", path, text, *MEND))


def _ruff(command: str, path: Path, text: str, *options: str) -> str:
    """Text put in order, as the file that it will be."""
    return subprocess.run(
        [sys.executable, "-m", "ruff", command, *options, f"--stdin-filename={path}", "-"],
        input=text,
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        check=True,
    ).stdout


def main(arguments: list[str]) -> int:
    """Write, or check; the exit code."""
    wanted = dict(twins())
    there = {path for folder in FOLDERS for path in (ROOT / folder / "blocking").glob("*.py")}
    left = sorted(path for path in there - wanted.keys() if path.name not in BY_HAND)
    if arguments == ["--check"]:
        differ = [
            path for path, text in wanted.items() if path not in there or path.read_text("utf-8") != text
        ]
        for path in [*differ, *left]:
            print(f"{path.relative_to(ROOT)} is not as its async twin: run make twin")
        return int(bool(differ or left))
    for path, text in wanted.items():
        path.write_text(text, "utf-8")
    for path in left:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
