"""The Valkey/Redis store: for many machines, on one server, a primary with Sentinels, or a cluster.

Every verb is one script per shard (``*.lua``). Each event loop that uses the store has one connection, on
which its commands share writes (`pipeline`) and its commits share script calls (`commits`). `keys` builds
every key, `packing` converts arguments and replies, `cluster` has what only several shards need. Processes
notify each other by publish and subscribe (`subscription`); a waiting claim also looks once a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from raincheck.core import clock
from raincheck.core.codec import decode_worker, encode_worker
from raincheck.core.errors import StoreError, StoreUnavailable, StoreUnusable
from raincheck.core.model import Change, Claim, Entry, Key, Schedule, Stored, WorkerInfo
from raincheck.store.base import (
    NO_LIMITS,
    Candidates,
    ClaimRequest,
    Counts,
    Due,
    Ended,
    Filter,
    Held,
    Listener,
    Missing,
    Outcome,
)
from raincheck.store.listeners import Listeners
from raincheck.store.valkey import claims, listing, packing
from raincheck.store.valkey.address import check_settings, parse
from raincheck.store.valkey.connection import RETRY_FOR
from raincheck.store.valkey.keys import Keys, packed, scripts, unpacked
from raincheck.store.valkey.pipeline import Pipelines, split_by_shard, successes
from raincheck.store.valkey.subscription import ClaimWaiter, ClaimWaiters, Hints

__all__ = ["ValkeyStore"]

logger = logging.getLogger("raincheck.store")

VERSION = 1
"""Of the stored format."""

LOOK = 1.0
"""Seconds after which a waiting claim looks without a notification."""

WORKER_MEMORY = 60.0
"""Seconds for which a silent worker is still listed."""

MAX_SWEPT = 1000
"""Expired entries of a kind that one call removes per shard."""

MAX_NUMBER = 2**32 - 2
"""The largest number after which a journal can be read."""

HEARTBEAT_TIMEOUT = 5.0
HEARTBEAT_RETRY_FOR = 0.5
"""With several shards: a shard that cannot be reached must not delay the other leases."""


class ValkeyStore:
    """A `raincheck.store.base.Store` on a Valkey (7.2 or newer) or Redis (7.0 or newer) server."""

    kind = "valkey"

    def __init__(self, url: str) -> None:
        self._address = parse(url)
        self._keys = Keys(self._address.namespace, self._address.shards)
        self._claim_waiters = ClaimWaiters()
        self._listeners = Listeners(on_first=self._subscribe)
        self._hints = Hints(self._listeners, self._claim_waiters, clock.new_id())
        self._pipelines = Pipelines(self._address, self._keys, self._hints)

    def now(self) -> float:
        return self._pipelines.clock.now()

    async def open(self) -> None:
        if self._pipelines.is_open:
            return
        await asyncio.to_thread(scripts)
        self._pipelines.open()
        try:
            await self._check_servers()
            await self._open_namespace()
        except BaseException:
            await self._pipelines.close()
            raise

    async def _check_servers(self) -> None:
        """Check the settings of every server that has a shard, and log warnings."""
        settings = await asyncio.gather(*(self._settings(shard.absent) for shard in self._keys.shards))
        ack, is_cluster = self._address.ack, self._address.is_cluster
        warnings = [text for each in settings for text in check_settings(each, ack, is_cluster=is_cluster)]
        for warning in dict.fromkeys(warnings):
            logger.warning(warning)

    async def _settings(self, key: str) -> dict[str, Any]:
        """The settings of the server of a key, as far as it shows them."""
        pipeline = self._pipelines.here()
        settings = packing.read_info(await pipeline.send_plain("INFO", key=key))
        with suppress(StoreError):  # many servers forbid CONFIG
            settings |= packing.read_pairs(await pipeline.send_plain("CONFIG", "GET", "appendfsync", key=key))
        return settings

    async def _open_namespace(self) -> None:
        """Create the namespace, or check that it fits."""
        shards, first = len(self._keys.shards), self._keys.shards[0]
        reply = await self._pipelines.here().call("open", first, VERSION, shards, keys=[self._keys.config])
        version, stored_shards = (int(word) for word in reply)
        if version != VERSION:
            raise StoreUnusable(f"the namespace has format version {version}; this raincheck needs {VERSION}")
        if stored_shards != shards:
            raise StoreUnusable(
                f"the namespace has shards={stored_shards}, not {shards}: use that, or another namespace"
            )

    async def close(self) -> None:
        await self._pipelines.close()
        self._hints.notify_all()  # waiting callers look again, and find the store closed

    async def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        if not changes:
            return []
        if len(self._keys.shards) > 1 and any(change.key for change in changes):
            return await self._reserve_and_commit(changes)
        return await self._pipelines.here().commit([packing.pack(change) for change in changes])

    async def _reserve_and_commit(self, changes: Sequence[Change]) -> list[Outcome]:
        """Commit changes of which some have idempotency keys, maybe of other shards than their jobs."""
        plain = [change for change in changes if change.key is None]
        outcomes = iter(await self.commit(plain))
        keyed = (self.commit_once(change, change.key, self._commit_one) for change in changes if change.key)
        reserved = iter(await asyncio.gather(*keyed))
        return [next(reserved if change.key else outcomes) for change in changes]

    async def commit_once(
        self, change: Change, key: Key, write: Callable[[Change], Awaitable[Outcome]]
    ) -> Outcome:
        """``write`` a change if its idempotency key is free; key and job may be in different shards."""
        from raincheck.store.valkey.cluster import idempotency

        return await idempotency.write(self._pipelines.here(), change, key, write)

    async def _commit_one(self, change: Change) -> Outcome:
        (outcome,) = await self.commit([replace(change, key=None)])
        return outcome

    async def claim(
        self,
        worker: str,
        functions: Sequence[str],
        limit: int,
        lease: float,
        wait: float = 0.0,
        limits: Mapping[str, int] = NO_LIMITS,
    ) -> list[Claim]:
        deadline = clock.monotonic() + wait
        request = ClaimRequest(worker, tuple(dict.fromkeys(functions)), limit, lease, limits)
        with ClaimWaiter(self._claim_waiters, functions) as waiter:
            while True:
                found, next_due = await self._claim(request)
                left = deadline - clock.monotonic()
                if found or left <= 0:
                    waiter.may_leave_more = len(found) == limit
                    return found
                await waiter.wait(left, max(0.001, next_due - self.now()), LOOK)

    async def _claim(self, request: ClaimRequest) -> claims.Claimed:
        pipeline = self._pipelines.here()
        if len(self._keys.shards) == 1:
            return await claims.claim(pipeline, request)
        from raincheck.store.valkey.cluster import claims as cluster_claims

        return await cluster_claims.claim(pipeline, request)

    def heartbeat(self, worker: WorkerInfo, held: Sequence[Held], lease: float) -> list[int | None]:
        return self._pipelines.block(lambda: self._heartbeat(worker, held, lease))

    async def _heartbeat(self, worker: WorkerInfo, held: Sequence[Held], lease: float) -> list[int | None]:
        pipeline = self._pipelines.here()
        retry_for = HEARTBEAT_RETRY_FOR if len(self._keys.shards) > 1 else RETRY_FOR
        words = (worker.id, b"" if worker.state == "stopped" else encode_worker(worker), lease)
        first, keys = self._keys.shards[0], self._keys.workers
        calls: list[Awaitable[Any]] = [
            pipeline.call("register", first, *words, keys=keys, retry_for=retry_for)
        ]
        if held:
            calls.append(self._call_leases("heartbeat", held, lease, retry_for=retry_for))
        try:
            async with asyncio.timeout(HEARTBEAT_TIMEOUT):
                replies = await asyncio.gather(*calls, return_exceptions=True)
        except TimeoutError:
            raise StoreUnavailable(f"the server did not reply for {HEARTBEAT_TIMEOUT:g} s") from None
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        revs: Any = replies[1] if held else ()
        return [None if rev is None or rev < 0 else rev for rev in revs]

    async def _call_leases(self, name: str, held: Sequence[Held], *head: Any, retry_for: float) -> list[Any]:
        """Call a script in the shards of some leases, with id, step and token of each."""
        return await self._pipelines.here().call_by_job(
            name,
            [lease.job_id for lease in held],
            lambda i, raw_id: (raw_id, held[i].step, held[i].token),
            *head,
            retry_for=retry_for,
        )

    async def release(self, held: Sequence[Held]) -> None:
        pipeline = self._pipelines.here()
        for shard, jobs in split_by_shard(self._keys, [lease.job_id for lease in held]).items():
            words = [word for i, raw_id in jobs for word in (raw_id, held[i].step, held[i].token)]
            self._claim_waiters.wake(await claims.release(pipeline, shard, words))

    async def report(self, held: Held, progress: bytes) -> bool:
        (reply,) = await self._call_leases("report", [held], progress, retry_for=RETRY_FOR)
        return bool(reply)

    async def find(self, job_ids: Sequence[str]) -> list[Stored | Missing]:
        return await listing.find(self._pipelines.here(), job_ids)

    async def results(self, wanted: Sequence[tuple[str, int]]) -> list[bytes | None]:
        return await self._pipelines.here().call_by_job(
            "results",
            [job_id for job_id, _ in wanted],
            lambda i, raw_id: (packing.result_field(raw_id, wanted[i][1]),),
        )

    async def journal(self, job_id: str, after: int, limit: int) -> list[Entry]:
        try:
            raw_id = packed(job_id)
        except ValueError:
            return []
        shard = self._keys.shard_of(raw_id)
        words = (raw_id, min(after, MAX_NUMBER), limit)
        return packing.read_journal(
            await self._pipelines.here().call("journal", shard, *words, keys=[shard.journals])
        )

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._listeners.listen(listener)

    def _subscribe(self) -> None:
        self._pipelines.subscribe()

    async def page(self, which: Filter, limit: int, after: str | None = None) -> Candidates:
        return await listing.page(self._pipelines.here(), which, limit, after)

    async def due(self, limit: int) -> Due:
        replies = await self._pipelines.here().call_reachable("due", limit, first_keys=self._keys.schedules)
        lost, alarmed, ended, fired = (
            packing.merge_due(lists, limit) for lists in zip(*replies, strict=True)
        )
        return Due(
            packing.read_lost(lost),
            [packing.read_stored(entry) for entry in alarmed],
            [Ended(unpacked(raw_id), rev) for raw_id, rev in ended],
            packing.read_schedules(fired),
        )

    async def remove(self, jobs: Sequence[Ended], remember: float) -> list[bool]:
        pipeline = self._pipelines.here()
        by_shard = split_by_shard(self._keys, [job.job_id for job in jobs])
        calls = []
        for shard in self._keys.shards:
            ours = [jobs[i] for i, _ in by_shard.get(shard, ())]
            hint = self._hints.message((), [job.job_id for job in ours])
            words = [word for job in ours for word in (packed(job.job_id), job.rev)]
            head = (remember, MAX_SWEPT, WORKER_MEMORY, self._keys.channel, hint)
            keys = [shard.journals, *(() if shard.number else self._keys.workers)]
            # a shard without jobs to remove must not delay the others
            retry_for = RETRY_FOR if ours or len(self._keys.shards) == 1 else 0.0
            calls.append(pipeline.call("remove", shard, *head, *words, keys=keys, retry_for=retry_for))
        replies = await asyncio.gather(*calls, return_exceptions=True)
        successes(replies)
        removed = [False] * len(jobs)
        for shard, reply in zip(self._keys.shards, replies, strict=True):
            if isinstance(reply, BaseException):
                if by_shard.get(shard):
                    raise reply
                continue  # the next call sweeps this shard
            for (i, _), was_removed in zip(by_shard.get(shard, ()), reply, strict=True):
                removed[i] = bool(was_removed)
        gone = [job.job_id for job, was_removed in zip(jobs, removed, strict=True) if was_removed]
        self._hints.notify(dict.fromkeys(gone), ())
        return removed

    async def workers(self) -> list[WorkerInfo]:
        pipeline = self._pipelines.here()
        known, replies = await asyncio.gather(
            pipeline.call("workers", self._keys.shards[0], keys=self._keys.workers),
            pipeline.call_reachable("running"),
        )
        running: Counter[bytes] = Counter()
        for reply in replies:
            running.update(dict(zip(reply[::2], reply[1::2], strict=True)))
        found = []
        for encoded, seen, until in zip(known[::3], known[1::3], known[2::3], strict=True):
            info = decode_worker(encoded)
            leases = running[info.id.encode()]
            found.append(replace(info, seen_at=float(seen), seen_until=float(until), running=leases))
        return sorted(found, key=lambda worker: worker.id)

    async def counts(self) -> Counts:
        return listing.add_counts(await self._pipelines.here().call_all("counts"))

    async def put_schedule(self, schedule: Schedule) -> bool:
        words, keys = packing.schedule_words(schedule), self._keys.schedules
        return bool(await self._pipelines.here().call("schedule", self._keys.shards[0], *words, keys=keys))

    async def schedules(self, name: str | None = None) -> list[Schedule]:
        words = () if name is None else (name,)
        found = await self._pipelines.here().call(
            "schedules", self._keys.shards[0], *words, keys=self._keys.schedules
        )
        return sorted(packing.read_schedules(found), key=lambda schedule: schedule.name.encode())
