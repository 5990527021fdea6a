"""Values: how those of an app become JSON, and how annotations say what JSON becomes."""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any, NewType, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, UnsetType

from raincheck.core.codec import Encode, from_json, to_json, writer
from raincheck.core.errors import NotJSON
from raincheck.functions import forms, libraries
from raincheck.functions.forms import ANYTHING, Field, Form, Misfit
from raincheck.functions.libraries import Purpose

__all__ = ["PLAIN", "Decode", "Encode", "Forms", "Reader", "Values", "name_of"]

Decode = Callable[[Any, Any], Any]
"""Makes a value of a user's own type: called with the type and the plain value."""

_ARRAYS: dict[Any, type] = {
    list: list,
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
        self.pydantic = False
        """Whether pydantic validates a part of what was asked for."""

    def form(self, kind: Any) -> Form:
        """The form of an annotation. Raises `TypeError` if values of this type cannot be JSON."""
        origin, args = get_origin(kind), get_args(kind)
        if kind in (object, Any, typing.NoReturn, typing.Never):
            return ANYTHING
        if isinstance(kind, NewType):
            return self.form(kind.__supertype__)
        if hasattr(kind, "__value__"):  # type X = ...
            return self.form(kind.__value__)
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
        form = self.form(kind)
        return Reader(form, self).read(msgspec.json.encode(value))

    def schemas(self, kinds: list[Any]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
        """JSON Schemas of wire types, and their definitions. Raises `TypeError`."""
        return msgspec.json.schema_components(
            kinds, schema_hook=self._schema_inside, ref_template="#/$defs/{name}"
        )

    def _schema_inside(self, kind: Any) -> dict[str, Any]:
        (schema,), definitions = self.schemas([self.form(kind).wire])
        return {} if definitions else schema

    def _annotated(self, kind: Any, base: Any, metadata: tuple[Any, ...]) -> Form:
        if libraries.is_of_pydantic(base, metadata):
            is_plain = isinstance(base, type) and _is_known(base)  # written as it is read
            return self._pydantic(kind, "result" if is_plain and self._purpose == "check" else self._purpose)
        metas, checks = libraries.constraints(metadata)
        form = self.form(base)
        wire: Any = Annotated[(form.wire, *metas)] if metas else form.wire
        if not checks:
            return form._replace(wire=wire)
        steps = [*filter(None, [form.build]), *checks]
        return form._replace(wire=wire, build=partial(_in_turn, steps))

    def _pydantic(self, kind: Any, purpose: Purpose) -> Form:
        self.pydantic = True
        return libraries.pydantic_form(kind, purpose)

    def _union(self, kind: Any, args: tuple[Any, ...]) -> Form:
        had_pydantic, self.pydantic = self.pydantic, False
        members = [self.form(arg) for arg in args if arg is not type(None)]
        has_pydantic, self.pydantic = self.pydantic, self.pydantic or had_pydantic
        if has_pydantic:  # it knows best which of its models this is
            return self._pydantic(kind, self._purpose)
        rest = (None,) if type(None) in args else ()
        wire = _union_of([*(member.wire for member in members), *rest])
        if len(members) == 1:
            (member,) = members
            return Form(wire, member.build and partial(_unless_none, member.build))
        if any(member.build is not None and member.decoded is None for member in members):
            raise TypeError(f"in `{name_of(kind)}`, a type of your own can be in a union with None only")
        try:
            msgspec.json.Decoder(wire, dec_hook=self.build_inside)
        except TypeError as error:
            if self._purpose == "argument":
                raise TypeError(f"{error}; use msgspec Structs with a tag, or models of pydantic") from None
            return self._any_of(members)
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
        return Form(origin[item.wire], build, _ARRAYS[origin])

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

    def _class(self, kind: Any, origin: Any) -> Form:
        if kind in self.objects:
            return self.objects[kind]
        if _is_struct(origin):
            return self._struct(kind)
        if libraries.is_of_pydantic(origin):
            return self._pydantic(kind, self._purpose)
        if dataclasses.is_dataclass(origin):
            cls: Any = origin
            return self._object(kind, _fields_of_dataclass, lambda given: cls(**given))
        if typing.is_typeddict(origin):
            return self._object(kind, _fields_of_typed_dict, dict)
        if isinstance(origin, type) and issubclass(origin, tuple) and hasattr(origin, "_fields"):
            return self._object(kind, _fields_of_named_tuple, lambda given: origin(**given), as_array=True)
        if kind is datetime:
            return Form(libraries.DATETIME, None, datetime)
        form = None if _is_known(kind) else libraries.known_form(kind, origin, self._purpose)
        if form is not None:
            return form
        if _is_known(kind):
            return Form(kind, None, origin if isinstance(origin, type) else None)
        return self._own(kind)

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
        fields_of: Callable[[Any], Iterator[_FieldType]],
        make: Callable[[dict[str, Any]], Any],
        *,
        as_array: bool = False,
    ) -> Form:
        """The form of a class with fields: a Struct with the same fields, and what makes an object of it."""
        origin = get_origin(kind) or kind
        types = [*fields_of(kind)]
        mirror = _mirror(kind, types, as_array=as_array, closed=self._purpose == "argument")
        fields: list[Field] = []
        checking = self._purpose == "check"
        build = None if checking else forms.build_object(fields, forms.leaf(make, origin.__name__))
        self.objects[kind] = Form(mirror, build, mirror)
        for i, each in enumerate(types):
            form = self.form(each.kind)
            mirror.__annotations__[f"f{i}"] = _wire_of_field(form.wire, each)
            fields.append(Field(each.name, i if as_array else each.name, form, each.passed))
        if checking:
            self.objects[kind] = Form(mirror, forms.build_fields(fields), mirror)
        return self.objects[kind]


class _FieldType(typing.NamedTuple):
    """A field of a class. One that is not ``passed`` is computed by the class: it is accepted and ignored."""

    name: str
    kind: Any
    required: bool
    default: Any = UNSET
    passed: bool = True


def _fields_of_dataclass(kind: Any) -> Iterator[_FieldType]:
    origin, hints = get_origin(kind) or kind, _hints(kind)
    for field in dataclasses.fields(origin):
        default = field.default
        if field.default_factory in (list, dict):
            default = field.default_factory()
        is_optional = default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        plain = UNSET if default is dataclasses.MISSING else _plain(default)
        yield _FieldType(field.name, hints[field.name], field.init and not is_optional, plain, field.init)
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar):
            yield _FieldType(name, hint.type, not hasattr(origin, name), _plain(getattr(origin, name, UNSET)))


def _fields_of_typed_dict(kind: Any) -> Iterator[_FieldType]:
    required = (get_origin(kind) or kind).__required_keys__
    for name, hint in _hints(kind).items():
        wrapper = getattr(get_origin(hint), "_name", None)  # with postponed annotations only the hint says it
        is_required = wrapper == "Required" or (wrapper != "NotRequired" and name in required)
        yield _FieldType(name, hint, is_required)


def _fields_of_named_tuple(kind: Any) -> Iterator[_FieldType]:
    origin, hints = get_origin(kind) or kind, _hints(kind)
    for name in origin._fields:
        default = origin._field_defaults.get(name, UNSET)
        yield _FieldType(name, hints.get(name, Any), default is UNSET, _plain(default))


def _hints(kind: Any) -> dict[str, Any]:
    """The annotations of a class, with the types that a generic class was given."""
    origin = get_origin(kind) or kind
    try:
        hints = typing.get_type_hints(origin, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"unknown name in an annotation of `{name_of(kind)}` ({error}); define it at module level"
        ) from error
    given = dict(_type_arguments(kind))
    return {name: _with_types(hint, given) for name, hint in hints.items()} if given else hints


def _type_arguments(kind: Any) -> Iterator[tuple[Any, Any]]:
    """The type variables of a generic class and of its bases, with what they stand for."""
    origin = get_origin(kind) or kind
    given = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
    for base in getattr(origin, "__orig_bases__", ()):
        if get_origin(base) not in (None, typing.Generic, typing.Protocol):
            yield from _type_arguments(_with_types(base, given))
    yield from given.items()  # last: they win


def _with_types(hint: Any, given: dict[Any, Any]) -> Any:
    if hint in given:
        return given[hint]
    free = getattr(hint, "__parameters__", ())
    return hint[tuple(given.get(each, each) for each in free)] if free and get_origin(hint) else hint


def _mirror(kind: Any, fields: list[_FieldType], *, as_array: bool, closed: bool) -> Any:
    """A Struct with the fields of a class, under names that are always valid; their types are set later."""
    origin = get_origin(kind) or kind
    doc = origin.__dict__.get("__doc__") or ""
    is_generated = doc.startswith(f"{origin.__name__}(")  # by dataclass and NamedTuple
    return msgspec.defstruct(
        name_of(kind),
        [(f"f{i}", Any) if each.required else (f"f{i}", Any, UNSET) for i, each in enumerate(fields)],
        rename={f"f{i}": each.name for i, each in enumerate(fields)},
        array_like=as_array,
        kw_only=not as_array,
        forbid_unknown_fields=closed,
        module=origin.__module__,
        namespace={} if is_generated or not doc else {"__doc__": doc},
    )


def _wire_of_field(wire: Any, field: _FieldType) -> Any:
    extra: dict[str, Any] = {} if field.default is UNSET else {"default": field.default}
    if not field.passed:
        extra["readOnly"] = True
    if extra:
        wire = Annotated[wire, Meta(extra_json_schema=extra)]
    return wire if field.required else _union_of([wire, UnsetType])


def _union_of(kinds: list[Any]) -> Any:
    return Union[tuple(kinds)]  # noqa: UP007 - of types known at run time only


def _plain(default: Any) -> Any:
    """A default as plain data; UNSET: there is none, or JSON cannot express it."""
    try:
        return UNSET if default is UNSET else from_json(to_json(default))
    except NotJSON:
        return UNSET


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_known(kind: Any) -> bool:
    """Whether msgspec knows a type."""
    try:
        return not isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType)
    except TypeError:
        return False


def name_of(kind: Any) -> str:
    """The name of a type for messages and schemas, with its arguments."""
    if isinstance(kind, type) and not get_args(kind):
        return kind.__qualname__.rpartition("<locals>.")[2]
    return re.sub(r"\b(\w+\.|<locals>\.)+(?=\w)", "", str(kind))


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
