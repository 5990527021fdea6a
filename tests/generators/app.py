"""The app that the generated clients call: arguments and results of many kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic

from raincheck import App, Context, GroupJob

app = App()


class Kind(Enum):
    """The kinds of places."""

    CITY = "city"
    VILLAGE = "village"


class Point(NamedTuple):
    """Degrees."""

    north: float
    east: float


class City(msgspec.Struct, forbid_unknown_fields=True):
    """A place on a map. ``country`` is a code of two letters."""

    name: str
    country: str = "fr"
    kind: Kind = Kind.CITY
    at: Point | None = None


@dataclass
class Tree:
    """A tree of words."""

    word: str
    below: list[Tree] = field(default_factory=list)


class Rain(pydantic.BaseModel):
    """Water."""

    kind: Literal["rain"] = "rain"
    litres: Annotated[Decimal, pydantic.Field(ge=0, le=500)] = Decimal(1)


class Wind(pydantic.BaseModel):
    """Air."""

    kind: Literal["wind"]
    knots: Annotated[int, pydantic.Field(gt=0, description="How fast.")]
    gusts: list[Wind] | None = None


class Alert(pydantic.BaseModel):
    """What to beware of, until when."""

    model_config = pydantic.ConfigDict(extra="forbid")

    cause: Annotated[Rain | Wind, pydantic.Field(discriminator="kind")]
    until: datetime | None = None
    areas: dict[str, tuple[int, str]] = {}


class Weather(TypedDict, total=False):
    """What the sky does."""

    rain: float
    sky: Literal["blue", "grey"]


@app.function
def add(*numbers: int) -> int:
    """Add numbers."""
    return sum(numbers)


@app.function(wait=5)
def weather(city: City, days: int = 3, /, *, when: datetime | None = None) -> dict[str, Weather]:
    """The weather of a city for some days."""
    return {f"{city.name} {day}": {"rain": 0.5, "sky": "grey"} for day in range(days)}


@app.function
def warn(alert: Alert, /, *others: Alert) -> list[Alert]:
    """All alerts."""
    return [alert, *others]


@app.function("trees/words")
def words(tree: Tree) -> list[str]:
    """The words of a tree."""
    return [tree.word, *(word for each in tree.below for word in words(each))]


@app.function("trees_words")
def count_words(tree: Tree, more: dict[str, Tree] | None = None) -> int:
    """Their number."""
    return len(words(tree)) + sum(len(words(each)) for each in (more or {}).values())


@app.function("job")
def everything(
    ids: set[UUID],
    days: tuple[date, ...],
    pair: tuple[int, str],
    mode: Literal["a", "b", None] = None,
    **more: Any,
) -> tuple[int, str]:
    """A function whose name other operations have too."""
    return pair


@app.function("function")
def nothing() -> None:
    """Takes and returns nothing."""


@app.function
def refuse(reason: str) -> None:
    """Fails."""
    raise ValueError(reason)


@app.function
def total(ctx: Context) -> int:
    """The sum of the results before."""
    return sum(ctx.previous)


app.group("sums", [GroupJob("one", [add.step(1)]), GroupJob("two", [add.step(2)])], then=[total.step()])
