"""Values: how those of an app become JSON, and how annotations say what JSON becomes."""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any, NewType, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from raincheck.core.codec import Encode, to_json, writer
from raincheck.functions import fields, forms, libraries
from raincheck.functions.forms import ANYTHING, Field, Form, Misfit, name_of
from raincheck.functions.libraries import Purpose

__all__ = ["PLAIN", "Decode", "Encode", "Forms", "Reader", "Values"]

Decode = Callable[[Any, Any], Any]
"""Makes a value of a user's own type: called with the type and the plain value."""

_ARRAYS: dict[Any, type] = {
    list: list,
    collections.abc.Iterable: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Collection: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_WRAPPERS = ("Final", "Required", "NotRequired", "ReadOnly", "ClassVar")


class Values:
    """The hooks of an app for types that raincheck does not know.

    ``encode(value)`` returns a plain value; ``decode(type, value)`` makes one of that type. Both may raise
    ``NotImplementedError`` for other types, and ``ValueError`` for a value that is not valid.
    """

    def __init__(self, encode: Encode | None = None, decode: Decode | None = None) -> None:
        self.encode = encode
        self.decode = decode
        self.to_json = to_json if encode is None else writer(encode)
        """Writes any value as JSON. Raises `NotJSON`."""
        self.arguments_to_json = writer(encode, argument=True)
        """Writes arguments of a function as JSON. Raises `NotJSON`."""


PLAIN = Values()
"""Values without types of a user's own."""


class Reader:
    """Reads JSON as values of one type. Raises `TypeError` if values of this type cannot be JSON."""

    def __init__(self, form: Form, of: Forms) -> None:
        self.wire, self.build = form.wire, form.build
        self.decode = msgspec.json.Decoder(form.wire, dec_hook=of.build_inside).decode
        """What msgspec decodes; `read` makes the value of it."""

    def read(self, value: bytes | msgspec.Raw) -> Any:
        """The value in JSON. Raises `Misfit`, or an error of msgspec."""
        decoded = self.decode(value)
        return decoded if self.build is None else self.build(decoded)


class Forms:
    """The forms of annotations, for one purpose. A class has one form, so that it can contain itself."""

    def __init__(self, values: Values, purpose: Purpose) -> None:
        self._values = values
        self._purpose = purpose
        self.objects: dict[Any, Form] = {}
        """The forms of classes with fields that are part of what was asked for."""
        self._aliases: set[Any] = set()
        self._inside: dict[Any, Reader] = {}
        self.pydantic = False
        """Whether pydantic validates a part of what was asked for."""

    def form(self, kind: Any) -> Form:
        """The form of an annotation. Raises `TypeError` if values of this type cannot be JSON."""
        origin, args = get_origin(kind), get_args(kind)
        if kind in (object, Any, typing.NoReturn, typing.Never):
            return ANYTHING
        if isinstance(kind, NewType):
            return self.form(kind.__supertype__)
        if hasattr(kind, "__value__"):  # type X[T] = ...
            return self._alias(kind, args)
        if origin is Annotated:
            return self._annotated(kind, args[0], kind.__metadata__)
        if getattr(origin, "_name", None) in _WRAPPERS:
            return self.form(args[0])
        if origin in (Union, types.UnionType):
            return self._union(kind, args)
        if origin in _ARRAYS and args:
            return self._array(origin, args)
        if origin is tuple and args:
            return self._tuple(args)
        if origin in _MAPPINGS and args:
            return self._mapping(origin, args)
        return self._class(kind, origin or kind)

    def build_inside(self, kind: Any, value: Any) -> Any:
        """Build a value of a type that msgspec does not know, inside a msgspec Struct."""
        if kind not in self._inside:
            self._inside[kind] = Reader(self.form(kind), self)
        return self._inside[kind].read(msgspec.json.encode(value))

    def schemas(self, kinds: list[Any]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
        """JSON Schemas of wire types, and their definitions. Raises `TypeError`."""
        return msgspec.json.schema_components(
            kinds, schema_hook=self._schema_inside, ref_template="#/$defs/{name}"
        )

    def _schema_inside(self, kind: Any) -> dict[str, Any]:
        (schema,), definitions = self.schemas([self.form(kind).wire])
        return {} if definitions else schema

    def _alias(self, kind: Any, args: tuple[Any, ...]) -> Form:
        """The form of a type alias. One that contains itself is not checked in its inner part."""
        if kind in self._aliases:
            return ANYTHING
        self._aliases.add(kind)
        parameters = zip(kind.__type_params__, args, strict=False)
        form = self.form(fields.with_types(kind.__value__, dict(parameters)))
        self._aliases.remove(kind)
        return form

    def _annotated(self, kind: Any, base: Any, metadata: tuple[Any, ...]) -> Form:
        if libraries.is_of_pydantic(base, metadata):
            is_plain = isinstance(base, type) and _is_known(base)  # written as it is read
            return self._pydantic(kind, "result" if is_plain and self._purpose == "check" else self._purpose)
        metas, checks = libraries.constraints(metadata)
        form = self.form(base)
        wire: Any = Annotated[(form.wire, *metas)] if metas else form.wire
        if not checks or (self._purpose == "check" and form.wire != base):  # it is not decoded as this type
            return form._replace(wire=wire)
        steps = [*filter(None, [form.build]), *checks]
        return form._replace(wire=wire, build=partial(_in_turn, steps))

    def _pydantic(self, kind: Any, purpose: Purpose) -> Form:
        self.pydantic = True
        return libraries.pydantic_form(kind, purpose)

    def _union(self, kind: Any, args: tuple[Any, ...]) -> Form:
        members = [self.form(arg) for arg in args if arg is not type(None)]
        if any(member.by_pydantic for member in members):  # it knows which of its models this is
            return self._pydantic(kind, self._purpose)
        rest = (None,) if type(None) in args else ()
        wire = forms.union_of([*(member.wire for member in members), *rest])
        if len(members) == 1:
            (member,) = members
            return Form(wire, member.build and partial(_unless_none, member.build))
        if any(member.build is not None and member.decoded is None for member in members):
            raise TypeError(f"`{name_of(kind)}`: a type of your own can be in a union with None only")
        try:
            msgspec.json.Decoder(wire, dec_hook=self.build_inside)
        except TypeError as error:
            if self._purpose == "argument":
                raise TypeError(f"{error}; use msgspec Structs with a tag, or models of pydantic") from None
            return self._any_of([*members, *map(Form, rest)])
        plain = {member.decoded for member in members if member.build is None}
        builds = {m.decoded: m.build for m in members if m.build and m.decoded and m.decoded not in plain}
        return Form(wire, forms.build_one_of(builds) if builds else None)

    def _any_of(self, members: list[Form]) -> Form:
        """The form of a result that is one of several types that JSON does not tell apart."""
        schemas, definitions = self.schemas([member.wire for member in members])
        readers = [Reader(member, self) for member in members]
        schema = {"anyOf": [*schemas], "$defs": definitions}
        wire = Annotated[msgspec.Raw, Meta(extra_json_schema=schema)]
        return Form(wire, partial(_first_that_fits, readers))

    def _array(self, origin: Any, args: tuple[Any, ...]) -> Form:
        (item,) = (self.form(arg) for arg in args)
        build = item.build and forms.build_array(_ARRAYS[origin], item.build)
        wire = list if origin is collections.abc.Iterable else origin
        return Form(wire[item.wire], build, _ARRAYS[origin])

    def _tuple(self, args: tuple[Any, ...]) -> Form:
        if len(args) == 2 and args[1] is ...:
            item = self.form(args[0])
            build = item.build and forms.build_array(tuple, item.build)
            return Form(tuple[item.wire, ...], build, tuple)  # type: ignore[name-defined]
        items = [self.form(arg) for arg in args]
        builds = tuple(item.build for item in items)
        build = forms.build_tuple(builds) if any(builds) else None
        return Form(tuple[tuple(item.wire for item in items)], build, tuple)  # type: ignore[misc]

    def _mapping(self, origin: Any, args: tuple[Any, ...]) -> Form:
        key, value = map(self.form, args)
        build = forms.build_mapping(key.build, value.build) if key.build or value.build else None
        return Form(origin[key.wire, value.wire], build, dict)

    def _container(self, origin: type, args: tuple[Any, ...]) -> Form | None:
        """The form of a subclass of list or dict, or of a deque: that of a list or dict, and then it."""
        if issubclass(origin, dict):
            if len(args) == 1 and issubclass(origin, Counter):
                args = (*args, int)
            form = self._mapping(dict, args if len(args) == 2 else (Any, Any))
        elif issubclass(origin, list | deque):
            form = self._array(list, (args or (Any,))[:1])
        else:
            return None
        if self._purpose == "check":
            return form
        make = partial(origin, None) if issubclass(origin, defaultdict) else origin
        build = partial(_in_turn, [*filter(None, [form.build]), forms.leaf(make, origin.__name__)])
        return form._replace(build=build)

    def _class(self, kind: Any, origin: Any) -> Form:
        if kind in self.objects:
            return self.objects[kind]
        if _is_struct(origin):
            return self._struct(kind)
        if libraries.is_of_pydantic(origin):
            if libraries.is_any_model(origin) and self._purpose != "argument":
                return ANYTHING
            return self._pydantic(kind, self._purpose)
        if dataclasses.is_dataclass(origin):
            dataclass: Any = origin
            return self._object(kind, fields.of_dataclass, lambda given: dataclass(**given))
        if hasattr(origin, "__required_keys__"):  # of typing or typing_extensions
            return self._object(kind, fields.of_typed_dict, dict)
        if isinstance(origin, type) and issubclass(origin, tuple) and hasattr(origin, "_fields"):
            return self._object(kind, fields.of_named_tuple, lambda given: origin(**given), as_array=True)
        if kind is datetime:
            return Form(libraries.DATETIME, None, datetime)
        if _is_known(kind):
            return Form(kind, None, origin if isinstance(origin, type) else None)
        form = None
        if isinstance(origin, type):
            form = self._container(origin, get_args(kind)) or libraries.known_form(
                kind, origin, self._purpose
            )
        return form or self._own(kind)

    def _struct(self, kind: Any) -> Form:
        """The form of a Struct, which msgspec decodes; it is not checked if it has fields of other types."""
        if self._purpose != "check":
            return Form(kind)
        try:
            msgspec.json.schema(kind)
        except TypeError:
            (schema,), definitions = self.schemas([kind])
            return Form(Annotated[msgspec.Raw, Meta(extra_json_schema={**schema, "$defs": definitions})])
        return Form(kind)

    def _own(self, kind: Any) -> Form:
        """The form of a type that only the hooks of the app know."""
        hook = self._values.encode if self._purpose == "check" else self._values.decode
        is_class = isinstance(get_origin(kind) or kind, type)
        if not is_class or (hook is None and self._purpose != "result"):
            name = "encode" if self._purpose == "check" else "decode"
            instead = f"Use {_instead_of(kind)}, or App({name}=...)"
            raise TypeError(f"`{name_of(kind)}` has no form in JSON. {instead}")
        if hook is None or self._purpose == "check":
            return ANYTHING
        return Form(Any, forms.leaf(partial(hook, kind), name_of(kind)))

    def _object(
        self,
        kind: Any,
        fields_of: Callable[[Any], Iterator[fields.FieldType]],
        make: Callable[[dict[str, Any]], Any],
        *,
        as_array: bool = False,
    ) -> Form:
        """The form of a class with fields: a Struct with the same fields, and what makes an object of it."""
        origin = get_origin(kind) or kind
        types = [*fields_of(kind)]
        mirror = fields.mirror(kind, types, as_array=as_array, closed=self._purpose == "argument")
        built: list[Field] = []
        checking = self._purpose == "check"
        build = None if checking else forms.build_object(built, forms.leaf(make, origin.__name__))
        self.objects[kind] = Form(mirror, build, mirror)
        for i, each in enumerate(types):
            form = self.form(each.kind)
            mirror.__annotations__[f"f{i}"] = fields.wire_of(form.wire, each)
            built.append(Field(each.name, i if as_array else each.name, form, each.passed))
        if checking:
            self.objects[kind] = Form(mirror, forms.build_fields(built), mirror)
        return self.objects[kind]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_known(kind: Any) -> bool:
    """Whether msgspec knows a type."""
    try:
        return not isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType)
    except TypeError:
        return False


def _instead_of(kind: Any) -> str:
    origin = get_origin(kind) or kind
    known = libraries.INSTEAD.get(f"{origin.__module__}.{origin.__qualname__}".removeprefix("builtins."))
    return known or "dict, a dataclass or another type that docs/reference/values.md lists"


def _in_turn(steps: list[forms.Build], value: Any) -> Any:
    for step in steps:
        value = step(value)
    return value


def _unless_none(build: forms.Build, value: Any) -> Any:
    return None if value is None else build(value)


def _first_that_fits(readers: list[Reader], raw: msgspec.Raw) -> Any:
    faults = []
    for reader in readers:
        try:
            return reader.read(raw)
        except (Misfit, ValueError) as error:
            faults.append(str(error))
    raise Misfit(((), "; or ".join(faults)))
