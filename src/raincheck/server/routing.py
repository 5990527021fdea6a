"""From a path to its endpoints: one look at each part of the path, in a tree made once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

E = TypeVar("E")


class Resource(NamedTuple, Generic[E]):
    """What is at one path: an endpoint a method (that of GET for HEAD, too), and the value of ``Allow``."""

    endpoints: Mapping[str, E]
    allow: bytes


class _Node(Generic[E]):
    """What may follow a part of a path: a known word, any word, or any rest."""

    def __init__(self) -> None:
        self.words: dict[str, _Node[E]] = {}
        self.any_word: _Node[E] | None = None
        self.rest: Resource[E] | None = None
        self.here: Resource[E] | None = None


class Routing(Generic[E]):
    """The tree of a table of paths, in which ``{name}`` is one part and ``{name:path}`` all that follow."""

    def __init__(self, table: Mapping[str, Mapping[str, E]]) -> None:
        self._root: _Node[E] = _Node()
        for path, methods in table.items():
            endpoints = {**methods, "HEAD": methods["GET"]} if "GET" in methods else dict(methods)
            allow = ", ".join(sorted([*endpoints, "OPTIONS"])).encode()
            self._add(path.split("/")[1:], Resource(endpoints, allow))

    def _add(self, parts: list[str], resource: Resource[E]) -> None:
        node = self._root
        for part in parts:
            if part.endswith(":path}"):
                node.rest = resource
                return
            if part.startswith("{"):
                node.any_word = node.any_word or _Node()
                node = node.any_word
            else:
                node = node.words.setdefault(part, _Node())
        node.here = resource

    def find(self, path: str) -> tuple[Resource[E], str] | None:
        """What is at a path, and the values of its variables, joined by slashes; None: nothing is there."""
        node, parts, values = self._root, path.split("/"), []
        for i in range(1, len(parts)):
            part = parts[i]
            child = node.words.get(part)
            if child is None:
                if node.rest is not None:
                    return node.rest, "/".join(parts[i:])
                if node.any_word is None or not part:
                    return None
                values.append(part)
                child = node.any_word
            node = child
        return None if node.here is None else (node.here, "/".join(values))
