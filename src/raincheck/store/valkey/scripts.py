"""The Lua scripts, here and in ``cluster``: each with the same head, known by its digest."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

_KEEP_THEIR_ANSWER = {"commit", "claim", "remove", "schedule", "reserve"}
_DURABLE = {"commit", "reserve", "void"}


class Script(NamedTuple):
    """A script's source, and the SHA-1 by which a server that has seen it knows it.

    ``keeps_answer``: it gets a token and a key for its answer, to answer the same if it is called again.
    ``durable``: its reply counts only when what it wrote is acknowledged (``ack`` of the URL).
    """

    source: str
    sha: str
    keeps_answer: bool
    durable: bool


def _read(folder: Traversable, head: str) -> dict[str, Script]:
    """The scripts of a folder, by name."""
    found = {}
    for file in folder.iterdir():
        name, _, ending = file.name.partition(".")
        if ending == "lua" and name != "head":
            source = head + file.read_text(encoding="utf-8")
            sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            found[name] = Script(source, sha, name in _KEEP_THEIR_ANSWER, name in _DURABLE)
    return found


@cache
def scripts() -> dict[str, Script]:
    """Every script, by its name. Reads files at the first call: not for an event loop."""
    here = resources.files(__package__)
    head = (here / "head.lua").read_text(encoding="utf-8")
    return _read(here, head) | _read(here / "cluster", head)
