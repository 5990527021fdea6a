"""Groups as values: definitions, faults, and the jobs of a run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from raincheck import App, Limits, step
from raincheck.core.clock import new_id
from raincheck.core.codec import from_json
from raincheck.core.errors import InvalidInput, RegistrationError, TooLarge
from raincheck.core.options import TemplateOptions
from raincheck.engine.groups.definitions import Group, GroupJob, checked, from_code, from_plain
from raincheck.engine.groups.runs import member_id, member_ids, members_of, run_of
from raincheck.engine.validation import Stages, Validator
from raincheck.functions.registry import Functions
from raincheck.store.valkey.keys import packed

LIMITS = Limits(members=100)
NONE = Functions()


def made(plain: Any, functions: Functions = NONE, limits: Limits = LIMITS) -> Group:
    """The group that a definition in a file makes."""
    definition, faults = from_plain(plain)
    return checked("g", definition, Validator(functions, limits), faults)


def pointers(plain: Any, functions: Functions = NONE, limits: Limits = LIMITS) -> list[str]:
    """Where the faults of a definition are."""
    with pytest.raises(InvalidInput) as raised:
        made(plain, functions, limits)
    return [fault.pointer for fault in raised.value.faults]


def job(*functions: Any, name: str = "j", **fields: Any) -> dict[str, Any]:
    """A job in a file."""
    return {"name": name, "functions": list(functions), **fields}


class TestDefinition:
    """What a file may say."""

    def test_a_function_is_a_name_or_more(self) -> None:
        """Stages too, as in the API."""
        group = made({"jobs": [job("a", ["b", {"name": "c", "args": [1]}])], "then": ["d", ["e", "f"]]})
        (member,) = group.members
        assert [(s.function, s.stage, s.args) for s in member.steps] == [
            ("a", 0, b"[]"), ("b", 1, b"[]"), ("c", 1, b"[1]"),
        ]  # fmt: skip
        assert [(s.function, s.stage) for s in group.then] == [("d", 0), ("e", 1), ("f", 1)]

    def test_what_the_group_says_holds_for_jobs_that_do_not(self) -> None:
        """Data is merged, a job's own going first; so does its priority."""
        jobs = [job("a", data={"x": 1}), job("a", priority=3, data={"y": 2})]
        group = made({"jobs": jobs, "data": {"x": 0, "z": 0}, "priority": 1})
        assert [member.data for member in group.members] == [b'{"x":1,"z":0}', b'{"x":0,"z":0,"y":2}']
        assert [member.priority for member in group.members] == [1, 3]

    @pytest.mark.parametrize(
        ("plain", "where"),
        [
            (None, [""]),
            ([], [""]),
            ({}, [""]),
            ({"jobs": None}, ["/jobs"]),
            ({"jobs": []}, ["/jobs"]),
            ({"jobs": [job("a")] * 101}, ["/jobs"]),
            ({"jobs": [job()]}, ["/jobs/0/functions"]),
            ({"jobs": [job("a", name=""), job([])]}, ["/jobs/0/name", "/jobs/1/functions/0"]),
            ({"jobs": [job("a"), job("a b"), 3]}, ["/jobs/2", "/jobs/1/functions/0/name"]),
            ({"jobs": [job({"name": "a", "args": {}, "kwargs": []})]},
             ["/jobs/0/functions/0/args", "/jobs/0/functions/0/kwargs"]),
            ({"jobs": [job("a")], "then": ["b", "c d"]}, ["/then/1/name"]),
            ({"jobs": [job("a")], "then": [{"name": "b", "x": 1}]}, ["/then/0/x"]),
            ({"jobs": [job("a")], "data": []}, ["/data"]),
            ({"jobs": [job("a", delay=1)]}, ["/jobs/0/delay"]),
            ({"jobs": [job("a", data={"x": "y" * 2000})]}, ["/jobs"]),
            ({"jobs": [job("a")], "result_ttl": -1}, ["/result_ttl"]),
        ],
    )  # fmt: skip
    def test_each_fault_is_pointed_at(self, plain: Any, where: list[str]) -> None:
        """As far as it can be understood."""
        assert pointers(plain, limits=Limits(members=100, group=1000)) == where

    def test_arguments_are_checked_if_the_function_is_known(self) -> None:
        """If not, a worker may come that knows it."""
        app = App()

        @app.function
        def add(a: int, b: int = 0) -> int:
            return a + b

        plain = {"jobs": [job({"name": "add", "args": ["x"]}), job("unknown")], "then": ["add"]}
        assert pointers(plain, app.functions) == ["/jobs/0/functions/0/args/0", "/then/0"]

    def test_a_name_is_one_part_of_a_path(self) -> None:
        """In code it is refused at once."""
        app = App()
        for name in ("", "a/b", ".a", "a b", "x" * 201):
            with pytest.raises(RegistrationError):
                app.group(name, [])
        app.group("nightly:v1.2@x", [])
        with pytest.raises(RegistrationError, match="is already declared"):
            app.group("nightly:v1.2@x", [])


def group(size: int, data: bytes = b"{}") -> Group:
    """A group of ``size`` jobs."""
    jobs = [GroupJob(f"m{i}", [step("f", i)], from_json(data)) for i in range(size)]
    then: Stages = [step("then"), [step("a"), step("b")]]
    return checked("g", from_code(jobs, then, "fail", TemplateOptions()), Validator(NONE, Limits()))


class TestRun:
    """The jobs of a run."""

    def test_a_run_gathers_first_and_then_goes_on(self) -> None:
        """Its stages follow each other without a gap."""
        run = run_of(group(2), b'{"x":1}', {}, Validator(NONE, LIMITS))
        assert [(s.function, s.stage, s.gather is not None) for s in run.steps] == [
            ("group:g", 0, True), ("then", 1, False), ("a", 2, False), ("b", 2, False),
        ]  # fmt: skip
        assert (run.name, run.group, run.run_of, run.data) == ("g", "g", None, b'{"x":1}')

    def test_members_are_the_same_whoever_makes_them(self) -> None:
        """Their ids follow from the run's."""
        run = run_of(group(5), b"{}", {}, Validator(NONE, LIMITS))
        assert list(members_of(run)) == list(members_of(run))
        assert [member.id for member in members_of(run)] == member_ids(run.id, 5)
        assert {(member.group, member.run_of) for member in members_of(run)} == {("g", run.id)}

    def test_ids_are_valid_sorted_and_spread_over_shards(self) -> None:
        """As all ids of jobs are: UUIDs of version 7, the last byte being random."""
        run_id = new_id()
        ids = member_ids(run_id, 10_000)
        assert [run_id, *ids] == sorted({run_id, *ids})
        assert all(packed(each)[6] >> 4 == 7 and packed(each)[8] >> 6 == 2 for each in ids)
        shards = Counter(packed(each)[-1] % 8 for each in ids)
        assert min(shards.values()) > 1000
        assert not {member_id(new_id(), 0) for _ in range(100)} & set(ids)

    def test_data_for_all_jobs_is_bounded(self) -> None:
        """For it is kept with each."""
        with pytest.raises(TooLarge):
            run_of(group(100), b'{"x":"%b"}' % (b"y" * 1000), {}, Validator(NONE, Limits(group=50_000)))

    def test_other_arguments_go_to_all_jobs_of_the_name(self) -> None:
        """Spaces around them do no harm."""
        run = run_of(group(3), b"{}", {"m1": b' {"a": 2}'}, Validator(NONE, LIMITS))
        assert [(m.steps[0].args, m.steps[0].kwargs) for m in members_of(run)] == [
            (b"[0]", b"{}"), (b"[]", b'{"a": 2}'), (b"[2]", b"{}"),
        ]  # fmt: skip
