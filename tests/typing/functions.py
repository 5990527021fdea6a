"""What type checkers see of functions: mypy and pyright read this file, nothing runs it.

A line that must be an error has a ``type: ignore``; both checkers report one that is not needed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, assert_type

from raincheck import App, Context, Function, RetryOptions, Step, injected, step


async def timing(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
    return await call_next()


async def without_next(ctx: Context) -> Any:
    return 1


app = App("sqlite://", middleware=[timing])
App("sqlite://", middleware=[without_next])  # type: ignore[list-item]


@dataclass
class Point:
    x: int
    y: int = 0


@app.function
def add(a: int, b: int = 0) -> int:
    return a + b


@app.function
async def greet(name: str, *, times: int = 1) -> str:
    return name * times


@app.function
def moved(ctx: Context, point: Point, by: int) -> Point:
    return Point(point.x + by, point.y)


@app.function
async def report(ctx: Context, city: str) -> list[Point]:
    return [Point(ctx.attempt, len(city))]


@app.function("math:total", retry=RetryOptions(retry_limit=3), timeout=30, wait=1.0)
def total(*numbers: float) -> float:
    return sum(numbers)


@app.function("later", process=True)
async def later(ctx: Context, number: int) -> int | None:
    return number


@app.function
async def nothing() -> None: ...


@app.function
async def merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return first | second


@app.function
def loose(value: Any, times: int) -> int:
    return times


class Pool:
    size = 1


class Session:
    pool: Pool


@app.dependency
async def open_pool() -> AsyncIterator[Pool]:
    yield Pool()


@app.dependency(scope="attempt")
def begin(pool: Pool, ctx: Context) -> Iterator[Session]:
    yield Session()


@app.function
async def count(table: str, pool: Pool = injected, *, session: Session = injected) -> int:
    return pool.size


@app.function
def annotated(pool: Pool, table: str) -> int:
    return pool.size


async def dependencies() -> None:
    """Callers pass no dependency whose default is `injected`; the functions stay what they are."""
    assert_type(await count.call("users"), int)
    assert_type(count.step("users"), Step[int])
    await count.call()  # type: ignore[call-arg]
    await count.call(3)  # type: ignore[arg-type]
    await annotated.call("users")  # type: ignore[call-arg, arg-type]
    assert_type(open_pool(), AsyncIterator[Pool])
    assert_type(begin(Pool(), Context(*[])), Iterator[Session])
    with app.override(Pool, object()):
        pass
    app.dependency(scope="request")  # type: ignore[call-overload]


async def calls() -> None:
    """A call returns the annotated type, and that of the awaited result of an async function."""
    assert_type(await add.call(1, 2), int)
    assert_type(await greet.call("Ann", times=2), str)
    assert_type(await moved.call(Point(1), 2), Point)
    assert_type(await report.call("Paris"), list[Point])
    assert_type(await total.call(1, 2.5), float)
    assert_type(await later.call(1), int | None)
    assert_type(await nothing.call(), None)
    assert_type(await merge.call({}, {"a": 1}), dict[str, Any])


async def wrong_calls() -> None:
    """Arguments that do not fit are errors, and the context is not one of them."""
    await add.call("x")  # type: ignore[arg-type]
    await add.call()  # type: ignore[call-arg]
    await add.call(1, 2, 3)  # type: ignore[call-arg]
    await add.call(1, c=2)  # type: ignore[call-arg]
    await greet.call("Ann", 2)  # type: ignore[call-arg]
    await moved.call({"x": 1}, 2)  # type: ignore[arg-type]
    await report.call(3)  # type: ignore[arg-type]
    await total.call("1")  # type: ignore[arg-type]
    await later.call("1")  # type: ignore[arg-type]
    await nothing.call(None)  # type: ignore[call-arg]
    await merge.call([], {})  # type: ignore[arg-type]


async def steps() -> None:
    """A step has the type of its result: so a call of it is typed, too."""
    assert_type(add.step(1), Step[int])
    assert_type(add.step(1).options(timeout=5), Step[int])
    assert_type(await app.call(report.step("Paris")), list[Point])
    assert_type(app.blocking.call(moved.step(Point(1), by=2)), Point)
    assert_type(await app.call(step("unknown", 1)), Any)


def wrong_steps() -> None:
    """What does not fit a function does not fit its steps."""
    add.step("x")  # type: ignore[arg-type]
    greet.step(3)  # type: ignore[arg-type]
    moved.step(Context, Point(1), 2)  # type: ignore[arg-type, call-arg]
    total.step(1, "2")  # type: ignore[arg-type]


async def jobs() -> None:
    """Steps of any functions make a job; what is not a step is an error."""
    await app.submit("all", [add.step(1, 2), [greet.step("Ann"), total.step()], step("unknown")])
    await app.submit("one", add.step(1, 2))  # type: ignore[arg-type]
    await app.submit("names", ["add"])  # type: ignore[list-item]
    app.blocking.call(add(1, 2) or add)  # type: ignore[arg-type]


async def twice(function: Function[[int], int], number: int) -> int:
    """Code about functions can be typed."""
    return await function.call(await function.call(number))


everything: list[Function] = [add, greet, moved, report, total, later, nothing, merge, loose]
each: list[Step] = [add.step(1), greet.step("Ann")]
name: str = add.__name__


def wrong_options() -> None:
    """Options of other types are errors."""
    app.function(timeout="1h")  # type: ignore[call-overload]
    app.function("name", retries=3)  # type: ignore[call-overload]
