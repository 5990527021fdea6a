"""An app whose function ends when it is let go: for what happens while it runs."""

import time
from pathlib import Path

from raincheck import App

app = App()


@app.function
def gated(gate: str) -> str:
    """End once there is a file ``gate``."""
    while not Path(gate).exists():
        time.sleep(0.02)
    return "let go"
