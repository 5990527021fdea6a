"""Bare servers that return a job and store nothing: ``python -m benchmarks.programs.echo fastapi|raw PORT``.

Both run on uvicorn with the settings of raincheck's server.
"""

from __future__ import annotations

import sys

import uvicorn


def main(name: str, port: str) -> None:
    """Serve until a signal."""
    uvicorn.run(
        f"benchmarks.programs.echo_{name}:app",
        port=int(port),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
