"""What is not the same word for word in async and in blocking code."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Lock", "TokenSource", "ask", "sleep"]

TokenSource = Callable[[], str]
"""Where a token comes from: a function."""

Lock = threading.Lock


def sleep(seconds: float) -> None:
    """Do nothing for a while."""
    threading.Event().wait(seconds)


def ask(source: TokenSource) -> str:
    """A token from where tokens come from."""
    return source()
