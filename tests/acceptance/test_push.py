"""The four functions of the first document, on a port of their own; and workers that die in a call."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook

from tests.acceptance.support import Command
from tests.acceptance.support import running as running_commands
from tests.acceptance.test_seed_1 import BODY, JSON
from tests.cli.processes import LISTENING, ROOT, Running, running, store_in
from tests.receiver import Request, receiving, response

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("push")]

EXAMPLE = ROOT / "examples" / "push"
SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a secret."""
    folder = tmp_path_factory.mktemp("push")
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def functions(folder: Path) -> Iterator[str]:
    """The URL of the program with the functions."""
    command = [sys.executable, str(EXAMPLE / "functions.py"), str(folder / "secret"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix(LISTENING).strip()
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def server(folder: Path, functions: str) -> Iterator[tuple[Running, str]]:
    """The API, with the configuration file of the example."""
    config = folder / "raincheck.yaml"
    text = (EXAMPLE / "raincheck.yaml").read_text("utf-8")
    config.write_text(text.replace("http://127.0.0.1:8179", functions), "utf-8")
    options = ("--config", str(config), "--store", store_in(folder), "--port", "0")
    with running("serve", f"{EXAMPLE / 'app.py'}:app", *options) as process:
        yield process, process.line(LISTENING)


@pytest.fixture(scope="module")
def url(server: tuple[Running, str]) -> str:
    return server[1]


def ended(url: str, body: str | dict[str, Any]) -> dict[str, Any]:
    """A job, once it has ended."""
    content = body if isinstance(body, str) else json.dumps(body)
    response = httpx2.post(f"{url}/v1/job", content=content, headers=JSON)
    assert response.status_code == 202
    job = httpx2.get(url + response.headers["location"], headers={"Prefer": "wait=60"}, timeout=70)
    document: dict[str, Any] = job.json()
    return document


def test_the_server_lists_the_functions(server: tuple[Running, str]) -> None:
    """As in the document, though it has no code."""
    names = ("/v1/say-hello-world", "/v1/test-1", "/v1/test-2", "/v1/test-fail")
    listed = "".join(f"    - {name}\n" for name in names)
    assert f"Having 4 function(s):\n{listed}" in "".join(server[0].lines)


def test_the_request_of_the_document_has_its_result(url: str) -> None:
    """The second function fails three times, and the third does not run."""
    job = ended(url, BODY)
    assert job["state"] == "failed"
    assert [function["state"] for function in job["functions"]] == ["done", "failed", "pending"]
    assert [function["retry_count"] for function in job["functions"]] == [1, 3, 0]
    assert job["functions"][2]["started_at"] is None
    assert job["error"]["function"] == "/v1/test-fail"
    assert job["error"]["detail"] == (
        "its URL responded 500 Internal Server Error: attempt 3 with [1, '2', 3] failed, as always"
    )
    assert job["data"] == {"left by": "/v1/test-1"}


def test_the_same_chain_without_the_failure_is_done(url: str) -> None:
    """The functions receive the previous result and the job's data."""
    job = ended(url, {"name": "test", "functions": [{"name": "/v1/test-1"}, {"name": "/v1/test-2"}]})
    assert job["result"] == {"previous": "test-1 was here", "data": {"left by": "/v1/test-1"}}


def test_arguments_are_checked_by_the_declared_schema(url: str) -> None:
    """Before the job is accepted, with the place in the request."""
    refused = httpx2.post(f"{url}/v1/function/v1/say-hello-world", json=[1])
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/0"]
    called = httpx2.post(f"{url}/v1/function/v1/say-hello-world", json={"name": "Ann"})
    assert called.json()["result"] == "Hello, Ann!"


def test_a_request_that_is_not_signed_is_refused(functions: str) -> None:
    """By the program with the functions."""
    body = json.dumps({"function": "/v1/test-1"})
    assert httpx2.post(functions, content=body).status_code == 401


async def test_a_worker_that_dies_in_a_call_is_replaced(folder: Path, tmp_path: Path) -> None:
    """The receiver gets the same webhook-id again, in an attempt with a higher token."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(receiver.requests) == 1:
            await asyncio.Event().wait()
        writer.write(response(b'"done by the second worker"'))

    async with receiving(answer) as receiver:
        options = {"url": receiver.url, "secret_file": str(folder / "secret")}
        config = tmp_path / "raincheck.yaml"
        config.write_text(json.dumps({"functions": {"f": options}, "allowed_networks": ["127.0.0.1/32"]}))
        common = (f"{EXAMPLE / 'app.py'}:app", "--store", store_in(tmp_path), "--config", str(config))
        api = Command("server", *common, "--port", "0")
        one, other = (Command("worker", *common, "--lease", "1") for _ in range(2))
        async with running_commands(api, one), httpx2.AsyncClient(base_url=await api.url()) as client:
            job = (await client.post("/v1/job", json={"name": "j", "functions": [{"name": "f"}]})).json()
            await receiver.until(lambda receiver: len(receiver.requests) == 1)
            await one.kill()
            async with running_commands(other):
                got = await client.get(f"/v1/job/{job['id']}", headers={"Prefer": "wait=60"}, timeout=70)
    (function,) = got.json()["functions"]
    assert (function["result"], function["lost_count"]) == ("done by the second worker", 1)
    lost, second = (Webhook(SECRET).verify(each.body, each.headers) for each in receiver.requests)
    assert {each.headers["webhook-id"] for each in receiver.requests} == {f"{job['id']}_0"}
    assert (lost["attempt"], second["attempt"]) == (1, 2)
    assert lost["token"] < second["token"]
