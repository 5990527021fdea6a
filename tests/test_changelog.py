"""The changelog and the version move together."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_top_entry_is_the_version() -> None:
    """The changelog's first entry is about the version in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    entries = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert entries[0] == project["version"]
