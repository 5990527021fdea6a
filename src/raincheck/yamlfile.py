"""YAML files read as plain JSON values, with the line of each: what is wrong can be pointed at.

Built on the parser's events, so that no tag makes an object, no alias grows without bound, and no
nesting is too deep. Plain scalars mean what YAML 1.2 says (its core schema): ``no`` is a word.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from raincheck.codec import MAX_DEPTH
from raincheck.errors import Fault, FileFault, InvalidFile
from raincheck.signature import escape

MAX_BYTES = 16 * 1024 * 1024
MAX_VALUES = 1_000_000
"""How many values a file may have, those of aliases counted wherever they are used."""

MERGE = "<<"
MOST = sys.float_info.max

_CORE: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"|~|null|Null|NULL"), lambda text: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text[0] in "tT"),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text, 0)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
"""The forms of plain scalars that are no text (YAML 1.2.2 §10.3.2); infinities and NaN are no JSON."""


class Document:
    """A file's content: ``data`` is plain JSON values."""

    def __init__(self, path: Path, data: Any, lines: dict[str, int]) -> None:
        self.path = path
        self.data = data
        self._lines = lines

    def line(self, pointer: str) -> int:
        """The line, from 1, of what a JSON Pointer leads to, or of the nearest that it is in."""
        while pointer and pointer not in self._lines:
            pointer = pointer.rpartition("/")[0]
        return self._lines.get(pointer, 1)

    def locate(self, fault: Fault) -> FileFault:
        """A fault with its place in the file."""
        return FileFault(str(self.path), self.line(fault.pointer), fault.pointer, fault.detail)


class _Scalar(NamedTuple):
    """Text as it is written; ``plain``: without quotes."""

    line: int
    text: str
    plain: bool


class _List(NamedTuple):
    """A list as it is written."""

    line: int
    items: list[_Node]


class _Mapping(NamedTuple):
    """A mapping as it is written."""

    line: int
    pairs: list[tuple[_Node, _Node]]


_Node = _Scalar | _List | _Mapping


def load(path: Path) -> Document:
    """The document in a file. Raises `InvalidFile` with every fault found."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidFile(FileFault(str(path), 1, "", f"a file has at most {MAX_BYTES} bytes"))
        content = path.read_bytes()
    except OSError as error:
        raise InvalidFile(FileFault(str(path), 1, "", f"cannot be read: {error.strerror}")) from None
    return parse(content, path)


def parse(content: bytes, path: Path) -> Document:
    """The document in the content of a file. Raises `InvalidFile` with every fault found."""
    import yaml

    try:
        root = _Composer(path).compose(
            yaml.parse(content, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        )
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidFile(FileFault(str(path), line, "", f"not YAML: {error.problem}")) from None
    except yaml.YAMLError as error:  # of the reader, which knows no lines
        line = content[: getattr(error, "position", 0)].count(b"\n") + 1
        detail = f"not YAML: {getattr(error, 'reason', error)}"
        raise InvalidFile(FileFault(str(path), line, "", detail)) from None
    plain = _Plain()
    data = plain.value(root, "") if root is not None else None
    document = Document(path, data, plain.lines)
    if plain.faults:
        raise InvalidFile(*(FileFault(str(path), *fault) for fault in plain.faults))
    return document


class _Composer:
    """Puts events together to nodes."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._anchors: dict[str, _Node] = {}

    def compose(self, events: Iterator[Any]) -> _Node | None:
        """The only document of a stream, or None if it is empty."""
        root = None
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent" and root is not None:
                raise self._fault(event, "a file has one document: take the --- out")
            if not kind.startswith(("Stream", "Document")):
                root = self._node(event, events, 0)
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> _Node:
        line, kind = event.start_mark.line + 1, type(event).__name__
        if depth > MAX_DEPTH:
            raise self._fault(event, f"nested deeper than {MAX_DEPTH} levels")
        if kind == "AliasEvent":
            if event.anchor not in self._anchors:
                raise self._fault(event, f"there is no anchor &{event.anchor} before this, and closed")
            return self._anchors[event.anchor]
        if event.tag not in (None, "!"):
            raise self._fault(event, f"tags are not understood: take {event.tag} out")
        node: _Node
        if kind == "ScalarEvent":
            node = _Scalar(line, event.value, event.implicit[0])
        else:
            members = list(self._members(events, depth))
            pairs = kind == "MappingStartEvent" and list(zip(members[::2], members[1::2], strict=True))
            node = _List(line, members) if pairs is False else _Mapping(line, pairs)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _members(self, events: Iterator[Any], depth: int) -> Iterator[_Node]:
        """The nodes until the collection that has begun ends."""
        for event in events:
            if type(event).__name__ in ("MappingEndEvent", "SequenceEndEvent"):
                return
            yield self._node(event, events, depth + 1)

    def _fault(self, event: Any, detail: str) -> InvalidFile:
        return InvalidFile(FileFault(self._path, event.start_mark.line + 1, "", detail))


class _Plain:
    """Makes nodes plain values, and notes the line of each."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.faults: list[tuple[int, str, str]] = []
        self._count = 0

    def value(self, node: _Node, pointer: str) -> Any:
        """The value of a node, which ``pointer`` leads to."""
        self._count += 1
        if self._count > MAX_VALUES:
            if self._count == MAX_VALUES + 1:
                self.faults.append((node.line, pointer, f"a file has at most {MAX_VALUES} values"))
            return None
        self.lines.setdefault(pointer, node.line)
        if isinstance(node, _Mapping):
            return self._mapping(node, pointer)
        if isinstance(node, _List):
            return [self.value(each, f"{pointer}/{i}") for i, each in enumerate(node.items)]
        try:
            return _core(node.text) if node.plain else node.text
        except ValueError:
            self.faults.append((node.line, pointer, "is a number too large for JSON"))
            return None

    def _mapping(self, node: _Mapping, pointer: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, each in node.pairs:
            if not isinstance(key, _Scalar):
                self.faults.append((key.line, pointer, "a key is a word, not a list or a mapping"))
                continue
            below = f"{pointer}/{escape(key.text)}"
            if key.text == MERGE and key.plain:
                merged = self._merged(each, pointer) | merged
            elif key.text in found:
                self.faults.append((key.line, below, "is given twice"))
            else:
                self.lines[below] = key.line
                found[key.text] = self.value(each, below)
        return merged | found

    def _merged(self, node: _Node, pointer: str) -> dict[str, Any]:
        """What ``<<`` puts beneath a mapping: the keys of another, or of several, the first of them first."""
        merged: dict[str, Any] = {}
        for each in node.items if isinstance(node, _List) else [node]:
            value = self.value(each, f"{pointer}/{MERGE}")
            if isinstance(value, dict):
                merged = value | merged
            elif self._count <= MAX_VALUES:
                self.faults.append((each.line, pointer, f"{MERGE} takes a mapping, or a list of them"))
        return merged


def _core(text: str) -> Any:
    """What plain text means. Raises `ValueError` for a number that JSON readers cannot take."""
    for form, make in _CORE:
        if form.fullmatch(text):
            value = make(text)
            if isinstance(value, int | float) and abs(value) > MOST:
                raise ValueError
            return value
    return text
