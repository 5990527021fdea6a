"""YAML files read as plain JSON values, with the line of each: what is wrong can be pointed at.

PyYAML composes the nodes; here they become plain values, so that no tag makes an object, no alias grows
without bound, and no nesting is too deep. Plain scalars mean what YAML 1.2 says (its core schema): ``no`` is
a word.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from raincheck.core.codec import MAX_DEPTH
from raincheck.core.errors import Fault, FileFault, InvalidFile
from raincheck.functions.signature import escape

MAX_BYTES = 16 * 1024 * 1024
MAX_VALUES = 1_000_000
"""How many values a file may have, those of aliases counted wherever they are used."""

MERGE = "<<"
PLAIN, UNTAGGED = "plain", "untagged"
"""What nodes without a tag are tagged with: a scalar without quotes, and all others."""

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
        root = yaml.compose(content, Loader=_loader())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = ", ".join(words for words in (error.context, error.problem) if words)
        raise InvalidFile(FileFault(str(path), line, "", f"not YAML: {what}")) from None
    except yaml.YAMLError as error:  # of the reader, which knows no lines
        line = content[: getattr(error, "position", 0)].count(b"\n") + 1
        detail = f"not YAML: {getattr(error, 'reason', error)}"
        raise InvalidFile(FileFault(str(path), line, "", detail)) from None
    plain = _Plain(path)
    data = plain.value(root, "", 0) if root is not None else None
    if plain.faults:
        raise InvalidFile(*plain.faults)
    return Document(path, data, plain.lines)


@cache
def _loader() -> Any:
    """PyYAML's composer with the depth of its nodes bounded, and tags that say only what is written."""
    import yaml

    class Loader(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc] # it ships no types
        depth = 0

        def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
            return PLAIN if kind is yaml.ScalarNode and implicit[0] else UNTAGGED

        def descend_resolver(self, parent: Any, index: Any) -> None:
            self.depth += 1
            if self.depth > MAX_DEPTH + 1:  # a composer that went on would use up the stack
                words = f"nested deeper than {MAX_DEPTH} levels"
                raise yaml.MarkedYAMLError(problem=words, problem_mark=parent.start_mark)

        def ascend_resolver(self) -> None:
            self.depth -= 1

    return Loader


class _Plain:
    """Makes plain values of nodes, and notes the line of each."""

    def __init__(self, path: Path) -> None:
        self.lines: dict[str, int] = {}
        self.faults: list[FileFault] = []
        self._path = str(path)
        self._count = 0

    def value(self, node: Any, pointer: str, depth: int) -> Any:
        """The value of a node, which ``pointer`` leads to. Raises `InvalidFile` if there are too many."""
        self._count += 1
        if self._count > MAX_VALUES or depth > MAX_DEPTH:  # an alias may even lead to what it is in
            many = f"a file has at most {MAX_VALUES} values"
            self._fault(
                node, pointer, many if depth <= MAX_DEPTH else f"nested deeper than {MAX_DEPTH} levels"
            )
            raise InvalidFile(*self.faults)
        self.lines.setdefault(pointer, node.start_mark.line + 1)
        if node.tag not in (PLAIN, UNTAGGED):
            self._fault(node, pointer, f"tags are not understood: take {node.tag} out")
            return None
        if node.id == "mapping":
            return self._mapping(node, pointer, depth)
        if node.id == "sequence":
            return [self.value(each, f"{pointer}/{i}", depth + 1) for i, each in enumerate(node.value)]
        try:
            return _core(node.value) if node.tag == PLAIN else node.value
        except ValueError:
            self._fault(node, pointer, "is a number too large for JSON")
            return None

    def _mapping(self, node: Any, pointer: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, each in node.value:
            if key.id != "scalar":
                self._fault(key, pointer, "a key is a word, not a list or a mapping")
                continue
            below = f"{pointer}/{escape(key.value)}"
            if key.value == MERGE and key.tag == PLAIN:
                merged = self._merged(each, pointer, depth) | merged
            elif key.value in found:
                self._fault(key, below, "is given twice")
            else:
                self.lines[below] = key.start_mark.line + 1
                found[key.value] = self.value(each, below, depth + 1)
        return merged | found

    def _merged(self, node: Any, pointer: str, depth: int) -> dict[str, Any]:
        """What ``<<`` puts beneath a mapping: the keys of another, or of several, the first of them first."""
        merged: dict[str, Any] = {}
        for each in node.value if node.id == "sequence" else [node]:
            value = self.value(each, f"{pointer}/{MERGE}", depth + 1)
            if isinstance(value, dict):
                merged = value | merged
            else:
                self._fault(each, pointer, f"{MERGE} takes a mapping, or a list of them")
        return merged

    def _fault(self, node: Any, pointer: str, detail: str) -> None:
        self.faults.append(FileFault(self._path, node.start_mark.line + 1, pointer, detail))


def _core(text: str) -> Any:
    """What plain text means. Raises `ValueError` for a number that JSON readers cannot take."""
    for form, make in _CORE:
        if form.fullmatch(text):
            value = make(text)
            if isinstance(value, int | float) and abs(value) > MOST:
                raise ValueError
            return value
    return text
