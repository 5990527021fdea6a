"""What every store keeps as it was given: data, names, numbers."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from raincheck.core.model import Key, State
from raincheck.functions.registry import is_function_name
from raincheck.store import listing
from raincheck.store.base import Filter, Store
from tests.contract.leaks import listed
from tests.contract.steps import (
    draft,
    finish,
    get,
    later,
    submission,
    submit,
    submit_many,
    succeeded,
    take,
    take_one,
    write,
)

MIB = 1024 * 1024

JSON = [
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0.0",
    b"1e400",
    b"123456789012345678901234567890",
    b"0.1",
    b'""',
    b'"\\u0000"',
    b'"\\ud83d\\ude00 \\/ \\b"',
    '"ä€😀 \u2028"'.encode(),
    b"[]",
    b"{}",
    b'{"a":1,"a":2,"":[]}',
    b"[" * 64 + b"]" * 64,
    b" [ 1 ,\n2 ]\t",
]

FUNCTION_NAMES = [
    "f",
    "/v1/test-1",
    "math:multiply",
    "a.b.c",
    "A" * 200,
    string.ascii_letters,
    "0",
    "_",
    "a//b",
]


class TestData:
    """Users' values."""

    @pytest.mark.parametrize("value", JSON)
    async def test_json_is_kept_byte_by_byte(self, store: Store, value: bytes) -> None:
        """As arguments, data, result and error alike."""
        job = draft("f", data=b'{"v":' + value + b"}")
        step = replace(job.steps[0], args=b"[" + value + b"]", kwargs=b'{"v":' + value + b"}")
        change = submission(store, replace(job, steps=(step,)))
        assert await write(store, change) is None
        claim = await take_one(store)
        assert (claim.job.data, claim.step.args, claim.step.kwargs) == (job.data, step.args, step.kwargs)
        await finish(store, claim, value)
        assert (await get(store, job.id)).job.steps[0].result == value

    @pytest.mark.parametrize("size", [0, 1, 4096, MIB, 4 * MIB])
    async def test_data_may_be_empty_or_large(self, store: Store, size: int) -> None:
        """Up to any size that is let in."""
        text = b'"' + b"x" * size + b'"'
        await submit(store, "f", data=b'{"v":' + text + b"}")
        job = await finish(store, await take_one(store), text)
        assert (await get(store, job.id)).job == job

    async def test_data_changed_by_a_step_is_kept_with_its_result(self, store: Store) -> None:
        """Both in one change."""
        job = await submit(store, "f", data=b'{"a":1,"b":2}')
        change = succeeded(store, await take_one(store), b"null", b'{"b":"\\u0000"}')
        assert await write(store, change) is None
        stored = json.loads((await get(store, job.id)).job.data)
        assert stored == {"a": 1, "b": "\0"}

    async def test_a_job_may_have_very_many_steps(self, store: Store) -> None:
        """All of a wide stage can be claimed."""
        job = await submit(store, tuple(f"f{i % 7}" for i in range(300)))
        claims = await take(store, *(f"f{i}" for i in range(7)), limit=2000)
        assert sorted(claim.lease.step for claim in claims) == list(range(300))
        assert len((await get(store, job.id)).leases) == 300

    async def test_a_large_batch_is_one_batch(self, store: Store) -> None:
        """Thousands of jobs are committed in one call, and claimed in one."""
        jobs = await submit_many(store, 3000, "f")
        claims = await take(store, limit=5000)
        assert [claim.job.id for claim in claims] == [job.id for job in jobs]


class TestNames:
    """Names of functions, jobs, workers and keys."""

    @pytest.mark.parametrize("name", FUNCTION_NAMES)
    async def test_every_name_of_a_function_is_a_queue_of_its_own(self, store: Store, name: str) -> None:
        """Nothing in it means anything to the store."""
        assert is_function_name(name) or name == "a//b"
        await submit_many(store, 2, name + "x")
        job = await submit(store, name)
        assert (await store.counts()).queued == {name: 1, name + "x": 2}
        assert [each.job.id for each in await listed(store, Filter(function=name))] == [job.id]
        assert [claim.job.id for claim in await take(store, name)] == [job.id]

    async def test_a_worker_offers_very_many_functions(self, store: Store) -> None:
        """And gets what there is of them."""
        names = [f"function/{i}" for i in range(2000)]
        job = await submit(store, names[1234])
        assert [claim.job.id for claim in await take(store, *names)] == [job.id]

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=50))
    async def test_any_text_is_a_name(self, store: Store, text: str) -> None:
        """Of a job, a worker or a key: each is found again under it, and under no other."""
        change = submission(store, draft(text, name=text), Key(text, b"", later(store, 0.0)))
        assert await write(store, change) is None
        (claim,) = await take(store, text, worker=text)
        assert (claim.job.name, claim.lease.worker) == (text, text)
        done = await finish(store, claim)
        found = await listing.page(store, Filter(name=text, function=text, states=(State.DONE,)), 1)
        assert [each.job for each in found.jobs] == [done]


class TestNumbers:
    """Times and priorities."""

    async def test_times_are_kept_exactly(self, store: Store) -> None:
        """To the last bit, from the first to far ones."""
        for due in (0.1, 1.0, 1795225223.6172938, 4e9, 1e15):
            job = await submit(store, f"f{due}", scheduled_at=due, expires_at=due + 1e-6)
            assert (await get(store, job.id)).job == job

    @pytest.mark.parametrize("priority", [-(2**31), -1000, -1, 0, 1, 1000, 2**31])
    async def test_a_priority_may_be_any_whole_number(self, store: Store, priority: int) -> None:
        """It comes back, and so does the place."""
        job = await submit(store, "f", priority=priority)
        claim = await take_one(store)
        assert (claim.job.priority, claim.job.id) == (priority, job.id)
