"""The functions that raincheck's workers run here, and a gate that holds a worker until all is ready.

A worker that finds ``BENCH_GATE`` (a folder) set says there that it is ready, waits for ``open``, and on
leaving notes what it has cost: what is measured begins with the work, not with the start of a process.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from raincheck import App


@asynccontextmanager
async def gate(app: App) -> AsyncIterator[Mapping[str, Any] | None]:
    """Hold the worker until the gate is open; note its CPU seconds when it leaves."""
    if (place := os.environ.get("BENCH_GATE")) is None:
        yield None
        return
    folder, pid = Path(place), os.getpid()
    (folder / f"{pid}.ready").touch()
    while not (folder / "open").exists():  # noqa: ASYNC110 - it is opened by another process
        await asyncio.sleep(0.001)
    before = cpu()
    yield None
    spent = {name: seconds - before.get(name, 0.0) for name, seconds in cpu().items()}
    (folder / f"{pid}.cost").write_text(json.dumps(spent))


def cpu() -> dict[str, float]:
    """The CPU seconds of this process, and of each of its threads by name."""
    spent = {"process": time.process_time()}
    for thread in threading.enumerate():
        if thread.ident is not None and hasattr(time, "pthread_getcpuclockid"):
            clock = time.pthread_getcpuclockid(thread.ident)
            spent[thread.name] = spent.get(thread.name, 0.0) + time.clock_gettime(clock)
    return spent


app = App(lifespan=gate)


@app.function
async def nothing() -> int:
    """Does nothing, and returns it."""
    return 0


@app.function
async def megabyte() -> str:
    """Returns 1 MiB."""
    return "x" * (2**20 - 2)


@app.function
def nothing_in_a_thread() -> int:
    """Does nothing, in a thread."""
    return 0
