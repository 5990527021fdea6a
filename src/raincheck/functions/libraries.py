"""The forms of types that msgspec does not know: paths, subclasses, and types of pydantic, numpy and pandas.

No library is imported here: an annotation with one of its types exists only if the program has imported it.
How the values are written is in `raincheck.core.libraries`.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw

from raincheck.core.codec import from_json
from raincheck.functions.forms import Build, Form, Misfit, Path, leaf

Purpose = Literal["argument", "result", "check"]
"""What a form is for: to read arguments, to read a result, or to check a result without making it again."""

DATETIME = Annotated[datetime, Meta(extra_json_schema={"format": "date-time"})]
"""A datetime with the format that msgspec gives only to those with a zone."""

_PATH = Annotated[str, Meta(extra_json_schema={"format": "path"})]
_ARRAY = Annotated[list[Any], Meta(extra_json_schema={"items": {}})]

_SCALARS: dict[str, Any] = {
    "b": bool, "i": int, "u": int, "f": float, "U": str, "M": DATETIME, "m": timedelta,
}  # fmt: skip
"""By kind of a numpy dtype: the type that is sent for a scalar."""
_SENT: dict[str, str] = {"b": "b", "i": "iu", "u": "iu", "f": "fiu", "U": "U", "S": "U", "M": "U", "m": "i"}
"""By kind of a numpy dtype: the kinds of values that are sent for it."""

_ABSTRACT = {
    "integer": "int64", "signedinteger": "int64", "unsignedinteger": "uint64",
    "floating": "float64", "inexact": "float64",
}  # fmt: skip

INSTEAD: dict[str, str] = {
    "complex": "a pair of floats",
    "re.Pattern": "str, and compile it in the function",
    "collections.abc.Callable": "the name of a function, as str",
    "collections.abc.Iterator": "list",
    "collections.abc.Generator": "list, and return all values at once",
    "collections.abc.AsyncIterator": "list, and return all values at once",
    "collections.abc.AsyncGenerator": "list, and return all values at once",
    "typing.IO": "pathlib.Path or bytes",
    "typing.TextIO": "pathlib.Path or str",
    "typing.BinaryIO": "pathlib.Path or bytes",
    "fractions.Fraction": "decimal.Decimal",
    "ipaddress.IPv4Address": "str",
    "ipaddress.IPv6Address": "str",
    "range": "list[int]",
    "types.SimpleNamespace": "dict or a dataclass",
    "polars.dataframe.frame.DataFrame": "list[dict[str, Any]]",
}
"""What to write instead of a type that has no form in JSON, by its name."""


def known_form(kind: Any, origin: type, purpose: Purpose) -> Form | None:
    """The form of a class that msgspec does not know; None: raincheck does not know it either."""
    if issubclass(origin, PurePath):
        return Form(_PATH, leaf(origin, "path"), str)
    form = _of_numpy(kind, origin) or _of_pandas(origin)
    if form is None and not issubclass(origin, Enum):
        base = next((base for base in (str, int, float) if issubclass(origin, base)), None)
        form = base and Form(base, leaf(origin, origin.__qualname__), base)
    if form is None or purpose != "check":
        return form
    return form._replace(build=None)


def _of_numpy(kind: Any, origin: type) -> Form | None:
    numpy = sys.modules.get("numpy")
    if numpy is None or not issubclass(origin, numpy.ndarray | numpy.generic):
        return None
    if issubclass(origin, numpy.ndarray):
        dtype = _dtype_in(kind, numpy)
        return Form(_ARRAY, leaf(lambda values: _array(values, dtype, numpy), "array"), list)
    dtype = _dtype_of(origin, numpy)
    if dtype is None or dtype.kind not in _SCALARS:
        raise TypeError(f"`{origin.__qualname__}` has no form in JSON")
    return Form(_SCALARS[dtype.kind], leaf(lambda value: dtype.type(_without_zone(value)), f"{dtype.name}"))


def _without_zone(value: Any) -> Any:
    """A datetime in UTC without its zone, for numpy, which has none; another value is unchanged."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        return value
    return value.astimezone(UTC).replace(tzinfo=None)


def _dtype_in(kind: Any, numpy: Any) -> Any:
    """The dtype in an annotation such as ``NDArray[numpy.float64]``; None: any."""
    for arg in typing.get_args(kind)[1:]:
        (scalar,) = typing.get_args(arg) or (None,)
        return None if scalar is None or not isinstance(scalar, type) else _dtype_of(scalar, numpy)
    return None


def _dtype_of(scalar: type, numpy: Any) -> Any:
    """The dtype of a scalar type, of an abstract one its default; None: of no type in particular."""
    if scalar in (numpy.generic, numpy.number):
        return None
    return numpy.dtype(_ABSTRACT.get(scalar.__name__, scalar))


def _array(values: list[Any], dtype: Any, numpy: Any) -> Any:
    """An array of JSON values. numpy alone would read numbers from text, and cut off fractions."""
    array = numpy.asarray(values)
    if dtype is None or array.size == 0 or dtype.kind == "O":
        return array if dtype is None else array.astype(dtype)
    if array.dtype.kind not in _SENT.get(dtype.kind, ""):
        raise ValueError(f"expected values of type {dtype.name}")
    return numpy.array(values, dtype=dtype)


def _of_pandas(origin: type) -> Form | None:
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None
    if issubclass(origin, pandas.DataFrame):
        return Form(list[dict[str, Any]], leaf(origin, "DataFrame"), list)
    if issubclass(origin, pandas.Series | pandas.Index):
        return Form(_ARRAY, leaf(origin, origin.__qualname__), list)
    if issubclass(origin, pandas.Timestamp):
        return Form(DATETIME, leaf(pandas.Timestamp, "Timestamp"), datetime)
    if issubclass(origin, pandas.Timedelta):
        return Form(timedelta, leaf(pandas.Timedelta, "Timedelta"), timedelta)
    return None


def is_of_pydantic(kind: Any, metadata: tuple[Any, ...] = ()) -> bool:
    """Whether pydantic validates this: a class that says so, or a type with metadata of pydantic."""
    if "pydantic" not in sys.modules:
        return False
    if any(type(each).__module__.partition(".")[0] == "pydantic" for each in metadata):
        return True
    return isinstance(kind, type) and (
        hasattr(kind, "__get_pydantic_core_schema__") or hasattr(kind, "__pydantic_validator__")
    )


def is_any_model(kind: Any) -> bool:
    """Whether this is ``BaseModel`` itself: any model, whose fields are unknown."""
    return kind is sys.modules["pydantic"].BaseModel


def pydantic_form(kind: Any, purpose: Purpose) -> Form:
    """The form of a type that pydantic validates. Raises `TypeError` if pydantic cannot."""
    adapter = pydantic_adapter(kind)
    mode: Any = "serialization" if purpose == "check" else "validation"
    wire = Annotated[Raw, Meta(extra_json_schema=_pydantic_schema(kind, adapter, mode))]
    if purpose == "check":  # what a model writes is not always what it reads
        return Form(wire, by_pydantic=True)
    build = leaf(lambda raw: _validated(adapter, bytes(raw), purpose), "value")
    return Form(wire, build, by_pydantic=True)


def pydantic_adapter(kind: Any) -> Any:
    """A TypeAdapter. Raises `TypeError` if pydantic does not know the type."""
    pydantic = sys.modules["pydantic"]
    if tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 12):
        raise TypeError(f"pydantic {pydantic.VERSION} is too old: install pydantic 2.12 or newer")
    try:
        return pydantic.TypeAdapter(kind)
    except (pydantic.errors.PydanticUserError, NameError, TypeError) as error:
        raise TypeError(str(error).partition("\n")[0]) from None


def dumped(adapter: Any, value: Any) -> Any:
    """A result as plain data, by the type of ``adapter``. Raises `Misfit` if it is not of this type."""
    core = sys.modules["pydantic_core"]
    try:
        return adapter.dump_python(
            adapter.validate_python(value), mode="json", by_alias=True, warnings="error"
        )
    except core.ValidationError as error:
        faults = error.errors(include_url=False)
        raise Misfit(*((each["loc"], each["msg"][:300]) for each in faults)) from None
    except core.PydanticSerializationError as error:
        raise Misfit(((), str(error)[:300])) from None


def _pydantic_schema(kind: Any, adapter: Any, mode: Any) -> dict[str, Any]:
    pydantic = sys.modules["pydantic"]
    base = sys.modules["pydantic.json_schema"].GenerateJsonSchema

    class Closed(base):  # type: ignore[misc,valid-type] # the class is known at run time only
        """The schemas of models that do not say whether they take unknown fields refuse them."""

        def model_schema(self, schema: Any) -> Any:
            made = super().model_schema(schema)
            if not schema.get("root_model") and schema["cls"].model_config.get("extra") is None:
                made.setdefault("additionalProperties", False)
            return made

    try:
        found: dict[str, Any] = adapter.json_schema(
            ref_template="#/$defs/{model}",
            mode=mode,
            schema_generator=Closed if mode == "validation" else base,
        )
    except pydantic.errors.PydanticInvalidForJsonSchema:
        return {}  # a model may have fields that only its own validators make
    if "properties" in found and isinstance(kind, type):  # a model: referred to by its name, as others are
        definitions = found.pop("$defs", {})
        found = {"$ref": f"#/$defs/{kind.__name__}", "$defs": {**definitions, kind.__name__: found}}
    return found


def _validated(adapter: Any, raw: bytes, purpose: Purpose) -> Any:
    """What pydantic makes of JSON; for arguments, without unknown fields of models that do not say so."""
    error_type = sys.modules["pydantic"].ValidationError
    unknown: list[Path] = []
    try:
        if purpose == "result":
            return adapter.validate_json(raw)
        try:
            return adapter.validate_json(raw, extra="forbid")
        except error_type:
            value = adapter.validate_json(raw)  # the rules of the models themselves
            unknown = [*_unknown_fields(from_json(raw), value, ())]
    except error_type as error:
        plain = from_json(raw)
        raise Misfit(*(_pydantic_fault(each, plain) for each in error.errors(include_url=False))) from None
    if unknown:
        raise Misfit(*((path, f"object contains unknown field `{path[-1]}`") for path in unknown))
    return value


def _pydantic_fault(error: Any, plain: Any) -> tuple[Path, str]:
    """The place and the message of an error. pydantic also names members of unions, and missing fields."""
    path: list[str | int] = []
    missing = ""
    for part in error["loc"]:
        keys: Any = plain if isinstance(plain, dict) else range(len(plain)) if isinstance(plain, list) else ()
        if part in keys:
            path.append(part)
            plain = plain[part]
        elif error["type"] == "missing":
            missing = f" `{part}`"
    return (*path,), f"{error['msg'][:300]}{missing}"


def _unknown_fields(plain: Any, value: Any, path: Path) -> Iterator[Path]:
    """The fields in JSON that a model did not take, of models that do not say what to do with them."""
    if isinstance(value, list | tuple) and isinstance(plain, list):
        for i, (each, built) in enumerate(zip(plain, value, strict=False)):
            yield from _unknown_fields(each, built, (*path, i))
    elif isinstance(value, dict) and isinstance(plain, dict):
        for key in plain.keys() & value.keys():
            yield from _unknown_fields(plain[key], value[key], (*path, key))
    elif isinstance(plain, dict) and isinstance(value, sys.modules["pydantic"].BaseModel):
        own = type(value).model_fields
        fields = {alias: name for name, field in own.items() for alias in _names(name, field)}
        for key, each in plain.items():
            if key in fields:
                yield from _unknown_fields(each, getattr(value, fields[key], None), (*path, key))
            elif type(value).model_config.get("extra") is None:
                yield *path, key


def _names(name: str, field: Any) -> Iterator[str]:
    """The names under which JSON can have a field of a model."""
    yield name
    for alias in (field.alias, field.validation_alias):
        for choice in getattr(alias, "choices", [alias]):
            first = choice.path[0] if hasattr(choice, "path") else choice
            if isinstance(first, str):
                yield first


def constraints(metadata: tuple[Any, ...]) -> tuple[list[Meta], list[Build]]:
    """What metadata of ``Annotated`` says, for msgspec, and the checks that msgspec does not know.

    Understands msgspec's `Meta`, annotated-types and ``Doc``; other metadata is not about values. Raises
    `TypeError` for metadata of annotated-types that cannot be checked.
    """
    metas: list[Meta] = []
    checks: list[Build] = []
    for each in metadata:
        name = type(each).__name__
        if isinstance(each, Meta):
            metas.append(each)
        elif type(each).__module__.partition(".")[0] == "annotated_types":
            if name == "Predicate":
                checks.append(_predicate(each.func))
            elif name not in ("DocInfo", "Unit"):
                metas += _metas(each, name)
        elif name == "Doc" and isinstance(getattr(each, "documentation", None), str):
            metas.append(Meta(description=each.documentation))
    return metas, checks


def _metas(constraint: Any, name: str) -> Iterator[Meta]:
    keys = {
        "Gt": "gt", "Ge": "ge", "Lt": "lt", "Le": "le", "MultipleOf": "multiple_of",
        "MinLen": "min_length", "MaxLen": "max_length",
    }  # fmt: skip
    if name in ("Interval", "Len"):
        for part in constraint:
            yield from _metas(part, type(part).__name__)
    elif name == "Timezone" and constraint.tz in (None, ...):
        yield Meta(tz=constraint.tz is ...)
    elif name in keys:
        yield Meta(**{keys[name]: getattr(constraint, keys[name])})
    else:
        raise TypeError(f"annotated_types.{name} cannot be checked: check it in the function")


def _predicate(holds: Any) -> Build:
    def check(value: Any) -> Any:
        if not holds(value):
            raise Misfit(((), f"does not satisfy {getattr(holds, '__qualname__', holds)}"))
        return value

    return leaf(check, "value")
