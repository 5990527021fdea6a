"""Generates the blocking client and its tests from the async ones (docs/decisions/0012).

With ``--check`` it writes nothing, and exits with 1 if a generated file is out of date.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("src/raincheck/client", "tests/client")
HANDWRITTEN = ("__init__.py", "conftest.py", "compat.py")
HEADER = "# Generated from {source} by tools/twin.py: do not edit.\n"

REPLACEMENTS = {
    r"\basync (def|with|for)\b": r"\1",
    r"\bawait ": "",
    r"\bAsync(Client|JobHandle|Sender|Iterator)\b": r"\1",
    r"\bAwaitable\[(\w+)\]": r"\1",
    r"\b(from collections\.abc import .*)\bAwaitable, ": r"\1",
    r"\b__a(enter|exit)__\b": r"__\1__",
    r"\baclose\b": "close",
    r"\bclient\.asynchronous\b": "client.blocking",
}
"""Patterns, and what replaces them in blocking code and its docstrings."""

RUFF_FIXES = ("--select=I,F401,C416,SIM117,UP028", "--fix-only", "--unsafe-fixes", "--quiet")
"""Ruff then fixes the imports, and simplifies expressions that no longer contain an await."""


def twins() -> Iterator[tuple[Path, str]]:
    """Yield the path and the content of each generated file."""
    for folder in FOLDERS:
        for source in sorted((ROOT / folder / "asynchronous").glob("*.py")):
            if source.name not in HANDWRITTEN:
                path = ROOT / folder / "blocking" / source.name
                yield path, convert(source, path)


def convert(source: Path, path: Path) -> str:
    """The blocking version of an async file."""
    text = HEADER.format(source=source.relative_to(ROOT).as_posix()) + source.read_text("utf-8")
    for pattern, replacement in REPLACEMENTS.items():
        text = re.sub(pattern, replacement, text)
    return _ruff("format", path, _ruff("check", path, text, *RUFF_FIXES))


def _ruff(command: str, path: Path, text: str, *options: str) -> str:
    """The output of a ruff command on the text of the file ``path``."""
    return subprocess.run(
        [sys.executable, "-m", "ruff", command, *options, f"--stdin-filename={path}", "-"],
        input=text,
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        check=True,
    ).stdout


def main(arguments: list[str]) -> int:
    """Write or check the generated files; returns the exit code."""
    generated = dict(twins())
    existing = {path for folder in FOLDERS for path in (ROOT / folder / "blocking").glob("*.py")}
    obsolete = sorted(path for path in existing - generated.keys() if path.name not in HANDWRITTEN)
    if arguments == ["--check"]:
        outdated = [
            path
            for path, text in generated.items()
            if path not in existing or path.read_text("utf-8") != text
        ]
        for path in [*outdated, *obsolete]:
            print(f"{path.relative_to(ROOT)} differs from its async source: run make twin")
        return int(bool(outdated or obsolete))
    for path, text in generated.items():
        path.write_text(text, "utf-8")
    for path in obsolete:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
