"""Values to bytes and back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.core.codec import (
    MAX_DEPTH,
    check_json,
    decode_job,
    encode_job,
    from_json,
    merge,
    to_json,
    too_deep,
)
from raincheck.core.errors import NotJSON
from raincheck.core.model import Event, Job, Problem, RetryOptions, State, Step

texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(texts, plain, max_size=4)


@dataclass
class Point:
    x: float
    label: Any = None


class Shelf(msgspec.Struct):
    point: Point
    raw: msgspec.Raw = msgspec.Raw(b"null")


class Colour(Enum):
    RED = "red"


class TestToJSON:
    """Python values as JSON."""

    @given(plain)
    def test_plain_values_come_back_as_they_were(self, value: Any) -> None:
        """Numbers of any size, any text, in any nesting."""
        assert from_json(to_json(value)) == value

    @given(plain)
    def test_it_is_json_to_others(self, value: Any) -> None:
        """What another reader finds is the same."""
        assert json.loads(to_json(value)) == value

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (Point(1.5, None), b'{"x":1.5,"label":null}'),
            (Shelf(Point(1, "a")), b'{"point":{"x":1,"label":"a"},"raw":null}'),
            (datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00Z"'),
            (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
            (Decimal("1.10"), b'"1.10"'),
            (Colour.RED, b'"red"'),
            ((1, 2), b"[1,2]"),
            ({1}, b"[1]"),
            (b"\xff", b'"/w=="'),
            (2**80, b"1208925819614629174706176"),
            ({1: None}, b'{"1":null}'),
        ],
    )
    def test_more_than_plain_values_can_be_written(self, value: Any, expected: bytes) -> None:
        """As their readers expect them."""
        assert to_json(value) == expected

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (object(), r"object is unsupported, at \$$"),
            ({"a": [1, {"b": object()}]}, r"object is unsupported, at \$\.a\[1\]\.b$"),
            ([1, (2, 3j)], r"complex is unsupported, at \$\[1\]\[1\]$"),
            ([Point(1, object())], r"object is unsupported, at \$\[0\]$"),
            ({"a": {(1, 2): 3}}, r"tuple is unsupported as a key, at \$\.a$"),
            (math.nan, r"not finite, at \$$"),
            ({"a": [None, math.inf]}, r"not finite, at \$\.a\[1\]$"),
            ([Point(-math.inf)], r"not finite, at \$\[0\]\.x$"),
            (Shelf(Point(math.nan)), r"not finite, at \$\.point\.x$"),
            (["\ud800"], r"surrogates not allowed, at \$\[0\]$"),
            ({"\ud800": object()}, r"at \$\.\\ud800$"),
        ],
    )
    def test_anything_else_is_told_with_its_place(self, value: Any, told: str) -> None:
        """The message can itself be written."""
        with pytest.raises(NotJSON, match=r"^not JSON: .*" + told) as caught:
            to_json(value)
        str(caught.value).encode()

    @pytest.mark.parametrize("make", [list, dict])
    def test_a_value_that_contains_itself_is_refused(self, make: Callable[[], Any]) -> None:
        """Whatever it is made of."""
        value = make()
        if isinstance(value, list):
            value.append(value)
        else:
            value["again"] = value
        with pytest.raises(NotJSON, match="contains itself"):
            to_json(value)

    @pytest.mark.parametrize("core", [[], [object()]])
    @pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 100_000])
    def test_deep_nesting_is_refused(self, depth: int, core: Any) -> None:
        """However deep, and whatever is at the bottom of it."""
        value = core
        for _ in range(depth):
            value = [value]
        with pytest.raises(NotJSON):
            to_json(value)

    def test_nesting_up_to_the_limit_passes(self) -> None:
        """The limit itself is allowed."""
        value: Any = []
        for _ in range(MAX_DEPTH - 1):
            value = [value]
        assert from_json(to_json(value)) == value


class TestMerge:
    """Two objects made one."""

    @given(objects, objects)
    def test_keys_of_the_second_win(self, first: dict[str, Any], second: dict[str, Any]) -> None:
        """All others are kept."""
        assert from_json(merge(to_json(first), to_json(second))) == first | second

    def test_values_stay_the_bytes_they_were(self) -> None:
        """A number is not rounded by passing through."""
        assert merge(b'{"a":1.0000000000000000001}', b'{"b":1e2}') == b'{"a":1.0000000000000000001,"b":1e2}'


class TestDepth:
    """How deep bytes nest, before anything reads them."""

    @pytest.mark.parametrize(
        ("document", "deep"),
        [
            (b"[[[]]]", False),
            (b"[[[[]]]]", True),
            (b'[{"a":[]}]', False),
            (b'[{"a":[{}]}]', True),
            (b"[[],[],[[]],{},{},[]]", False),
            (b'["[[[[{{{{"]', False),
            (b'["\\"[[[[", "]]]]"]', False),
            (b'["\\\\",[[["[[["]]]]', True),
            (b'{"[[[[":{"]]]]":[]}}', False),
            (b'"[[[[', False),
            (b"[[[[", True),
            (b"]]]][[[", False),
            (b'[[["\\', False),
            (b"null", False),
            (b"", False),
        ],
    )
    def test_brackets_count_unless_in_strings(self, document: bytes, deep: bool) -> None:
        """Also in a document that is malformed."""
        assert too_deep(document, 3) is deep

    @given(plain)
    def test_it_agrees_with_who_reads_the_document(self, value: Any) -> None:
        """Nesting is that of the values."""
        deepest = depth(value)
        assert not too_deep(to_json(value), deepest)
        assert deepest == 0 or too_deep(to_json(value), deepest - 1)

    @pytest.mark.parametrize("filler", [b'\\"', b'"', b"[]", b"[", b'{"a":'])
    def test_a_hostile_document_costs_no_more_than_its_length(self, filler: bytes) -> None:
        """A mebibyte of anything is looked at once: this test ends."""
        too_deep(b"[" * (MAX_DEPTH + 1) + b'"' + filler * (1024 * 1024 // len(filler)))


def depth(value: Any) -> int:
    """How deep containers nest."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


class TestCheckJSON:
    """Bytes from outside."""

    @given(plain)
    def test_json_passes(self, value: Any) -> None:
        """However it is spaced and escaped."""
        check_json(json.dumps(value, indent=1).encode())
        check_json(to_json(value))

    @pytest.mark.parametrize(
        "document",
        [
            b"",
            b"{",
            b"[1,]",
            b"NaN",
            b"[1e999]",
            b'"\\ud800"',
            b'"\xff"',
            b"\xef\xbb\xbf{}",
            b'{"a":1,"a":1}',
            b'[{"b":{"\\u0061":1,"a":2}}]',
            b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
            b"[" * 500_000,
        ],
    )
    def test_anything_else_is_refused(self, document: bytes) -> None:
        """What readers would take in different ways is as bad as what none can read."""
        with pytest.raises(NotJSON):
            check_json(document)


class TestRecords:
    """A job as its stored bytes."""

    def test_a_record_comes_back_as_it_was(self) -> None:
        """With all that hangs on it."""
        step = Step(
            "f",
            0,
            b"[1]",
            retry=RetryOptions(retry_limit=3, retry_on=("ValueError",)),
            state=State.FAILED,
            error=Problem(title="no", attempt=3),
            result=b"null",
            finished_at=5.5,
        )
        job = Job("id", "name", (step, step), state=State.FAILED, events=(Event(1, 2.5, "failed", 0),))
        assert decode_job(encode_job(job)) == job

    def test_an_older_record_can_be_read(self) -> None:
        """Fields that it lacks, at its end, have their defaults."""
        record = msgspec.msgpack.encode(["id", "name", [["f", 0]]])
        assert decode_job(record) == Job("id", "name", (Step("f", 0),))

    def test_a_newer_record_can_be_read(self) -> None:
        """Fields that it adds, at its end, are passed over."""
        fields = msgspec.msgpack.decode(encode_job(Job("id", "name", (Step("f", 0),))))
        assert decode_job(msgspec.msgpack.encode([*fields, "new"])) == Job("id", "name", (Step("f", 0),))
