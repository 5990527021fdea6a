"""Loading the app that TARGET names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raincheck.cli.target import load
from raincheck.core.errors import TargetError

APP = """
from raincheck import App

app = App(title="{title}")
other = "no app"


@app.function
def add(*numbers: int) -> int:
    return sum(numbers)
"""


@pytest.fixture(autouse=True)
def isolated_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test in its own folder, and remove its modules afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    yield
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        if str(tmp_path) in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]


def write(path: str, text: str = APP, title: str = "mine") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.replace("{title}", title), "utf-8")
    return file


@pytest.mark.parametrize("target", ["shop.py:app", "shop.py", "shop:app", "shop"])
def test_an_app_is_found_by_its_file_or_its_module(target: str) -> None:
    """The app's name is optional if the module has only one App."""
    write("shop.py")
    app = load(target)
    assert app.title == "mine"
    assert app.functions.names == ("add",)


def test_a_file_is_found_by_its_absolute_path(tmp_path: Path) -> None:
    """The path can have spaces and dots."""
    file = write("some folder/v1.2/shop.py")
    assert load(f"{file.resolve()}:app").title == "mine"


def test_an_app_can_be_an_attribute() -> None:
    """The part after the colon can have dots."""
    write("shop.py", "import raincheck\n\nclass State:\n    app = raincheck.App(title='inner')\n")
    assert load("shop:State.app").title == "inner"


def test_modules_beside_a_file_can_be_imported() -> None:
    """As if the file were run as a script."""
    write("shop/prices.py", "PRICE = 'ten'\n")
    write("shop/app.py", "import prices\nimport raincheck\n\napp = raincheck.App(title=prices.PRICE)\n")
    assert load("shop/app.py").title == "ten"


def test_a_module_that_imports_the_file_gets_the_same_app() -> None:
    """A module that registers functions does not create a second App."""
    write("shop/tasks.py", "from shelf import app\n\n@app.function\ndef put() -> None: ...\n")
    write("shop/shelf.py", "import raincheck\n\napp = raincheck.App()\n\nimport tasks\n")
    assert load("shop/shelf.py:app").functions.names == ("put",)


def test_a_file_in_a_package_can_import_from_it() -> None:
    """Relative imports work."""
    write("store/__init__.py", "")
    write("store/prices.py", "PRICE = 'ten'\n")
    write(
        "store/main.py", "from .prices import PRICE\nimport raincheck\n\napp = raincheck.App(title=PRICE)\n"
    )
    app = load("store/main.py:app")
    assert app.title == "ten"
    assert sys.modules["store.main"].app is app


def test_files_with_the_same_name_are_different_modules() -> None:
    """In different folders."""
    first, second = write("one/shop.py", title="one"), write("two/shop.py", title="two")
    assert [load(str(first)).title, load(str(second)).title] == ["one", "two"]


def test_a_file_can_have_the_name_of_a_standard_module() -> None:
    """The standard library does not change."""
    file = write("queue.py")
    app = load(str(file))
    assert app.title == "mine"
    assert "python" in (sys.modules["queue"].__file__ or "")


def test_a_file_is_loaded_once() -> None:
    """The second load returns the same app."""
    first, second = write("one/shop.py"), write("two/shop.py")
    assert load(str(first)) is load(str(first))
    assert load(str(second)) is load(str(second))


def test_another_process_finds_the_function() -> None:
    """By the name and the file of its module."""
    write("one/shop.py")
    load("one/shop.py")
    function = load(str(write("two/shop.py"))).functions.get("add")
    assert function is not None
    module = sys.modules[function.__module__]
    finder = (
        "import sys\nfrom raincheck.worker.child import _module\n"
        "print(_module(sys.argv[1], sys.argv[2]).add(1, 2))"
    )
    assert module.__file__ is not None
    found = subprocess.run(
        [sys.executable, "-c", finder, module.__name__, module.__file__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "3\n"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.py:app", "does not exist"),
        ("nowhere:app", "there is no module 'nowhere'"),
        ("no-module:app", "is not the name of a module"),
        (":app", "is not the name of a module"),
        ("", "is not the name of a module"),
        ("shop:nothing", "has no 'nothing'. Its apps: app."),
        ("shop.py:other", "is not a raincheck.App (got str). Its apps: app."),
        ("two", "has more than one App. Append :NAME. Its apps: one, two."),
        ("none", "has no App. Define one at its top level: app = raincheck.App()"),
    ],
)
def test_an_invalid_target_is_an_error(target: str, message: str) -> None:
    """The message says what is missing, and which apps exist."""
    write("shop.py")
    write("two.py", "import raincheck\n\none, two = raincheck.App(), raincheck.App()\n")
    write("none.py", "")
    with pytest.raises(TargetError) as raised:
        load(target)
    assert message in str(raised.value)


@pytest.mark.parametrize("target", ["bad.py", "bad"])
@pytest.mark.parametrize(
    ("source", "messages"),
    [
        (
            "\nraise ValueError('boom')\n",
            ["bad.py, line 2:\n    raise ValueError('boom')\n", "ValueError: boom"],
        ),
        ("def f(:\n", ["SyntaxError", "bad.py, line 1"]),
        ("import not_there\n", ["bad.py, line 1:\n    import not_there\n", "No module named 'not_there'"]),
        ("raise SystemExit(3)\n", ["bad.py, line 1", "SystemExit: 3"]),
        (
            "import raincheck\napp = raincheck.App()\napp.function('no name!')(print)\n",
            ["bad.py, line 3:\n    app.function('no name!')(print)\n", "is not a valid function name"],
        ),
    ],
)
def test_an_exception_in_a_module_is_shown_with_its_line(
    target: str, source: str, messages: list[str]
) -> None:
    """The line is in the user's module, not in raincheck or a library."""
    write("bad.py", source)
    with pytest.raises(TargetError) as raised:
        load(target)
    for message in messages:
        assert message in str(raised.value)


def test_a_file_that_failed_can_be_loaded_after_a_fix() -> None:
    """No partly loaded module remains."""
    write("one/shop.py")
    load("one/shop.py")
    file = write("two/shop.py", "raise ValueError('boom')\n")
    with pytest.raises(TargetError):
        load(str(file))
    write("two/shop.py", title="fixed, and longer")
    assert load(str(file)).title == "fixed, and longer"
