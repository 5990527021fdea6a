"""JSON Schemas in the form that client generators accept, and the names of components.

Generators are stricter than JSON Schema. Many accept neither ``false`` as a schema nor an array without
``items``. For some, an object without properties is empty, and a property with a ``default`` is always there,
so that a request must contain it. They turn names into identifiers, so that names which differ only in signs
or case collide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from inspect import cleandoc
from typing import Any

from raincheck.engine.documents import encode

Schema = dict[str, Any]

SCHEMAS = "#/components/schemas/"

_BY_NAME = frozenset(("properties", "patternProperties", "dependentSchemas"))
_IN_A_LIST = frozenset(("prefixItems", "anyOf", "oneOf", "allOf"))
_ALONE = frozenset(("items", "additionalProperties", "propertyNames", "contains", "not"))
"""The keywords whose values are schemas. All other values, such as defaults, are left as they are."""


def ref(kind: str, name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def portable(schema: Any, names: Mapping[str, str]) -> Any:
    """A schema that accepts the same values, in the form that generators accept.

    ``names`` are the names of components by the last part of a reference. Definitions inside the schema are
    left out: they are components.
    """
    if not isinstance(schema, dict):
        return {} if schema else {"not": {}}
    made: Schema = {}
    for keyword, value in schema.items():
        if keyword == "$ref":
            made["$ref"] = _component(value, names)
        elif keyword == "discriminator":  # no keyword of JSON Schema: it can be anything
            with suppress(AttributeError, TypeError):
                mapping = {name: _component(each, names) for name, each in value.get("mapping", {}).items()}
                made[keyword] = value | {"mapping": mapping}
        elif keyword in _BY_NAME:
            made[keyword] = {name: portable(each, names) for name, each in value.items()}
        elif keyword in _IN_A_LIST:
            made[keyword] = [portable(each, names) for each in value]
        elif keyword in _ALONE and not isinstance(value, bool):
            made[keyword] = portable(value, names)
        elif keyword != "$defs":
            made[keyword] = value
    return _described(_explicit(made), names)


def _component(target: str, names: Mapping[str, str]) -> str:
    """A reference to the component that a definition has become."""
    name = target.rpartition("/")[2]
    return SCHEMAS + names.get(name, name)


def _explicit(schema: Schema) -> Schema:
    """The schema with a length in place of ``items: false``, and with what an array or object contains."""
    types = schema.get("type", ())
    if "array" in types:
        if schema.get("items") is False:
            del schema["items"]
            length = len(schema.get("prefixItems", ()))
            schema["maxItems"] = min(schema.get("maxItems", length), length)
        if "prefixItems" not in schema:
            schema.setdefault("items", {})
    if "object" in types and "properties" not in schema:
        schema.setdefault("additionalProperties", True)
    return schema


def _described(schema: Schema, names: Mapping[str, str]) -> Schema:
    """The schema with the name of its component as its title, and its default in its description."""
    description = []
    if isinstance(text := schema.get("description"), str):
        description.append(cleandoc(text).replace("``", "`"))
    if (default := schema.pop("default", None)) not in (None, "", [], {}):
        description.append(f"Default: `{encode(default).decode()}`.")
    if description:
        schema["description"] = " ".join(description)
    if isinstance(title := schema.get("title"), str):
        schema["title"] = names.get(title, title)
    return schema


def component_name(*parts: str) -> str:
    """A name that a component may have. The name of a generic class, for one, contains brackets."""
    return "_".join(re.sub(r"[^A-Za-z0-9_-]+", "_", part).strip("_") for part in parts)


class Names:
    """Names that generators can turn into identifiers, each a different one."""

    def __init__(self, *names: str) -> None:
        self._numbers = {_plain(name): 1 for name in names}

    def add(self, name: str) -> str:
        """The name, or the name with a number if a generator could take it for an earlier one."""
        candidate, number = name, self._numbers.get(_plain(name), 0)
        while _plain(candidate) in self._numbers:
            number += 1
            candidate = f"{name}_{number}"
        self._numbers[_plain(name)] = max(number, 1)
        self._numbers[_plain(candidate)] = 1
        return candidate


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
