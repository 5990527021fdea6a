"""The path of a job through the code: CONTRIBUTING.md lists its stops, and a traced job passes just those."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import httpx2

import raincheck
from raincheck import App, Worker

SOURCE = Path(raincheck.__file__).parent
PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
STOP = re.compile(
    r"^\d+\. \[`(?P<file>[\w/]+\.py)`\]\(src/raincheck/(?P=file)\) `(?P<function>[\w.]+)`", re.MULTILINE
)
HELPERS = re.compile(r"^Helpers on the path: (?P<files>.+?)\.$", re.MULTILINE | re.DOTALL)

MAX_STOPS = 20
MAX_FILES = 15

MAINTENANCE = {"engine/maintenance.py", "engine/schedules/scheduler.py"}
"""What also runs now and then, whatever the job does."""


class Stop(NamedTuple):
    """A function that the job passes, and the file that it is in."""

    file: str
    function: str


@contextmanager
def traced() -> Iterator[list[Stop]]:
    """The functions of raincheck that are entered, in all threads started from now on, in their order."""
    entered: list[Stop] = []
    root = f"{SOURCE}/"

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(root):
            entered.append(Stop(code.co_filename[len(root) :], code.co_qualname))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield entered
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


async def path_of_a_job(folder: Path) -> list[Stop]:
    """The functions that a job enters, from its POST to its result, on SQLite."""
    app = App(f"sqlite:///{folder / 'jobs.db'}")

    @app.function
    async def add(a: int, b: int) -> int:
        return a + b

    request = {"name": "sum", "functions": [{"name": "add", "args": [1, 2]}]}
    with traced() as entered:
        transport = httpx2.ASGITransport(app.asgi)
        async with (
            app,
            Worker(app),
            httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            for _ in range(2):  # the first job finds everything cold
                entered.clear()
                response = await client.post("/v1/job", json=request, headers={"Prefer": "wait=30"})
                path = entered.copy()
    assert (response.status_code, response.json()["result"]) == (200, 3)
    return path


def listed_stops() -> list[Stop]:
    """The stops that CONTRIBUTING.md lists."""
    return [Stop(match["file"], match["function"]) for match in STOP.finditer(PAGE.read_text())]


async def test_a_job_passes_the_listed_stops_in_their_order(tmp_path: Path) -> None:
    """A reader can follow it in few stops."""
    stops = listed_stops()
    path = iter(await path_of_a_job(tmp_path))
    missed = [stop for stop in stops if stop not in path]  # `in` reads the iterator up to the stop
    assert not missed
    assert 10 < len(stops) <= MAX_STOPS
    assert len({stop.file for stop in stops}) <= MAX_FILES


async def test_a_job_enters_no_other_module(tmp_path: Path) -> None:
    """What is not a stop is a helper, and CONTRIBUTING.md names it."""
    files = {stop.file for stop in await path_of_a_job(tmp_path)}
    helpers = HELPERS.search(PAGE.read_text())
    assert helpers is not None
    named = set(re.findall(r"`([\w/]+\.py)`", helpers["files"]))
    assert files - {stop.file for stop in listed_stops()} - named - MAINTENANCE == set()
