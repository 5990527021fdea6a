"""YAML files: their values and their faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raincheck.core.errors import Fault, FileFault, InvalidFile
from raincheck.engine.config_file import MAX_VALUES, ConfigFile, load, parse

HERE = Path("f")


def read(text: str) -> ConfigFile:
    """The document that a text is."""
    return parse(text.encode(), HERE)


def faults(text: str) -> list[str]:
    """What is wrong with a text."""
    with pytest.raises(InvalidFile) as raised:
        read(text)
    return [str(fault) for fault in raised.value.faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: {b: [1, 2.5, -3], c: text}", {"a": {"b": [1, 2.5, -3], "c": "text"}}),
        ("[no, yes, on, off, No]", ["no", "yes", "on", "off", "No"]),
        ("[true, False, null, ~, ]", [True, False, None, None]),
        ("['1', \"true\", '']", ["1", "true", ""]),
        ("[2020-01-01, 12:30, 0x1F, 0o17, 1e3, .5]", ["2020-01-01", "12:30", 31, 15, 1000.0, 0.5]),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        ("1: a\ntrue: b", {"1": "a", "true": "b"}),
        ("base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}", {"base": {"x": 1, "y": 2}, "more": {"x": 1, "y": 3}}),
        ("a: &a [1]\nb: *a", {"a": [1], "b": [1]}),
        ("[.nan, .inf]", [".nan", ".inf"]),
    ],
)
def test_a_file_means_what_yaml_1_2_says(text: str, value: Any) -> None:
    """Plain values, and no surprises: words stay words."""
    assert read(text).data == value


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a: 1\nb: [1\nc: 2",
         ["f:3: not YAML: while parsing a flow sequence, did not find expected ',' or ']'"]),
        ("a: 1\na: 2\nb: {c: 1, c: 2}", ["f:2: /a: duplicate key", "f:3: /b/c: duplicate key"]),
        ("a: 1\n---\nb: 2",
         ["f:2: not YAML: expected a single document in the stream, but found another document"]),
        ("a: !!int 3", ["f:1: /a: tags are not supported: remove tag:yaml.org,2002:int"]),
        ("a: 1\nb: *c", ["f:2: not YAML: found undefined alias"]),
        ("a: &a [*a]", [f"f:1: /a{'/0' * 64}: nested deeper than 64 levels"]),
        ("a: &a {b: [*a, *a]}", [f"f:1: /a{'/b/0' * 32}: nested deeper than 64 levels"]),
        ("a: !!str 1", ["f:1: /a: tags are not supported: remove tag:yaml.org,2002:str"]),
        ("? [1]\n: 2", ["f:1: a key must be a string, not a list or a mapping"]),
        ("a:\n  <<: 3", ["f:2: /a: the value of << must be a mapping or a list of mappings"]),
        ("a: 1\nb: 1e999", ["f:2: /b: the number is too large for JSON"]),
        ("a: " + "9" * 5000, ["f:1: /a: the number is too large for JSON"]),
        ("a: 1\nb: \0", ["f:2: not YAML: control characters are not allowed"]),
        ("[" * 1000, ["f:1: not YAML: nested deeper than 64 levels"]),
        ("- " * 100_000, ["f:1: not YAML: nested deeper than 64 levels"]),
    ],
)  # fmt: skip
def test_each_fault_names_file_line_and_field(text: str, wrong: list[str]) -> None:
    """All of them at once, as far as the file can be read."""
    assert faults(text) == wrong


def test_aliases_do_not_grow_without_bound() -> None:
    """Nine lines that stand for a thousand million values are refused."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert [word.partition(": ")[2].rpartition(": ")[2] for word in faults("\n".join(lines))] == [
        f"a file can have at most {MAX_VALUES} values"
    ]


def test_a_pointer_leads_to_its_line_or_to_the_nearest_above() -> None:
    """A missing key has the line of its mapping."""
    document = read("a:\n  - x\n  - b/c:\n      d: 1\n")
    pointers = ["", "/a", "/a/0", "/a/1", "/a/1/b~1c", "/a/1/b~1c/d", "/a/1/missing", "/other"]
    assert [document.line(pointer) for pointer in pointers] == [1, 1, 2, 3, 3, 4, 3, 1]
    assert document.locate(Fault("is missing", "/a/1/x")) == FileFault("f", 3, "/a/1/x", "is missing")


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    """With the error of the operating system."""
    with pytest.raises(InvalidFile, match="cannot be read: No such file"):
        load(tmp_path / "raincheck.yaml")
