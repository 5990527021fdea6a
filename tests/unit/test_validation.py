"""From what a caller sent to a draft of a job."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import pytest
from msgspec import Raw

from raincheck.core.clock import to_datetime
from raincheck.core.errors import Fault, InvalidArguments, InvalidInput
from raincheck.core.limits import DAY, Limits
from raincheck.core.model import MAX_SECONDS, Job, RetryOptions, State, Step
from raincheck.core.options import MAX_PRIORITY, JobOptions
from raincheck.engine.validation import Stages, Validator
from raincheck.functions.registry import Function, Functions, step

NOW = 1000.0
LIMITS = Limits(steps=4, stage=3, name=10)
RETRY = RetryOptions(retry_limit=3)


def add(a: int, b: int = 0) -> int:
    return a + b


@pytest.fixture
def functions() -> Functions:
    made = Functions()
    made.add(Function(add, "add", retry=RETRY, timeout=30.0))
    return made


def submit(functions: Functions, stages: Any = None, name: str = "job", **fields: Any) -> Job:
    """A draft, of one step by default."""
    chosen: Stages = [step("add", 1)] if stages is None else stages
    for field in ("scheduled_at", "expires_at"):
        if field in fields:
            fields[field] = to_datetime(fields[field])
    if "data" in fields:
        fields["data"] = Raw(fields["data"])
    return Validator(functions, LIMITS).draft(name, chosen, JobOptions(**fields), NOW)


def faults_of(functions: Functions, stages: Any = None, **fields: Any) -> list[tuple[str, str]]:
    """What is wrong with it."""
    with pytest.raises(InvalidInput) as caught:
        submit(functions, stages, **fields)
    return [*caught.value.faults]


class TestDraft:
    """A job that may be submitted."""

    def test_it_has_an_id_and_all_that_was_said(self, functions: Functions) -> None:
        """Each draft its own."""
        job = submit(functions, name="n", data=b'{"a":1}', priority=5, result_ttl=60.0, expires_at=NOW + 9)
        assert (job.name, job.data, job.priority, job.result_ttl) == ("n", b'{"a":1}', 5, 60.0)
        assert (job.expires_at, job.scheduled_at) == (NOW + 9, None)
        assert job.id != submit(functions).id

    def test_an_ended_job_is_kept_for_seven_days(self, functions: Functions) -> None:
        """The default; the job or the app can change it."""
        assert submit(functions).result_ttl == 7 * DAY

    @pytest.mark.parametrize("fields", [{"delay": 5.0}, {"scheduled_at": NOW + 5}])
    def test_a_delay_is_a_date(self, functions: Functions, fields: dict[str, Any]) -> None:
        """Counted from now."""
        assert submit(functions, **fields).scheduled_at == NOW + 5

    def test_a_list_is_a_parallel_stage(self, functions: Functions) -> None:
        """Steps of one stage share its number."""
        job = submit(functions, [step("a"), [step("b"), step("c")], (step("d"),)])
        assert [(s.function, s.stage) for s in job.steps] == [("a", 0), ("b", 1), ("c", 1), ("d", 2)]

    def test_options_of_the_function_are_filled_in(self, functions: Functions) -> None:
        """Then they are the same in every process."""
        (known, unknown) = submit(functions, [step("add", 1), step("other")]).steps
        assert (known.retry, known.timeout) == (RETRY, 30.0)
        assert (unknown.retry, unknown.timeout) == (None, None)

    def test_options_of_the_step_go_first(self, functions: Functions) -> None:
        """Each on its own."""
        own = RetryOptions(retry_limit=9)
        first, second, third = submit(
            functions,
            [
                step("add", 1).options(retry=own),
                step("add", 1).options(timeout=0.5),
                step("add", 1).options(retry=own, timeout=0.5),
            ],
        ).steps
        assert (first.retry, first.timeout) == (own, 30.0)
        assert (second.retry, second.timeout) == (RETRY, 0.5)
        assert (third.retry, third.timeout) == (own, 0.5)

    def test_a_step_begins_anew(self, functions: Functions) -> None:
        """Its outcome in another job is not copied."""
        old = Step("other", 7, b"[1]", b'{"a":2}', state=State.DONE, retry_count=3, result=b"1", worker="w")
        assert submit(functions, [old]).steps == (Step("other", 0, b"[1]", b'{"a":2}'),)

    def test_an_unknown_function_is_accepted(self, functions: Functions) -> None:
        """With any arguments: a worker that knows it may start later."""
        assert submit(functions, [step("unknown", 1, x=2)]).steps == (Step("unknown", 0, b"[1]", b'{"x":2}'),)


class TestFaults:
    """What is wrong, and where in the body of the request."""

    @pytest.mark.parametrize(
        ("stages", "pointers"),
        [
            ([], ["/functions"]),
            ([[]], ["/functions/0"]),
            ([step("add", 1), []], ["/functions/1"]),
            ([step("add")], ["/functions/0"]),
            ([step("add", "1", 2)], ["/functions/0/args/0"]),
            ([step("add", 1, "2")], ["/functions/0/args/1"]),
            ([step("add", 1, c=2)], ["/functions/0/kwargs/c"]),
            ([step("x"), step("add", "1", b="2")], ["/functions/1/args/0", "/functions/1/kwargs/b"]),
            ([step("x"), step("x"), [step("x"), step("..")]], ["/functions/2/1/name"]),
            ([[step("add", "1")]], ["/functions/0/0/args/0"]),
            ([step("add", 1).options(timeout=0.0)], ["/functions/0/timeout"]),
            ([step("x").options(timeout=math.nan)], ["/functions/0/timeout"]),
            (
                [[step("x").options(retry=RetryOptions(retry_limit=0))]],
                ["/functions/0/0/retry_options/retry_limit"],
            ),
            ([step("x")] * 5, ["/functions"]),
            ([[step("x")] * 3, [step("x")] * 2], ["/functions"]),
            ([step("x"), [step("x")] * 4], ["/functions/1"]),
        ],
    )
    def test_steps(self, functions: Functions, stages: Stages, pointers: list[str]) -> None:
        """Each fault points at its own."""
        assert [pointer for _, pointer in faults_of(functions, stages)] == pointers

    @pytest.mark.parametrize("stages", [[[step("x")] * 4], [step("x")] * 5])
    def test_what_is_too_wide_or_too_long_is_told_of_groups(self, functions: Functions, stages: Any) -> None:
        """They are the way for wide fan-out."""
        ((detail, _),) = faults_of(functions, stages)
        assert "use a group" in detail

    @pytest.mark.parametrize("stages", ["x", ["add"], [add], [[step("x"), [step("y")]]], [None]])
    def test_what_is_no_step(self, functions: Functions, stages: Any) -> None:
        """Nor a list of them: one level deep is as deep as lists go."""
        assert all(
            re.search("expected a (list of )?step", detail) for detail, _ in faults_of(functions, stages)
        )

    @pytest.mark.parametrize(
        ("fields", "pointers"),
        [
            ({"name": ""}, ["/name"]),
            ({"name": "n" * 11}, ["/name"]),
            ({"name": "a\nb"}, ["/name"]),
            ({"name": "a\0"}, ["/name"]),
            ({"name": "\ud800"}, ["/name"]),
            ({"data": b"[]"}, ["/data"]),
            ({"delay": -1.0}, ["/delay"]),
            ({"delay": math.nan}, ["/delay"]),
            ({"delay": 1.0, "scheduled_at": NOW + 1}, ["/delay"]),
            ({"scheduled_at": NOW + MAX_SECONDS + 1}, ["/scheduled_at"]),
            ({"expires_at": NOW}, ["/expires_at"]),
            ({"expires_at": NOW + MAX_SECONDS + 1}, ["/expires_at"]),
            ({"expires_at": NOW + 5, "delay": 5.0}, ["/expires_at"]),
            ({"priority": MAX_PRIORITY + 1}, ["/priority"]),
            ({"priority": -MAX_PRIORITY - 1}, ["/priority"]),
            ({"result_ttl": -1.0}, ["/result_ttl"]),
            ({"result_ttl": math.inf}, ["/result_ttl"]),
        ],
    )
    def test_fields(self, functions: Functions, fields: dict[str, Any], pointers: list[str]) -> None:
        """Nothing that could not be stored, shown or waited for gets in."""
        assert [pointer for _, pointer in faults_of(functions, **fields)] == pointers

    @pytest.mark.parametrize("delay", [math.inf, MAX_SECONDS + 1])
    def test_a_delay_beyond_all_plans(self, functions: Functions, delay: float) -> None:
        """As its date would be."""
        assert "/delay" in [pointer for _, pointer in faults_of(functions, delay=delay)]

    @pytest.mark.parametrize("fields", [{"priority": 1.5}, {"priority": True}, {"result_ttl": Decimal(5)}])
    def test_what_could_not_be_read_again(self, functions: Functions, fields: dict[str, Any]) -> None:
        """Python lets anything through; a job that no worker can read must not be stored."""
        ((detail, _),) = faults_of(functions, **fields)
        assert "wrong type" in detail

    def test_everything_at_once(self, functions: Functions) -> None:
        """A caller learns of all that is wrong in one go."""
        stages = [step("add", "1"), step("..")]
        assert [pointer for _, pointer in faults_of(functions, stages, name="", priority=9999)] == [
            "/functions/1/name",
            "/name",
            "/priority",
            "/functions/0/args/0",
        ]

    def test_the_kind_tells_whether_only_arguments_do_not_fit(self, functions: Functions) -> None:
        """Such a request was well-formed."""
        with pytest.raises(InvalidArguments) as only:
            submit(functions, [step("add", "1"), step("add")])
        assert only.value.faults == (
            Fault("argument 'a': expected `int`, got `str`", "/functions/0/args/0"),
            Fault("argument 'a' is missing", "/functions/1"),
        )
        with pytest.raises(InvalidInput) as both:
            submit(functions, [step("add", "1")], name="")
        assert not isinstance(both.value, InvalidArguments)
