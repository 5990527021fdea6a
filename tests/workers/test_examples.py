"""The requests of the first two documents, served by workers in other languages."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.test_seed_1 import BODY, JSON, ended
from tests.cli.processes import LISTENING, ROOT, running, store_in
from tests.workers.programs import PATH, example, needs_shell_tools

CHAIN = (ROOT / "examples" / "chain" / "job_chain.json").read_text("utf-8")
APP = "raincheck.cli.worker_check.app:app"
NAMES = ["/v1/say-hello-world", "/v1/test-1", "/v1/test-2", "/v1/test-fail"]

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("example workers")]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("node", "functions.mjs"), id="node"),
        pytest.param(("shell", "functions.sh"), id="shell", marks=needs_shell_tools),
    ],
)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server, and a worker that serves the functions of the documents."""
    store = store_in(tmp_path_factory.mktemp("server"))
    with running("server", APP, "--store", store, "--port", "0") as server:
        url = server.line(LISTENING)
        environment = {**os.environ, "PATH": PATH, "RAINCHECK_SERVER": url}
        with subprocess.Popen(example(*request.param), env=environment) as worker:
            yield url
            worker.terminate()
            assert worker.wait(60) == 0


def run(url: str, body: str) -> dict[str, Any]:
    """Submit a job, and wait until it has ended."""
    response = httpx2.post(f"{url}/v1/job", content=body, headers=JSON)
    assert response.status_code == 202
    return ended(url, response.json()["id"])


def test_the_job_of_the_first_document_fails(url: str) -> None:
    """At the function that always fails, after three attempts; the function after it does not run."""
    job = run(url, BODY)
    functions = job["functions"]
    assert [each["state"] for each in functions] == ["done", "failed", "pending"]
    assert [each["retry_count"] for each in functions] == [1, 3, 0]
    assert job["error"]["function"] == "/v1/test-fail"
    assert 'attempt 3 with [1,"2",3] failed, as always' in job["error"]["detail"]


def test_the_job_of_the_second_document_is_done(url: str) -> None:
    """With the fields of the document; each function gets the previous result and the job's data."""
    job = run(url, CHAIN)
    assert (job["name"], job["state"], job["current_function"]) == ("test", "done", 2)
    assert [each["retry_count"] for each in job["functions"]] == [1, 1, 1]
    assert [each["result"] for each in job["functions"]] == [
        "test-1 was here",
        {"previous": "test-1 was here", "data": {"left by": "/v1/test-1"}},
        "Hello, world!",
    ]
    assert job["data"] == {"left by": "/v1/test-1"}


@pytest.mark.parametrize("arguments", [["Ann"], {"name": "Ann"}])
def test_arguments_come_by_position_and_by_name(url: str, arguments: object) -> None:
    """As a call over HTTP sends them."""
    run(url, CHAIN)  # the worker has registered
    response = httpx2.post(f"{url}/v1/function/v1/say-hello-world", json=arguments, timeout=60)
    assert response.json()["result"] == "Hello, Ann!"


def test_the_server_lists_the_functions_of_the_worker(url: str) -> None:
    """Although it has no code of them."""
    run(url, CHAIN)  # the worker has registered
    assert [each["name"] for each in httpx2.get(f"{url}/v1/function").json()] == NAMES


LARGE = {
    "node": """export default [
        { name: "large", run: (attempt, size) => "x".repeat(size) },
        { name: "small", run: () => "small" },
    ];""",
    "shell": """#!/bin/bash
        case ${1-} in
        '') printf '%s\\n' large small ;;
        large) head -c "$(jq '.args[0]')" /dev/zero | tr '\\0' x | jq -R . ;;
        small) echo '"small"' ;;
        esac""",
}


@pytest.mark.long
@pytest.mark.parametrize("name", ["node", pytest.param("shell", marks=needs_shell_tools)])
@pytest.mark.parametrize("size", [4_300_000, 6_000_000], ids=["result", "request"])
def test_a_result_that_is_too_large_fails_the_job_and_not_the_worker(
    tmp_path: Path, name: str, size: int
) -> None:
    """Whether the server refuses the result, or the request as a whole."""
    functions = tmp_path / "functions.mjs"
    functions.write_text(LARGE[name])
    functions.chmod(0o700)
    with running("server", APP, "--store", store_in(tmp_path), "--port", "0") as server:
        url = server.line(LISTENING)
        environment = {**os.environ, "PATH": PATH, "RAINCHECK_SERVER": url}
        with subprocess.Popen([*example(name), str(functions)], env=environment) as worker:
            large, small = (
                run(url, json.dumps({"name": "large", "functions": [{"name": name, "args": args}]}))
                for name, args in (("large", [size]), ("small", []))
            )
            worker.terminate()
            assert worker.wait(60) == 0
    assert (large["state"], large["functions"][0]["lost_count"]) == ("failed", 0)
    assert small["result"] == "small"
