"""The functions that raincheck's workers run, and a gate at which workers wait until all are ready.

If ``BENCH_GATE`` names a folder, a worker creates a file there when it is ready, waits for the file ``open``,
and writes its CPU seconds there when it stops. So the measured time does not include the start of processes.
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
    """Hold the worker until the gate is open; write its CPU seconds when it stops."""
    if (path := os.environ.get("BENCH_GATE")) is None:
        yield None
        return
    folder, pid = Path(path), os.getpid()
    (folder / f"{pid}.ready").touch()
    while not (folder / "open").exists():  # noqa: ASYNC110 - another process opens it
        await asyncio.sleep(0.001)
    before = cpu()
    yield None
    spent = {name: seconds - before.get(name, 0.0) for name, seconds in cpu().items()}
    (folder / f"{pid}.cost").write_text(json.dumps(spent))


def cpu() -> dict[str, float]:
    """The CPU seconds of this process and of each of its threads by name."""
    spent = {"process": time.process_time()}
    for thread in threading.enumerate():
        if thread.ident is not None and hasattr(time, "pthread_getcpuclockid"):
            clock = time.pthread_getcpuclockid(thread.ident)
            spent[thread.name] = spent.get(thread.name, 0.0) + time.clock_gettime(clock)
    return spent


app = App(lifespan=gate)


@app.function
async def nothing() -> int:
    """Do nothing."""
    return 0


@app.function
async def ten_milliseconds() -> int:
    """Wait for ten milliseconds, as for another system."""
    await asyncio.sleep(0.01)
    return 0


@app.function
async def megabyte() -> str:
    """Return 1 MiB."""
    return "x" * (2**20 - 2)


@app.function
def nothing_in_a_thread() -> int:
    """Do nothing, in a thread."""
    return 0
