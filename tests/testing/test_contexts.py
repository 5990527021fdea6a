"""A context for a direct call of a function."""

from __future__ import annotations

import pytest

from raincheck import App, Context
from raincheck.core.errors import NotJSON
from raincheck.functions.context import Progress
from raincheck.testing import context

app = App()


@app.function
def works(ctx: Context, parts: int) -> list[object]:
    """Uses all that a context has."""
    for part in range(parts):
        if ctx.cancelled:
            break
        ctx.progress(part + 1, parts)
        ctx.log.info("part %d", part)
    ctx.data["parts"] = parts
    return [ctx.attempt, ctx.previous, ctx.data["by"], ctx.failed, ctx.state["scale"]]


def test_a_function_gets_what_the_test_says(caplog: pytest.LogCaptureFixture) -> None:
    """And what it reports, changes and logs can be looked at."""
    ctx = context(
        attempt=3, data={"by": "ann"}, previous=(1, 2), failed=(1,), state={"scale": 2}, function="works"
    )
    with caplog.at_level("INFO"):
        assert works(ctx, 2) == [3, [1, 2], "ann", (1,), 2]
    assert ctx.reported == [Progress(1, 2), Progress(2, 2)]
    assert ctx.changes == {"parts": 2}
    assert "works] part 1" in caplog.text
    assert (ctx.step.function, ctx.job.name) == ("works", "job")


def test_the_defaults_are_those_of_a_first_step() -> None:
    """The first attempt, without data or a result before."""
    ctx = context()
    assert (ctx.attempt, ctx.data, ctx.previous, ctx.failed, ctx.cancelled) == (1, {}, None, (), False)
    assert ctx.changes == {}


def test_a_function_sees_that_it_is_cancelled() -> None:
    """From the moment the test says so."""
    ctx = context(data={"by": "ann"}, state={"scale": 1})
    ctx.cancel()
    works(ctx, 2)
    assert ctx.reported == []


def test_what_cannot_be_in_a_context_is_refused() -> None:
    """As in a real job."""
    with pytest.raises(ValueError, match="the first attempt is attempt=1"):
        context(attempt=0)
    with pytest.raises(NotJSON):
        context(previous=object())
