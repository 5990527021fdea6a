"""An app whose function runs until a test opens its gate."""

import time
from pathlib import Path

from raincheck import App

app = App()


@app.function
def gated(gate: str) -> str:
    """Run until the file ``gate`` exists."""
    while not Path(gate).exists():
        time.sleep(0.02)
    return "let go"
