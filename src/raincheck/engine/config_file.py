"""The configuration file, ``raincheck.yaml``: found, read as plain JSON values, with the line of each value.

PyYAML composes the nodes; this module turns them into plain values, so that no tag creates an object, no
alias grows without bound, and no nesting is too deep. Plain scalars have their meaning of YAML 1.2 (its core
schema): ``no`` is a string.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from raincheck.core.codec import MAX_DEPTH
from raincheck.core.errors import Fault, FileFault, InvalidFile
from raincheck.functions.signature import escape

DEFAULT_PATH = Path("raincheck.yaml")
SECTIONS = ("allowed_networks", "functions", "groups", "schedules")

MAX_BYTES = 16 * 1024 * 1024
MAX_VALUES = 1_000_000
"""Values in a file; the values of an alias count at each place where it is used."""

MERGE = "<<"
PLAIN, UNTAGGED = "plain", "untagged"
"""The tags of nodes without a tag: of a scalar without quotes, and of all other nodes."""

MAX_NUMBER = sys.float_info.max

_CORE: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"|~|null|Null|NULL"), lambda text: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text[0] in "tT"),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text, 0)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
"""The plain scalars that are not strings (YAML 1.2.2 §10.3.2). Infinities and NaN are: JSON has neither."""


class ConfigFile:
    """The content of a file: ``data`` is plain JSON values."""

    def __init__(self, path: Path, data: Any, lines: dict[str, int]) -> None:
        self.path = path
        self.data = data
        self._lines = lines

    def line(self, pointer: str) -> int:
        """The line, from 1, of the value at a JSON Pointer, or of the nearest value that contains it."""
        while pointer and pointer not in self._lines:
            pointer = pointer.rpartition("/")[0]
        return self._lines.get(pointer, 1)

    def locate(self, fault: Fault) -> FileFault:
        """A fault with its line in the file."""
        return FileFault(str(self.path), self.line(fault.pointer), fault.pointer, fault.detail)


def find_config(config: str | os.PathLike[str] | None = None) -> Path | None:
    """The path: ``config``, else ``RAINCHECK_CONFIG``, else ``raincheck.yaml`` if it exists; or None."""
    path = config or os.environ.get("RAINCHECK_CONFIG")
    if path:
        return Path(path)
    return DEFAULT_PATH if DEFAULT_PATH.is_file() else None


def read_config(path: Path) -> ConfigFile:
    """The file, its sections known. Raises `InvalidFile` with every fault."""
    file = load(path)
    data = {} if file.data is None else file.data
    if not isinstance(data, dict):
        raise InvalidFile(file.locate(Fault(f"expected a mapping with {', '.join(SECTIONS)}")))
    unknown = [
        Fault(f"unknown section: use one of {', '.join(SECTIONS)}", f"/{escape(name)}")
        for name in data.keys() - {*SECTIONS}
    ]
    if unknown:
        raise InvalidFile(*sorted(map(file.locate, unknown)))
    return file


def load(path: Path) -> ConfigFile:
    """A YAML file. Raises `InvalidFile` with every fault."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidFile(FileFault(str(path), 1, "", f"a file can have at most {MAX_BYTES} bytes"))
        content = path.read_bytes()
    except OSError as error:
        raise InvalidFile(FileFault(str(path), 1, "", f"cannot be read: {error.strerror}")) from None
    return parse(content, path)


def parse(content: bytes, path: Path) -> ConfigFile:
    """The content of a YAML file. Raises `InvalidFile` with every fault."""
    import yaml

    try:
        root = yaml.compose(content, Loader=_loader())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise InvalidFile(FileFault(str(path), line, "", f"not YAML: {reason}")) from None
    except yaml.YAMLError as error:  # from the reader, which reports no line
        line = content[: getattr(error, "position", 0)].count(b"\n") + 1
        detail = f"not YAML: {getattr(error, 'reason', error)}"
        raise InvalidFile(FileFault(str(path), line, "", detail)) from None
    plain = _Plain(path)
    data = plain.value(root, "", 0) if root is not None else None
    if plain.faults:
        raise InvalidFile(*plain.faults)
    return ConfigFile(path, data, plain.lines)


@cache
def _loader() -> Any:
    """PyYAML's composer with a limit on depth; a node has a tag only if the file has one."""
    import yaml

    class Loader(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc] # it ships no types
        depth = 0

        def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
            return PLAIN if kind is yaml.ScalarNode and implicit[0] else UNTAGGED

        def descend_resolver(self, parent: Any, index: Any) -> None:
            self.depth += 1
            if self.depth > MAX_DEPTH + 1:  # composing on would overflow the stack
                problem = f"nested deeper than {MAX_DEPTH} levels"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=parent.start_mark)

        def ascend_resolver(self) -> None:
            self.depth -= 1

    return Loader


class _Plain:
    """Turns nodes into plain values and records the line of each."""

    def __init__(self, path: Path) -> None:
        self.lines: dict[str, int] = {}
        self.faults: list[FileFault] = []
        self._path = str(path)
        self._count = 0

    def value(self, node: Any, pointer: str, depth: int) -> Any:
        """The value of the node at ``pointer``. Raises `InvalidFile` if there are too many values."""
        self._count += 1
        if self._count > MAX_VALUES or depth > MAX_DEPTH:  # an alias may even contain itself
            too_many = f"a file can have at most {MAX_VALUES} values"
            too_deep = f"nested deeper than {MAX_DEPTH} levels"
            self._fault(node, pointer, too_many if depth <= MAX_DEPTH else too_deep)
            raise InvalidFile(*self.faults)
        self.lines.setdefault(pointer, node.start_mark.line + 1)
        if node.tag not in (PLAIN, UNTAGGED):
            self._fault(node, pointer, f"tags are not supported: remove {node.tag}")
            return None
        if node.id == "mapping":
            return self._mapping(node, pointer, depth)
        if node.id == "sequence":
            return [self.value(each, f"{pointer}/{i}", depth + 1) for i, each in enumerate(node.value)]
        try:
            return _core(node.value) if node.tag == PLAIN else node.value
        except ValueError:
            self._fault(node, pointer, "the number is too large for JSON")
            return None

    def _mapping(self, node: Any, pointer: str, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, each in node.value:
            if key.id != "scalar":
                self._fault(key, pointer, "a key must be a string, not a list or a mapping")
                continue
            below = f"{pointer}/{escape(key.value)}"
            if key.value == MERGE and key.tag == PLAIN:
                merged = self._merged(each, pointer, depth) | merged
            elif key.value in own:
                self._fault(key, below, "duplicate key")
            else:
                self.lines[below] = key.start_mark.line + 1
                own[key.value] = self.value(each, below, depth + 1)
        return merged | own

    def _merged(self, node: Any, pointer: str, depth: int) -> dict[str, Any]:
        """The keys that ``<<`` merges into a mapping, from another or from several; an earlier one wins."""
        merged: dict[str, Any] = {}
        for each in node.value if node.id == "sequence" else [node]:
            value = self.value(each, f"{pointer}/{MERGE}", depth + 1)
            if isinstance(value, dict):
                merged = value | merged
            else:
                self._fault(each, pointer, f"the value of {MERGE} must be a mapping or a list of mappings")
        return merged

    def _fault(self, node: Any, pointer: str, detail: str) -> None:
        self.faults.append(FileFault(self._path, node.start_mark.line + 1, pointer, detail))


def _core(text: str) -> Any:
    """The value of a plain scalar. Raises `ValueError` for a number that JSON readers cannot read."""
    for form, make in _CORE:
        if form.fullmatch(text):
            value = make(text)
            if isinstance(value, int | float) and abs(value) > MAX_NUMBER:
                raise ValueError
            return value
    return text
