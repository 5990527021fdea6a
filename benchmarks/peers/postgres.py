"""A PostgreSQL server for one run, as it comes, on loopback: for the peer that needs one.

Taken from this machine, or else from Debian's packages, which are unpacked into a folder of the benchmark:
nothing is installed, no service is started, and root is not needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import running
from benchmarks.serve import free_port

UNPACKED = Path(__file__).parents[1] / ".postgres"
PLACES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql*/bin",
)
UNPRIVILEGED = "nobody"
"""Who runs it where the benchmark runs as root: PostgreSQL refuses to be run by root."""


def fetch() -> None:
    """Unpack Debian's packages if no PostgreSQL is found. Raises `CalledProcessError` if that cannot be."""
    if _programs() is not None:
        return
    asked = subprocess.run(
        ["apt-get", "install", "--simulate", "--no-install-recommends", "postgresql"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = [line.split()[1] for line in asked.stdout.splitlines() if line.startswith("Inst ")]
    UNPACKED.mkdir(exist_ok=True)
    subprocess.run(["apt-get", "download", *packages], cwd=UNPACKED, check=True)
    for package in UNPACKED.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, UNPACKED], check=True)
        package.unlink()


def _programs() -> Path | None:
    """The folder of the newest ``initdb`` and ``postgres``."""
    found = [path for place in PLACES for root in (Path("/"), UNPACKED) for path in root.glob(place)]
    if on_path := shutil.which("postgres"):
        found.append(Path(on_path).resolve().parent)
    whole = [path for path in found if (path / "initdb").exists() and (path / "postgres").exists()]
    return max(whole, key=lambda path: path.parts, default=None)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A server while the block runs, with its files in ``folder``; the URL of its database."""
    programs, port, data = _programs(), free_port(), folder / "data"
    if programs is None:
        raise FileNotFoundError("no PostgreSQL: python -m benchmarks.peers.postgres unpacks Debian's")
    who: dict[str, Any] = {}
    if os.getuid() == 0:
        who = {"user": UNPRIVILEGED, "group": "nogroup", "extra_groups": []}
        _open_the_way(folder)
        shutil.chown(folder, UNPRIVILEGED)
    env = {"LD_LIBRARY_PATH": ":".join(map(str, UNPACKED.glob("usr/lib/*-linux-gnu*"))), "TZ": "UTC"}
    made = [str(programs / "initdb"), "--pgdata", str(data), "--username", "bench", "--auth", "trust"]
    subprocess.run(
        [*made, "--encoding", "UTF8"],
        env=os.environ | env | {"LC_ALL": "C.UTF-8"}, stdout=subprocess.DEVNULL, check=True, **who,
    )  # fmt: skip
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    with running(command, folder / "log", env, **who) as server:
        server.until(lambda: subprocess.run(ready, env=os.environ | env, check=False).returncode == 0)
        yield f"postgres://bench@127.0.0.1:{port}/postgres"


def _open_the_way(folder: Path) -> None:
    """Let others pass through the private temporary folder that ``folder`` is in."""
    folder.parent.chmod(folder.parent.stat().st_mode | 0o011)


def version() -> str:
    """The version of what would be run."""
    if (programs := _programs()) is None:
        return "none"
    return subprocess.check_output([programs / "postgres", "--version"], text=True).split()[2]


if __name__ == "__main__":
    try:
        fetch()
    except (OSError, subprocess.CalledProcessError) as error:
        print(
            f"No PostgreSQL here, and none to be had ({error}): PgQueuer will not be measured.",
            file=sys.stderr,
        )
