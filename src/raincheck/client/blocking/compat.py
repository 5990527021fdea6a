"""Helpers that async code and blocking code need in different versions: the blocking one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Lock", "TokenSource", "fetch_token", "run_in_thread", "sleep"]

T = TypeVar("T")

TokenSource = Callable[[], str]
"""A function that returns a token."""

Lock = threading.Lock


def sleep(seconds: float) -> None:
    """Block for ``seconds``."""
    threading.Event().wait(seconds)


def run_in_thread(function: Callable[[], T]) -> T:
    """Call a blocking function. The caller blocks anyway, so no thread is needed."""
    return function()


def fetch_token(source: TokenSource) -> str:
    """Call a token source."""
    return source()
