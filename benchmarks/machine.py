"""What the figures depend on: the machine, the versions, the settings of both sides. No names, no paths."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import apsw

from benchmarks import peer
from benchmarks.bench import CONCURRENCY, Bench

PACKAGES = (
    "raincheck",
    "apsw",
    "msgspec",
    "uvloop",
    "uvicorn",
    "httptools",
    "starlette",
    "fastapi",
    "pydantic",
    "huey",
)
SYNCS = 200
HARDLY_A_DISK = 0.02
"""Milliseconds under which a synced write cannot have reached a disk."""


def machine(folder: Path) -> dict[str, Any]:
    """The machine, as far as it matters here."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
        "fsync_4k_ms": round(_sync(folder / "sync"), 3),
    }


def versions() -> dict[str, str]:
    """The versions of all that takes part."""
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    found["sqlite (apsw: raincheck)"] = apsw.sqlite_lib_version()
    found["sqlite (sqlite3: huey)"] = sqlite3.sqlite_version
    found["wrk"] = _wrk()
    return found


def settings(bench: Bench) -> dict[str, str]:
    """How each side is set up."""
    consumer = " ".join(("huey_consumer", *peer.CONSUMER[1:]))
    return {
        "raincheck": f"WAL, synchronous=full; concurrency {CONCURRENCY}, all else by default",
        "huey": f"as SqliteHuey leaves it, {_pragmas(bench)}; {consumer}, all else by default",
        "huey with fsync=True": f"{_pragmas(bench, fsync=True)}; the same consumer",
    }


def _pragmas(bench: Bench, *, fsync: bool = False) -> str:
    found: str = bench.call(peer.pragmas, peer.environment(bench.fresh() / "huey.db", fsync=fsync))
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _sync(file: Path) -> float:
    """Milliseconds that writing and syncing 4 KiB takes: what a durable commit cannot do without."""
    took = []
    with file.open("wb", buffering=0) as output:
        for _ in range(SYNCS):
            begun = time.perf_counter()
            output.write(bytes(4096))
            os.fsync(output.fileno())
            took.append(time.perf_counter() - begun)
    return median(took) * 1000


def _wrk() -> str:
    if (wrk := shutil.which("wrk")) is None:
        return "none: the Python generator"
    said = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False).stdout
    return said.split("[")[0].removeprefix("wrk").strip() or "unknown"
