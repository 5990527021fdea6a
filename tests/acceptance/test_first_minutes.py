"""What a new user does first: install a wheel, run the demo, write an app, serve it and call it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.acceptance.support import LISTENING
from tests.cli.processes import ROOT
from tests.deploy.test_image import pins

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("wheel")]  # it is built once

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;]*(?:;(.*))?")


def needed_by(package: str) -> set[str]:
    """The packages that are installed with a package, without any extra, as they are on this platform."""
    found: set[str] = set()
    to_do = [package]
    while to_do:
        for requirement in distribution(to_do.pop()).requires or ():
            match = _REQUIREMENT.fullmatch(requirement)
            assert match is not None
            name = re.sub("[._-]+", "-", match[1]).lower()
            if "extra ==" in (match[2] or "") or name in found or not is_installed(name):
                continue
            found.add(name)
            to_do.append(name)
    return found


def is_installed(package: str) -> bool:
    """Whether the package is there: what is not is for another platform or version of Python."""
    try:
        distribution(package)
    except ImportError:
        return False
    return True


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with a wheel of raincheck and its dependencies, and no other package.

    The dependencies are links to those of the tests, so that nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    environment = folder / ".venv"
    uv = [sys.executable, "-m", "uv", "--offline", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(environment)], check=True)
    (packages,) = environment.glob("lib/*/site-packages")
    ours = Path(sysconfig.get_path("purelib"))
    for name in needed_by("raincheck"):
        for top in {file.parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            (packages / top).symlink_to(ours / top)
    install = ["pip", "install", "--no-deps", "--python", str(environment), str(wheel)]
    subprocess.run([*uv, *install], check=True)
    return environment


def run(
    *command: str, folder: Path, path: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end, with ``path`` on the PATH."""
    return subprocess.run(
        command,
        cwd=folder,
        env=variables_of(path) | variables,
        text=True,
        encoding="utf-8",
        capture_output=True,
        check=False,
    )


def variables_of(path: Path | None) -> dict[str, str]:
    """The environment of a user: without the virtual environment of the tests, with ``path`` on the PATH."""
    tests = str(Path(sys.executable).parent)
    folders = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != tests]
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAINCHECK_", "UV", "COVERAGE"))
    }
    return others | {"PATH": os.pathsep.join([str(path), *folders] if path else folders)}


@contextmanager
def serving(*command: str, folder: Path) -> Iterator[str]:
    """Run a server on a free port; yields its URL."""
    server = subprocess.Popen(
        command,
        cwd=folder,
        env=variables_of(None) | {"RAINCHECK_PORT": "0"},
        text=True,
        encoding="utf-8",
        stdout=subprocess.PIPE,
    )
    with server:
        assert server.stdout is not None
        try:
            yield next(
                line.removeprefix(LISTENING).strip() for line in server.stdout if line.startswith(LISTENING)
            )
        finally:
            server.terminate()


def test_an_installed_wheel_runs_the_demo_and_its_next_commands(environment: Path) -> None:
    """It shows a job from its submission to its end, and leaves no file.

    It ends with three commands that work as printed, also if raincheck is not on the PATH.
    """
    folder, temporary = environment.parent, environment / "tmp"
    temporary.mkdir()
    demo = run(".venv/bin/raincheck", "demo", folder=folder, TMPDIR=str(temporary))
    assert (demo.returncode, demo.stderr) == (0, "")
    for words in (
        "POST http://127.0.0.1:",
        '/rain/stations("Bergen")  retrying   try 1/3  the register does not answer',
        '/rain/measure("hill")     doing      ',
        "rain in Bergen  done after",
        '"retry_count":2',
        '"result": {"millimetres":5.9,"advice":"take a rain check"}',
    ):
        assert words in demo.stdout
    assert list(temporary.iterdir()) == []
    *_, init, serve, call = (line.split() for line in demo.stdout.splitlines())
    assert [command[0] for command in (init, serve, call)] == [".venv/bin/raincheck"] * 3
    written = run(*init, folder=folder)
    assert (written.returncode, written.stderr) == (0, "")
    assert written.stdout == f"Wrote app.py. Serve it: {' '.join(serve)}\n"
    with serving(*serve, folder=folder) as url:
        assert run(*call, folder=folder, RAINCHECK_URL=url).stdout == "3\n"


@pytest.mark.parametrize(
    ("on_path", "variables", "expected"),
    [
        (True, {}, "raincheck"),
        (False, {}, "{bin}/raincheck"),
        (True, {"UV": "/usr/bin/uv"}, "uvx raincheck"),
        (True, {"UV": "/usr/bin/uv", "UV_RUN_RECURSION_DEPTH": "1"}, "uv run raincheck"),
    ],
    ids=["on the path", "by its path", "uvx", "uv run"],
)
def test_a_command_is_named_as_it_was_started(
    environment: Path, tmp_path: Path, on_path: bool, variables: dict[str, str], expected: str
) -> None:
    """So that a user can repeat what is printed."""
    programs = environment / "bin"
    path = programs if on_path else None
    ran = run(str(programs / "raincheck"), "init", folder=tmp_path, path=path, **variables)
    assert ran.stdout == f"Wrote app.py. Serve it: {expected.format(bin=programs)} serve app.py\n"


def test_a_command_that_pipx_runs_is_named_as_it_was_started(environment: Path, tmp_path: Path) -> None:
    """The environment of ``pipx run`` has a file of pipx, and no installed command."""
    mark = environment / "pipx_metadata.json"
    mark.touch()
    try:
        ran = run(str(environment / "bin" / "raincheck"), "init", folder=tmp_path)
    finally:
        mark.unlink()
    assert ran.stdout == "Wrote app.py. Serve it: pipx run raincheck serve app.py\n"


def test_a_module_is_named_as_it_was_started(environment: Path, tmp_path: Path) -> None:
    """With its Python."""
    python = str(environment / "bin" / "python")
    ran = run(python, "-m", "raincheck", "init", "my app.py", folder=tmp_path)
    assert ran.stdout == f'Wrote my app.py. Serve it: {python} -m raincheck serve "my app.py"\n'


def test_init_replaces_no_file(environment: Path, tmp_path: Path) -> None:
    """It is an error that says what to do; the exit code is 2."""
    (tmp_path / "app.py").write_text("mine", "utf-8")
    ran = run(str(environment / "bin" / "raincheck"), "init", folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "Error: the file app.py exists. Choose another name: raincheck init NAME.py\n"
    assert (tmp_path / "app.py").read_text("utf-8") == "mine"


def test_reload_without_watchfiles_says_what_to_install(environment: Path, tmp_path: Path) -> None:
    """The exit code is 2."""
    (tmp_path / "app.py").touch()
    ran = run(str(environment / "bin" / "raincheck"), "serve", "app.py", "--reload", folder=tmp_path)
    assert ran.returncode == 2
    assert "pip install 'raincheck[reload]'" in ran.stderr


def test_make_demo_installs_only_what_runs() -> None:
    """The versions are those that the tests use; the tools of developers are not among them."""
    demo, tested = pins("demo.txt"), pins("dev.txt")
    assert {name: version for name, version in demo.items() if tested[name] != version} == {}
    installed = {name for name in demo if is_installed(name)}
    assert installed == needed_by("raincheck") | needed_by("hatchling") | {"hatchling"}
    printed = run("make", "--always-make", "--dry-run", "demo", folder=ROOT).stdout
    assert "requirements/demo.txt" in printed
    assert "requirements/dev.txt" not in printed
    assert "redis" not in printed
