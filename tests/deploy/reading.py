"""Reads the deployment files as the tools that use them do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from raincheck.cli import cli
from raincheck.server import ROUTES
from raincheck.server.access import PUBLIC

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TARGET = ROOT / "examples" / "chain" / "app.py"
"""The file that the image has as ``app.py``."""


class Command(NamedTuple):
    """A command line of raincheck: the command and its options."""

    name: str
    options: dict[str, Any]


def accepted(words: Sequence[str]) -> Command:
    """Parse a command line of ``raincheck``. Raises if it is invalid."""
    function, bound, _ = cli.parse_args(list(words), exit_on_error=False, print_error=False)
    bound.apply_defaults()
    return Command(function.__name__, bound.arguments)


def documents(path: Path) -> list[Any]:
    """The documents in a YAML file."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def options_of(words: Sequence[str]) -> dict[str, str]:
    """``valkey-server --name value ...`` as settings."""
    pairs = zip(words[1::2], words[2::2], strict=True)
    return {name.removeprefix("--").replace("-", "_"): value for name, value in pairs}


def is_probe(path: str) -> bool:
    """Whether the server has this path, and it needs no sign-in."""
    return ROUTES[path]["GET"][0] == PUBLIC


def seconds(duration: str) -> float:
    """``40s`` and ``1m`` as a number."""
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1.0, "m": 60.0}[unit]


def unit(path: Path) -> dict[str, dict[str, str]]:
    """A systemd unit: section, name, value."""
    sections: dict[str, dict[str, str]] = {}
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            current = sections[line.strip("[]")] = {}
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            assert name not in current, f"{path.name}: {name} twice"
            current[name] = value
    return sections


def instructions(path: Path) -> list[tuple[str, str]]:
    """A Dockerfile: instruction and arguments, in order."""
    lines = path.read_text("utf-8").replace("\\\n", "").splitlines()
    parts = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name, rest) for name, _, rest in parts]


def words(line: str) -> list[str]:
    """A command line as its words."""
    return shlex.split(line)
