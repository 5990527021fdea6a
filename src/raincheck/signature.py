"""A function's signature as its contract: checks arguments, decodes them, and becomes JSON Schema."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from inspect import Parameter
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from raincheck.context import Context
from raincheck.errors import Fault, InvalidArguments, RegistrationError

_positional = msgspec.json.Decoder(list[Raw])
_named = msgspec.json.Decoder(dict[str, Raw])
_JSON_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_PATH_PART = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


class Argument(NamedTuple):
    """One parameter that callers fill."""

    name: str
    kind: Any
    type: Any
    required: bool
    default: Any
    decoder: msgspec.json.Decoder[Any]


class Signature:
    """What a function takes and returns. Raises `RegistrationError` if JSON cannot carry it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        label = getattr(function, "__qualname__", repr(function))
        hints = _hints(function, label)
        parameters = list(inspect.signature(function).parameters.values())
        self.context = _context_name(parameters, hints)
        self.arguments = tuple(
            _argument(p, hints.get(p.name, Any), label) for p in parameters if p.name != self.context
        )
        self.returns = hints.get("return", Any)
        self._by_position = [
            a
            for a in self.arguments
            if a.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        ]
        self._by_name = {
            a.name: a
            for a in self.arguments
            if a.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        }
        self._rest = next((a for a in self.arguments if a.kind is Parameter.VAR_POSITIONAL), None)
        self._others = next((a for a in self.arguments if a.kind is Parameter.VAR_KEYWORD), None)
        self._trivial = not any(a.required for a in self.arguments)

    def check(self, args: bytes, kwargs: bytes, at: str = "") -> None:
        """Raise `InvalidArguments` unless they fit; pointers are below ``at``."""
        if self._trivial and args == b"[]" and kwargs == b"{}":
            return
        self.bind(args, kwargs, at)

    def bind(self, args: bytes, kwargs: bytes, at: str = "") -> tuple[list[Any], dict[str, Any]]:
        """The JSON arguments as Python values. Raises `InvalidArguments` with every fault found."""
        if self._trivial and args == b"[]" and kwargs == b"{}":
            return [], {}
        faults: list[Fault] = []
        values = list(self._bind_positions(_positional.decode(args), f"{at}/args", faults))
        filled = {a.name for a in self._by_position[: len(values)]}
        names = dict(self._bind_names(_named.decode(kwargs), filled, f"{at}/kwargs", faults))
        for argument in self.arguments:
            if argument.required and argument.name not in filled and argument.name not in names:
                faults.append(Fault(f"argument {argument.name!r} is missing", at))
        if faults:
            raise InvalidArguments(*faults)
        return values, names

    def _bind_positions(self, raws: list[Raw], at: str, faults: list[Fault]) -> Iterator[Any]:
        if len(raws) > len(self._by_position) and self._rest is None:
            most = len(self._by_position)
            faults.append(
                Fault(f"takes at most {most} argument{'s' * (most != 1)} by position, got {len(raws)}", at)
            )
            raws = raws[:most]
        for i, raw in enumerate(raws):
            argument = self._by_position[i] if i < len(self._by_position) else self._rest
            assert argument is not None  # noqa: S101 - the list was cut to what there is
            yield _decode(argument, raw, f"{at}/{i}", faults)

    def _bind_names(
        self, raws: dict[str, Raw], filled: set[str], at: str, faults: list[Fault]
    ) -> Iterator[tuple[str, Any]]:
        for name, raw in raws.items():
            argument = self._by_name.get(name, self._others)
            place = f"{at}/{escape(name)}"
            if argument is None:
                known = ", ".join(self._by_name) or "none"
                faults.append(Fault(f"has no argument named {name!r}; by name it takes: {known}", place))
            elif name in filled:
                faults.append(Fault(f"argument {name!r} is given twice, by position and by name", place))
            else:
                yield name, _decode(argument, raw, place, faults)

    def schemas(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """JSON Schemas (2020-12) of arguments by name, by position, and of the result."""
        named: dict[str, Any] = {
            "type": "object",
            "properties": {a.name: _schema(a) for a in self._by_name.values()},
            "required": [a.name for a in self._by_name.values() if a.required],
            "additionalProperties": _schema(self._others) if self._others else False,
        }
        by_position: dict[str, Any] = {
            "type": "array",
            "prefixItems": [_schema(a) for a in self._by_position],
            "minItems": sum(a.required for a in self._by_position),
            "items": _schema(self._rest) if self._rest else False,
        }
        if not by_position["prefixItems"]:
            del by_position["prefixItems"]
        return _hoisted(named), _hoisted(by_position), _hoisted(_type_schema(self.returns))


def _hints(function: Callable[..., Any], label: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise RegistrationError(
            f"{label}: an annotation names something unknown ({error}); define or import it at module level"
        ) from error


def _context_name(parameters: list[Parameter], hints: dict[str, Any]) -> str | None:
    for parameter in parameters:
        if hints.get(parameter.name) is Context or (parameter.name == "ctx" and parameter.name not in hints):
            return parameter.name
    return None


def _argument(parameter: Parameter, kind: Any, label: str) -> Argument:
    try:
        decoder = msgspec.json.Decoder(kind)
        msgspec.json.schema(kind)
    except TypeError as error:
        raise RegistrationError(
            f"{label}: argument {parameter.name!r} is annotated with a type that JSON cannot carry: {error}"
        ) from error
    required = parameter.default is Parameter.empty and parameter.kind not in (
        Parameter.VAR_POSITIONAL,
        Parameter.VAR_KEYWORD,
    )
    return Argument(parameter.name, parameter.kind, kind, required, parameter.default, decoder)


def _decode(argument: Argument, raw: Raw, at: str, faults: list[Fault]) -> Any:
    try:
        return argument.decoder.decode(raw)
    except (msgspec.ValidationError, RecursionError) as error:
        faults.append(fault_of(error, at, f"argument {argument.name!r}: "))
        return None


def fault_of(error: Exception, at: str, prefix: str = "") -> Fault:
    """A msgspec error as a fault: its words, and its path as a JSON Pointer below ``at``."""
    match = _JSON_PATH.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    parts = ["".join(part) for part in _PATH_PART.findall(path)]
    what = what[:1].lower() + what[1:] if prefix else what
    return Fault(prefix + what, at + "".join(f"/{escape(part)}" for part in parts))


def escape(part: str) -> str:
    """One part of a JSON Pointer (RFC 6901 §3)."""
    return part.replace("~", "~0").replace("/", "~1")


def _type_schema(kind: Any) -> dict[str, Any]:
    try:
        return msgspec.json.schema(kind)
    except TypeError:
        return {}  # a result is what it is: anything JSON can carry


def _schema(argument: Argument) -> dict[str, Any]:
    schema = dict(_type_schema(argument.type))
    if argument.default is not Parameter.empty and not schema.get("$ref"):
        try:
            schema["default"] = msgspec.to_builtins(argument.default)
        except TypeError:
            return schema
    return schema


def _hoisted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with all definitions inside it moved to its top, where its ``$ref`` point."""
    definitions: dict[str, Any] = {}

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            definitions.update({k: strip(v) for k, v in value.get("$defs", {}).items()})
            return {k: strip(v) for k, v in value.items() if k != "$defs"}
        return [strip(v) for v in value] if isinstance(value, list) else value

    stripped: dict[str, Any] = strip(schema)
    return {**stripped, "$defs": definitions} if definitions else stripped
