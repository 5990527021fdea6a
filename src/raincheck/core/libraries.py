"""How values are written that msgspec does not know: paths, subclasses, those of pydantic, numpy and pandas.

No library is imported here: a value of one exists only if the program has imported it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, KeysView, ValuesView
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID  # noqa: TID251 - the type alone

Encode = Callable[[Any], Any]
"""Turns a value of a user's own type into one that raincheck can write, or raises `NotImplementedError`."""

Writer = Callable[[Any], bytes]
"""Writes a value as JSON."""


def plain(value: Any, *, argument: bool = False) -> Any:
    """A value that msgspec cannot write, as one that it can. Raises `NotImplementedError` for other types.

    ``argument``: the value is validated again, so that pydantic leaves out what it computes.
    """
    if isinstance(value, PurePath | UUID):
        return str(value)
    if isinstance(value, deque | KeysView | ValuesView):
        return list(value)
    for convert in (_of_pydantic, _of_numpy, _of_pandas):
        found = convert(value, argument)
        if found is not NotImplemented:
            return found
    for base, convert_base in _BASES:
        if isinstance(value, base):
            return convert_base(value)
    raise NotImplementedError


def _of_pydantic(value: Any, argument: bool) -> Any:
    if not hasattr(type(value), "__get_pydantic_core_schema__"):
        return NotImplemented
    pydantic, pydantic_core = sys.modules.get("pydantic"), sys.modules.get("pydantic_core")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", by_alias=True, round_trip=argument)
    return NotImplemented if pydantic_core is None else pydantic_core.to_jsonable_python(value)


def _of_numpy(value: Any, argument: bool) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic | numpy.ndarray):
        return NotImplemented
    if value.dtype.kind == "M":
        value = value.astype("datetime64[us]")  # finer ones become integers
    elif value.dtype.kind == "m":
        value = value.astype("timedelta64[us]")
    return value.tolist()


def _of_pandas(value: Any, argument: bool) -> Any:
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return NotImplemented
    if isinstance(value, pandas.DataFrame):
        if not value.columns.is_unique:
            raise TypeError("two columns of a DataFrame have the same name")
        return _without_missing(value).to_dict("records")
    if isinstance(value, pandas.Index):
        value = value.to_series()
    return _without_missing(value).tolist() if isinstance(value, pandas.Series) else NotImplemented


def _without_missing(data: Any) -> Any:
    """A DataFrame or Series with None for NaN, NaT and NA."""
    return data.astype(object).where(data.notna(), None)


_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (Decimal, str),
    (datetime, lambda value: datetime.combine(value.date(), value.timetz())),
    (date, lambda value: date(value.year, value.month, value.day)),
    (time, lambda value: time.fromisoformat(value.isoformat())),
    (timedelta, lambda value: timedelta(value.days, value.seconds, value.microseconds)),
)
"""Subclasses are written as their base class is."""
