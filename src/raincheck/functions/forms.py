"""Forms: what JSON is decoded to first, and how that becomes the value that a function receives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Union, get_args

import msgspec

Build = Callable[[Any], Any]
"""Makes a value from what msgspec decoded. Raises `Misfit`."""

Path = tuple[str | int, ...]
"""Where something is inside a value: keys of objects and indexes of arrays."""


class Misfit(ValueError):
    """A value does not fit its type; ``faults`` say where and why."""

    def __init__(self, *faults: tuple[Path, str]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{why}, at {path_text(path)}" if path else why for path, why in faults))

    def inside(self, key: str | int) -> Misfit:
        """The same, of a value that contains this one under ``key``."""
        return Misfit(*(((key, *path), why) for path, why in self.faults))


def path_text(path: Path) -> str:
    """A path as JSONPath."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


class Form(NamedTuple):
    """The form of a type: msgspec decodes ``wire``, and ``build`` makes the value (None: it is the value).

    ``decoded`` is the class of what msgspec decodes, if there is only one. ``by_pydantic``: this is raw JSON,
    which pydantic validates.
    """

    wire: Any
    build: Build | None = None
    decoded: type | None = None
    by_pydantic: bool = False


ANYTHING = Form(Any)


def leaf(build: Build, what: str) -> Build:
    """``build``, which runs code that is not ours: whatever it raises is a misfit."""

    def checked(value: Any) -> Any:
        try:
            return build(value)
        except Misfit:
            raise
        except Exception as error:  # of the user
            speaks = isinstance(error, ValueError | TypeError | ArithmeticError)
            reason = str(error) if speaks else repr(error)  # a KeyError says the key alone
            raise Misfit(((), f"not a valid {what}: {reason[:300]}")) from error

    return checked


def inside(build: Build, value: Any, key: str | int) -> Any:
    """What is built from a value that is in another one, under ``key``."""
    try:
        return build(value)
    except Misfit as error:
        raise error.inside(key) from error.__cause__


def each(build: Build, items: Iterable[tuple[str | int, Any]]) -> Iterator[Any]:
    """What is built from each of ``items``: a key and a value."""
    for key, value in items:
        yield inside(build, value, key)


def build_array(of: type, build: Build) -> Build:
    """Builds an array of ``of``, a list or the like."""
    return lambda values: of(each(build, enumerate(values)))


def build_tuple(builds: tuple[Build | None, ...]) -> Build:
    """Builds a tuple, each item in its way."""
    return lambda values: tuple(
        value if build is None else inside(build, value, i)
        for i, (build, value) in enumerate(zip(builds, values, strict=True))
    )


def build_mapping(build_key: Build | None, build_value: Build | None) -> Build:
    """Builds a dict."""

    def build(values: dict[Any, Any]) -> dict[Any, Any]:
        built = {}
        for key, value in values.items():
            new_key = key if build_key is None else inside(build_key, key, str(key))
            built[new_key] = value if build_value is None else inside(build_value, value, str(key))
        return built

    return build


def build_one_of(builds: Mapping[type, Build]) -> Build:
    """Builds what a union may be, by the class of what was decoded."""

    def build(value: Any) -> Any:
        chosen = builds.get(type(value))
        return value if chosen is None else chosen(value)

    return build


class Field(NamedTuple):
    """A field of a class: its name, its form, and its ``key`` in JSON: the name, or the index in an array.

    A field that is not ``passed`` is accepted and ignored: the class computes it.
    """

    name: str
    key: str | int
    form: Form
    passed: bool = True


def build_object(fields: list[Field], make: Callable[..., Any]) -> Build:
    """Builds an object from the Struct that mirrors it: ``make`` gets the fields that were sent, by name."""
    UNSET = msgspec.UNSET  # noqa: N806 - it is a constant

    def build(mirror: Any) -> Any:
        given = {}
        for i, field in enumerate(fields):
            value = getattr(mirror, f"f{i}")
            if value is not UNSET and field.passed:
                build_field = field.form.build
                given[field.name] = value if build_field is None else inside(build_field, value, field.key)
        return make(given)

    return build


def build_fields(fields: list[Field]) -> Build | None:
    """Checks the fields of a Struct that mirrors an object, as far as decoding has not checked them."""
    checked = [(f"f{i}", field.key, field.form.build) for i, field in enumerate(fields) if field.form.build]
    if not checked:
        return None

    def build(mirror: Any) -> Any:
        for attribute, key, build_field in checked:
            value = getattr(mirror, attribute)
            if value is not msgspec.UNSET:
                inside(build_field, value, key)
        return mirror

    return build


def union_of(kinds: list[Any]) -> Any:
    """A union of types that are known at run time only."""
    return Union[tuple(kinds)]  # noqa: UP007 - of types known at run time only


def name_of(kind: Any) -> str:
    """The name of a type for messages and schemas, with its arguments."""
    if isinstance(kind, type) and not get_args(kind):
        return kind.__qualname__.rpartition("<locals>.")[2]
    return re.sub(r"\b(\w+\.|<locals>\.)+(?=\w)", "", str(kind))
