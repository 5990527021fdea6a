"""Public generators make clients from the OpenAPI document, and these clients work."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.acceptance.support import Command, running
from tests.conftest import IN_CI

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-generators" / "bin"
GENERATOR = PYTHON / "openapi-python-client"
MODULES = HERE / "typescript" / "node_modules"

pytestmark = [pytest.mark.acceptance, pytest.mark.long]


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A server with the app; its document is in ``openapi.json``."""
    store = f"sqlite:///{tmp_path / 'jobs.db'}"
    serve = Command("serve", f"{HERE / 'app.py'}:app", "--port", "0", RAINCHECK_STORE=store)
    async with running(serve):
        url = await serve.url()
        async with httpx2.AsyncClient(base_url=url) as client:
            response = await client.get("/openapi.json")
        (tmp_path / "openapi.json").write_bytes(response.content)
        yield url


@pytest.mark.skipif(not (GENERATOR.exists() or IN_CI), reason="`make test-long` installs the generator")
async def test_a_python_client_works(url: str, tmp_path: Path) -> None:
    """openapi-python-client has no warnings; its client submits a job, waits for it and reads problems."""
    await run(
        *(GENERATOR, "generate", "--path", tmp_path / "openapi.json", "--meta", "none", "--fail-on-warning"),
        *("--output-path", tmp_path / "generated"),
        folder=tmp_path,
    )
    assert await run(PYTHON / "python", HERE / "client.py", url, folder=tmp_path) == "ok"


@pytest.mark.skipif(not (MODULES.exists() or IN_CI), reason="needs Node.js and npm for `make test-long`")
async def test_a_typescript_client_works(url: str, tmp_path: Path) -> None:
    """The types of openapi-typescript accept correct calls and refuse others; openapi-fetch makes them."""
    for name in ("client.ts", "tsconfig.json", "package.json"):
        shutil.copy(HERE / "typescript" / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(MODULES)
    binaries = MODULES / ".bin"
    await run(binaries / "openapi-typescript", "openapi.json", "--output", "schema.ts", folder=tmp_path)
    await run(binaries / "tsc", folder=tmp_path)
    assert await run("node", "client.js", url, folder=tmp_path) == "ok"


async def run(*command: str | Path, folder: Path) -> str:
    """The output of a command, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=os.environ | {"PATH": f"{PYTHON}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)},
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode().strip()
