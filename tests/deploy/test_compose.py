"""compose.yaml: its commands are valid, its services work together, its time limits fit."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest

from raincheck.server.listener import GRACE
from tests.acceptance.support import Command, running
from tests.cli.processes import raincheck
from tests.deploy.reading import ROOT, TARGET, accepted, documents, is_probe, options_of, seconds
from tests.servers import server

(COMPOSE,) = documents(ROOT / "compose.yaml")
WITH_SIGNIN = ROOT / "deploy" / "compose.signin.yaml"
(SIGNIN,) = documents(WITH_SIGNIN)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "raincheck"}
FILES = [ROOT / "compose.yaml", WITH_SIGNIN, ROOT / "examples" / "groups" / "compose.yaml"]
HEALTH = SERVICES["server"]["healthcheck"]["test"]

SCHEMA = jsonschema_rs.validator_for(
    json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text("utf-8"))
)

each_of_ours = pytest.mark.parametrize("name", list(OURS))


def test_there_is_a_server_a_worker_a_store_and_a_proxy() -> None:
    """The services that ``--scale`` names, and what they need."""
    assert list(SERVICES) == ["valkey", "server", "worker", "proxy"]
    assert list(OURS) == ["server", "worker"]


@each_of_ours
def test_a_command_is_one_of_raincheck(name: str) -> None:
    """The command line accepts each option."""
    command = accepted(OURS[name]["command"])
    assert (command.name, command.options["target"]) == (name, "app.py:app")


@each_of_ours
def test_a_service_is_confined(name: str) -> None:
    """It can write only to memory, and has no privileges."""
    service = OURS[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_a_worker_has_longer_to_stop_than_it_gives_what_runs() -> None:
    """So that it can requeue the remaining attempts."""
    worker = SERVICES["worker"]
    grace = accepted(worker["command"]).options["worker_options"].grace
    assert seconds(worker["stop_grace_period"]) >= grace + 5


def test_a_server_has_longer_to_stop_than_its_requests() -> None:
    """After its drain. With the second file, too."""
    for command in (SERVICES["server"]["command"], SIGNIN["services"]["server"]["command"]):
        drain = accepted(command).options["server_options"].drain
        assert seconds(SERVICES["server"]["stop_grace_period"]) >= drain + GRACE + 5


def test_the_health_of_the_server_is_asked_where_it_tells() -> None:
    """At an existing path."""
    (path,) = re.findall(r'"GET", "(\S+)"', HEALTH[-1])
    assert is_probe(path)


def test_the_store_keeps_what_it_was_given() -> None:
    """It is on disk before it is acknowledged, on a volume, and is not dropped if memory is full."""
    valkey = SERVICES["valkey"]
    assert options_of(valkey["command"]) == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory_policy": "noeviction",
    }
    assert [volume.partition(":")[0] for volume in valkey["volumes"]] == list(COMPOSE["volumes"])


def test_with_the_second_file_callers_sign_in() -> None:
    """With keys and users on a volume."""
    (name,) = SIGNIN["services"]
    service = SIGNIN["services"][name]
    assert not accepted(service["command"]).options["server_options"].insecure
    (volume,) = service["volumes"]
    assert volume.split(":") == [*SIGNIN["volumes"], "/keys"]
    assert [Path(path).parent for path in service["environment"].values()] == [Path("/keys")] * 2


def test_the_commands_that_make_keys_and_users_are_ones() -> None:
    """As in the comment of the second file."""
    given = re.findall(r"--no-deps server (.+)", WITH_SIGNIN.read_text("utf-8"))
    assert [accepted(line.split()).options.get("file") for line in given] == [Path("/keys/secret"), None]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_fits_the_schema_of_compose(file: Path) -> None:
    """The Compose Specification."""
    assert list(SCHEMA.iter_errors(*documents(file))) == []


def test_docker_compose_takes_them() -> None:
    """If docker compose is installed; else the test report says that this was not checked."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("NOT CHECKED: there is no `docker compose` here to read compose.yaml")
    both = ["-f", "compose.yaml", "-f", "deploy/compose.signin.yaml"]
    for named in (both[:2], both, ["-f", "examples/groups/compose.yaml"]):
        command = [docker, "compose", *named, "config", "--quiet"]
        checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


@asynccontextmanager
async def composed(command: list[str], **more: str) -> AsyncIterator[tuple[Command, list[Command]]]:
    """A server and two workers with their command lines, on a Valkey with its settings.

    Only what containers would give is put in place: the path of the app, the store's name, the port.
    """
    settings = options_of(SERVICES["valkey"]["command"])
    with tempfile.TemporaryDirectory(prefix="rc-") as folder, server(Path(folder), **settings) as valkey:
        store = OURS["server"]["environment"]["RAINCHECK_STORE"]
        environment = {"RAINCHECK_STORE": store.replace("redis://valkey:6379", valkey.url)}
        api = Command(*here(command), "--port=0", **environment, **more)
        workers = [Command(*here(OURS["worker"]["command"]), **environment) for _ in range(2)]
        async with running(api, *workers):
            yield api, workers


def here(command: list[str]) -> list[str]:
    """The command of a service, changed to run on this machine."""
    words = ["--host=127.0.0.1" if word == "--host=0.0.0.0" else word for word in command]
    return [word.replace("app.py", str(TARGET)) for word in words]


def healthy(url: str) -> bool:
    """The result of the server's health check on another port."""
    assert HEALTH[:3] == ["CMD", "python", "-c"]
    script = HEALTH[3].replace("8000", str(httpx2.URL(url).port))
    return subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


@pytest.mark.acceptance
async def test_the_same_as_processes() -> None:
    """A chain is done, the server is healthy, no process logs a warning, and all stop on a signal."""
    async with composed(OURS["server"]["command"]) as (api, workers):
        url = await api.url()
        async with httpx2.AsyncClient(base_url=url, timeout=70) as client:
            chain = {"name": "test", "functions": [{"name": "/v1/test-1"}, {"name": "/v1/test-2"}]}
            job = (await client.post("/v1/job", json=chain, headers={"Prefer": "wait=60"})).json()
            assert (job["state"], job["current_function"]) == ("done", 1)
        assert healthy(url)
        assert [await each.stop() for each in (*workers, api)] == [0, 0, 0]
        assert not healthy(url)
    complaints = [line for each in (api, *workers) for line in each.printed if "WARNING" in line]
    assert complaints == []


@pytest.mark.long
@pytest.mark.acceptance
async def test_the_same_with_a_sign_in(tmp_path: Path) -> None:
    """Without a token the server is healthy and refuses requests; a user can get a token."""
    service = SIGNIN["services"]["server"]
    files = {name: path.replace("/keys", str(tmp_path)) for name, path in service["environment"].items()}
    assert raincheck("key", "add", files["RAINCHECK_SECRET_FILE"]).returncode == 0
    added = raincheck("user", "add", "ann", "--users", files["RAINCHECK_USERS"], "--generate")
    async with composed(service["command"], **files) as (api, _):
        url = await api.url()
        assert healthy(url)
        async with httpx2.AsyncClient(base_url=url, timeout=70) as client:
            assert (await client.get("/v1/worker")).status_code == 401
            named = {"username": "ann", "password": added.stdout.strip()}
            token = (await client.post("/v1/token", json=named)).json()["access_token"]
            seen = await client.get("/v1/worker", headers={"Authorization": f"Bearer {token}"})
            assert seen.status_code == 200
