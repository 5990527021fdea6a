"""No module and no function outgrows one reading; nothing is excepted."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "raincheck"
MODULE_LINES = 600
FUNCTION_LINES = 50

modules = pytest.mark.parametrize(
    "module", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)


@modules
def test_a_module_fits_its_limit(module: Path) -> None:
    """A module has at most 600 lines."""
    lines = len(module.read_text("utf-8").splitlines())
    assert lines <= MODULE_LINES


@modules
def test_a_function_fits_its_limit(module: Path) -> None:
    """A function has at most 50 lines, its docstring included."""
    assert {name: lines for name, lines in functions(module) if lines > FUNCTION_LINES} == {}


def functions(module: Path) -> Iterator[tuple[str, int]]:
    """Every function of the module, nested ones too, with its number of lines."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{node.name}:{node.lineno}", node.end_lineno - node.lineno + 1
