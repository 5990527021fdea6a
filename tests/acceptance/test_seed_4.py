"""The document of the fourth seed: the output of its client, while workers start, stop and start again."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from raincheck import App
from tests.acceptance.support import Command, Site, running
from tests.cli.processes import ROOT, raincheck
from tests.servers import server

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("seed 4")]

FOLDER = ROOT / "examples" / "doozer"
TARGET = f"{FOLDER / 'app.py'}:tasks"
TIMEOUT = 60.0
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

HELP = """\
Simple client to interact with Dozer API service.

Usage:
  client
  client [command]

Available Commands:
  add         Add api call.
  help        Help about any command
  lookup      Lookup a task uuid.
  mul         Multiply api call.
  token       Print a JWT token.
  version     Print the version.

Use "client [command] --help" for more information about a command.
"""


class Doozer(NamedTuple):
    """The API as a process, a worker that is not started yet, and the folder of the client."""

    url: str
    worker: Command
    folder: Path

    async def client(self, line: str) -> str:
        """The output of ``./client ...``."""
        code, printed = await self.run(line)
        assert code == 0, printed
        return printed

    async def run(self, line: str) -> tuple[int | None, str]:
        """The exit code and the output of ``./client ...``."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(
            *(str(FOLDER / "client"), *line.split()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.folder,
            env=os.environ | {"PATH": path, "DOOZER_URL": self.url},
        )
        printed, _ = await process.communicate()
        return process.returncode, printed.decode()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("valkey", marks=pytest.mark.long)])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of the store that the API and the worker share."""
    with tempfile.TemporaryDirectory(prefix="rc-") as folder:
        if request.param == "sqlite":
            yield f"sqlite:///{folder}/doozer.db"
        else:
            with server(Path(folder), appendonly="yes", appendfsync="always") as valkey:
                yield valkey.url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the secret and the user of the API, and the password of the client."""
    folder = tmp_path_factory.mktemp("doozer")
    assert raincheck("key", "add", str(folder / "secret")).returncode == 0
    added = raincheck("user", "add", "doozer", "--users", str(folder / "users.json"), "--generate")
    (folder / "password").write_text(added.stdout, "utf-8")
    return folder


@pytest.fixture(scope="module")
async def url(store: str, folder: Path) -> AsyncIterator[str]:
    """The URL of the API."""
    api = Site("app:api", FOLDER, folder, RAINCHECK_STORE=store)
    async with running(api):
        yield await api.url()


@pytest.fixture
async def doozer(store: str, folder: Path, url: str) -> AsyncIterator[Doozer]:
    """The API, its worker and its client."""
    worker = Command("worker", TARGET, RAINCHECK_STORE=store)
    yield Doozer(url, worker, folder)
    if worker.running:
        await worker.stop()


async def test_adding_with_workers_up_down_and_back(doozer: Doozer) -> None:
    """All results of the document, unchanged."""
    await doozer.worker.start()
    assert await doozer.client("add --i 1,2,3,4,5,6") == "Result: 21\n"
    assert await doozer.client("mul --i 1,2,3,4,5,6") == "Result: 720\n"
    assert await doozer.client("add --i -1,2") == "Result: 1\n"
    assert await doozer.client("mul --i -3") == "Result: -3\n"

    assert await doozer.worker.stop() == 0
    began = asyncio.get_running_loop().time()
    deferred = await doozer.client("add --i 1,2,3")
    assert asyncio.get_running_loop().time() - began >= 5
    task = deferred.removeprefix("Defered! ").removesuffix("\n")
    assert re.fullmatch(f"task_{UUID}", task)
    assert await doozer.client(f"lookup --uuid={task}") == "Status : PENDING\n"

    await doozer.worker.start()
    async with asyncio.timeout(TIMEOUT):
        while True:
            printed = await doozer.client(f"lookup --uuid={task}")
            if "PENDING" not in printed and "STARTED" not in printed:
                break
    assert printed == "Status : SUCCESS\nResult : 6\n"


async def test_a_cancelled_task_has_failed(doozer: Doozer, store: str) -> None:
    """The lookup returns the state and the reason."""
    deferred = await doozer.client("mul --i 2,3")
    task = deferred.removeprefix("Defered! ").strip()
    async with App(store) as app:
        await app.cancel(task.removeprefix("task_"))
    assert await doozer.client(f"lookup --uuid={task}") == "Status : FAILURE\nError : it was cancelled\n"


async def test_help_and_version(doozer: Doozer) -> None:
    """The help of the document, also without a command and without a server."""
    nowhere = doozer._replace(url="http://127.0.0.1:9")
    assert await nowhere.client("help") == HELP
    assert await nowhere.client("") == HELP
    assert await nowhere.client("--help") == HELP
    assert await nowhere.client("version") == "1.0.0\n"


async def test_numbers_are_required(doozer: Doozer) -> None:
    """Without them, or with text, the client sends no request."""
    nowhere = doozer._replace(url="http://127.0.0.1:9")
    for line in ("add", "add --i", "add --i -one"):
        code, printed = await nowhere.run(line)
        assert (code, printed.splitlines()[0]) == (2, "usage: client add [-h] --i 1,2,3")


async def test_restricted_routes_require_a_token(doozer: Doozer) -> None:
    """It is a JWT. Requests without a token, or with a changed one, are refused."""
    token = (await doozer.client("token")).strip()
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token)
    unknown = {"task_id": "task_1db8fd1f-aff0-4db6-9c9a-ada3d20cb006"}
    async with httpx2.AsyncClient(base_url=doozer.url) as client:
        for path in ("/restricted/add", "/restricted/mul", "/restricted/tasks"):
            for header in (None, f"Bearer {token[:-6]}", token):
                headers = {} if header is None else {"authorization": header}
                response = await client.post(path, json=unknown, headers=headers)
                assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        signed_in = {"authorization": f"Bearer {token}"}
        response = await client.post("/restricted/tasks", json=unknown, headers=signed_in)
        assert (response.status_code, list(response.json())) == (404, ["error"])
        bad = await client.post("/restricted/add", json={"numbers": [1, "2"]}, headers=signed_in)
        assert (bad.status_code, "numbers" in bad.json()["error"]) == (400, True)


async def test_the_client_prints_errors(doozer: Doozer, tmp_path: Path) -> None:
    """For a wrong password, no server and an unknown task; the exit code is not 0."""
    (tmp_path / "password").write_text("a wrong one", "utf-8")
    wrong, nowhere = doozer._replace(folder=tmp_path), doozer._replace(url="http://127.0.0.1:9")
    for who, line in ((wrong, "token"), (nowhere, "token"), (doozer, "lookup --uuid=task_1db8fd1f")):
        code, printed = await who.run(line)
        assert (code, printed.startswith("Error: "), printed.count("\n")) == (1, True, 1)
