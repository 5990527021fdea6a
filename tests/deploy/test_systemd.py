"""The systemd units: their commands are valid, their time limits fit, and systemd accepts them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.reading import DEPLOY, accepted, unit, words

FOLDER = DEPLOY / "systemd"
UNITS = {path.name: unit(path) for path in sorted(FOLDER.glob("*.service"))}
SERVER, WORKER = "raincheck-server.service", "raincheck-worker@.service"
BINARY = "/opt/raincheck/bin/raincheck"
EXPOSURE = "20"
"""The maximum exposure of `systemd-analyze security`, of 100. A unit without hardening has 96."""

each_unit = pytest.mark.parametrize("name", list(UNITS))


def command(name: str) -> list[str]:
    """The command of a unit."""
    return words(UNITS[name]["Service"]["ExecStart"])


def test_there_is_one_server_and_any_number_of_workers() -> None:
    """A unit, and a template."""
    assert list(UNITS) == [SERVER, WORKER]
    assert [accepted(command(name)[1:]).name for name in UNITS] == ["server", "worker"]
    assert {command(name)[0] for name in UNITS} == {BINARY}


def test_a_worker_has_longer_to_stop_than_it_gives_what_runs() -> None:
    """So that it can requeue the remaining attempts."""
    grace = accepted(command(WORKER)[1:]).options["worker_options"].grace
    assert int(UNITS[WORKER]["Service"]["TimeoutStopSec"]) >= grace + 5


def test_both_are_confined_alike() -> None:
    """They differ only in their command and in their stop timeout."""
    server, worker = UNITS[SERVER]["Service"], UNITS[WORKER]["Service"]
    assert {key for key in server | worker if server.get(key) != worker.get(key)} == {
        "ExecStart",
        "TimeoutStopSec",
    }


def test_all_files_are_in_the_folder_that_they_may_write() -> None:
    """The store, the keys and the users are in the state folder of the units."""
    lines = (FOLDER / "environment").read_text("utf-8").splitlines()
    given = dict(line.lstrip("#").split("=", 1) for line in lines if "RAINCHECK_" in line and "=" in line)
    paths = [given[f"RAINCHECK_{name}"] for name in ("STORE", "SECRET_FILE", "USERS")]
    assert [path.removeprefix("sqlite:///").rpartition("/")[0] for path in paths] == [
        "/var/lib/raincheck"
    ] * 3
    assert {UNITS[name]["Service"]["StateDirectory"] for name in UNITS} == {"raincheck"}


@each_unit
def test_systemd_takes_it(name: str, tmp_path: Path) -> None:
    """If systemd is installed; else the test report says that this was not checked."""
    checked = analyze("verify", str(installed(name, tmp_path)))
    assert (checked.returncode, checked.stderr) == (0, "")


@each_unit
def test_systemd_finds_it_confined(name: str, tmp_path: Path) -> None:
    """As far as possible for a service that uses the network and runs any Python code."""
    if "--offline" not in analyze("--help").stdout:
        pytest.skip(f"NOT CHECKED: this systemd-analyze is too old to judge {name}")
    unit_file = installed(name, tmp_path)
    judged = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(unit_file))
    assert judged.returncode == 0, judged.stdout


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The output of ``systemd-analyze``."""
    binary = shutil.which("systemd-analyze")
    if binary is None:
        pytest.skip("NOT CHECKED: there is no systemd-analyze here to read deploy/systemd")
    return subprocess.run([binary, *arguments], capture_output=True, text=True)


def installed(name: str, folder: Path) -> Path:
    """The unit with the path of the installed raincheck, as systemd checks that it exists."""
    here = str(Path(sys.executable).with_name("raincheck"))
    (folder / name).write_text((FOLDER / name).read_text("utf-8").replace(BINARY, here), "utf-8")
    return folder / name
