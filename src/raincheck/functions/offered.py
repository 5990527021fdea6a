"""The functions that workers offer: checks arguments by their registered JSON Schemas, without their code."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import Any

from raincheck.core.codec import from_json
from raincheck.core.errors import MAX_FAULTS, Fault
from raincheck.core.model import FunctionInfo
from raincheck.functions.signature import Pointers, escape, pointer

logger = logging.getLogger("raincheck.functions")

_ECHO = 100
"""Characters of a caller's input that an error repeats at most."""


class OfferedFunctions:
    """The functions that workers offer, by name. The registry of workers sets them with `update`.

    While several versions of a function are registered, arguments need to fit only one of them.
    """

    def __init__(self) -> None:
        self._versions: dict[str, list[ArgumentSchemas]] = {}

    def update(self, infos: Iterable[FunctionInfo]) -> None:
        """Replace the functions. Schemas that have not changed stay compiled."""
        versions: dict[str, list[ArgumentSchemas]] = {}
        for info in infos:
            known = versions.setdefault(info.name, [])
            if not any(version.has_schemas_of(info) for version in known):
                before = (v for v in self._versions.get(info.name, ()) if v.has_schemas_of(info))
                known.append(next(before, None) or ArgumentSchemas(info))
        self._versions = versions

    def add(self, info: FunctionInfo) -> None:
        """Add one version of a function."""
        known = self._versions.setdefault(info.name, [])
        if not any(version.has_schemas_of(info) for version in known):
            known.append(ArgumentSchemas(info))

    def faults(self, name: str, args: bytes, kwargs: bytes, at: Pointers) -> list[Fault]:
        """The faults of arguments of a function; ``at`` says where they are in the request.

        None if no worker has registered the function. A schema says less than a signature: what only the
        function can tell is found when it runs.
        """
        faults: list[Fault] = []
        if versions := self._versions.get(name):
            positional, named = from_json(args), from_json(kwargs)
            for version in versions:
                faults = [*islice(version.faults(positional, named, at), MAX_FAULTS)]
                if not faults:
                    break
        return faults


class ArgumentSchemas:
    """Checks arguments by the schemas of one version of a function.

    A call can pass some arguments by position and some by name, so the number of arguments is checked apart
    from the schemas. If some can be passed only by name, there is no schema for those by position: they are
    checked as if they were passed by name, in order. If some can be passed only by position, those by name
    are not checked.
    """

    def __init__(self, info: FunctionInfo) -> None:
        self._info = info
        self._positional = _usable(info.positional)
        self._named = _usable(info.parameters)
        self._names: list[str] = [*self._named.get("properties", ())]

    def has_schemas_of(self, info: FunctionInfo) -> bool:
        """Whether the schemas of another version are the same."""
        return info.parameters == self._info.parameters and info.positional == self._info.positional

    def faults(self, args: list[Any], kwargs: dict[str, Any], at: Pointers) -> Iterator[Fault]:
        """The faults of arguments."""
        yield from self._faults_by_position(args, at.args)
        for error in self._by_name.iter_errors(kwargs) if kwargs else ():
            if error.instance_path:
                yield from _faults(error, [*error.instance_path], error.instance_path[0], at.kwargs)
                continue
            for name in getattr(error.kind, "unexpected", ()):
                known = ", ".join(self._names) or "none"
                detail = f"has no argument named {name[:_ECHO]!r}; by name it takes: {known}"
                yield Fault(detail, f"{at.kwargs}/{escape(name[:_ECHO])}")
        for name in self._named.get("required", ()):
            if name not in kwargs and name not in self._names[: len(args)]:
                yield Fault(f"argument {name!r} is missing", at.step)
        least = 0 if self._named else self._positional.get("minItems", 0)
        if len(args) < least:
            yield Fault(f"takes at least {least} argument{'s' * (least != 1)} by position", at.step)

    def _faults_by_position(self, args: list[Any], at: str) -> Iterator[Fault]:
        if not self._positional:
            named = dict(zip(self._names, args, strict=False))
            for error in self._by_name.iter_errors(named) if named else ():
                if error.instance_path:  # else it is about all arguments, of which these are a part
                    name, *rest = error.instance_path
                    yield from _faults(error, [self._names.index(name), *rest], name, at)
            return
        most = len(self._positional.get("prefixItems", ()))
        if len(args) > most and self._positional.get("items") is False:
            yield Fault(f"takes at most {most} argument{'s' * (most != 1)} by position, got {len(args)}", at)
            args = args[:most]
        for error in self._by_position.iter_errors(args) if args else ():
            if not error.instance_path:
                yield Fault(error.message[: 3 * _ECHO], at)
                continue
            position = error.instance_path[0]
            name = self._names[position] if position < len(self._names) else str(position)
            yield from _faults(error, [*error.instance_path], name, at)

    @cached_property
    def _by_position(self) -> Any:
        return _validator(self._positional, "minItems", self._info.name)

    @cached_property
    def _by_name(self) -> Any:
        return _validator(self._named, "required", self._info.name)


def schema_faults(schema: dict[str, Any], at: str, kind: str = "") -> list[Fault]:
    """The faults of a JSON Schema (2020-12) at a JSON Pointer; it must accept only values of ``kind``."""
    from jsonschema_rs import Draft202012Validator, ValidationError

    if not schema:
        return []
    if kind and schema.get("type") != kind:
        return [Fault(f"must be a schema with type: {kind}", at)]
    try:
        Draft202012Validator(schema, mask="the value", offline=True)
    except ValidationError as error:
        detail = f"is not a JSON Schema: {error.message[: 3 * _ECHO]}"
        return [Fault(detail, at + pointer(error.instance_path))]
    except Exception as error:  # noqa: BLE001 - of a reference, and what is given can be anything
        detail = str(error).partition("\n")[0]
        return [Fault(f"is not a JSON Schema: {detail[: 3 * _ECHO]}", at)]
    return []


def _usable(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema, if it is one of arguments as raincheck writes them; else one that accepts all."""
    arrays = (schema.get("prefixItems", []), schema.get("required", []))
    is_usable = "not" not in schema and all(isinstance(each, list) for each in arrays)
    return schema if is_usable and isinstance(schema.get("properties", {}), dict) else {}


def _validator(schema: dict[str, Any], without: str, function: str) -> Any:
    """The validator of a schema without one of its keywords."""
    from jsonschema_rs import Draft202012Validator  # here: only servers without the code of functions use it

    rest = {key: value for key, value in schema.items() if key != without}
    try:
        return Draft202012Validator(_as_functions_read(rest), mask="the value", offline=True)
    except Exception as error:  # noqa: BLE001 - a worker in another language can register anything
        logger.warning("%s: arguments are not checked, its schema cannot be used: %s", function, error)
        return Draft202012Validator({})


def _as_functions_read(value: Any) -> Any:
    """A schema that accepts all that functions do: numbers for decimals, and sets with equal members."""
    if isinstance(value, list):
        return [_as_functions_read(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("format") == "decimal" and value.get("type") == "string":
        return {**value, "type": ["string", "number"]}
    return {key: _as_functions_read(each) for key, each in value.items() if key != "uniqueItems"}


def _faults(error: Any, path: list[str | int], argument: str, at: str) -> Iterator[Fault]:
    """The faults of an error in an argument: one, or one for each unknown field of an object."""
    pointer = at + "".join(f"/{escape(str(part)[:_ECHO])}" for part in path)
    unknown = [name[:_ECHO] for name in getattr(error.kind, "unexpected", ())]
    for name in unknown:
        detail = f"argument {argument[:_ECHO]!r}: object contains unknown field `{name}`"
        yield Fault(detail, f"{pointer}/{escape(name)}")
    if not unknown:
        yield Fault(f"argument {argument[:_ECHO]!r}: {error.message[: 3 * _ECHO]}", pointer)
