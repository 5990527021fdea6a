"""What a running function is given."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.core.codec import from_json, merge, to_json
from raincheck.core.errors import NotJSON
from raincheck.core.model import Job, Step
from raincheck.functions.context import Context

objects = st.dictionaries(
    st.sampled_from("abcd"), st.none() | st.integers() | st.lists(st.none() | st.text("xy"), max_size=2)
)


def context(data: bytes = b"{}", previous: bytes = b"null", **options: Any) -> Context:
    """The context of the second step of a job."""
    steps = (Step("first", 0), Step("second", 1, retry_count=2, lost_count=1))
    return Context(Job("the-id", "name", steps, data=data), 1, previous, **options)


class TestData:
    """What the functions of a job share."""

    def test_nothing_changed_if_nobody_looked(self) -> None:
        """It is not even decoded."""
        assert context(b"no JSON at all").changed_data() is None

    def test_reading_changes_nothing(self) -> None:
        """However the stored bytes are spaced, and in whatever order."""
        ctx = context(b'{ "b" : [1.0, null], "a" : {"z":1,"y":2} }')
        assert ctx.data == {"b": [1.0, None], "a": {"z": 1, "y": 2}}
        assert ctx.changed_data() is None

    def test_only_what_changed_is_stored(self) -> None:
        """A change deep inside counts, and so does a new key."""
        ctx = context(b'{"a":{"n":[1]},"b":1,"c":2}')
        ctx.data["a"]["n"].append(None)
        ctx.data["c"] = 2
        ctx.data["d"] = None
        assert ctx.changed_data() == b'{"a":{"n":[1,null]},"d":null}'

    def test_a_key_that_was_removed_stays_stored(self) -> None:
        """Another member of the stage may need it."""
        ctx = context(b'{"a":1}')
        del ctx.data["a"]
        assert ctx.changed_data() is None

    def test_what_is_not_json_is_told_with_its_key(self) -> None:
        """Before anything is stored."""
        ctx = context(b"{}")
        ctx.data["a"] = {"b": [object()]}
        with pytest.raises(NotJSON, match=r"at \$\.a\.b\[0\]$"):
            ctx.changed_data()

    @given(objects, objects)
    def test_changes_merge_into_what_was_wanted(self, before: dict[str, Any], wanted: dict[str, Any]) -> None:
        """The stored data with the changes is what the function saw at its end."""
        stored = to_json(before)
        ctx = context(stored)
        ctx.data.update(wanted)
        changes = ctx.changed_data()
        assert from_json(stored if changes is None else merge(stored, changes)) == before | wanted


class TestJob:
    """Where the function is in its job."""

    def test_it_knows_its_job_and_step(self) -> None:
        """As they were when the attempt began."""
        ctx = context()
        assert (ctx.job.id, ctx.step.function) == ("the-id", "second")

    def test_attempts_count_from_one_with_the_lost(self) -> None:
        """Two failed, one was lost: this is the fourth."""
        assert context().attempt == 4

    @pytest.mark.parametrize(("previous", "value"), [(b"null", None), (b"[1,[2]]", [1, [2]])])
    def test_previous_is_the_result_before(self, previous: bytes, value: Any) -> None:
        """A list after a parallel stage."""
        assert context(previous=previous).previous == value

    def test_state_is_what_the_lifespan_yielded(self) -> None:
        """Nothing, if there is none."""
        assert context(state={"db": 1}).state == {"db": 1}
        assert context().state == {}


class TestTelling:
    """What a function tells while it runs."""

    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            ((0.5,), b'{"done":0.5}'),
            ((3, 10), b'{"done":3,"total":10}'),
            ((3, 10, "half way"), b'{"done":3,"total":10,"message":"half way"}'),
        ],
    )
    def test_progress_is_reported_as_json(self, told: tuple[Any, ...], expected: bytes) -> None:
        """What was not given is left out."""
        reports: list[bytes] = []
        context(report=reports.append).progress(*told)
        assert reports == [expected]

    def test_progress_must_be_a_number(self) -> None:
        """One that is none is the function's mistake."""
        with pytest.raises(NotJSON):
            context().progress(float("nan"))

    def test_it_can_ask_whether_to_stop(self) -> None:
        """At any time; by default there is nobody who could say so."""
        answers = iter([False, True])
        ctx = context(cancelled=lambda: next(answers))
        assert (ctx.cancelled, ctx.cancelled, context().cancelled) == (False, True, False)

    def test_lines_of_its_log_name_the_job(self, caplog: pytest.LogCaptureFixture) -> None:
        """And the function, in the line and in the record."""
        with caplog.at_level(logging.INFO, "raincheck.function"):
            context().log.info("so far %d", 7, extra={"more": 1})
        (record,) = caplog.records
        assert record.getMessage() == "[the-id second] so far 7"
        fields = {"job": "the-id", "function": "second", "attempt": 4, "more": 1}
        assert fields.items() <= vars(record).items()
