"""Definitions of schemas under names that are unique and that other documents can use, as OpenAPI does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_PREFIX = "#/$defs/"


class Definitions:
    """The definitions of the schemas of one function, which come from several sources with their own names.

    Names have letters, digits and underscores only. Definitions that are the same have one name.
    """

    def __init__(self) -> None:
        self._found: dict[str, Schema] = {}
        self._names: dict[str, str] = {}

    def add(self, schema: Schema, definitions: dict[str, Schema], suffix: str = "") -> Schema:
        """The schema, with references to definitions as they are named here.

        ``definitions`` are those that it refers to; those inside it are added too. A definition whose name is
        taken gets ``suffix``.
        """
        scope: dict[str, str] = {}
        new: list[str] = []
        for name in definitions:
            key = json.dumps([name, _closure(name, definitions)], sort_keys=True)
            if key not in self._names:
                self._names[key] = self._free_name(name, suffix)
                self._found[self._names[key]] = {}  # takes the name
                new.append(name)
            scope[name] = self._names[key]
        for name in new:
            self._found[scope[name]] = self._moved(definitions[name], scope, suffix)
        moved: Schema = self._moved(schema, scope, suffix)
        return moved

    def used_by(self, schema: Schema) -> Schema:
        """The definitions that a schema needs, as ``$defs``; nothing if it needs none."""
        used = _closure_of(schema, self._found)
        return {"$defs": {name: self._found[name] for name in self._found if name in used}} if used else {}

    def _moved(self, value: Any, scope: dict[str, str], suffix: str) -> Any:
        if isinstance(value, list):
            return [self._moved(each, scope, suffix) for each in value]
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("$defs"), dict):
            rest = {key: each for key, each in value.items() if key != "$defs"}
            return self.add(rest, value["$defs"], suffix)
        moved = {key: self._moved(each, scope, suffix) for key, each in value.items()}
        for name in _references([value.get("$ref")]):
            moved["$ref"] = _PREFIX + scope[name]
        mapping = value.get("discriminator", {}).get("mapping") if "discriminator" in value else None
        if isinstance(mapping, dict):
            targets = {tag: _PREFIX + scope[ref.removeprefix(_PREFIX)] for tag, ref in mapping.items()}
            moved["discriminator"] = {**moved["discriminator"], "mapping": targets}
        return moved

    def _free_name(self, name: str, suffix: str) -> str:
        word = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "Value"
        if word in self._found:
            word += suffix
        number = 1
        while (free := word if number == 1 else f"{word}_{number}") in self._found:
            number += 1
        return free


def _references(values: list[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str) and value.startswith(_PREFIX):
            yield value.removeprefix(_PREFIX)


def _closure(name: str, definitions: dict[str, Schema]) -> dict[str, Schema]:
    """A definition and all that it refers to."""
    names = {name} | _closure_of(definitions[name], definitions)
    return {each: definitions[each] for each in names}


def _closure_of(schema: Schema, definitions: dict[str, Schema]) -> set[str]:
    """The names of the definitions that a schema refers to, directly or not."""
    used: set[str] = set()
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
            for name in _references([value.get("$ref")]):
                if name in definitions and name not in used:
                    used.add(name)
                    waiting.append(definitions[name])
        elif isinstance(value, list):
            waiting += value
    return used
