"""What is not the same word for word in async and in blocking code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Lock", "TokenSource", "apart", "ask", "sleep"]

T = TypeVar("T")

TokenSource = Callable[[], str]
"""Where a token comes from: a function."""

Lock = threading.Lock


def sleep(seconds: float) -> None:
    """Do nothing for a while."""
    threading.Event().wait(seconds)


def apart(make: Callable[[], T]) -> T:
    """Call what blocks: here, everything may."""
    return make()


def ask(source: TokenSource) -> str:
    """A token from where tokens come from."""
    return source()
