"""Jobs as callers see them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from raincheck.core.clock import to_datetime
from raincheck.core.model import FunctionInfo, RetryOptions, State, WorkerInfo
from raincheck.engine.documents import (
    FunctionDocument,
    JobDocument,
    encode,
    event_documents,
    function_summary,
    job_document,
    raw,
    worker_document,
)
from raincheck.functions.registry import Function
from tests.unit.world import NOW, OPTIONS, World, draft

START = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=NOW)


def function(document: JobDocument, index: int = 0) -> FunctionDocument:
    """A stage that is a function."""
    found = document.functions[index]
    assert isinstance(found, FunctionDocument)
    return found


def names(document: JobDocument) -> list[Any]:
    """The functions by name, in their stages."""
    return [
        [f.name for f in stage] if isinstance(stage, list) else stage.name for stage in document.functions
    ]


class TestJobs:
    """A job, from its submit to its end."""

    def test_a_new_job(self) -> None:
        """All its fields, with their names."""
        document = json.loads(encode(job_document(World(draft(["a"], data=b'{"x":1}')).stored, decode=raw)))
        assert document == {
            "id": "id",
            "name": "test",
            "state": "pending",
            "functions": [
                {
                    "name": "a",
                    "args": [],
                    "kwargs": {},
                    "retry_count": 0,
                    "lost_count": 0,
                    "retry_options": {"retry_limit": 2, "delay": 5.0, "jitter": 0.0, "lost_limit": 1},
                    "timeout": None,
                    "state": "pending",
                    "result": None,
                    "error": None,
                    "started_at": None,
                    "finished_at": None,
                    "worker": None,
                    "progress": None,
                }
            ],
            "current_function": 0,
            "data": {"x": 1},
            "result": None,
            "error": None,
            "priority": 0,
            "run": 1,
            "waiting_for": [],
            "warnings": [],
            "created_at": "1970-01-01T00:16:40Z",
            "updated_at": "1970-01-01T00:16:40Z",
            "scheduled_at": "1970-01-01T00:16:40Z",
            "finished_at": None,
            "expires_at": None,
            "cancel_requested_at": None,
            "result_ttl": 60.0,
            "group": None,
            "schedule": None,
        }

    def test_a_chain_that_is_done(self) -> None:
        """As the second seed shows it: the last function is the current one."""
        world = World(draft(["a", "b", "c"]))
        for i in range(3):
            world.succeed(i, b"%d" % i)
        document = job_document(world.stored)
        assert (document.state, document.current_function, document.result) == (State.DONE, 2, 2)
        assert [function(document, i).retry_count for i in range(3)] == [1, 1, 1]
        assert document.finished_at == START

    def test_a_parallel_stage_is_a_list(self) -> None:
        """And so is its result."""
        world = World(draft(["a", ["b", "c"]]))
        for i in range(3):
            world.succeed(i, b"%d" % i)
        document = job_document(world.stored)
        assert (names(document), document.current_function, document.result) == (["a", ["b", "c"]], 1, [1, 2])

    def test_a_stage_of_one_is_a_function(self) -> None:
        """Also if it was sent as a list."""
        assert names(job_document(World(draft([["a"], ["b", "c"]])).stored)) == ["a", ["b", "c"]]

    def test_a_leased_step_is_being_done(self) -> None:
        """And so is its job; worker, start and progress are those of the lease."""
        world = World(draft([["a", "b"]]))
        world.fail(0)
        world.now += 5
        world.claim(0)
        world.leases[0] = msgspec.structs.replace(world.leases[0], worker="other", progress=b'{"done":0.5}')
        document = job_document(world.stored)
        ((first, second),) = [stage for stage in document.functions if isinstance(stage, list)]
        assert (document.state, first.state, second.state) == (State.DOING, State.DOING, State.PENDING)
        assert (first.worker, first.progress) == ("other", {"done": 0.5})
        assert (first.started_at, first.finished_at) == (START + timedelta(seconds=5), None)
        assert first.error is not None

    def test_an_ended_job_is_not_being_done(self) -> None:
        """Leases of an ended job are ignored."""
        world = World(draft([["a", "b"]]))
        world.claim(0)
        stale = tuple(world.leases.values())
        world.fail(1, fatal=True)
        document = job_document(msgspec.structs.replace(world.stored, leases=stale))
        assert document.state is State.FAILED
        assert document.error == world.job.error
        assert document.result is None

    def test_without_options_the_defaults_are_shown(self) -> None:
        """They are what will hold."""
        document = job_document(World(draft(["a"], options=None)).stored)
        assert function(document).retry_options == RetryOptions()

    @pytest.mark.parametrize(
        ("offered", "waiting_for"), [("abc", []), ("ac", ["b"]), ("", ["a", "b"]), ("bc", ["a"])]
    )
    def test_it_says_which_functions_nobody_offers(self, offered: str, waiting_for: list[str]) -> None:
        """Those it needs now, not those of later stages."""
        stored = World(draft([["b", "a", "b"], "c"])).stored
        document = job_document(stored, lambda name: None if name in offered else "none")
        assert document.waiting_for == waiting_for

    def test_what_is_being_done_is_not_waited_for(self) -> None:
        """A worker that is stopping still runs it."""
        world = World(draft([["a", "b"]]))
        world.claim(0)
        assert job_document(world.stored, lambda name: "none").waiting_for == ["b"]
        world.cancel()
        world.stop(0)
        assert job_document(world.stored, lambda name: "none").waiting_for == []

    def test_values_can_stay_as_they_came(self) -> None:
        """Not a digit is lost on the way through."""
        world = World(draft(["a"], data=b'{"n":1.00000000000000000001}'))
        world.succeed(0, b"1e2")
        encoded = encode(job_document(world.stored, decode=raw))
        assert b'"data":{"n":1.00000000000000000001}' in encoded
        assert b'"result":1e2' in encoded


def test_events_point_at_their_step() -> None:
    """By its place among all steps of the job."""
    world = World(draft(["a"]))
    world.succeed(0)
    shown = [(e.number, e.kind, e.function, e.at) for e in event_documents(world.events)]
    assert shown == [(1, "submitted", None, START), (2, "step-done", 0, START), (3, "done", None, START)]


def test_a_function_is_told_of_with_those_who_offer_it() -> None:
    """And how many steps wait for it."""

    def add(a: int) -> int:
        return a

    info = Function(add, "add", retry=OPTIONS).info
    summary = function_summary(info, ["w1", "w2"], 7)
    assert (summary.name, summary.workers, summary.queued) == ("add", ["w1", "w2"], 7)
    assert (summary.parameters, summary.retry_options) == (info.parameters, OPTIONS)


def test_a_worker_is_told_of_with_its_functions() -> None:
    """By name."""
    info = WorkerInfo(
        id="w",
        host="h",
        pid=1,
        version="0",
        concurrency=10,
        functions=(FunctionInfo(name="a"), FunctionInfo(name="b")),
        started_at=NOW,
        seen_at=NOW + 1,
    )
    document = worker_document(info)
    assert (document.id, document.state, document.functions) == ("w", "active", ["a", "b"])
    assert (document.started_at, document.seen_at) == (START, to_datetime(NOW + 1))
