"""A PostgreSQL server with default settings for one run, on loopback, for the peer that needs one.

It is the one of this machine, or else comes from Debian's packages, which are unpacked into a folder of the
benchmark. This installs nothing, starts no service and does not need root.
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
PATTERNS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql*/bin",
)
UNPRIVILEGED = "nobody"
"""The user of the server if the benchmark runs as root: PostgreSQL does not run as root."""


def fetch() -> None:
    """Unpack Debian's packages if no PostgreSQL is installed. Raises `CalledProcessError` if this fails."""
    if _programs() is not None:
        return
    simulated = subprocess.run(
        ["apt-get", "install", "--simulate", "--no-install-recommends", "postgresql"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = [line.split()[1] for line in simulated.stdout.splitlines() if line.startswith("Inst ")]
    UNPACKED.mkdir(exist_ok=True)
    subprocess.run(["apt-get", "download", *packages], cwd=UNPACKED, check=True)
    for package in UNPACKED.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, UNPACKED], check=True)
        package.unlink()


def _programs() -> Path | None:
    """The folder of the newest ``initdb`` and ``postgres``."""
    folders = [path for pattern in PATTERNS for root in (Path("/"), UNPACKED) for path in root.glob(pattern)]
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    complete = [path for path in folders if (path / "initdb").exists() and (path / "postgres").exists()]
    return max(complete, key=lambda path: path.parts, default=None)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a server with its files in ``folder``; yields the URL of its database."""
    programs, port, data = _programs(), free_port(), folder / "data"
    if programs is None:
        raise FileNotFoundError(
            "PostgreSQL is not installed. To unpack Debian's: python -m benchmarks.peers.postgres"
        )
    user: dict[str, Any] = {}
    if os.getuid() == 0:
        user = {"user": UNPRIVILEGED, "group": "nogroup", "extra_groups": []}
        _make_accessible(folder)
        shutil.chown(folder, UNPRIVILEGED)
    env = {"LD_LIBRARY_PATH": ":".join(map(str, UNPACKED.glob("usr/lib/*-linux-gnu*"))), "TZ": "UTC"}
    initdb = [str(programs / "initdb"), "--pgdata", str(data), "--username", "bench", "--auth", "trust"]
    subprocess.run(
        [*initdb, "--encoding", "UTF8"],
        env=os.environ | env | {"LC_ALL": "C.UTF-8"}, stdout=subprocess.DEVNULL, check=True, **user,
    )  # fmt: skip
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    with running(command, folder / "log", env, **user) as server:
        server.until(lambda: subprocess.run(ready, env=os.environ | env, check=False).returncode == 0)
        yield f"postgres://bench@127.0.0.1:{port}/postgres"


def _make_accessible(folder: Path) -> None:
    """Let other users enter the private temporary folder that contains ``folder``."""
    folder.parent.chmod(folder.parent.stat().st_mode | 0o011)


def version() -> str:
    """The version of PostgreSQL; none if it is not installed."""
    if (programs := _programs()) is None:
        return "none"
    return subprocess.check_output([programs / "postgres", "--version"], text=True).split()[2]


if __name__ == "__main__":
    try:
        fetch()
    except (OSError, subprocess.CalledProcessError) as error:
        print(
            f"PostgreSQL is not installed and cannot be downloaded ({error}). PgQueuer will not be measured.",
            file=sys.stderr,
        )
