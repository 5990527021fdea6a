"""Values as functions receive and return them: the table of the reference, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, NotRequired, TypedDict, TypeVar, is_typeddict

import annotated_types
import jsonschema_rs
import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import pytest
import typing_extensions

from raincheck.core.errors import InvalidArguments, NotJSON, RegistrationError, UnexpectedResult
from raincheck.functions.signature import Signature
from raincheck.functions.values import PLAIN, Values
from tests.worker.own_types import Money, decode, encode

PAGE = (Path(__file__).parents[2] / "docs/reference/values.md").read_text()
CLASSES = re.search(r"```python\n(import collections.*?)```", PAGE, re.DOTALL)
ROW = re.compile(r"^\| `(?P<kind>.+?)` \| `(?P<json>.+?)` \| `(?P<schema>.+?)` \|", re.MULTILINE)

names: dict[str, Any] = {"msgspec": msgspec, "annotated_types": annotated_types, "__name__": __name__}
assert CLASSES is not None
exec(compile(CLASSES[1], "values.md", "exec", dont_inherit=True), names)
ROWS = [(row["kind"].replace("\\|", "|"), row["json"], row["schema"]) for row in ROW.finditer(PAGE)]
each_row = pytest.mark.parametrize(("kind", "sent", "schema"), ROWS, ids=[kind for kind, _, _ in ROWS])


def taking(kind: Any, values: Values = PLAIN) -> Signature:
    """The signature of a function with an argument of this type."""

    def function(value: Any) -> None: ...

    function.__annotations__["value"] = kind
    return Signature(function, values)


def returning(kind: Any, values: Values = PLAIN) -> Signature:
    """The signature of a function that returns this type."""

    def function() -> None: ...

    function.__annotations__["return"] = kind
    return Signature(function, values)


def read(kind: Any, sent: str, values: Values = PLAIN) -> Any:
    """The argument that a function gets; by position and by name it is read in two ways."""
    signature = taking(kind, values)
    (value,), _ = signature.bind(f"[{sent}]".encode(), b"{}")
    signature.bind(b"[]", f'{{"value":{sent}}}'.encode())
    return value


def refused(kind: Any, sent: str, values: Values = PLAIN) -> list[tuple[str, str]]:
    """The pointers and details of the faults of an argument, the same by position and by name."""
    found = []
    for args, kwargs, at in ((f"[{sent}]", "{}", "/args/0"), ("[]", f'{{"value":{sent}}}', "/kwargs/value")):
        with pytest.raises(InvalidArguments) as caught:
            taking(kind, values).bind(args.encode(), kwargs.encode())
        faults = caught.value.faults
        found.append(
            [(f.pointer.removeprefix(at), f.detail.removeprefix("argument 'value': ")) for f in faults]
        )
    assert found[0] == found[1]
    return found[0]


class TestTable:
    """Each row of the table in the reference."""

    def test_it_is_found(self) -> None:
        """The other tests here read it."""
        assert len(ROWS) > 35

    @each_row
    def test_a_value_is_read_and_written(self, kind: str, sent: str, schema: str) -> None:
        """As an argument, and as a result of the same JSON."""
        annotation = eval(kind, names)
        value = read(annotation, sent)
        if isinstance(annotation, type) and annotation is not Any and not is_typeddict(annotation):
            assert isinstance(value, annotation)
        written = returning(annotation).returns.write(value)
        assert json.loads(written) == json.loads(sent)
        again = returning(annotation).returns.read(written)
        assert type(again) is type(value)

    @each_row
    def test_its_schema_is_told(self, kind: str, sent: str, schema: str) -> None:
        """Of arguments and results; the value is valid by it."""
        annotation = eval(kind, names)
        expected = json.loads(re.sub(r'"?#(\w+)"?', r'{"$ref": "#/$defs/\1"}', schema))
        named, _, _ = taking(annotation).schemas()
        assert normal(named["properties"]["value"]) == normal(expected)
        jsonschema_rs.validate(named, {"value": json.loads(sent)}, validate_formats=True)
        _, _, returns = returning(annotation).schemas()
        jsonschema_rs.validate(returns, json.loads(sent), validate_formats=True)
        for name in named.get("$defs", {}):
            assert re.fullmatch(r"\w+", name)


def normal(schema: Any) -> Any:
    """A schema whose alternatives are in an order that does not matter."""
    if isinstance(schema, dict) and "anyOf" in schema:
        return {**schema, "anyOf": sorted(schema["anyOf"], key=json.dumps)}
    return schema


T = TypeVar("T")


@dataclass
class Point:
    x: int
    y: float = 0.0
    tags: list[str] = field(default_factory=list)
    area: float = field(init=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x must not be negative")
        self.area = self.x * self.y

    def is_small(self) -> bool:
        return self.x < 9


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)
    root: Tree | None = None


@dataclass
class Box(Generic[T]):
    item: T


@dataclass
class Sub(Box[int]):
    label: str = ""


class Search(TypedDict):
    word: Annotated[str, annotated_types.MinLen(2)]
    where: NotRequired[Path]


class Item(pydantic.BaseModel):
    """An item."""

    price: int = pydantic.Field(ge=1)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.price


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    item: Item | None = None


class Weight(pydantic.BaseModel):
    kilos: float


class Ignoring(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="ignore")
    item: Item | None = None


class Renamed(pydantic.BaseModel):
    price: int = pydantic.Field(alias="unitPrice")


class Extended(typing_extensions.TypedDict):
    item: Item


@dataclass
class Basket:
    items: list[Item]
    limit: Annotated[int, pydantic.Field(gt=3)] = 4


class Shelf(msgspec.Struct):
    where: Path
    item: Item
    numbers: npt.NDArray[np.float64] | None = None


OWN = Values(encode, decode)


class TestArguments:
    """What becomes of JSON, and what is refused, with its place."""

    def test_a_dataclass_gets_all_its_fields(self) -> None:
        """Those left out have their defaults, and come back."""
        point = read(Point, '{"x":2}')
        assert point == Point(2)
        assert PLAIN.to_json(point) == b'{"x":2,"y":0.0,"tags":[],"area":0.0}'

    def test_what_a_dataclass_computes_is_ignored(self) -> None:
        """So that what was written can be read again."""
        assert read(Point, PLAIN.arguments_to_json(Point(2, 1.5)).decode()) == Point(2, 1.5)

    def test_classes_contain_themselves_and_others(self) -> None:
        """Recursive and generic classes, in containers."""
        assert read(Tree, '{"name":"a","children":[{"name":"b","root":{"name":"a"}}]}') == Tree(
            "a", [Tree("b", root=Tree("a"))]
        )
        assert read(dict[str, Box[Point]], '{"a":{"item":{"x":1}}}') == {"a": Box(Point(1))}
        assert read(Sub, '{"item":3,"label":"c"}') == Sub(3, "c")
        assert read(tuple[Point, ...], '[{"x":1}]') == (Point(1),)
        assert read(Point | int, "3") == 3
        assert read(Point | list[Point], '[{"x":1}]') == [Point(1)]
        assert read(str | Path, '"a"') == "a"
        assert read(Basket | None, '{"items":[]}') == Basket([])
        assert read(list[Item] | Point | None, '[{"price":1}]') == [Item(price=1)]
        assert read(Extended | None, '{"item":{"price":1}}') == {"item": Item(price=1)}
        assert read(deque[Point], '[{"x":1}]') == deque([Point(1)])
        assert read(Counter[str], '{"a":1}') == Counter("a")
        assert read(defaultdict[str, Point], '{"a":{"x":1}}') == {"a": Point(1)}
        shelf = read(Shelf, '{"where":"/a","item":{"price":1},"numbers":[1,2]}')
        assert (shelf.where, shelf.item, shelf.numbers.tolist()) == (Path("/a"), Item(price=1), [1.0, 2.0])

    @pytest.mark.parametrize(
        ("kind", "sent", "faults"),
        [
            (Point, '{"x":1,"z":2}', [("/z", "object contains unknown field `z`")]),
            (Point, '{"x":"1"}', [("/x", "expected `int`, got `str`")]),
            (Point, '{"x":-1}', [("", "not a valid Point: x must not be negative")]),
            (list[Point], '[{"x":1},{"x":-1}]', [("/1", "not a valid Point: x must not be negative")]),
            (Tree, '{"name":"a","children":[{"title":"b"}]}', [
                ("/children/0/title", "object contains unknown field `title`"),
            ]),
            (Box[int], '{"item":"x"}', [("/item", "expected `int`, got `str`")]),
            (Sub, '{"item":"x"}', [("/item", "expected `int`, got `str`")]),
            (Search, '{"word":"a"}', [("/word", "expected `str` of length >= 2")]),
            (Search, '{"word":"ab","were":"c"}', [("/were", "object contains unknown field `were`")]),
            (Extended, '{"item":{"price":1},"x":1}', [("/x", "object contains unknown field `x`")]),
            (Annotated[Point, annotated_types.Predicate(Point.is_small)], '{"x":9}', [
                ("", "does not satisfy Point.is_small"),
            ]),
            (Search, '{"where":"c"}', [("", "object missing required field `word`")]),
            (Annotated[int, annotated_types.Predicate(str.isdigit)], "1", [
                ("", "not a valid value: descriptor 'isdigit' for 'str' objects doesn't apply to a 'int' "
                 "object"),
            ]),
            (Annotated[str, annotated_types.Predicate(str.isdigit)], '"a"', [
                ("", "does not satisfy str.isdigit"),
            ]),
            (Annotated[int, pydantic.Field(ge=1)], "0", [("", "Input should be greater than or equal to 1")]),
            (Item, '{"price":0}', [("/price", "Input should be greater than or equal to 1")]),
            (Item, '{}', [("", "Field required `price`")]),
            (Item, '{"price":1,"prize":1}', [("/prize", "object contains unknown field `prize`")]),
            (Open, '{"item":{"price":1,"prize":1},"any":1}', [
                ("/item/prize", "object contains unknown field `prize`"),
            ]),
            (Renamed, '{"price":1}', [("", "Field required `unitPrice`")]),
            (Basket, '{"items":[{"price":1},{"price":0}]}', [
                ("/items/1/price", "Input should be greater than or equal to 1"),
            ]),
            (Basket, '{"items":[],"limit":3}', [("/limit", "Input should be greater than 3")]),
            (npt.NDArray[np.int64], "[1.5]", [("", "not a valid array: expected values of type int64")]),
            (npt.NDArray[np.float64], '["1"]', [("", "not a valid array: expected values of type float64")]),
            (np.int8, "300", [("", "not a valid int8: Python integer 300 out of bounds for int8")]),
            (pd.DataFrame, "[1]", [("/0", "expected `object`, got `int`")]),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_refused(self, kind: Any, sent: str, faults: list[tuple[str, str]]) -> None:
        """With a pointer to what is wrong."""
        assert refused(kind, sent) == faults

    def test_type_aliases_stand_for_their_types(self) -> None:
        """With their parameters."""
        pair = typing_extensions.TypeAliasType("pair", tuple[T, T], type_params=(T,))
        assert read(pair[int], "[1,2]") == (1, 2)
        assert refused(pair[int], '[1,"a"]') == [("/1", "expected `int`, got `str`")]
        assert read(list[pair[Point]], '[[{"x":1},{"x":2}]]') == [(Point(1), Point(2))]

    def test_models_follow_their_own_setting_for_unknown_fields(self) -> None:
        """If they have one."""
        assert read(Open, '{"any":1}').any == 1
        assert read(Ignoring, '{"any":1,"item":{"price":1}}') == Ignoring(item=Item(price=1))

    def test_a_model_is_written_so_that_it_can_be_read(self) -> None:
        """With its aliases, and as an argument without what it computes."""
        assert PLAIN.arguments_to_json(Item(price=1)) == b'{"price":1}'
        assert PLAIN.to_json(Item(price=1)) == b'{"price":1,"double":2}'
        assert read(Renamed, PLAIN.arguments_to_json(Renamed(unitPrice=3)).decode()).price == 3

    def test_types_of_ones_own_are_decoded(self) -> None:
        """Wherever they are."""
        assert read(Money, '{"cents":3}', OWN).cents == 3
        assert read(Money | None, "null", OWN) is None
        assert read(dict[str, tuple[Money, int]], '{"a":[{"cents":3},1]}', OWN)["a"][0].cents == 3
        assert refused(list[Money], '[{"cents":3},{}]', OWN) == [
            ("/1", "not a valid Money: KeyError('cents')")
        ]

    def test_numbers_come_back_as_numbers(self) -> None:
        """Of numpy and pandas; dates as dates, what is missing as null."""
        frame = pd.DataFrame({"a": [1, 2], "b": [1.5, None], "c": pd.to_datetime(["2026-01-02", None])})
        rows = b'[{"a":1,"b":1.5,"c":"2026-01-02T00:00:00"},{"a":2,"b":null,"c":null}]'
        assert PLAIN.to_json(frame) == rows
        assert PLAIN.to_json({"mean": np.float64(1.5), "n": np.int64(3), "ok": np.bool_(True)}) == (
            b'{"mean":1.5,"n":3,"ok":true}'
        )
        assert (
            PLAIN.to_json(np.array(["2026-01-02", "NaT"], "datetime64[ns]"))
            == b'["2026-01-02T00:00:00",null]'
        )
        assert PLAIN.to_json({np.int64(1): np.array([[1, 2]])}) == b'{"1":[[1,2]]}'
        assert PLAIN.to_json(pd.Timestamp("2026-01-02")) == b'"2026-01-02T00:00:00"'

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (np.array([1.0, np.nan]), r"not finite, at \$\[1\]"),
            ({"a": pd.Series([1.0, np.inf])}, r"not finite, at \$\.a\[1\]"),
            (pd.NaT, r"NaTType does not support"),
            (np.complex128(1j), "complex is unsupported"),
            (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of a DataFrame have the same name"),
            (Weight(kilos=float("nan")), r"not finite, at \$\.kilos"),
            ((number for number in [1]), "generator is unsupported"),
        ],
    )
    def test_values_that_are_not_json_are_refused(self, value: Any, told: str) -> None:
        """Whatever library they come from."""
        with pytest.raises(NotJSON, match=told):
            PLAIN.to_json(value)


class TestResults:
    """What a function returns is what it promises."""

    @pytest.mark.parametrize(
        ("kind", "value", "written"),
        [
            (list[int], (1, 2), "[1,2]"),
            (float, 1, "1"),
            (Point, {"x": 1}, '{"x":1}'),
            (Point | Tree, Tree("a"), '{"name":"a","children":[],"root":null}'),
            (Box[int], Sub(1, "a"), '{"item":1,"label":"a"}'),
            (Item, {"price": 1}, '{"price":1,"double":2}'),
            (list[Item], [Item(price=1)], '[{"price":1,"double":2}]'),
            (Renamed, Renamed(unitPrice=1), '{"unitPrice":1}'),
            (Basket, Basket([Item(price=1)]), '{"items":[{"price":1,"double":2}],"limit":4}'),
            (
                Shelf,
                Shelf(Path("a"), Item(price=1)),
                '{"where":"a","item":{"price":1,"double":2},"numbers":null}',
            ),
            (Annotated[int, pydantic.Field(ge=1)], 3, "3"),
            (int, np.int64(3), "3"),
            (Any, {1, 2}, "[1,2]"),
            (deque[Point], deque([Point(1)]), '[{"x":1,"y":0.0,"tags":[],"area":0.0}]'),
            (Counter[str], Counter("a"), '{"a":1}'),
            (Counter, Counter("a"), '{"a":1}'),
            (Point | Tree | None, None, "null"),
            (Point | None, None, "null"),
            (Item | None, None, "null"),
            (Basket | None, None, "null"),
            (Annotated[Path, annotated_types.Predicate(Path.is_absolute)], Path("/a"), '"/a"'),
            (Annotated[Point, annotated_types.Predicate(Point.is_small)], {"x": 1}, '{"x":1}'),
            (Iterable[str], {"a": 1}.keys(), '["a"]'),
            (pydantic.BaseModel, Item(price=1), '{"price":1,"double":2}'),
            (object, Point(1), '{"x":1,"y":0.0,"tags":[],"area":0.0}'),
        ],
    )
    def test_what_fits_is_written(self, kind: Any, value: Any, written: str) -> None:
        """As callers get it."""
        returns = returning(kind)
        assert returns.returns.write(value).decode() == written
        jsonschema_rs.validate(returns.schemas()[2], json.loads(written))

    @pytest.mark.parametrize(
        ("kind", "value", "told"),
        [
            (int, "3", r"promises int, and returned str: Expected `int`, got `str`"),
            (int, None, r"promises int, and returned None: Expected `int`, got `null`"),
            (None, 3, r"promises NoneType, and returned int: Expected `null`, got `int`"),
            (list[Point], [Point(1), {"x": "a"}], r"promises list\[Point\], and returned list: .*\[1\]\.x`"),
            (Point | Tree, {"z": 1}, "promises Point | Tree, and returned dict"),
            (Item, {"price": 0}, "promises Item, and returned dict: Input should be greater than or"),
            (Item, Item.model_construct(price="a"), "promises Item, and returned Item"),
            (Basket, Basket([Item(price=1)], 1), "promises Basket, and returned Basket"),
            (Annotated[int, pydantic.Field(ge=1)], 0, "and returned int: Input should be greater"),
            (Annotated[int, annotated_types.Ge(1)], 0, "and returned int: Expected `int` >= 1"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_told(self, kind: Any, value: Any, told: str) -> None:
        """With what was promised and what came."""
        with pytest.raises(UnexpectedResult, match=told):
            returning(kind).returns.write(value)

    def test_types_of_ones_own_are_encoded(self) -> None:
        """In containers, too; a program without the hooks gets plain data."""
        returns = returning(dict[str, Money], OWN).returns
        assert returns.write({"a": Money(3)}) == b'{"a":{"cents":3}}'
        assert returns.read(b'{"a":{"cents":3}}')["a"].cents == 3

    def test_an_encoder_that_fails_is_told(self) -> None:
        """It says where the value is."""

        def fail(value: Any) -> Any:
            raise ValueError("no")

        with pytest.raises(NotJSON, match=r"not JSON: no, at \$\[0\]"):
            returning(Any, Values(fail)).returns.write([Money(3)])


def test_libraries_are_not_imported() -> None:
    """A program that does not use them pays nothing."""
    program = """
import sys
from raincheck import App
@App("sqlite:///:memory:").function
def add(a: int, b: float | None = None) -> int: ...
add.info
print([name for name in ("annotated_types", "numpy", "pandas", "pydantic") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


class TestRegistration:
    """Types without a form in JSON."""

    @pytest.mark.parametrize(
        ("kind", "told"),
        [
            (complex, "`complex` has no form in JSON. Use a pair of floats, or App"),
            (re.Pattern[str], r"Use str, and compile it in the function"),
            (list[Money], r"`Money` has no form in JSON. Use dict, a dataclass or another type"),
            (np.complex128, r"`complex128` has no form in JSON"),
            (Point | Tree, "use msgspec Structs with a tag, or models of pydantic"),
            (Annotated[int, annotated_types.Not(bool)], "annotated_types.Not cannot be checked"),
        ],
    )
    def test_an_argument_says_what_to_write_instead(self, kind: Any, told: str) -> None:
        """Before anything runs."""
        with pytest.raises(RegistrationError, match=rf"type of argument 'value' cannot be decoded .*{told}"):
            taking(kind)

    @pytest.mark.parametrize("kind", [complex, Money, list[Money], re.Pattern[str] | None])
    def test_a_result_says_what_to_write_instead(self, kind: Any) -> None:
        """Such a function could only fail after its work is done."""
        with pytest.raises(
            RegistrationError, match=r"the type of the result cannot be encoded .*App\(encode="
        ):
            returning(kind)

    def test_a_name_that_is_unknown_in_a_class_is_told(self) -> None:
        """With the class."""

        @dataclass
        class Wrong:
            x: Unknown  # type: ignore[name-defined] # noqa: F821

        with pytest.raises(RegistrationError, match="unknown name in an annotation of `Wrong`"):
            taking(Wrong)


class TestSchemas:
    """What callers are told of types."""

    def test_fields_have_defaults_constraints_and_descriptions(self) -> None:
        """Of dataclasses, too."""

        @dataclass
        class Described:
            """What it is."""

            n: Annotated[int, annotated_types.Ge(1), msgspec.Meta(description="How many.")] = 3

        named, _, _ = taking(Described).schemas()
        assert named["$defs"]["Described"] == {
            "title": "Described",
            "description": "What it is.",
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 1, "description": "How many.", "default": 3}},
            "required": [],
            "additionalProperties": False,
        }

    def test_models_bring_their_definitions(self) -> None:
        """Refused fields are told; a model that is used twice is defined once."""

        def function(a: Item, b: list[Item], c: Basket, d: Open) -> Item:
            return a

        named, _, returns = Signature(function).schemas()
        assert set(named["$defs"]) == {"Item", "Basket", "Open"}
        assert named["$defs"]["Item"]["additionalProperties"] is False
        assert named["$defs"]["Item"]["properties"]["price"]["minimum"] == 1
        assert named["$defs"]["Open"]["additionalProperties"] is True
        assert returns["$ref"] == "#/$defs/ItemOutput"
        assert "double" in returns["$defs"]["ItemOutput"]["properties"]

    def test_types_of_the_same_name_stay_apart(self) -> None:
        """Whatever makes them."""
        other = pydantic.create_model("Point", z=(str, ...))

        def function(a: Point, b: Any) -> None: ...

        function.__annotations__["b"] = other
        named, _, _ = Signature(function).schemas()
        assert set(named["$defs"]) == {"Point", "Point_2"}
        jsonschema_rs.validate(named, {"a": {"x": 1}, "b": {"z": "z"}})
