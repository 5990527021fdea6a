"""The log of the commands, as a program that collects it reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.cli.processes import APP, LISTENING, store_in

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.long), "2"])
def test_stderr_is_json(tmp_path: Path, workers: str) -> None:
    """Every line of every process: requests without their query, functions, failures, the stop."""
    command = (
        "serve",
        APP,
        "--port",
        "0",
        "--store",
        store_in(tmp_path),
        "--workers",
        workers,
        "--access-log",
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAINCHECK_")}
    file = tmp_path / "log"
    with (
        file.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "raincheck", *command],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment | {"RAINCHECK_LOG_FORMAT": "json"},
        ) as process,
    ):
        assert process.stdout is not None
        url = next(line for line in process.stdout if line.startswith(LISTENING)).split()[-1]
        answer = httpx2.post(f"{url}/v1/function/team/fail?token=secret", json=["\x1b[31m"], timeout=70)
        assert answer.status_code >= 400
        process.terminate()
        assert process.wait() == 0
    text = file.read_text("utf-8")
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert "secret" not in text
    assert text.isascii()
    (request,) = (line for line in lines if line["logger"] == "uvicorn.access")
    assert (request["method"], request["path"]) == ("POST", "/v1/function/team/fail")
    assert [line["message"].split(".")[0] for line in lines if line["logger"] == "raincheck.cli"] == [
        "Stopping"
    ]
