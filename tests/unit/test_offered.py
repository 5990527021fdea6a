"""Arguments that are checked by the registered schemas of a function, without its code."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import annotated_types
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from raincheck.core.codec import to_json
from raincheck.core.errors import InvalidArguments
from raincheck.core.model import FunctionInfo, State
from raincheck.functions.context import Progress
from raincheck.functions.offered import OfferedFunctions
from raincheck.functions.registry import Function
from raincheck.functions.signature import Pointers
from tests.server.conftest import City

AT = Pointers("", "/args", "/kwargs")


@dataclass
class Town:
    name: str
    zip: int = 0
    country: str = field(init=False)


class Place(TypedDict, total=False):
    name: str
    country: str | None


class Pair(NamedTuple):
    first: int
    second: str = ""


def plain(a: int, b: str = "", *, c: float | None = None) -> None: ...
def nested(city: City, others: dict[str, list[City]], kind: Literal["x", "y"] = "x") -> None: ...
def rest(a: int, *numbers: int, **more: bool) -> None: ...
def by_position(a: int, b: int = 0, /, c: int = 0) -> None: ...
def by_name(*, a: int, b: list[int] = []) -> None: ...  # noqa: B006 - it is never called
def by_date(day: date) -> None: ...
def nothing() -> None: ...
def anything(value: object, other: Any = None) -> None: ...
def sets(some: set[int], pair: tuple[int, str], counts: dict[int, str] | None = None) -> None: ...


FUNCTIONS = (plain, nested, rest, by_position, by_name, nothing, anything, sets)

TEXTS = ("", "x", "2026-01-02", "2026-01-02T03:04:05Z", "PT1S", "1.5", "YQ==", str(UUID(int=1)))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.5, 1.0, 1e300]), st.sampled_from(TEXTS)
)
CITIES = st.fixed_dictionaries({"name": SCALARS}, optional={"country": SCALARS, "zip": SCALARS})
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    CITIES,
    st.dictionaries(
        st.sampled_from(["1", "x"]), st.one_of(SCALARS, st.lists(CITIES, max_size=2)), max_size=2
    ),
)
KINDS = [
    *(bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal, UUID, State, City, Progress),
    *(
        list[date],
        set[int],
        frozenset[str],
        tuple[int, str],
        tuple[int, ...],
        dict[int, str],
        dict[str, Decimal],
    ),
    *(int | None, int | str, date | None, list[City] | City | None, Literal["x", 1], Any, object),
    *(Path, str | Path, Town, Town | None, Place, Pair, deque[int], Counter[str], np.float64, np.ndarray),
    *(npt.NDArray[np.int64], Annotated[int, annotated_types.Ge(1)]),
    Annotated[int, Meta(ge=1)],
    Annotated[str, Meta(max_length=3, pattern="^x*$")],
    Annotated[list[int], Meta(min_length=1)],
    Annotated[float, Meta(gt=0, multiple_of=0.5)],
]
NAMES = st.sampled_from(["a", "b", "c", "city", "others", "kind", "day", "value", "some", "pair", "zz"])


def offering(*functions: Callable[..., Any]) -> OfferedFunctions:
    """What a server knows of functions that a worker has registered."""
    offered = OfferedFunctions()
    offered.update(Function(function, function.__name__).info for function in functions)
    return offered


@pytest.mark.generated
@given(
    function=st.sampled_from(FUNCTIONS),
    args=st.lists(VALUES, max_size=7),
    kwargs=st.dictionaries(NAMES, VALUES, max_size=4),
)
def test_what_the_function_accepts_fits(
    function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> None:
    """A server without the code refuses nothing that one with the code accepts."""
    assert_fits(function, args, kwargs)


def assert_fits(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
    """No fault is found in arguments that the function accepts."""
    signature = Function(function, "f").signature
    try:
        signature.check(to_json(args), to_json(kwargs), AT)
    except InvalidArguments:
        return
    assert offering(function).faults(function.__name__, to_json(args), to_json(kwargs), AT) == []


@pytest.mark.generated
@given(kind=st.sampled_from(KINDS), value=VALUES)
def test_what_a_type_accepts_fits(kind: Any, value: Any) -> None:
    """Of each type, also where JSON has several forms for its values."""

    def function(value: Any) -> None: ...

    function.__annotations__["value"] = kind
    assert_fits(function, [value], {})


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, ["x"], {}),
        (plain, [1, 2], {}),
        (plain, [1], {"c": "x"}),
        (plain, [], {"b": "x"}),
        (plain, [1, "x", 2], {}),
        (plain, [1], {"d": 1}),
        (nested, [{"name": "Rome", "zip": 1}, {}], {}),
        (nested, [{"name": "Rome"}, {}, "z"], {}),
        (rest, [1, 2, "x"], {}),
        (rest, [1], {"m": 2}),
        (rest, [], {"m": True}),
        (by_position, [], {"c": 1}),
        (by_name, [], {}),
        (nothing, [1], {}),
        (nothing, [], {"x": 1}),
        (sets, [[1], [1, 2]], {}),
    ],
)
def test_what_does_not_fit_has_the_pointers_of_the_function(
    function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> None:
    """So a client sees the same, whichever server it asks."""
    with pytest.raises(InvalidArguments) as raised:
        Function(function, "f").signature.check(to_json(args), to_json(kwargs), AT)
    faults = offering(function).faults(function.__name__, to_json(args), to_json(kwargs), AT)
    assert {pointer for _, pointer in faults} == {pointer for _, pointer in raised.value.faults}


def test_a_version_of_two_is_enough() -> None:
    """While workers are updated, both versions of a function run."""
    offered = OfferedFunctions()
    old = Function(lambda a: None, "f").info
    new = Function(by_date, "f").info
    offered.update([old, new, old])
    assert offered.faults("f", b"[1]", b"{}", AT) == []
    assert offered.faults("f", b"[]", b'{"day":"2026-01-02"}', AT) == []
    assert offered.faults("f", b"[]", b'{"day":3}', AT) != []
    offered.update([new])
    assert offered.faults("f", b"[1]", b"{}", AT) != []
    offered.update([])
    assert offered.faults("f", b"[1]", b"{}", AT) == []


@pytest.mark.parametrize(
    "schema",
    [{"items": 3}, {"$ref": "http://127.0.0.1:9/schema"}, {"$ref": "file:///etc/passwd"}],
    ids=["invalid", "remote", "file"],
)
def test_a_schema_that_cannot_be_used_refuses_nothing(
    schema: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and nothing is fetched."""
    offered = OfferedFunctions()
    offered.update([FunctionInfo(name="f", positional=schema)])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert offered.faults("f", b"[1]", b"{}", AT) == []
    (record,) = caplog.records
    assert record.getMessage().startswith("f: arguments are not checked, its schema cannot be used: ")


def test_faults_do_not_repeat_long_input() -> None:
    """Nor are there more of them than an error lists."""
    long = "x" * 100_000
    faults = offering(rest).faults("rest", to_json([1, *[long] * 1000]), to_json({long: 1}), AT)
    assert len(faults) == 50
    assert sum(len(detail) + len(pointer) for detail, pointer in faults) < 20_000


@pytest.mark.parametrize(
    ("info", "args", "kwargs", "expected"),
    [
        (FunctionInfo(name="f", positional={"maxItems": 1}), b"[1, 2]", b"{}", ["/args"]),
        (FunctionInfo(name="f", positional={"contains": {"type": "null"}}), b"[1]", b"{}", ["/args"]),
        (FunctionInfo(name="f", parameters={"properties": {"a": {}}, "minProperties": 2}), b"[1]", b"{}", []),
    ],
    ids=["too many", "none of a kind", "a part of all"],
)
def test_a_schema_of_all_arguments_together(
    info: FunctionInfo, args: bytes, kwargs: bytes, expected: list[str]
) -> None:
    """A fault of all arguments by position points at all of them; those by name can be passed by position."""
    offered = OfferedFunctions()
    offered.update([info])
    assert [fault.pointer for fault in offered.faults("f", args, kwargs, AT)] == expected
