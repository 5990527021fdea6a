"""The conditions of a run: the machine, the versions and the settings, without names and paths."""

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
FASTER_THAN_DISKS = 0.02
"""A synced write that takes fewer milliseconds has not reached a disk."""


def machine(folder: Path) -> dict[str, Any]:
    """The properties of the machine that affect the figures."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
        "fsync_4k_ms": round(_sync(folder / "sync"), 3),
    }


def versions() -> dict[str, str]:
    """The versions of all packages and programs in the run."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    versions["sqlite (apsw: raincheck)"] = apsw.sqlite_lib_version()
    versions["sqlite (sqlite3: huey)"] = sqlite3.sqlite_version
    versions["wrk"] = _wrk()
    return versions


def settings(bench: Bench) -> dict[str, str]:
    """The settings of raincheck and of the peer."""
    consumer = " ".join(("huey_consumer", *peer.CONSUMER[1:]))
    return {
        "raincheck": f"WAL, synchronous=full; concurrency {CONCURRENCY}, other settings: default",
        "huey": f"SqliteHuey with its defaults, {_pragmas(bench)}; {consumer}, other settings: default",
        "huey with fsync=True": f"{_pragmas(bench, fsync=True)}; the same consumer",
    }


def _pragmas(bench: Bench, *, fsync: bool = False) -> str:
    pragmas: str = bench.call(peer.pragmas, peer.environment(bench.fresh() / "huey.db", fsync=fsync))
    return pragmas


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _sync(file: Path) -> float:
    """Milliseconds to write and sync 4 KiB, which every durable commit does."""
    took = []
    with file.open("wb", buffering=0) as output:
        for _ in range(SYNCS):
            started_at = time.perf_counter()
            output.write(bytes(4096))
            os.fsync(output.fileno())
            took.append(time.perf_counter() - started_at)
    return median(took) * 1000


def _wrk() -> str:
    if (wrk := shutil.which("wrk")) is None:
        return "none: the Python generator"
    output = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False).stdout
    return output.split("[")[0].removeprefix("wrk").strip() or "unknown"
