"""Draws a running job as ``raincheck watch`` shows it: ``python tools/picture.py PICTURE.svg``."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.terminal_theme import MONOKAI

from raincheck import JobDocument, Worker
from raincheck.cli.demo.app import app, measure, report, stations
from raincheck.cli.job_view import render_job
from raincheck.core.clock import now, to_datetime

_SHOWN_AT = 0.6
"""The progress of the slowest measurement at which the picture is taken."""

_FONT_FILES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""They would be loaded from the network."""


async def running_job() -> JobDocument:
    """The job of the demo while it runs."""
    names = ["harbour", "hill", "airport"]
    measurements = [measure.step(name) for name in names]
    async with app, Worker(app):
        job = await app.submit("rain in Bergen", [stations.step("Bergen"), measurements, report.step()])
        async for document in app.watch(job.id):
            stage = document.functions[1]
            assert isinstance(stage, list)
            done = [each.progress["done"] / each.progress["total"] for each in stage if each.progress]
            if len(done) == len(names) and min(done) > _SHOWN_AT:
                return document
    raise RuntimeError("the job ended before the picture was taken")


def main(target: str) -> None:
    with TemporaryDirectory() as folder:
        app.url = f"sqlite:///{Path(folder, 'demo.db').as_posix()}"
        job = asyncio.run(running_job())
    console = Console(record=True, width=96, file=io.StringIO(), highlight=False)
    console.print(render_job(job, to_datetime(now()), live=True))
    svg = console.export_svg(title="raincheck watch", theme=MONOKAI, unique_id="raincheck")
    Path(target).write_text(_FONT_FILES.sub("", svg), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
