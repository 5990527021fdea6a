"""The options by which commands choose jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

from cyclopts import Parameter, Token

from raincheck.core.model import State
from raincheck.engine.filters import FilterKeywords, JobFilter, filter_of


def _states(kind: Any, tokens: Sequence[Token]) -> tuple[State, ...]:
    """The states in the values of an option: repeated, or separated by commas."""
    return tuple(State(word) for token in tokens for word in token.value.split(","))


@Parameter(name="*")
@dataclass(frozen=True)
class Matching:
    """The jobs that a command is about: those that match all options."""

    state: Annotated[
        tuple[State, ...], Parameter(converter=_states, consume_multiple=False, show_default=False)
    ] = ()
    """Only jobs in this state; repeat the option, or separate several states by commas."""
    name: str | None = None
    """Only jobs with this name."""
    function: str | None = None
    """Only jobs that contain this function."""
    group: str | None = None
    """Only runs of this group, and their jobs."""
    schedule: str | None = None
    """Only jobs that this schedule created."""
    error: str | None = None
    """Only failed jobs with this type of error, or this exception."""
    since: str | None = None
    """Only jobs created since then: a date with offset, or a duration back from now, such as 1h."""
    until: str | None = None
    """Only jobs created before then."""

    @property
    def keywords(self) -> FilterKeywords:
        """The options as keyword arguments of the client."""
        given: Any = {field.name: getattr(self, field.name) for field in fields(self)}
        keywords: FilterKeywords = given
        return keywords

    @property
    def filter(self) -> JobFilter:
        """The filter to send. Raises `InvalidInput`."""
        return filter_of(self.keywords)


EVERY_JOB = Matching()
