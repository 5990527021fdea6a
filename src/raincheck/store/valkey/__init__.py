"""The Valkey/Redis store: many machines, one server, a primary with sentinels, or a cluster.

Every verb is one script a shard (`*.lua`), carried with whatever else is to be sent (`courier`). Keys
come from `keys`, the shape of arguments and answers from `wire`. Processes tell each other what has
changed by publish and subscribe (`subscriber`): a hint, everybody also looks once a second.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import redis as sync_redis
from msgspec.structs import replace

from raincheck import clock
from raincheck.codec import decode_job, encode_job
from raincheck.errors import StoreUnavailable
from raincheck.model import Change, Claim, State, Stored, WorkerInfo
from raincheck.store.base import Conflict, Counts, Filter, Held, Listener, Missing, Outcome, Page
from raincheck.store.signals import Signals, Watch
from raincheck.store.valkey import listing, wire
from raincheck.store.valkey.address import connector, parse
from raincheck.store.valkey.commits import Commits
from raincheck.store.valkey.courier import Courier, translate
from raincheck.store.valkey.keys import STATES, Keys, ShardKeys, packed, unpacked
from raincheck.store.valkey.ready import Ready
from raincheck.store.valkey.scripts import script
from raincheck.store.valkey.subscriber import Subscriber, message

__all__ = ["ValkeyStore"]

LOOK = 1.0
"""Seconds between looks of a waiting claim, in case it was not told."""

WORKER_MEMORY = 60.0
"""Seconds for which a worker that fell silent is still shown."""

_encode = msgspec.msgpack.Encoder().encode
_worker = msgspec.msgpack.Decoder(WorkerInfo)


class ValkeyStore:
    """A `raincheck.store.base.Store` in a Valkey (7.2 or newer) or Redis (7.0 or newer) server."""

    def __init__(self, url: str) -> None:
        self.address = parse(url)
        self.keys = Keys(self.address.namespace, self.address.shards)
        self._signals = Signals()
        self._ready = Ready()
        self._connect = connector(self.address)
        self._couriers: dict[asyncio.AbstractEventLoop, tuple[Courier, Commits]] = {}
        self._subscriber = Subscriber(self._connect, self.keys.bell, self._signals, self._ready)
        self._extender: Any = None
        self._offset = 0.0
        self._turn = 0
        self._closed = False

    def now(self) -> float:
        return clock.now() + self._offset

    async def open(self) -> None:
        before = clock.now()
        try:
            seconds, micros = await self._courier().client.time()
        except Exception as error:
            raise translate(error) from error
        self._offset = seconds + micros / 1e6 - (before + clock.now()) / 2

    async def close(self) -> None:
        self._closed = True
        self._ready.tell(None)
        await self._subscriber.close()
        for loop, (courier, _) in list(self._couriers.items()):
            if loop is asyncio.get_running_loop():
                await courier.close()
        self._couriers.clear()
        if self._extender is not None:
            self._extender.close()

    def _courier(self) -> Courier:
        return self._here()[0]

    def _here(self) -> tuple[Courier, Commits]:
        """The courier of this event loop, and the commits it carries."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        here = self._couriers.get(loop)
        if here is None:
            for old in [old for old in self._couriers if old.is_closed()]:
                del self._couriers[old]
            commits = Commits(self.keys, self._subscriber.origin)
            courier = Courier(self._connect, commits.pack, _acknowledgement(self.address.ack))
            here = self._couriers[loop] = (courier, commits)
        return here

    async def _call(self, name: str, shard: ShardKeys, *args: Any) -> Any:
        return await self._courier().call(script(name), shard.fixed, lambda replay: list(args))

    async def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        if not changes:
            return []
        courier, commits = self._here()
        order = commits.add(changes)
        courier.nudge()
        outcomes = await order
        self._tell([change for change, outcome in zip(changes, outcomes, strict=True) if outcome is None])
        return outcomes

    def _tell(self, written: list[Change]) -> None:
        """Tell those who wait in this process, before the server does."""
        jobs = {change.job.id: change.job for change in written if change.job.rev > 1}
        if jobs:
            self._signals.tell(jobs)
        functions = {place.function for change in written for place in change.put}
        if functions:
            self._ready.tell(functions)

    async def claim(
        self, worker: str, functions: Sequence[str], limit: int, lease: float, wait: float = 0.0
    ) -> list[Claim]:
        until = clock.monotonic() + wait
        if wait:
            await self._subscriber.start()
        waiter = self._ready.join(functions)
        try:
            while True:
                claims, due = await self._claim_once(worker, functions, limit, lease)
                left = until - clock.monotonic()
                if claims or left <= 0:
                    return claims
                await self._ready.wait(waiter[1], min(left, LOOK, max(0.0, due - self.now())))
        finally:
            self._ready.leave(waiter)

    async def _claim_once(
        self, worker: str, functions: Sequence[str], limit: int, lease: float
    ) -> tuple[list[Claim], float]:
        """Ask every shard for its share, then those that gave it for the rest."""
        shards = list(self.keys.shards)
        self._turn = (self._turn + 1) % len(shards)
        shards = shards[self._turn :] + shards[: self._turn]
        claims: list[Claim] = []
        due = float("inf")
        while shards and len(claims) < limit:
            share = -(-(limit - len(claims)) // len(shards))
            sizes = [min(share, max(0, limit - len(claims) - i * share)) for i in range(len(shards))]
            asked = [(shard, size) for shard, size in zip(shards, sizes, strict=True) if size]
            answers = await asyncio.gather(
                *(self._claim_shard(shard, worker, functions, size, lease) for shard, size in asked)
            )
            shards = [
                shard for (shard, size), (got, _) in zip(asked, answers, strict=True) if len(got) == size
            ]
            for got, later in answers:
                claims += got
                due = min(due, later)
        return claims, due

    async def _claim_shard(
        self, shard: ShardKeys, worker: str, functions: Sequence[str], limit: int, lease: float
    ) -> tuple[list[Claim], float]:
        keys = [*shard.fixed, shard.claimed(worker), *(key for f in functions for key in shard.queue(f))]
        nonce = clock.new_id()
        size = len(self.keys.shards)
        answer = await self._courier().call(
            script("claim"),
            keys,
            lambda replay: [worker, limit, lease, size, shard.number, nonce, int(replay), *functions],
            functools.partial(self._give_back, worker),
        )
        if len(answer) == 1:
            return [], float(answer[0] or "inf")
        return wire.claims(answer, worker), float("inf")

    def _give_back(self, worker: str, answer: Any) -> None:
        if len(answer) > 1:
            claims = wire.claims(answer, worker)
            held = [Held(c.job.id, c.lease.step, c.lease.token) for c in claims]
            _background(self.release(held))

    def extend(self, held: Sequence[Held], lease: float) -> list[int | None]:
        if self._extender is None:
            self._extender = connector(self.address, sync_redis)()
        answers: list[int | None] = [None] * len(held)
        for shard, places in self._by_shard(held):
            args = [lease, *(arg for i in places for arg in _lease_args(held[i]))]
            for i, rev in zip(places, self._extend(shard, args), strict=True):
                answers[i] = None if rev < 0 else rev
        return answers

    def _extend(self, shard: ShardKeys, args: list[Any]) -> list[int]:
        extend = script("extend")
        try:
            try:
                revs: list[int] = self._extender.evalsha(extend.sha, len(shard.fixed), *shard.fixed, *args)
            except sync_redis.exceptions.NoScriptError:
                revs = self._extender.eval(extend.source, len(shard.fixed), *shard.fixed, *args)
        except (sync_redis.RedisError, OSError) as error:
            raise translate(error) from error
        return revs

    def _by_shard(self, held: Sequence[Held]) -> list[tuple[ShardKeys, list[int]]]:
        shards: dict[int, list[int]] = {}
        for i, lease in enumerate(held):
            shards.setdefault(self.keys.shard_of(packed(lease.job_id)).number, []).append(i)
        return [(self.keys.shards[number], places) for number, places in shards.items()]

    async def release(self, held: Sequence[Held]) -> None:
        for shard, places in self._by_shard(held):
            args = [arg for i in places for arg in _lease_args(held[i])]
            functions = await self._call("release", shard, self.keys.bell, *args)
            self._ready.tell([function.decode() for function in functions])

    async def report(self, held: Held, progress: bytes) -> bool:
        shard = self.keys.shard_of(packed(held.job_id))
        return bool(await self._call("report", shard, *_lease_args(held), progress))

    async def find(self, job_ids: Sequence[str]) -> list[Stored | Missing]:
        found: list[Stored | Missing] = [Missing()] * len(job_ids)
        raws: dict[int, list[tuple[int, bytes]]] = {}
        for i, job_id in enumerate(job_ids):
            try:
                raw = packed(job_id)
            except ValueError:  # no id that was ever given out
                continue
            raws.setdefault(self.keys.shard_of(raw).number, []).append((i, raw))
        for number, wanted in raws.items():
            answers = await self._call("find", self.keys.shards[number], *(raw for _, raw in wanted))
            for (i, _), answer in zip(wanted, answers, strict=True):
                found[i] = wire.stored(answer) if isinstance(answer, list) else Missing(gone=bool(answer))
        return found

    async def changed(self, job_id: str, rev: int, wait: float) -> Stored | Missing | None:
        await self._subscriber.start()
        return await self._signals.changed(job_id, rev, wait, self._find)

    async def _find(self, job_id: str) -> Stored | Missing:
        (found,) = await self.find([job_id])
        return found

    def watch(self, job_id: str) -> Watch:
        _background(self._subscriber.start())
        return self._signals.watch(job_id)

    def listen(self, listener: Listener) -> Callable[[], None]:
        _background(self._subscriber.start())
        return self._signals.listen(listener)

    async def page(self, which: Filter, limit: int, cursor: str | None = None) -> Page:
        return await listing.page(self._courier().client, self.keys, self.find, which, limit, cursor)

    async def lost(self, limit: int) -> list[Claim]:
        claims: list[Claim] = []
        for shard in self.keys.shards:
            members = await self._call("due", shard, "until", limit)
            stored = await self.find([unpacked(member[:16]) for member in members])
            for member, found in zip(members, stored, strict=True):
                step = int.from_bytes(member[16:18])
                leases = () if isinstance(found, Missing) else found.leases
                claims += [Claim(found.job, x) for x in leases if x.step == step and x.until <= self.now()]  # type: ignore[union-attr]
        return claims[:limit]

    async def alarmed(self, limit: int) -> list[Stored]:
        ids = [unpacked(i) for shard in self.keys.shards for i in await self._call("due", shard, "wake", limit)]
        return [found for found in await self.find(ids[:limit]) if isinstance(found, Stored)]

    async def prune(self, limit: int, remember: float) -> int:
        removed = 0
        for shard in self.keys.shards:
            ids = await self._call("due", shard, "prune", limit - removed) if removed < limit else []
            found = [f for f in await self.find([unpacked(i) for i in ids]) if isinstance(f, Stored)]
            removed += await self._remove(shard, found, remember)
            await self._call("sweep", shard, limit)
        return removed

    async def forget(self, job_id: str, rev: int, remember: float) -> bool:
        (found,) = await self.find([job_id])
        if isinstance(found, Missing) or found.job.rev != rev:
            return False
        return bool(await self._remove(self.keys.shard_of(packed(job_id)), [found], remember))

    async def _remove(self, shard: ShardKeys, found: list[Stored], remember: float) -> int:
        keys, args = list(shard.fixed), [remember]
        for job in (each.job for each in found):
            indexes = wire.index_keys(shard, job.name, {step.function for step in job.steps})
            numbers = range(len(keys) + 1, len(keys) + 1 + len(indexes))
            keys += indexes
            args += [packed(job.id), job.rev, len(indexes), *numbers]  # type: ignore[list-item]
        if not found:
            return 0
        removed: int = await self._courier().call(script("remove"), keys, lambda replay: args)
        return removed

    async def register(self, worker: WorkerInfo, ttl: float) -> None:
        await self._register(worker.id, _encode(worker), ttl)

    async def unregister(self, worker_id: str) -> None:
        await self._register(worker_id, b"", 0.0)

    async def _register(self, worker_id: str, info: bytes, ttl: float) -> None:
        keys = [self.keys.workers, self.keys.workers_until]
        await self._courier().call(
            script("register"), keys, lambda replay: [worker_id, info, ttl, WORKER_MEMORY]
        )

    async def workers(self) -> list[WorkerInfo]:
        keys = [self.keys.workers, self.keys.workers_until]
        answer = await self._courier().call(script("workers"), keys, lambda replay: [])
        time = float(answer[0])
        found = []
        for i in range(1, len(answer), 3):
            info, until = _worker.decode(answer[i]), float(answer[i + 2])
            state = info.state if until > time else "unhealthy"
            found.append(replace(info, seen_at=float(answer[i + 1]), seen_until=until, state=state))
        return sorted(found, key=lambda worker: worker.id)

    async def counts(self) -> Counts:
        return await listing.counts(self._courier().client, self.keys)


def _lease_args(held: Held) -> tuple[bytes, int, int]:
    return packed(held.job_id), held.step, held.token


def _acknowledgement(ack: str) -> tuple[str, ...] | None:
    return {"fsync": ("WAITAOF", "1", "0", "2000"), "replicated": ("WAIT", "1", "2000")}.get(ack)


_tasks: set[asyncio.Task[Any]] = set()


def _background(work: Any) -> None:
    """Do it without anybody waiting; a failure means that others, or time, will have to."""
    task = asyncio.ensure_future(work)
    _tasks.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Task[Any]) -> None:
    _tasks.discard(task)
    if not task.cancelled():
        task.exception()
