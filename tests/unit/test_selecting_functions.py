"""Which functions of an app a worker offers: the patterns of `--functions`."""

from __future__ import annotations

import pytest

from raincheck.core.errors import ConfigError
from raincheck.core.text import matches
from raincheck.functions.registry import Function, Functions

NAMES = ("add", "mail/send", "mail/check", "resize", "resize-all")


@pytest.fixture
def functions() -> Functions:
    made = Functions()
    for name in NAMES:
        made.add(Function(lambda: None, name))
    return made


@pytest.mark.parametrize(
    ("patterns", "selected"),
    [
        ((), NAMES),
        (("*",), NAMES),
        (("add",), ("add",)),
        (("mail/*",), ("mail/send", "mail/check")),
        (("resize-all", "add"), ("add", "resize-all")),
        (("*e*", "!mail/*"), ("resize", "resize-all")),
        (("!resize*",), ("add", "mail/send", "mail/check")),
        (("!add", "*a*"), ("mail/send", "mail/check", "resize-all")),
    ],
)
def test_patterns_select_functions(
    functions: Functions, patterns: tuple[str, ...], selected: tuple[str, ...]
) -> None:
    """In the order of registration; those after ``!`` are left out, wherever they stand."""
    assert tuple(function.name for function in functions.select(patterns)) == selected


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        (("ad",), "no function matches 'ad'. Did you mean 'add'?"),
        (("!resise",), "no function matches '!resise'. Did you mean 'resize' or 'resize-all'?"),
        (
            ("zzz*",),
            "no function matches 'zzz*'. The functions are: add, mail/send, mail/check, resize, resize-all",
        ),
        (("add", ""), "no function matches ''"),
        (("add", "!*"), "add, !* leaves no function to offer"),
    ],
)
def test_a_pattern_without_a_function_is_an_error(
    functions: Functions, patterns: tuple[str, ...], told: str
) -> None:
    """It names the functions with a similar name."""
    with pytest.raises(ConfigError) as raised:
        functions.select(patterns)
    assert str(raised.value).startswith(told)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("a*", "a", True),
        ("*a", "ba", True),
        ("a*a", "a", False),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("**", "", True),
        ("a.c", "abc", False),
        ("*" * 50 + "x", "y" * 1000, False),
    ],
)
def test_a_star_matches_any_characters(pattern: str, text: str, expected: bool) -> None:
    """It is the only wildcard."""
    assert matches(pattern, text) is expected
