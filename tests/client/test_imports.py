"""Which modules a client imports."""

from __future__ import annotations

import json
import subprocess
import sys

FORBIDDEN = {"raincheck.app", "raincheck.server", "raincheck.store", "raincheck.worker", "apsw", "starlette"}


def test_a_client_imports_neither_store_nor_server() -> None:
    """It needs only HTTP."""
    script = (
        "import raincheck, json, sys\n"
        "raincheck.Client(), raincheck.AsyncClient()\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout))
    assert not FORBIDDEN & modules
    assert "httpx2" in modules
