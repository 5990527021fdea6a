"""What a program gets from ``import raincheck``, and what that costs it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import raincheck

HEAVY = (
    *("argon2", "cryptography", "cyclopts", "httpx2", "jwt", "raincheck.server", "raincheck.worker", "rich"),
    *("starlette", "uvicorn"),
)
LIGHT = set(raincheck.__all__) - {"AsyncClient", "AsyncJobHandle", "Client", "JobHandle", "Worker"}


def test_the_names_are_sorted() -> None:
    """Each has one place, so that no two changes collide."""
    assert raincheck.__all__ == sorted(set(raincheck.__all__))


@pytest.mark.parametrize("name", raincheck.__all__)
def test_each_name_is_there_and_says_what_it_is(name: str) -> None:
    """It has a docstring, and the module's ``dir`` shows it."""
    assert getattr(raincheck, name).__doc__
    assert name in dir(raincheck)


def test_the_names_are_those_that_a_type_checker_sees() -> None:
    """What is loaded on demand is what is imported for the eyes of a type checker."""
    tree = ast.parse(Path(raincheck.__file__).read_text("utf-8"))
    guarded = (
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = (node for block in guarded for node in block.body if isinstance(node, ast.ImportFrom))
    assert sorted(alias.name for node in imports for alias in node.names) == raincheck.__all__


def test_another_name_is_not_there() -> None:
    """And is told as Python tells it."""
    with pytest.raises(AttributeError, match="module 'raincheck' has no attribute 'Absent'"):
        raincheck.Absent  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize(
    "program",
    [
        "import raincheck",
        f"import raincheck; [getattr(raincheck, name) for name in {LIGHT}]",
        "import raincheck; app = raincheck.App(); app.function(abs)",
    ],
    ids=["import", "all names", "an app"],
)
def test_who_only_submits_loads_no_web_stack_and_no_worker(program: str) -> None:
    """A program pays for what it uses."""
    script = f"{program}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(HEAVY).intersection(json.loads(done.stdout))
