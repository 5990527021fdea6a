"""The pipelines of a store: one per event loop, and one for calls that block a thread.

The commands of one turn of a loop go out in one write, its commits in one script call per shard. A command
that failed for a temporary reason is sent again after a delay, for a limited time. That does no harm: a
script that writes records its reply under a token, and a repeated call returns the recorded reply.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from struct import Struct
from threading import Lock
from typing import Any, Protocol, TypeVar

from raincheck.core import clock
from raincheck.core.errors import StoreError, StoreUnavailable
from raincheck.store.base import Outcome
from raincheck.store.valkey.address import Address, HostPort
from raincheck.store.valkey.commits import CommitCommand, CommitQueue, QueuedChange
from raincheck.store.valkey.connection import (
    RETRY_FOR,
    Backoff,
    Command,
    OnFailure,
    Server,
    error_code,
    is_temporary,
    translate,
)
from raincheck.store.valkey.keys import Keys, ShardKeys, packed, scripts
from raincheck.store.valkey.packing import CommitArguments, PackedChange
from raincheck.store.valkey.subscription import Hints, Subscription

T = TypeVar("T")

MAX_REDIRECTS = 5
"""How often in a row a command is sent again at once: to another node, or after its script is loaded."""

RECORDED_REPLIES = 256
"""Replies recorded per loop and shard; fewer scripts that write are in flight at once."""

CLOSE_TIMEOUT = 5.0
"""Seconds for which a pipeline that closes waits for replies."""

SYNC_CLOCK_EVERY = 15.0
"""Seconds between two reads of the server's clock."""

_token = Struct(">Q").pack


class Servers(Protocol):
    """Where commands go: the only server, or the nodes of a cluster."""

    def slot(self, key: str) -> int:
        """The hash slot of a key; 0 without a cluster."""

    def write(self, commands: Sequence[Command]) -> None:
        """Send each command to its server."""

    def redirect(self, command: Command, error: Exception) -> bool:
        """Whether an error names another node, so that ``command`` can be sent again at once."""

    def ping(self) -> list[Command]:
        """PINGs to all servers: their replies come after those of all earlier commands."""

    def subscription_node(self) -> HostPort | None:
        """A node for a subscription; None: the server in the URL."""

    def close(self) -> None:
        """Close all connections. Commands without a reply fail."""


class OneServer(Server):
    """The only server, or the primary that the Sentinels name."""

    def slot(self, key: str) -> int:
        return 0

    def redirect(self, command: Command, error: Exception) -> bool:
        if error_code(error) in ("READONLY", "UNBLOCKED"):  # the Sentinels may name another primary now
            self.abort(error)
        return False

    def ping(self) -> list[Command]:
        ping = Command(("PING",), retry_for=0.0)
        self.write([ping])
        return [ping]

    def subscription_node(self) -> HostPort | None:
        return None


class ServerClock:
    """The difference between the server's clock and ours. All loops of a store share it."""

    def __init__(self) -> None:
        self._synced_at = -SYNC_CLOCK_EVERY
        self._offset = 0.0

    def now(self) -> float:
        """The server's time."""
        return clock.now() + self._offset

    @property
    def is_due(self) -> bool:
        """Whether it is time to read the server's clock."""
        return clock.monotonic() - self._synced_at > SYNC_CLOCK_EVERY

    def sync(self, slot: int) -> Command:
        """The command that reads the server's clock. Send it now, and only once."""
        self._synced_at = clock.monotonic()
        return _Time(self, slot)

    def update(self, before: float, server: float, after: float) -> None:
        """The server's time was ``server`` between two of ours. Change the offset unless it can be right."""
        if not before + self._offset <= server <= after + self._offset:
            self._offset = server - (before + after) / 2
            if abs(self._offset) < after - before:
                self._offset = 0.0

    def sync_soon(self) -> None:
        """Read the server's clock with the next command."""
        self._synced_at = -SYNC_CLOCK_EVERY


class _Time(Command):
    """Reads the clock of the first shard's server: with several servers, one clock decides."""

    def __init__(self, server_clock: ServerClock, slot: int) -> None:
        super().__init__(("TIME",), slot=slot, retry_for=0.0)
        self._clock = server_clock
        self._before = clock.now()

    def settle(self, reply: list[bytes]) -> None:
        super().settle(None)
        self._clock.update(self._before, int(reply[0]) + int(reply[1]) / 1e6, clock.now())

    def fail(self, error: Exception) -> None:
        super().settle(None)
        self._clock.sync_soon()


class Pipeline:
    """The commands of one loop. Use it from that loop only."""

    def __init__(
        self,
        keys: Keys,
        make_servers: Callable[[OnFailure], Servers],
        server_clock: ServerClock,
        hints: Hints,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.keys = keys
        self.clock = server_clock
        self._hints = hints
        self._servers = make_servers(self._handle_failure)
        self._commits = CommitQueue(keys, self._flush, self._schedule)
        self._turn: list[Command] = []
        self._scheduled = False
        self._closing = False
        self._delayed: dict[Command, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._origin = clock.new_id()
        self._tokens = itertools.count(1)
        self.subscription: Subscription | None = None
        self._lifetime = self._live()
        with suppress(StopIteration):
            anext(self._lifetime).send(None)

    async def _live(self) -> AsyncGenerator[None]:
        """Ends with the loop: `asyncio.run` and every runner close the async generators of their loop."""
        try:
            yield
        finally:
            self._closing = True
            self._fail_delayed()
            self._servers.close()

    def subscribe(self, address: Address) -> None:
        """Receive the hints of other processes on this loop."""
        node = self._servers.subscription_node
        self.subscription = Subscription(address, node, self.keys.channel, self._hints)

    def _fail_delayed(self) -> None:
        delayed, self._delayed = self._delayed, {}
        for command, timer in delayed.items():
            timer.cancel()
            command.fail(StoreUnavailable("the store is not open"))

    async def close(self) -> None:
        """Wait for every reply, without sending a command again; then close the connections."""
        self._closing = True
        if self.subscription is not None:
            await self.subscription.close()
        self._fail_delayed()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._finish()
        await self._lifetime.aclose()

    async def _finish(self) -> None:
        """Wait for every reply."""
        while True:
            if self._turn or self._commits.is_busy:
                self._flush()
            pings = [ping.future for ping in self._servers.ping()]
            replies = await asyncio.gather(*pings, return_exceptions=True)
            failed = any(isinstance(reply, StoreError) for reply in replies)
            if self._tasks:
                await asyncio.wait(self._tasks)
            elif failed or not (self._turn or self._commits.is_busy):
                return

    def command(
        self,
        name: str,
        shard: ShardKeys,
        words: Sequence[Any] = (),
        keys: Sequence[str] = (),
        retry_for: float = RETRY_FOR,
    ) -> Command:
        """The call of a script in a shard; ``keys`` follow those of the shard."""
        called, slot = self._script_call(name, shard, [*shard.fixed, *keys], words)
        return Command(called, slot=slot, script=name, retry_for=retry_for, durable=scripts()[name].durable)

    def _script_call(
        self, name: str, shard: ShardKeys, keys: list[str], words: Sequence[Any]
    ) -> tuple[tuple[Any, ...], int]:
        """The words of a script call and its slot. A script that records its reply gets a token and a key."""
        script = scripts()[name]
        if script.records_reply:
            token = next(self._tokens)
            keys.insert(len(shard.fixed), shard.reply(f"{self._origin}:{token % RECORDED_REPLIES}"))
            words = (_token(token), *words)
        return ("EVALSHA", script.sha, len(keys), *keys, *words), self._servers.slot(keys[0])

    def send(self, command: Command) -> asyncio.Future[Any]:
        """Send a command at the end of this turn. Returns the future of its reply."""
        self._turn.append(command)
        self._schedule()
        return command.future

    def withdraw(self, command: Command) -> bool:
        """Remove a command that was not sent yet. False: it was sent."""
        if command in self._turn:
            self._turn.remove(command)
            return True
        return False

    def send_plain(self, *words: Any, key: str) -> asyncio.Future[Any]:
        """Send a command that is not a script to the server of ``key``."""
        return self.send(Command(words, slot=self._servers.slot(key)))

    def call(
        self,
        name: str,
        shard: ShardKeys,
        *words: Any,
        keys: Sequence[str] = (),
        retry_for: float = RETRY_FOR,
    ) -> asyncio.Future[Any]:
        """Call a script in a shard."""
        return self.send(self.command(name, shard, words, keys, retry_for))

    async def call_all(self, name: str, *words: Any) -> list[Any]:
        """Call a script in all shards."""
        return await asyncio.gather(*(self.call(name, shard, *words) for shard in self.keys.shards))

    async def call_reachable(self, name: str, *words: Any, first_keys: Sequence[str] = ()) -> list[Any]:
        """Call a script in all shards that can be reached, with more keys in the first one."""
        shards = self.keys.shards
        retry_for = 0.0 if len(shards) > 1 else RETRY_FOR
        calls = [
            self.call(name, shard, *words, keys=() if shard.number else first_keys, retry_for=retry_for)
            for shard in shards
        ]
        return successes(await asyncio.gather(*calls, return_exceptions=True))

    async def call_by_job(
        self,
        name: str,
        job_ids: Sequence[str],
        words: Callable[[int, bytes], Sequence[Any]],
        *head: Any,
        retry_for: float = RETRY_FOR,
    ) -> list[Any]:
        """Call a script in the shards of some jobs. Returns the reply for each job; None for an invalid id.

        ``head`` comes before the ``words`` for each job, of its index and its packed id.
        """
        by_shard = split_by_shard(self.keys, job_ids)
        calls = []
        for shard, jobs in by_shard.items():
            of_jobs = [word for i, raw_id in jobs for word in words(i, raw_id)]
            calls.append(self.call(name, shard, *head, *of_jobs, retry_for=retry_for))
        replies = await asyncio.gather(*calls, return_exceptions=True)
        found: list[Any] = [None] * len(job_ids)
        for jobs, reply in zip(by_shard.values(), replies, strict=True):
            if isinstance(reply, BaseException):
                raise reply
            for (i, _), each in zip(jobs, reply, strict=True):
                found[i] = each
        return found

    def commit(self, changes: Sequence[PackedChange]) -> asyncio.Future[list[Outcome]]:
        """Commit changes at the end of this turn. Returns the future of their outcomes."""
        return self._commits.add(changes)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that `close` waits for."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send the commands and commits of this turn."""
        self._scheduled = False
        turn, self._turn = self._turn, []
        commands = [self._commit_command(shard, batch) for shard, batch in self._commits.batches()]
        commands += [command for command in turn if not command.is_cancelled]
        if commands:
            if self.clock.is_due:
                commands.insert(0, self.clock.sync(self._servers.slot(self.keys.config)))
            self._servers.write(commands)

    def _commit_command(self, shard: ShardKeys, batch: list[QueuedChange]) -> Command:
        changes = CommitArguments(shard, [queued.packed for queued in batch])
        updated = [job.id for queued in batch if (job := queued.packed.change.job).rev > 1]
        functions = {entry.function for queued in batch for entry in queued.packed.change.put}
        hint = self._hints.message(functions, updated)
        words = (changes.changes, self.keys.channel, hint, *changes.values)
        called, slot = self._script_call("commit", shard, changes.keys, words)
        finish = partial(self._commits.finish, shard)
        return CommitCommand(called, slot, batch, functions, finish, self._hints)

    def _handle_failure(self, command: Command, error: Exception) -> None:
        """Send a command again, now or after a delay, or fail it: it got an error, or no reply."""
        if command.future.done():
            return
        if command.redirects < MAX_REDIRECTS:
            command.redirects += 1
            if error_code(error) == "NOSCRIPT" and command.script is not None:
                self._servers.write([self._load(command), command])
                return
            if self._servers.redirect(command, error):
                self._servers.write([command])
                return
        command.redirects = 0
        command.backoff = command.backoff or Backoff()
        delay = command.backoff.next()
        if self._closing or not is_temporary(error) or self.loop.time() + delay > command.deadline:
            command.fail(translate(error))
        else:
            self._delayed[command] = self.loop.call_later(delay, self._send_again, command)

    def _load(self, command: Command) -> Command:
        """Loads the script of a command on its server. Its reply is ignored."""
        source = scripts()[command.script or ""].source
        load = Command(("SCRIPT", "LOAD", source), slot=command.slot, retry_for=0.0)
        load.ask_node = command.sent_to
        load.future.cancel()
        return load

    def _send_again(self, command: Command) -> None:
        del self._delayed[command]
        self._servers.write([command])


def successes(replies: Sequence[Any]) -> list[Any]:
    """The replies without the errors of the store. Raises any other error, or if every reply is an error."""
    good = [reply for reply in replies if not isinstance(reply, StoreError)]
    for reply in good or replies[:1]:
        if isinstance(reply, BaseException):
            raise reply
    return good


def split_by_shard(keys: Keys, job_ids: Sequence[str]) -> dict[ShardKeys, list[tuple[int, bytes]]]:
    """The index and the packed id of each job by shard, without invalid ids.

    Has at least one shard, so that every call raises if the server cannot be reached.
    """
    shards: dict[ShardKeys, list[tuple[int, bytes]]] = {}
    for i, job_id in enumerate(job_ids):
        try:
            raw_id = packed(job_id)
        except ValueError:
            continue
        shards.setdefault(keys.shard_of(raw_id), []).append((i, raw_id))
    return shards or {keys.shards[0]: []}


class Pipelines:
    """The pipeline of each event loop, while the store is open."""

    def __init__(self, address: Address, keys: Keys, hints: Hints) -> None:
        self._address = address
        self._keys = keys
        self._hints = hints
        self.clock = ServerClock()
        self._lock = Lock()
        self._pid = 0
        self._pipelines: dict[asyncio.AbstractEventLoop, Pipeline] = {}
        self._blocking = BlockingLoop()

    @property
    def is_open(self) -> bool:
        """Whether the store is open in this process."""
        return self._pid == os.getpid()

    def open(self) -> None:
        """Allow `here` and `block`."""
        self._pid = os.getpid()

    def here(self) -> Pipeline:
        """The pipeline of the running loop. Raises `StoreUnavailable` if the store is not open."""
        loop = asyncio.get_running_loop()
        pipeline = self._pipelines.get(loop)
        if pipeline is None:
            pipeline = self._make(loop)
        if pipeline.subscription is None and self._hints.wanted and loop is not self._blocking.loop:
            pipeline.subscribe(self._address)
        return pipeline

    def subscribe(self) -> None:
        """Receive the hints of other processes, if the store is open and this thread runs a loop."""
        if self.is_open:
            with suppress(RuntimeError):
                self.here()

    def _make(self, loop: asyncio.AbstractEventLoop) -> Pipeline:
        with self._lock:
            if not self.is_open:  # also after a fork: processes must not share a connection
                raise StoreUnavailable("the store is not open")
            for other in [each for each in self._pipelines if each.is_closed()]:
                del self._pipelines[other]
            pipeline = Pipeline(self._keys, self._make_servers, self.clock, self._hints)
            self._pipelines[loop] = pipeline
        return pipeline

    def _make_servers(self, on_failure: OnFailure) -> Servers:
        if not self._address.is_cluster:
            return OneServer(self._address, None, on_failure)
        from raincheck.store.valkey.cluster.servers import ClusterServers

        return ClusterServers(self._address, on_failure)

    def block(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a call on an event loop of its own. Blocks this thread, and needs no other."""
        if not self.is_open:
            raise StoreUnavailable("the store is not open")
        return self._blocking.run(call)

    async def close(self) -> None:
        """Let every loop finish its calls, for a few seconds; then close the connections."""
        with self._lock:
            self._pid = 0
            pipelines, self._pipelines = self._pipelines, {}
        here = asyncio.get_running_loop()
        closing: list[Awaitable[None]] = []
        for loop, pipeline in pipelines.items():
            if loop is here:
                closing.append(pipeline.close())
            elif loop is self._blocking.loop:
                closing.append(asyncio.to_thread(self._blocking.close, pipeline.close))
            elif loop.is_running():
                closing.append(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(pipeline.close(), loop)))
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_TIMEOUT):
                await asyncio.gather(*closing, return_exceptions=True)


class BlockingLoop:
    """An event loop for calls that block a thread. It runs only during a call, in the thread of the call."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.loop: asyncio.AbstractEventLoop | None = None

    def run(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of a call."""
        with self._lock:
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
            return self.loop.run_until_complete(call())

    def close(self, last_call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the last call, and close the loop."""
        with self._lock:
            loop = self.loop
            if loop is not None:
                loop.run_until_complete(last_call())
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()
                self.loop = None
