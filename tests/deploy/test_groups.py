"""examples/groups/compose.yaml: its ports, its image, and its services as processes."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.support import Command, running
from tests.deploy.reading import ROOT, accepted, documents, instructions, options_of, seconds
from tests.deploy.test_image import pins
from tests.servers import server

FOLDER = ROOT / "examples" / "groups"
(COMPOSE,) = documents(FOLDER / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("api", "worker")


def test_the_ports_are_those_of_the_document() -> None:
    """For this machine alone, as there is no sign-in."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"redis": ["127.0.0.1:6379:6379"], "api": ["127.0.0.1:5100:5100"]}
    assert "--port=5100" in SERVICES["api"]["command"]


def test_the_image_is_that_of_the_project_with_another_example() -> None:
    """And with the version of starlette that the tests use."""
    for name in OURS:
        build = SERVICES[name]["build"]
        assert (FOLDER / build["context"]).resolve() == ROOT
        arguments = [
            rest.partition("=")[0] for kind, rest in instructions(ROOT / "Dockerfile") if kind == "ARG"
        ]
        assert sorted(arguments) == sorted(build["args"])
        assert build["args"]["PACKAGES"] == f"starlette=={pins('dev.txt')['starlette']}"


def test_the_worker_is_one_of_raincheck() -> None:
    """It has longer to stop than it gives what runs, and so has the worker of the API."""
    worker = accepted(SERVICES["worker"]["command"])
    assert (worker.name, worker.options["target"]) == ("worker", "app.py:app")
    for name in OURS:
        assert seconds(SERVICES[name]["stop_grace_period"]) >= worker.options["worker_options"].grace + 5


class Api(Command):
    """The service ``api`` as a process on a free port."""

    module = SERVICES["api"]["entrypoint"][0]
    listening = "INFO:     Uvicorn running on "
    folder = FOLDER


@pytest.mark.acceptance
async def test_the_same_as_processes() -> None:
    """A group of the document runs, on a store with the settings of the file."""
    with (
        tempfile.TemporaryDirectory(prefix="rc-") as folder,
        server(Path(folder), **options_of(SERVICES["redis"]["command"])) as valkey,
    ):
        given = SERVICES["api"]["environment"]["RAINCHECK_STORE"]
        store = {"RAINCHECK_STORE": given.replace("redis://redis:6379", valkey.url)}
        here = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5100": "--port=0"}
        command = [here.get(word, word) for word in SERVICES["api"]["command"]]
        api, worker = Api(*command, **store), Command(*SERVICES["worker"]["command"], **store)
        worker.folder = FOLDER
        async with running(api, worker), httpx2.AsyncClient(base_url=await api.url(), timeout=60) as client:
            paths = (await client.get("/group/group_a")).json()["Check job status at"]
            assert len(paths) == 3
            async with asyncio.timeout(60):
                for path in paths:
                    while (await client.get(path)).json()["state"] != "SUCCESS":
                        pass
            assert await worker.stop() == 0
