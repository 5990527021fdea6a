"""The configuration file of an app, ``raincheck.yaml``: where it is, and its sections."""

from __future__ import annotations

import os
from pathlib import Path

from raincheck.core.errors import Fault, InvalidFile
from raincheck.engine.yaml_document import Document, load
from raincheck.functions.signature import escape

DEFAULT_CONFIG = Path("raincheck.yaml")

SECTIONS = ("groups", "schedules")


def find(config: str | os.PathLike[str] | None = None) -> Path | None:
    """The file: the one given, else ``RAINCHECK_CONFIG``, else ``raincheck.yaml`` here if there is one."""
    named = config or os.environ.get("RAINCHECK_CONFIG")
    if named:
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None


def read(path: Path) -> Document:
    """The document in a file, its sections known. Raises `InvalidFile` with every fault found."""
    document = load(path)
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        raise InvalidFile(document.locate(Fault(f"expected a mapping with {', '.join(SECTIONS)}")))
    unknown = [Fault("is no section of this file", f"/{escape(name)}") for name in data.keys() - {*SECTIONS}]
    if unknown:
        raise InvalidFile(*sorted(map(document.locate, unknown)))
    return document
