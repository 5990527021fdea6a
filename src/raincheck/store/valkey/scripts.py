"""The Lua scripts: the files beside this one, each with the same head; known by their digest."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple


class Script(NamedTuple):
    """A script's source, and the SHA-1 by which a server that has seen it knows it."""

    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script ``name``.lua."""
    folder = resources.files(__package__)
    source = "".join(folder.joinpath(f"{each}.lua").read_text(encoding="utf-8") for each in ("head", name))
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
