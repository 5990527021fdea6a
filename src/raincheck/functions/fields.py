"""The fields of classes: of dataclasses, `TypedDict`s and named tuples, and the Structs that mirror them."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, UnsetType

from raincheck.core.codec import from_json, to_json
from raincheck.core.errors import NotJSON
from raincheck.functions import forms


class FieldType(typing.NamedTuple):
    """A field of a class. One that is not ``passed`` is computed by the class: it is accepted and ignored."""

    name: str
    kind: Any
    required: bool
    default: Any = UNSET
    passed: bool = True


def of_dataclass(kind: Any) -> Iterator[FieldType]:
    origin, hints = get_origin(kind) or kind, _hints(kind)
    for field in dataclasses.fields(origin):
        default = field.default
        if field.default_factory in (list, dict):
            default = field.default_factory()
        is_optional = default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        plain = UNSET if default is dataclasses.MISSING else _plain(default)
        yield FieldType(field.name, hints[field.name], field.init and not is_optional, plain, field.init)
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar):
            yield FieldType(name, hint.type, not hasattr(origin, name), _plain(getattr(origin, name, UNSET)))


def of_typed_dict(kind: Any) -> Iterator[FieldType]:
    required = (get_origin(kind) or kind).__required_keys__
    for name, hint in _hints(kind).items():
        wrapper = getattr(get_origin(hint), "_name", None)  # with postponed annotations only the hint says it
        is_required = wrapper == "Required" or (wrapper != "NotRequired" and name in required)
        yield FieldType(name, hint, is_required)


def of_named_tuple(kind: Any) -> Iterator[FieldType]:
    origin, hints = get_origin(kind) or kind, _hints(kind)
    for name in origin._fields:
        default = origin._field_defaults.get(name, UNSET)
        yield FieldType(name, hints.get(name, Any), default is UNSET, _plain(default))


def _hints(kind: Any) -> dict[str, Any]:
    """The annotations of a class, with the types that a generic class was given."""
    origin = get_origin(kind) or kind
    try:
        hints = typing.get_type_hints(origin, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"unknown name in an annotation of `{forms.name_of(kind)}` ({error}); define it at module level"
        ) from error
    given = dict(_type_arguments(kind))
    return {name: with_types(hint, given) for name, hint in hints.items()} if given else hints


def _type_arguments(kind: Any) -> Iterator[tuple[Any, Any]]:
    """The type variables of a generic class and of its bases, with what they stand for."""
    origin = get_origin(kind) or kind
    given = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
    for base in getattr(origin, "__orig_bases__", ()):
        if get_origin(base) not in (None, typing.Generic, typing.Protocol):
            yield from _type_arguments(with_types(base, given))
    yield from given.items()  # last: they win


def with_types(hint: Any, given: dict[Any, Any]) -> Any:
    """A type, with what its type variables stand for."""
    if isinstance(hint, typing.TypeVar):
        return given.get(hint, hint)
    free = getattr(hint, "__parameters__", ())
    return hint[tuple(given.get(each, each) for each in free)] if free and get_origin(hint) else hint


def mirror(kind: Any, fields: list[FieldType], *, as_array: bool, closed: bool) -> Any:
    """A Struct with the fields of a class, under names that are always valid; their types are set later."""
    origin = get_origin(kind) or kind
    doc = origin.__dict__.get("__doc__") or ""
    is_generated = doc.startswith(f"{origin.__name__}(")  # by dataclass and NamedTuple
    return msgspec.defstruct(
        forms.name_of(kind),
        [(f"f{i}", Any) if each.required else (f"f{i}", Any, UNSET) for i, each in enumerate(fields)],
        rename={f"f{i}": each.name for i, each in enumerate(fields)},
        array_like=as_array,
        kw_only=not as_array,
        forbid_unknown_fields=closed,
        module=origin.__module__,
        namespace={} if is_generated or not doc else {"__doc__": doc},
    )


def wire_of(wire: Any, field: FieldType) -> Any:
    extra: dict[str, Any] = {} if field.default is UNSET else {"default": field.default}
    if not field.passed:
        extra["readOnly"] = True
    if extra:
        wire = Annotated[wire, Meta(extra_json_schema=extra)]
    return wire if field.required else forms.union_of([wire, UnsetType])


def _plain(default: Any) -> Any:
    """A default as plain data; UNSET: there is none, or JSON cannot express it."""
    try:
        return UNSET if default is UNSET else from_json(to_json(default))
    except NotJSON:
        return UNSET
