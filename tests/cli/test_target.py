"""TARGET: from a word on the command line to an app."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raincheck.cli.target import load
from raincheck.errors import TargetError

APP = """
from raincheck import App

app = App(title="{title}")
other = "no app"


@app.function
def add(*numbers: int) -> int:
    return sum(numbers)
"""


@pytest.fixture(autouse=True)
def untouched_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own for each test, and no trace in the interpreter after it."""
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
    """The app's name may be left out if there is only one."""
    write("shop.py")
    app = load(target)
    assert app.title == "mine"
    assert app.functions.names == ("add",)


def test_a_file_is_found_by_its_whole_path(tmp_path: Path) -> None:
    """The path may be absolute, and have spaces and dots."""
    file = write("some folder/v1.2/shop.py")
    assert load(f"{file.resolve()}:app").title == "mine"


def test_an_app_may_be_an_attribute_of_something() -> None:
    """The part behind the colon may have dots."""
    write("shop.py", "import raincheck\n\nclass State:\n    app = raincheck.App(title='inner')\n")
    assert load("shop:State.app").title == "inner"


def test_the_neighbours_of_a_file_can_be_imported() -> None:
    """The folder of a file is where it imports from, as if it were run as a script."""
    write("shop/prices.py", "PRICE = 'ten'\n")
    write("shop/app.py", "import prices\nimport raincheck\n\napp = raincheck.App(title=prices.PRICE)\n")
    assert load("shop/app.py").title == "ten"


def test_a_neighbour_that_imports_the_file_gets_the_same_app() -> None:
    """There are not two Apps when a module beside the target registers functions with it."""
    write("shop/tasks.py", "from shelf import app\n\n@app.function\ndef put() -> None: ...\n")
    write("shop/shelf.py", "import raincheck\n\napp = raincheck.App()\n\nimport tasks\n")
    assert load("shop/shelf.py:app").functions.names == ("put",)


def test_a_file_in_a_package_knows_its_package() -> None:
    """Relative imports work."""
    write("store/__init__.py", "")
    write("store/prices.py", "PRICE = 'ten'\n")
    write(
        "store/main.py", "from .prices import PRICE\nimport raincheck\n\napp = raincheck.App(title=PRICE)\n"
    )
    app = load("store/main.py:app")
    assert app.title == "ten"
    assert sys.modules["store.main"].app is app


def test_files_of_one_name_do_not_meet() -> None:
    """Each file is a module of its own, whatever else has its name."""
    first, second = write("one/shop.py", title="one"), write("two/shop.py", title="two")
    assert [load(str(first)).title, load(str(second)).title] == ["one", "two"]


def test_a_file_may_be_named_like_a_module_of_python() -> None:
    """The standard library stays what it was."""
    file = write("queue.py")
    app = load(str(file))
    assert app.title == "mine"
    assert "python" in (sys.modules["queue"].__file__ or "")


def test_a_file_is_loaded_once() -> None:
    """Asking again gives the same app."""
    first, second = write("one/shop.py"), write("two/shop.py")
    assert load(str(first)) is load(str(first))
    assert load(str(second)) is load(str(second))


def test_a_function_can_be_found_again_in_another_process() -> None:
    """What a spawned child is told, a module's name and file, leads it to the function."""
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
        ("nowhere.py:app", "there is no file"),
        ("nowhere:app", "there is no module 'nowhere'"),
        ("no-module:app", "names no module"),
        (":app", "names no module"),
        ("", "names no module"),
        ("shop:nothing", "has no 'nothing'; its apps: app"),
        ("shop.py:other", "is no raincheck.App but str; its apps: app"),
        ("two", "say which app of"),
        ("none", "it has no App at its top level"),
    ],
)
def test_a_target_that_leads_nowhere_says_why(target: str, message: str) -> None:
    """The message names what is missing, and what there is."""
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
            ["bad.py, line 3:\n    app.function('no name!')(print)\n", "cannot be a function's name"],
        ),
    ],
)
def test_what_a_module_raises_is_shown_with_its_line(target: str, source: str, messages: list[str]) -> None:
    """The line is the module's own, not that of raincheck or of a library."""
    write("bad.py", source)
    with pytest.raises(TargetError) as raised:
        load(target)
    for message in messages:
        assert message in str(raised.value)


def test_a_file_that_failed_can_be_loaded_when_it_is_mended() -> None:
    """No half of a module stays behind."""
    write("one/shop.py")
    load("one/shop.py")
    file = write("two/shop.py", "raise ValueError('boom')\n")
    with pytest.raises(TargetError):
        load(str(file))
    write("two/shop.py", title="mended, and longer")
    assert load(str(file)).title == "mended, and longer"
