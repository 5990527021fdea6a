"""A page of another origin in a real Chromium."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.acceptance.support import Command, running
from tests.conftest import IN_CI
from tests.docs.blocks import blocks_of

ROOT = Path(__file__).parents[2]
CHROMIUM = ROOT / ".venv" / "chromium" / "chromium-headless-shell"
GUIDE = (ROOT / "docs" / "how-to" / "call-from-a-browser.md").read_text("utf-8")
FILES = {block.file: block.text for block in blocks_of(GUIDE) if block.file}

PRESS = """
<script type="module">
  const output = document.querySelector("output");
  const report = () => fetch("/report", { method: "POST", body: output.value });
  new MutationObserver(report).observe(output, { childList: true });
  document.querySelector("button").click();
</script>
"""
"""Presses the button of the page, and reports what the page shows then."""

WITHOUT_PREFLIGHT = """
<script type="module">
  const response = await fetch("SERVER/v1/function/add", { method: "POST", mode: "no-cors", body: "" });
  await fetch("/report", { method: "POST", body: response.type });
</script>
"""

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.long,
    pytest.mark.skipif(not (CHROMIUM.exists() or IN_CI), reason="`make test-long` gets Chromium with apt"),
]


class Site(NamedTuple):
    """A site with two names, so that it has two origins; ``reports`` are what its pages show."""

    port: int
    pages: dict[str, str]
    reports: asyncio.Queue[str]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    pages: dict[str, str] = {}
    reports: asyncio.Queue[str] = asyncio.Queue()

    async def page(request: Request) -> Response:
        return HTMLResponse(pages[request.url.path])

    async def report(request: Request) -> Response:
        reports.put_nowait((await request.body()).decode())
        return Response(status_code=204)

    routes = [Route("/report", report, methods=["POST"]), Route("/{page}", page)]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(Starlette(routes=routes), log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        yield Site(listener.getsockname()[1], pages, reports)
        server.should_exit = True
        await serving


@asynccontextmanager
async def chromium(url: str, profile: Path) -> AsyncIterator[None]:
    """Chromium with this page open."""
    options = [] if os.geteuid() else ["--no-sandbox"]  # its sandbox does not run as root
    process = await asyncio.create_subprocess_exec(
        str(CHROMIUM),
        *(*options, "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}", url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def test_a_page_of_an_allowed_origin_works(site: Site, tmp_path: Path) -> None:
    """It submits a job, waits and shows the result; a page of another origin cannot, whatever it sends."""
    (tmp_path / "app.py").write_text(FILES["app.py"].replace("8080", str(site.port)), "utf-8")
    store = f"sqlite:///{tmp_path / 'jobs.db'}"
    serve = Command("serve", f"{tmp_path / 'app.py'}:app", "--port", "0", RAINCHECK_STORE=store)
    async with running(serve):
        server = await serve.url()
        site.pages["/page"] = FILES["index.html"].replace("http://127.0.0.1:8000", server) + PRESS
        site.pages["/sneaky"] = WITHOUT_PREFLIGHT.replace("SERVER", server)
        async with httpx2.AsyncClient(base_url=server) as client:
            async with chromium(f"http://127.0.0.1:{site.port}/page", tmp_path / "one"):
                assert await site.reports.get() == "Failed to fetch"
            async with chromium(f"http://127.0.0.1:{site.port}/sneaky", tmp_path / "two"):
                assert await site.reports.get() == "opaque"
            assert (await client.get("/v1/job")).json()["jobs"] == []
            async with chromium(f"http://localhost:{site.port}/page", tmp_path / "three"):
                assert await site.reports.get() == "5"
            (job,) = (await client.get("/v1/job")).json()["jobs"]
            assert (job["name"], job["state"]) == ("sum", "done")
