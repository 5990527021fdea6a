"""A type that an app encodes and decodes, and functions for child processes."""

from __future__ import annotations

from typing import Any

from raincheck import Context


class Money:
    """A type that only `encode` and `decode` know."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


def encode(value: Any) -> Any:
    if isinstance(value, Money):
        return {"cents": value.cents}
    raise NotImplementedError


def decode(kind: Any, value: Any) -> Any:
    if kind is Money:
        return Money(value["cents"])
    raise NotImplementedError


def double(amount: Money) -> Money:
    return Money(2 * amount.cents)


def note(ctx: Context, amounts: list[Money]) -> int:
    ctx.data["spent"] = amounts[0]
    return len(amounts)


def lie() -> int:
    return "not a number"  # type: ignore[return-value]


async def lie_later() -> list[int]:
    return [1, "two"]  # type: ignore[list-item]


def price() -> Money:
    return Money(250)
