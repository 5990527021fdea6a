"""A worker with one fault, which its argument names. It runs one attempt at a time."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

FAULT = sys.argv[1]
SERVER = os.environ["RAINCHECK_SERVER"]
NAMES = ("echo", "sleep", "fail", "fatal", "flaky", "data", "progress")

stopping = threading.Event()
stopped = threading.Event()


class Fatal(Exception):
    """An error that is not retried."""


class Expired(Exception):
    """The server does not know the worker."""


def call(method: str, path: str, body: object, token: str = "") -> Any:
    """Send a call until there is a response."""
    headers = {"Content-Type": "application/json", "Worker-Token": token}
    data = json.dumps(body).encode()
    request = urllib.request.Request(SERVER + path, data, headers, method=method)
    pause = 0.2
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise Expired from None
            if error.code < 500:
                raise
        except OSError:
            if FAULT == "dies when a connection is cut":
                raise
        if FAULT != "calls a dead server without a pause":
            time.sleep(pause)
            pause = min(2 * pause, 5)


def run(attempt: dict[str, Any]) -> Any:
    """The result of a check function."""
    arguments, name = attempt["args"], attempt["function"].removeprefix("check/")
    if name == "sleep":
        until = time.monotonic() + arguments[0]
        while time.monotonic() < until and not (stopped.is_set() and FAULT != "ignores stop"):
            time.sleep(0.05)
    if name == "fail" or (name == "flaky" and attempt["attempt"] == 1):
        raise RuntimeError(arguments[0] if arguments else "the first attempt")
    if name == "fatal":
        raise RuntimeError(*arguments) if FAULT == "retries every error" else Fatal(*arguments)
    if name == "data":
        return {"previous": attempt["previous"], "data": attempt["data"]}
    return attempt["attempt"] if name == "flaky" else arguments[0] if name == "echo" else name


def finished(attempt: dict[str, Any]) -> dict[str, Any]:
    """The entry of a finish."""
    changes = dict([attempt["args"]]) if attempt["function"] == "check/data" else {}
    try:
        result = run(attempt)
    except Exception as error:  # noqa: BLE001 - it is reported
        described = {
            "type": type(error).__name__,
            "message": str(error),
            "retryable": type(error) is not Fatal,
        }
        return {"id": attempt["id"], "error": described}
    return (
        {"id": attempt["id"], "stopped": True}
        if stopped.is_set()
        else {"id": attempt["id"], "result": result, "data": changes}
    )


def extend(path: str, token: str, heartbeat: float, attempt: dict[str, Any], ended: threading.Event) -> None:
    """Extend the lease of an attempt until it has ended."""
    while not ended.wait(heartbeat) and FAULT != "extends no lease":
        try:
            reply = call("POST", f"{path}/extend", {"attempts": [{"id": attempt["id"]}]}, token)
        except Expired:  # the finish will meet it, too
            stopped.set()
            return
        if reply["stop"]:
            stopped.set()


def work(path: str, token: str, heartbeat: float) -> None:
    """Claim and run attempts."""
    wait = 0 if FAULT == "claims in a busy loop" else 2
    while not stopping.is_set() or FAULT == "claims after SIGTERM":
        for attempt in call("POST", f"{path}/claim", {"wait": wait}, token)["attempts"]:
            stopped.clear()
            ended = threading.Event()
            threading.Thread(
                target=extend, args=(path, token, heartbeat, attempt, ended), daemon=True
            ).start()
            body = {"attempts": [finished(attempt)]}
            ended.set()
            for _ in range(2 if FAULT == "finishes twice" else 1):
                call("POST", f"{path}/finish", body, token)


def main() -> None:
    """Register, work, leave."""
    names = NAMES[1:] if FAULT == "offers too few functions" else NAMES
    functions = [{"name": f"check/{name}"} for name in names]
    while not stopping.is_set():
        registered = call("POST", "/v1/worker", {"name": "faulty", "functions": functions})
        path, token = f"/v1/worker/{registered['id']}", registered["token"]
        try:
            work(path, "wrong" if FAULT == "sends another token" else token, registered["heartbeat"])
        except Expired:
            if FAULT == "does not register again":
                raise
            continue
        if FAULT != "does not leave":
            call("DELETE", path, None, token)


if FAULT != "dies of SIGTERM":
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
main()
