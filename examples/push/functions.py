"""Four functions behind a URL, with the standard library only. It does not import raincheck.

Usage: python3 functions.py SECRET_FILE [PORT]
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOLERANCE = 5 * 60
"""Seconds that the clocks of sender and receiver may differ by."""

MAX_BODY = 8 * 1024 * 1024


def say_hello_world(name: str = "world") -> str:
    """Say hello."""
    return f"Hello, {name}!"


def test_1(call: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a result and a change of the job's data."""
    return "test-1 was here", {"left by": call["function"]}


def test_2(call: dict[str, Any]) -> dict[str, Any]:
    """Return the result of the previous function and the job's data."""
    return {"previous": call["previous"], "data": call["data"]}


def test_fail(call: dict[str, Any]) -> Any:
    """Fail with any arguments."""
    raise RuntimeError(f"attempt {call['attempt']} with {call['args']} failed, as always")


def run(call: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The result of a call, and the keys of the job's data that it changes. Raises `LookupError`."""
    match call["function"]:
        case "/v1/say-hello-world":
            return say_hello_world(*call["args"], **call["kwargs"]), {}
        case "/v1/test-1":
            return test_1(call)
        case "/v1/test-2":
            return test_2(call), {}
        case "/v1/test-fail":
            return test_fail(call), {}
    raise LookupError(call["function"])


def is_signed(headers: Any, body: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether one of the secrets has signed a request, and lately (Standard Webhooks)."""
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{headers.get('webhook-id', '')}.{timestamp}.".encode() + body
    expected = [b"v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)) for secret in secrets]
    given = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(one, other) for one in given for other in expected)


class Handler(BaseHTTPRequestHandler):
    """Verifies a request, runs its function and sends the result."""

    protocol_version = "HTTP/1.1"
    secrets: tuple[bytes, ...] = ()

    def do_POST(self) -> None:
        """Run one call."""
        size = int(self.headers.get("content-length", 0))
        if size > MAX_BODY:
            self.close_connection = True
            return self.send_problem(413, "the body is too large")
        body = self.rfile.read(size)
        if not is_signed(self.headers, body, self.secrets):
            return self.send_problem(401, "the signature is not valid")
        try:
            result, data = run(json.loads(body))
        except LookupError as error:
            return self.send_problem(404, f"there is no function {error}")
        except Exception as error:  # noqa: BLE001 - any exception of a function is an answer
            return self.send_problem(500, str(error))
        content = {"result": result, "data": data}
        return self.send_json(200, "application/vnd.raincheck.result+json", content)

    def send_problem(self, status: int, detail: str) -> None:
        """Send an error."""
        self.send_json(status, "application/problem+json", {"status": status, "detail": detail})

    def send_json(self, status: int, kind: str, content: Any) -> None:
        """Send a JSON document."""
        encoded = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)


def main() -> None:
    """Serve until it is stopped."""
    file, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8179
    texts = Path(file).read_text("utf-8").split()
    Handler.secrets = tuple(base64.b64decode(text.removeprefix("whsec_")) for text in texts)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"Listening and serving HTTP on http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
