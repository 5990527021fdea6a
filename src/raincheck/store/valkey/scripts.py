"""The Lua scripts: loaded from the files beside this one, each with the same head; known by their digest."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple


class Script(NamedTuple):
    """A script's source, and the SHA-1 by which a server that has seen it knows it."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script ``name``.lua."""
    folder = resources.files(__package__)
    source = folder.joinpath(f"{name}.lua").read_text(encoding="utf-8")
    if not name.startswith(("register", "workers")):
        source = folder.joinpath("head.lua").read_text(encoding="utf-8") + source
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
