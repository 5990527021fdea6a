"""The Valkey/Redis store: many machines, one server, a primary with sentinels, or a cluster.

Every verb is one script a shard (``*.lua``). Each event loop that uses the store has one connection, over
which its calls go together (`pipeline`). What only a cluster needs is in `cluster`. Keys come from `keys`,
the shape of arguments and answers from `packing`. Processes tell each other what has changed by publish and
subscribe (`subscription`): a hint, waiting claims also look once a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from raincheck.core import clock
from raincheck.core.errors import StoreError, StoreUnavailable, StoreUnusable
from raincheck.core.model import Change, Claim, Key, Schedule, Stored, WorkerInfo
from raincheck.store.base import (
    Candidates,
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
from raincheck.store.valkey import claims, listing, packing, schedules
from raincheck.store.valkey.address import parse
from raincheck.store.valkey.checks import check
from raincheck.store.valkey.claim_waiters import ClaimWaiters
from raincheck.store.valkey.connection import PATIENCE, Command
from raincheck.store.valkey.hints import Hints
from raincheck.store.valkey.keys import Keys, ShardKeys, packed, unpacked
from raincheck.store.valkey.loops import Loops
from raincheck.store.valkey.replies import sift
from raincheck.store.valkey.scripts import scripts

__all__ = ["ValkeyStore"]

logger = logging.getLogger("raincheck.store")

VERSION = 1
"""Of what is kept in the server."""

LOOK = 1.0
"""Seconds between looks of a waiting claim, in case it was not told."""

WORKER_MEMORY = 60.0
"""Seconds for which a worker that fell silent is still shown."""

SWEPT = 1000
"""How many memories of a kind one call removes in each shard."""

HEARTBEAT_TIMEOUT = 5.0
HEARTBEAT_PATIENCE = 0.5

_encode_worker = msgspec.msgpack.Encoder().encode
_decode_worker = msgspec.msgpack.Decoder(WorkerInfo).decode


class ValkeyStore:
    """A `raincheck.store.base.Store` in a Valkey (7.2 or newer) or Redis (7.0 or newer) server."""

    kind = "valkey"

    def __init__(self, url: str) -> None:
        self._address = parse(url)
        self._keys = Keys(self._address.namespace, self._address.shards)
        self._claim_waiters = ClaimWaiters()
        self._listeners = Listeners(on_first=self._subscribe)
        self._hints = Hints(self._listeners, self._claim_waiters, clock.new_id())
        self._loops = Loops(self._address, self._keys, self._hints)

    def now(self) -> float:
        return self._loops.clock.now()

    async def open(self) -> None:
        if self._loops.is_open:
            return
        await asyncio.to_thread(scripts)
        self._loops.open()
        try:
            await self._check()
            await self._begin()
        except BaseException:
            await self._loops.close()
            raise

    async def _check(self) -> None:
        """See how every server that has a shard is set."""
        settings = await asyncio.gather(*(self._settings(shard.nothing) for shard in self._keys.shards))
        ack, cluster = self._address.ack, self._address.cluster
        warnings = [warning for each in settings for warning in check(each, ack, cluster=cluster)]
        for warning in dict.fromkeys(warnings):
            logger.warning(warning)

    async def _settings(self, key: str) -> dict[str, Any]:
        """What the server of a key is set to, as far as it tells."""
        settings = packing.info(await self._send("INFO", key=key))
        with suppress(StoreError):  # many let nobody ask for their configuration
            settings |= packing.pairs(await self._send("CONFIG", "GET", "appendfsync", key=key))
        return settings

    async def _begin(self) -> None:
        """Begin the namespace, or see that it is as we have it."""
        shards = len(self._keys.shards)
        answer = await self._ask("open", self._keys.shards[0], VERSION, shards, keys=[self._keys.config])
        version, has = (int(word) for word in answer)
        if version != VERSION:
            raise StoreUnusable(f"the namespace is of version {version}, and this raincheck of {VERSION}")
        if has != shards:
            raise StoreUnusable(f"the namespace has shards={has}: give that, or another namespace")

    async def close(self) -> None:
        await self._loops.close()
        self._listeners.notify({})  # callers that wait look again, and find it closed
        self._claim_waiters.wake(None)

    async def _send(self, *words: Any, key: str | None = None) -> Any:
        """A plain command, sent to where ``key`` is."""
        pipeline = self._loops.pipeline()
        return await pipeline.send(Command(words, slot=pipeline.servers.slot(key or self._keys.config)))

    async def _ask(
        self, name: str, shard: ShardKeys, *words: Any, keys: Sequence[str] = (), patience: float = PATIENCE
    ) -> Any:
        """A script in a shard."""
        pipeline = self._loops.pipeline()
        return await pipeline.send(pipeline.command(name, shard, words, keys, patience))

    async def _ask_all(self, name: str, *words: Any) -> list[Any]:
        """A script in all shards."""
        return await asyncio.gather(*(self._ask(name, shard, *words) for shard in self._keys.shards))

    async def _ask_some(self, name: str, *words: Any, first: Sequence[str] = ()) -> list[Any]:
        """A script in all shards, with ``first`` keys for the first; what the reachable ones answer."""
        shards = self._keys.shards
        patience = 0.0 if len(shards) > 1 else PATIENCE
        asked = [
            self._ask(name, shard, *words, keys=() if shard.number else first, patience=patience)
            for shard in shards
        ]
        return sift(await asyncio.gather(*asked, return_exceptions=True))

    async def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        if not changes:
            return []
        if len(self._keys.shards) > 1 and any(change.key for change in changes):
            return await self._reserve_and_commit(changes)
        return await self._loops.pipeline().commit([packing.pack(change) for change in changes])

    async def _reserve_and_commit(self, changes: Sequence[Change]) -> list[Outcome]:
        """Commit changes of which some have idempotency keys, perhaps of other shards than their jobs."""
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

        return await idempotency.write(self._keys, self._loops.pipeline(), change, key, write)

    async def _commit_one(self, change: Change) -> Outcome:
        (outcome,) = await self.commit([replace(change, key=None)])
        return outcome

    async def claim(
        self, worker: str, functions: Sequence[str], limit: int, lease: float, wait: float = 0.0
    ) -> list[Claim]:
        until = clock.monotonic() + wait
        demand = claims.Demand(worker, tuple(dict.fromkeys(functions)), limit, lease)
        with self._claim_waiters.waiter(functions) as waiter:
            while True:
                found, due = await self._claim(demand)
                left = until - clock.monotonic()
                if found or left <= 0:
                    return found
                await waiter.wait(min(left, LOOK, max(0.001, due - self.now())))

    async def _claim(self, demand: claims.Demand) -> claims.Found:
        """What there is now."""
        pipeline = self._loops.pipeline()
        if len(self._keys.shards) == 1:
            return await claims.claim(self._keys, pipeline, demand)
        from raincheck.store.valkey.cluster import claims as cluster_claims

        return await cluster_claims.claim(self._keys, pipeline, demand)

    def heartbeat(self, worker: WorkerInfo, held: Sequence[Held], lease: float) -> list[int | None]:
        return self._loops.block(lambda: self._heartbeat(worker, held, lease))

    async def _heartbeat(self, worker: WorkerInfo, held: Sequence[Held], lease: float) -> list[int | None]:
        # the leases of others must not wait for a shard that is away; its worker asks again soon
        patience = HEARTBEAT_PATIENCE if len(self._keys.shards) > 1 else PATIENCE
        info = b"" if worker.state == "stopped" else _encode_worker(worker)
        first, register = self._keys.shards[0], (worker.id, info, lease)
        calls = [self._ask("register", first, *register, keys=self._keys.workers, patience=patience)]
        parts = self._by_shard(held) if held else []
        for shard, places in parts:
            words = [word for i in places for word in packing.lease_args(held[i])]
            calls.append(self._ask("heartbeat", shard, lease, *words, patience=patience))
        try:
            async with asyncio.timeout(HEARTBEAT_TIMEOUT):
                answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        except TimeoutError:
            raise StoreUnavailable(f"the server was busy for {HEARTBEAT_TIMEOUT:g} s") from None
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        revs: list[int | None] = [None] * len(held)
        for (_, places), part in zip(parts, answers[1:], strict=True):
            for i, rev in zip(places, part, strict=True):
                revs[i] = None if rev < 0 else rev
        return revs

    def _by_shard(self, held: Sequence[Held]) -> list[tuple[ShardKeys, list[int]]]:
        """Leases by the shard of their jobs, as numbers; those of what is no job are left out."""
        return self._sorted([each.job_id for each in held])

    def _sorted(self, job_ids: Sequence[str]) -> list[tuple[ShardKeys, list[int]]]:
        """Ids by shard, as numbers; at least one shard, so that a store that is closed is found out."""
        shards: dict[ShardKeys, list[int]] = {}
        for i, job_id in enumerate(job_ids):
            try:
                raw = packed(job_id)
            except ValueError:  # no id that was ever given out
                continue
            shards.setdefault(self._keys.shard_of(raw), []).append(i)
        return list(shards.items()) or [(self._keys.shards[0], [])]

    async def release(self, held: Sequence[Held]) -> None:
        for shard, places in self._by_shard(held):
            words = [word for i in places for word in packing.lease_args(held[i])]
            functions = await claims.release(self._keys, self._loops.pipeline(), shard, words)
            self._claim_waiters.wake(functions)

    async def report(self, held: Held, progress: bytes) -> bool:
        ((shard, places),) = self._by_shard([held])
        leases = [word for _ in places for word in packing.lease_args(held)]
        return bool(await self._ask("report", shard, progress, *leases))

    async def find(self, job_ids: Sequence[str]) -> list[Stored | Missing]:
        found: list[Stored | Missing] = [Missing()] * len(job_ids)
        parts = self._sorted(job_ids)
        answers = await asyncio.gather(
            *(self._ask("find", shard, *(packed(job_ids[i]) for i in places)) for shard, places in parts)
        )
        for (_, places), answer in zip(parts, answers, strict=True):
            for i, each in zip(places, answer, strict=True):
                found[i] = packing.stored(each) if isinstance(each, list) else Missing(gone=bool(each))
        return found

    async def results(self, wanted: Sequence[tuple[str, int]]) -> list[bytes | None]:
        found: list[bytes | None] = [None] * len(wanted)
        parts = self._sorted([job_id for job_id, _ in wanted])
        calls = [
            self._ask("results", shard, *(packing.field(*wanted[i]) for i in places))
            for shard, places in parts
        ]
        for (_, places), answer in zip(parts, await asyncio.gather(*calls), strict=True):
            for i, value in zip(places, answer, strict=True):
                found[i] = value
        return found

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._listeners.listen(listener)

    def _subscribe(self) -> None:
        self._loops.subscribe()

    async def page(self, which: Filter, limit: int, after: str | None = None) -> Candidates:
        return await listing.page(self._send, self._ask, self._keys, self.find, which, limit, after)

    async def due(self, limit: int) -> Due:
        answers = await self._ask_some("due", limit, first=self._keys.schedules)
        lost, alarmed, ended, fired = (packing.overdue(lists, limit) for lists in zip(*answers, strict=True))
        return Due(
            packing.lost(lost),
            [packing.stored(entry) for entry in alarmed],
            [Ended(unpacked(raw), rev) for raw, rev in ended],
            schedules.read(fired),
        )

    async def remove(self, jobs: Sequence[Ended], remember: float) -> list[bool]:
        removed = [False] * len(jobs)
        parts = dict(self._sorted([job.job_id for job in jobs]))
        shards = self._keys.shards
        calls = [self._remove(shard, [jobs[i] for i in parts.get(shard, ())], remember) for shard in shards]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        sift(answers)
        for shard, answer in zip(shards, answers, strict=True):
            places = parts.get(shard, [])
            if isinstance(answer, BaseException):
                if places:
                    raise answer
                continue  # its memories are removed another time
            for i, went in zip(places, answer, strict=True):
                removed[i] = bool(went)
        if gone := [job.job_id for job, went in zip(jobs, removed, strict=True) if went]:
            self._listeners.notify(dict.fromkeys(gone))
        return removed

    async def _remove(self, shard: ShardKeys, jobs: list[Ended], remember: float) -> Any:
        """Remove jobs of a shard and its memories; one without jobs must not keep the others waiting."""
        hint = self._hints.message((), [job.job_id for job in jobs])
        words = [word for job in jobs for word in (packed(job.job_id), job.rev)]
        head = (remember, SWEPT, WORKER_MEMORY, self._keys.bell, hint)
        keys = () if shard.number else self._keys.workers
        patience = PATIENCE if jobs or len(self._keys.shards) == 1 else 0.0
        return await self._ask("remove", shard, *head, *words, keys=keys, patience=patience)

    async def workers(self) -> list[WorkerInfo]:
        known, answers = await asyncio.gather(
            self._ask("workers", self._keys.shards[0], keys=self._keys.workers), self._ask_some("running")
        )
        running: Counter[bytes] = Counter()
        for answer in answers:
            running.update(dict(zip(answer[::2], answer[1::2], strict=True)))
        found = []
        for packed_info, seen, until in zip(known[::3], known[1::3], known[2::3], strict=True):
            info = _decode_worker(packed_info)
            leases = running[info.id.encode()]
            found.append(replace(info, seen_at=float(seen), seen_until=float(until), running=leases))
        return sorted(found, key=lambda worker: worker.id)

    async def counts(self) -> Counts:
        return listing.total(await self._ask_all("counts"))

    async def put_schedule(self, schedule: Schedule) -> bool:
        first, words = self._keys.shards[0], schedules.put_words(schedule)
        return bool(await self._ask("schedule", first, *words, keys=self._keys.schedules))

    async def schedules(self, name: str | None = None) -> list[Schedule]:
        words = () if name is None else (name,)
        found = await self._ask("schedules", self._keys.shards[0], *words, keys=self._keys.schedules)
        return schedules.by_name(schedules.read(found))
