"""When a failed attempt is followed by another: arithmetic, and the names of exceptions."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.core.errors import RetryLater
from raincheck.core.model import MAX_SECONDS, RetryOptions
from raincheck.core.retry import check, names_of, pause, retryable

options = st.builds(
    RetryOptions,
    delay=st.floats(0, MAX_SECONDS),
    backoff=st.floats(1, 1000),
    max_delay=st.floats(0, MAX_SECONDS),
    jitter=st.floats(0, 1),
)
chances = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(("attempts", "expected"), [(1, 2.0), (2, 6.0), (3, 18.0), (4, 50.0), (99, 50.0)])
def test_the_pause_grows_up_to_its_ceiling(attempts: int, expected: float) -> None:
    """By the backoff, from the delay on."""
    chosen = RetryOptions(delay=2.0, backoff=3.0, max_delay=50.0, jitter=0.0)
    assert pause(chosen, attempts, 0.0) == expected


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 10.0), (0.5, 7.5), (0.999, 5.005)])
def test_jitter_takes_off_up_to_its_share(chance: float, expected: float) -> None:
    """Half of it at most, with a jitter of a half."""
    assert pause(RetryOptions(delay=10.0, jitter=0.5), 1, chance) == pytest.approx(expected)


@given(options, st.integers(1, 1_000_000), chances)
def test_the_pause_stays_within_its_bounds(chosen: RetryOptions, attempts: int, chance: float) -> None:
    """Never negative, never over the ceiling, however many attempts there were."""
    full = pause(chosen, attempts, 0.0)
    assert full * (1 - chosen.jitter) * (1 - 1e-9) <= pause(chosen, attempts, chance) <= full
    assert min(chosen.delay, chosen.max_delay) <= full <= chosen.max_delay


@given(options, st.integers(1, 1_000_000))
def test_the_pause_never_shrinks(chosen: RetryOptions, attempts: int) -> None:
    """The next one is as long, or longer."""
    assert pause(chosen, attempts, 0.0) <= pause(chosen, attempts + 1, 0.0)


def test_no_delay_stays_none_when_the_backoff_overflows() -> None:
    """Nothing, however often doubled, is nothing."""
    assert pause(RetryOptions(delay=0.0, backoff=1000.0), 1_000_000, 0.5) == 0.0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(0.0, 0.0), (7.5, 7.5), (9999.0, 9999.0), (-1.0, 0.0), (math.inf, MAX_SECONDS), (math.nan, 0.0)],
)
def test_what_an_exception_asks_for_goes_before_the_options(asked: float, expected: float) -> None:
    """Ceiling and jitter do not apply to it; nonsense is bounded."""
    assert pause(RetryOptions(delay=1.0, max_delay=10.0), 3, 0.5, asked) == expected


NAMES = ("ConnectionRefusedError", "ConnectionError", "OSError", "Exception", "BaseException")


@pytest.mark.parametrize(
    ("retry_on", "fail_on", "expected"),
    [
        ((), (), True),
        (("ConnectionError",), (), True),
        (("OSError", "KeyError"), (), True),
        (("KeyError",), (), False),
        ((), ("OSError",), False),
        ((), ("KeyError",), True),
        (("OSError",), ("ConnectionRefusedError",), False),
        (("ConnectionRefusedError",), ("OSError",), False),
    ],
)
def test_which_exceptions_are_tried_again(
    retry_on: tuple[str, ...], fail_on: tuple[str, ...], expected: bool
) -> None:
    """Subclasses count, and ``fail_on`` goes before ``retry_on``."""
    assert retryable(RetryOptions(retry_on=retry_on, fail_on=fail_on), NAMES) is expected


def test_an_exception_is_named_bare_and_in_full() -> None:
    """As are its bases; those that are built in have no module to name."""
    assert names_of(RetryLater) == (
        "RetryLater",
        "raincheck.core.errors.RetryLater",
        "RaincheckError",
        "raincheck.core.errors.RaincheckError",
        "Exception",
        "BaseException",
    )


@pytest.mark.parametrize(
    "made",
    [
        RetryOptions(retry_limit=0),
        RetryOptions(delay=-1.0),
        RetryOptions(delay=math.nan),
        RetryOptions(delay=math.inf),
        RetryOptions(backoff=0.5),
        RetryOptions(jitter=1.5),
        RetryOptions(lost_limit=-1),
        RetryOptions(retry_on=(ValueError,)),  # not by its name: see RetryOptions.of
    ],
)
def test_options_beyond_their_bounds_are_refused(made: RetryOptions) -> None:
    """Python lets them be made, but a record with such could not be read again."""
    with pytest.raises(msgspec.ValidationError):
        check(made)


def test_options_within_their_bounds_pass() -> None:
    """Whole numbers do where seconds are asked for."""
    check(RetryOptions(retry_limit=3, delay=1, retry_on=("ValueError",)))
