"""The signature of a function: checks arguments, decodes them, and describes them as JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Parameter
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from raincheck.core.codec import from_json
from raincheck.core.errors import Fault, InvalidArguments, NotJSON, RegistrationError
from raincheck.functions.dependencies import NO_DEPENDENCIES, Dependencies, context_name, read_signature
from raincheck.functions.forms import Misfit
from raincheck.functions.results import ResultType
from raincheck.functions.schemas import Definitions
from raincheck.functions.values import PLAIN, Forms, Reader, Values

_positional = msgspec.json.Decoder(list[Raw])
_named = msgspec.json.Decoder(dict[str, Raw])

_PLACED = re.compile(r"^(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_PATH_PART = re.compile(r"\.([^.\[]+)|\[(\d+)\]")

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_REST = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

_NEVER: dict[str, Any] = {"not": {}}
"""A schema that no value matches."""

_ECHO = 100
"""Characters of a caller's input that an error repeats at most."""

Bound = tuple[list[Any], dict[str, Any]]
"""Positional and named arguments of a function call."""


class Pointers(NamedTuple):
    """JSON Pointers to a step in a request, to its positional arguments, and to its named arguments."""

    step: str = ""
    args: str = "/args"
    kwargs: str = "/kwargs"


class _Faults(list[Fault]):
    """The faults of arguments, and the first exception of the user's code that caused one."""

    cause: BaseException | None = None


class Argument(NamedTuple):
    """One parameter for which callers pass an argument."""

    name: str
    kind: Any
    default: Any
    reader: Reader
    annotation: Any

    @property
    def required(self) -> bool:
        """Whether a call must pass this argument."""
        return self.default is Parameter.empty and self.kind not in _REST


class Signature:
    """The parameters and the result of a function.

    Raises `RegistrationError` for types that have no form in JSON. ``values`` and ``dependencies`` are those
    of the app.

    ``context`` is the name of the parameter that receives the `Context`, and ``dependencies`` are those of
    other parameters, by name; callers pass none of these.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        values: Values = PLAIN,
        dependencies: Dependencies = NO_DEPENDENCIES,
    ) -> None:
        label = getattr(function, "__qualname__", repr(function))
        parameters, hints = read_signature(function, label)
        self.context = context_name(parameters, hints)
        self.dependencies = dependencies.of_parameters(parameters, hints, label)
        injected = {*self.dependencies} if self.context is None else {*self.dependencies, self.context}
        positions = [p.name for p in parameters if p.kind in _BY_POSITION]
        self._injected = {
            p.name: positions.index(p.name) if p.name in positions else None
            for p in parameters
            if p.name in injected
        }
        self._forms = Forms(values, "argument")
        self.arguments = tuple(
            _argument(p, hints.get(p.name, Any), label, self._forms)
            for p in parameters
            if p.name not in injected
        )
        self.values = values
        self.returns = _returns(hints.get("return", Any), values, label)
        self._by_position = [a for a in self.arguments if a.kind in _BY_POSITION]
        self._by_name = {a.name: a for a in self.arguments if a.kind in _BY_NAME}
        self._rest = next((a for a in self.arguments if a.kind is Parameter.VAR_POSITIONAL), None)
        self._others = next((a for a in self.arguments if a.kind is Parameter.VAR_KEYWORD), None)
        self._trivial = not any(a.required for a in self.arguments)
        types = tuple(a.reader.wire for a in self._by_position)
        self._builds = [(i, a.reader.build) for i, a in enumerate(self._by_position) if a.reader.build]
        named_only = any(a.required for a in self.arguments if a.kind is Parameter.KEYWORD_ONLY)
        self._in_order = None
        if not named_only:
            kind: Any = tuple[types]  # type: ignore[valid-type] # known at run time
            self._in_order = msgspec.json.Decoder(kind, dec_hook=self._forms.build_inside)

    def check(self, args: bytes, kwargs: bytes, at: Pointers = Pointers()) -> None:
        """Raise `InvalidArguments` unless the arguments fit; ``at`` says where they are in the request."""
        if not (self._trivial and args == b"[]" and kwargs == b"{}"):
            self.bind(args, kwargs, at)

    def bind(
        self, args: bytes, kwargs: bytes, at: Pointers = Pointers(), given: Mapping[str, Any] | None = None
    ) -> Bound:
        """Decode JSON arguments and `insert` what is ``given``. Raises `InvalidArguments` with all faults."""
        if kwargs == b"{}" and self._in_order is not None:
            try:
                positional = list(self._in_order.decode(args))
                for i, build in self._builds:
                    positional[i] = build(positional[i])
                return self.insert(positional, {}, given)
            except (ValueError, RecursionError):
                pass  # some are missing or invalid: check each one
        faults = _Faults()
        values = list(self._bind_positions(_positional.decode(args), at.args, faults))
        filled = {a.name for a in self._by_position[: len(values)]}
        names = dict(self._bind_names(_named.decode(kwargs), filled, at.kwargs, faults))
        filled.update(names.keys() & self._by_name.keys())
        faults += [
            Fault(f"argument {a.name!r} is missing", at.step)
            for a in self.arguments
            if a.required and a.name not in filled
        ]
        if faults:
            raise InvalidArguments(*faults) from faults.cause
        return self.insert(values, names, given)

    def insert(self, values: list[Any], names: dict[str, Any], given: Mapping[str, Any] | None) -> Bound:
        """Add what callers do not pass, by the names of its parameters, to the arguments of a call."""
        if given:
            for name, at in self._injected.items():
                if at is not None and at <= len(values):
                    values.insert(at, given[name])
                else:
                    names[name] = given[name]
        return values, names

    def _bind_positions(self, raws: list[Raw], at: str, faults: _Faults) -> Iterator[Any]:
        most = len(self._by_position)
        if len(raws) > most and self._rest is None:
            faults.append(
                Fault(f"takes at most {most} argument{'s' * (most != 1)} by position, got {len(raws)}", at)
            )
        for i, raw in enumerate(raws):
            argument = self._by_position[i] if i < most else self._rest
            if argument is None:
                return
            yield _decode(argument, raw, f"{at}/{i}", faults)

    def _bind_names(
        self, raws: dict[str, Raw], filled: set[str], at: str, faults: _Faults
    ) -> Iterator[tuple[str, Any]]:
        for name, raw in raws.items():
            argument = self._by_name.get(name, self._others)
            place = f"{at}/{escape(name[:_ECHO])}"
            if argument is None or name in self._injected:
                known = ", ".join(self._by_name) or "none"
                faults.append(
                    Fault(f"has no argument named {name[:_ECHO]!r}; by name it takes: {known}", place)
                )
            elif name in filled and name in self._by_name:
                faults.append(Fault(f"argument {name!r} is given twice, by position and by name", place))
            else:
                yield name, _decode(argument, raw, place, faults)

    def schemas(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """JSON Schemas (2020-12) of the named arguments, the positional arguments, and the result."""
        definitions = Definitions()
        found, own = self._forms.schemas([a.reader.wire for a in self.arguments])
        each = {
            a.name: self._with_default(definitions.add(schema, own), a)
            for a, schema in zip(self.arguments, found, strict=True)
        }
        named: dict[str, Any] = {
            "type": "object",
            "properties": {name: each[name] for name in self._by_name},
            "required": [a.name for a in self._by_name.values() if a.required],
            "additionalProperties": each[self._others.name] if self._others else False,
        }
        by_position: dict[str, Any] = {
            "type": "array",
            "prefixItems": [each[a.name] for a in self._by_position],
            "minItems": sum(a.required for a in self._by_position),
            "items": each[self._rest.name] if self._rest else False,
        }
        if not self._by_position:  # JSON Schema forbids an empty array
            del by_position["prefixItems"]
        kinds = {a.kind for a in self.arguments if a.required}
        return (
            _NEVER if Parameter.POSITIONAL_ONLY in kinds else named | definitions.used_by(named),
            _NEVER if Parameter.KEYWORD_ONLY in kinds else by_position | definitions.used_by(by_position),
            self.returns.schema(definitions),
        )

    def _with_default(self, schema: dict[str, Any], argument: Argument) -> dict[str, Any]:
        if argument.default is Parameter.empty:
            return schema
        try:
            return {**schema, "default": from_json(self.values.arguments_to_json(argument.default))}
        except NotJSON:
            return schema


def _argument(parameter: Parameter, kind: Any, label: str, forms: Forms) -> Argument:
    try:
        form = forms.form(kind)
        reader = Reader(form, forms)
        forms.schemas([form.wire])
    except (TypeError, RecursionError) as error:
        raise RegistrationError(
            f"{label}: the type of argument {parameter.name!r} cannot be decoded from JSON: {error}. If "
            "callers do not pass it, declare what returns it above this function, with @app.dependency"
        ) from error
    return Argument(parameter.name, parameter.kind, parameter.default, reader, kind)


def _returns(kind: Any, values: Values, label: str) -> ResultType:
    try:
        return ResultType(kind, values)
    except (TypeError, RecursionError) as error:
        raise RegistrationError(
            f"{label}: the type of the result cannot be encoded as JSON: {error}"
        ) from error


def _decode(argument: Argument, raw: Raw, at: str, faults: _Faults) -> Any:
    prefix = f"argument {argument.name!r}: "
    try:
        return argument.reader.read(raw)
    except Misfit as error:
        faults += [Fault(prefix + why, at + pointer(path)) for path, why in error.faults]
        faults.cause = faults.cause or error.__cause__
    except (ValueError, RecursionError) as error:
        faults.append(fault_of(error, at, prefix))
    return None


def fault_of(error: Exception, at: str, prefix: str = "") -> Fault:
    """The fault of a msgspec error: its message, and its path as a JSON Pointer below ``at``.

    The path ends before a key of a dict, because msgspec does not name the key. It ends at an unknown field.
    """
    match = _PLACED.match(str(error))
    assert match is not None  # noqa: S101 - the pattern matches every text
    what = match["what"][: 3 * _ECHO] + (", as a key" if match["key"] else "")
    path = (match["path"] or "").partition("[...]")[0]
    parts = ["".join(part) for part in _PATH_PART.findall(path)]
    if unknown := _UNKNOWN.fullmatch(match["what"]):
        parts.append(unknown[1])
    what = what[:1].lower() + what[1:] if prefix else what
    return Fault(prefix + what, at + pointer(parts))


def pointer(parts: Iterable[str | int]) -> str:
    """The JSON Pointer (RFC 6901) of a path."""
    return "".join(f"/{escape(str(part)[:_ECHO])}" for part in parts)


def escape(part: str) -> str:
    """Escape one part of a JSON Pointer (RFC 6901 §3)."""
    return part.replace("~", "~0").replace("/", "~1")
