"""An app whose function runs until a test opens its gate."""

import time
from pathlib import Path

from raincheck import App

app = App()


def started(gate: Path) -> Path:
    """The file that exists once an attempt runs."""
    return gate.with_suffix(".started")


@app.function
def gated(gate: str) -> str:
    """Say that it runs, in a file beside ``gate``, then run until the file ``gate`` exists."""
    started(Path(gate)).touch()
    while not Path(gate).exists():
        time.sleep(0.02)
    return "let go"
