"""A function's signature as its contract."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from raincheck.core.errors import MAX_FAULTS, Fault, InvalidArguments, RegistrationError
from raincheck.core.model import Job, Step
from raincheck.functions.context import Context
from raincheck.functions.signature import Pointers, Signature, escape, fault_of

CONTEXT = Context(Job("id", "name", (Step("f", 0),)), 0, b"null")


Moment = Annotated[datetime, Meta(tz=True)]


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclass
class Line:
    points: list[Point]


class Options(TypedDict, total=False):
    colour: Literal["red", "blue"]


class Ring(msgspec.Struct):
    next: Ring | None = None


def nothing() -> None: ...
def one(a: int) -> None: ...
def two(a: int, b: str = "b") -> None: ...
def only_position(a: int, b: int = 2, /) -> None: ...
def only_name(*, a: int, b: int = 2) -> None: ...
def numbers(*values: int) -> None: ...
def extras(a: int, /, **others: float) -> None: ...
def everything(a: int, /, b: str, *rest: int, c: bool = False, **others: float | None) -> None: ...
def bare(a, b=1): ...  # type: ignore[no-untyped-def]
def shapes(line: Line, point: Point | None = None, options: Options = {}) -> None: ...  # noqa: B006
def when(at: Moment, share: Annotated[float, Meta(ge=0, le=1)] = 0.5) -> None: ...
def anything(value: object) -> object: ...
def rings(ring: Ring) -> Ring | None: ...


class TestBind:
    """Arguments from JSON."""

    @pytest.mark.parametrize(
        ("function", "args", "kwargs", "expected"),
        [
            (nothing, "[]", "{}", ([], {})),
            (two, "[1]", "{}", ([1], {})),
            (two, "[1]", '{"b":"x"}', ([1], {"b": "x"})),
            (two, "[]", '{"b":"x","a":1}', ([], {"b": "x", "a": 1})),
            (only_position, "[1,3]", "{}", ([1, 3], {})),
            (only_name, "[]", '{"a":1}', ([], {"a": 1})),
            (numbers, "[]", "{}", ([], {})),
            (numbers, "[1,2,3]", "{}", ([1, 2, 3], {})),
            (extras, "[1]", '{"x":1.5,"a":2}', ([1], {"x": 1.5, "a": 2.0})),
            (
                everything,
                '[1,"b",2,3]',
                '{"c":true,"x":null}',
                ([1, "b", 2, 3], {"c": True, "x": None}),
            ),
            (bare, '[{"x":[1]}]', "{}", ([{"x": [1]}], {})),
            (anything, "[[null]]", "{}", ([[None]], {})),
            (shapes, '[{"points":[{"x":1},{"x":2,"y":3}]}]', "{}", ([Line([Point(1), Point(2, 3)])], {})),
            (
                shapes,
                '[{"points":[]},null]',
                '{"options":{"colour":"red"}}',
                ([Line([]), None], {"options": {"colour": "red"}}),
            ),
            (
                when,
                '["2026-01-02T03:04:05Z",1]',
                "{}",
                ([datetime.fromisoformat("2026-01-02T03:04:05Z"), 1.0], {}),
            ),
            (rings, '[{"next":{"next":null}}]', "{}", ([Ring(Ring())], {})),
        ],
    )
    def test_what_fits_becomes_python_values(
        self, function: Callable[..., Any], args: str, kwargs: str, expected: tuple[list[Any], dict[str, Any]]
    ) -> None:
        """By position and by name, of whatever type the annotation says."""
        signature = Signature(function)
        signature.check(args.encode(), kwargs.encode())
        assert signature.bind(args.encode(), kwargs.encode()) == expected

    @pytest.mark.parametrize(
        ("function", "args", "kwargs", "faults"),
        [
            (one, "[]", "{}", [("argument 'a' is missing", "")]),
            (one, '["x"]', "{}", [("argument 'a': expected `int`, got `str`", "/args/0")]),
            (one, "[]", '{"a":null}', [("argument 'a': expected `int`, got `null`", "/kwargs/a")]),
            (one, "[1,2]", "{}", [("takes at most 1 argument by position, got 2", "/args")]),
            (nothing, "[1]", "{}", [("takes at most 0 arguments by position, got 1", "/args")]),
            (one, "[1]", '{"a":1}', [("argument 'a' is given twice, by position and by name", "/kwargs/a")]),
            (one, "[1]", '{"b":1}', [("has no argument named 'b'; by name it takes: a", "/kwargs/b")]),
            (
                one,
                "[]",
                '{"a/b~":1}',
                [
                    ("has no argument named 'a/b~'; by name it takes: a", "/kwargs/a~1b~0"),
                    ("argument 'a' is missing", ""),
                ],
            ),
            (
                only_position,
                "[]",
                '{"a":1}',
                [
                    ("has no argument named 'a'; by name it takes: none", "/kwargs/a"),
                    ("argument 'a' is missing", ""),
                ],
            ),
            (only_name, "[1]", '{"a":1}', [("takes at most 0 arguments by position, got 1", "/args")]),
            (numbers, '[1,"2",3,4.5]', "{}", [
                ("argument 'values': expected `int`, got `str`", "/args/1"),
                ("argument 'values': expected `int`, got `float`", "/args/3"),
            ]),
            (extras, "[]", '{"a":1}', [("argument 'a' is missing", "")]),
            (extras, "[1]", '{"x":"y"}', [("argument 'others': expected `float`, got `str`", "/kwargs/x")]),
            (
                shapes,
                '[{"points":[{"x":1},{"x":"2"}]}]',
                "{}",
                [("argument 'line': expected `int`, got `str`", "/args/0/points/1/x")],
            ),
            (shapes, '[{}]', "{}", [("argument 'line': object missing required field `points`", "/args/0")]),
            (
                shapes,
                '[{"points":[]}]',
                '{"options":{"colour":"green"}}',
                [("argument 'options': invalid enum value 'green'", "/kwargs/options/colour")],
            ),
            (when, '["yesterday"]', "{}", [("argument 'at': invalid RFC3339 encoded datetime", "/args/0")]),
            (
                when,
                '["2026-01-02T03:04:05Z",1.5]',
                "{}",
                [("argument 'share': expected `float` <= 1.0", "/args/1")],
            ),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_told_with_its_place(
        self, function: Callable[..., Any], args: str, kwargs: str, faults: list[tuple[str, str]]
    ) -> None:
        """Every fault, each with a pointer below where the arguments are."""
        pointers = ("/functions/2", "/functions/2/args", "/functions/2/kwargs")
        with pytest.raises(InvalidArguments) as caught:
            Signature(function).check(args.encode(), kwargs.encode(), Pointers(*pointers))
        assert caught.value.faults == tuple(Fault(detail, "/functions/2" + at) for detail, at in faults)

    @pytest.mark.parametrize("raw", [b"[1e999]", b'["\xff"]'])
    def test_what_is_no_value_at_all_does_not_fit(self, raw: bytes) -> None:
        """Numbers beyond all bounds and broken text are faults, not crashes."""
        with pytest.raises(InvalidArguments):
            Signature(anything).bind(raw, b"{}")

    def test_what_was_sent_is_not_repeated_at_length(self) -> None:
        """An answer is not much longer than what it answers."""
        kwargs = json.dumps({"x" * 5000 + str(i): 1 for i in range(200)}).encode()
        with pytest.raises(InvalidArguments) as caught:
            Signature(one).bind(b"[1]", kwargs)
        assert len(caught.value.faults) == MAX_FAULTS
        assert len(str(caught.value)) < 300 * MAX_FAULTS
        with pytest.raises(InvalidArguments) as caught:
            Signature(shapes).bind(b'[{"points":[]}]', b'{"options":{"colour":"%s"}}' % (b"x" * 5000))
        assert len(str(caught.value)) < 500


def first(ctx: Context, a: int, *rest: int) -> None: ...
def middle(a: int, context: Context, b: int = 0) -> None: ...
def named(a: int, *, ctx: Context) -> None: ...
def unannotated(ctx, a=0): ...  # type: ignore[no-untyped-def]
def alone(ctx: Context, /) -> None: ...
def open_to_all(a: int, *, ctx: Context, **others: int) -> None: ...
def mistaken(ctx: int) -> None: ...
def gathered(*ctx): ...  # type: ignore[no-untyped-def]


class TestContext:
    """The parameter that callers do not see."""

    @pytest.mark.parametrize(
        ("function", "args", "kwargs", "expected"),
        [
            (first, "[1,2,3]", "{}", ([CONTEXT, 1, 2, 3], {})),
            (first, "[]", '{"a":1}', ([CONTEXT], {"a": 1})),
            (middle, "[1,2]", "{}", ([1, CONTEXT, 2], {})),
            (middle, "[1]", "{}", ([1, CONTEXT], {})),
            (middle, "[]", '{"a":1}', ([], {"a": 1, "context": CONTEXT})),
            (named, "[1]", "{}", ([1], {"ctx": CONTEXT})),
            (unannotated, "[]", "{}", ([CONTEXT], {})),
            (alone, "[]", "{}", ([CONTEXT], {})),
            (mistaken, "[1]", "{}", ([1], {})),
        ],
    )
    def test_it_is_put_where_the_function_wants_it(
        self, function: Callable[..., Any], args: str, kwargs: str, expected: tuple[list[Any], dict[str, Any]]
    ) -> None:
        """So that calling the function just works."""
        given = {"ctx": CONTEXT, "context": CONTEXT}
        bound = Signature(function).bind(args.encode(), kwargs.encode(), given=given)
        assert bound == expected
        function(*bound[0], **bound[1])

    @pytest.mark.parametrize("function", [first, named, open_to_all])
    def test_callers_cannot_give_it(self, function: Callable[..., Any]) -> None:
        """It is no argument, not even of a function that takes any."""
        with pytest.raises(InvalidArguments, match="has no argument named 'ctx'"):
            Signature(function).bind(b"[1]", b'{"ctx":1}')

    @pytest.mark.parametrize(
        ("function", "name"), [(first, "ctx"), (middle, "context"), (mistaken, None), (gathered, None)]
    )
    def test_it_is_found_by_its_type_or_name(self, function: Callable[..., Any], name: str | None) -> None:
        """Another type makes it an argument like any other."""
        assert Signature(function).context == name


class TestRegistration:
    """Functions that cannot be called over JSON."""

    @pytest.mark.parametrize("kind", [Path.glob, re.Pattern, complex, Callable[[], None], list[Context]])
    def test_a_type_that_json_cannot_carry_is_refused(self, kind: Any) -> None:
        """The message says which function, argument and type."""

        def function(right: int, wrong: Any) -> None: ...

        function.__annotations__["wrong"] = kind
        with pytest.raises(
            RegistrationError, match=r"function: the type of argument 'wrong' cannot be decoded from JSON: .+"
        ):
            Signature(function)

    @pytest.mark.parametrize("annotation", ["Unknown", "datetime.nothing", "1 +", "int[str]"])
    def test_an_annotation_that_cannot_be_read_is_refused(self, annotation: str) -> None:
        """As one that is imported for type checkers only."""

        def function(a: int) -> None: ...

        function.__annotations__["a"] = annotation
        with pytest.raises(RegistrationError, match=r"function: (unknown name|the signature cannot)"):
            Signature(function)

    def test_what_has_no_signature_is_refused(self) -> None:
        """Some built-in functions tell nothing of their parameters."""
        with pytest.raises(RegistrationError, match="the signature cannot be read"):
            Signature(iter)


FUNCTIONS = (
    nothing, one, two, only_position, only_name, numbers, extras, everything, bare, shapes, when, anything,
    rings, first, middle, named, open_to_all,
)  # fmt: skip
each_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)

values = st.one_of(
    st.sampled_from([None, True, 1, -1, 0.5, 1.5, "b", "red", "2026-01-02T03:04:05Z", [], [1], {}]),
    st.sampled_from([{"x": 1}, {"points": []}, {"points": [{"x": 1}]}, {"points": [{}]}, {"colour": "red"}]),
    st.sampled_from([{"colour": "green"}, {"next": {"next": None}}, {"next": {"next": 1}}]),
)
keys = st.sampled_from(["a", "b", "c", "line", "point", "options", "at", "share", "value", "ring", "context"])


class TestSchemas:
    """What callers are told of a function."""

    @each_function
    def test_they_are_json_schemas(self, function: Callable[..., Any]) -> None:
        """Of 2020-12, with every reference in them leading somewhere."""
        for schema in Signature(function).schemas():
            jsonschema_rs.Draft202012Validator(schema)
            assert jsonschema_rs.meta.is_valid(
                {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
            )
            references = set(re.findall(r'"\$ref": ?"#/\$defs/([^"]+)"', json.dumps(schema)))
            assert references <= schema.get("$defs", {}).keys()

    @each_function
    @settings(max_examples=25)
    @given(st.lists(values, max_size=4))
    def test_by_position_they_accept_what_binds(self, function: Callable[..., Any], args: list[Any]) -> None:
        """And nothing else."""
        signature = Signature(function)
        _, by_position, _ = signature.schemas()
        assert accepts(by_position, args) == binds(signature, args, {})

    @each_function
    @settings(max_examples=25)
    @given(st.dictionaries(keys, values, max_size=3))
    def test_by_name_they_accept_what_binds(
        self, function: Callable[..., Any], kwargs: dict[str, Any]
    ) -> None:
        """And nothing else."""
        signature = Signature(function)
        named, _, _ = signature.schemas()
        assert accepts(named, kwargs) == binds(signature, [], kwargs)

    def test_they_say_what_is_left_out(self) -> None:
        """Defaults are those of the function."""
        named, by_position, returns = Signature(two).schemas()
        b = {"type": "string", "default": "b"}
        assert named == {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": b},
            "required": ["a"],
            "additionalProperties": False,
        }
        assert by_position == {
            "type": "array",
            "prefixItems": [{"type": "integer"}, b],
            "minItems": 1,
            "items": False,
        }
        assert returns == {"type": "null"}

    def test_a_default_that_is_not_json_is_left_out(self) -> None:
        """It cannot be told."""

        def function(a: float = float("inf"), b: Any = object) -> None: ...

        named, _, _ = Signature(function).schemas()
        assert named["properties"] == {"a": {"type": "number"}, "b": {}}

    def test_types_of_the_same_name_stay_apart(self) -> None:
        """Each argument is described by its own."""
        other = msgspec.defstruct("Point", [("z", str)], module="elsewhere")

        def function(a: Point, b: Any) -> None: ...

        function.__annotations__["b"] = other
        signature = Signature(function)
        named, _, _ = signature.schemas()
        assert len(named["$defs"]) == 2
        assert accepts(named, {"a": {"x": 1}, "b": {"z": "z"}})
        assert not accepts(named, {"a": {"z": "z"}, "b": {"z": "z"}})


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """Whether a validator that is not ours takes the value."""
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid(value)


def binds(signature: Signature, args: list[Any], kwargs: dict[str, Any]) -> bool:
    """Whether the arguments fit."""
    try:
        signature.bind(json.dumps(args).encode(), json.dumps(kwargs).encode())
    except InvalidArguments:
        return False
    return True


class TestFaultOf:
    """What msgspec says, as a fault."""

    @pytest.mark.parametrize(
        ("kind", "document", "expected"),
        [
            (list[Point], '[{"x":1},{"x":"1"}]', Fault("Expected `int`, got `str`", "/at/1/x")),
            (dict[str, Point], '{"a":{"x":""}}', Fault("Expected `int`, got `str`", "/at")),
            (dict[int, int], '{"a":1}', Fault("Expected `int`, got `str`, as a key", "/at")),
            (list[dict[int, int]], '[{"a":1}]', Fault("Expected `int`, got `str`, as a key", "/at/0")),
            (int, '"a"', Fault("Expected `int`, got `str`", "/at")),
        ],
    )
    def test_its_path_becomes_a_pointer(self, kind: Any, document: str, expected: Fault) -> None:
        """It ends where the path stops being told."""
        with pytest.raises(msgspec.ValidationError) as caught:
            msgspec.json.decode(document, type=kind)
        assert fault_of(caught.value, "/at") == expected

    def test_parts_of_a_pointer_are_escaped(self) -> None:
        """As RFC 6901 says."""
        assert escape("a/b~1") == "a~1b~01"
