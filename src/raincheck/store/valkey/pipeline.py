"""All commands of one event loop: those of one turn go out in one write, its commits in one call a shard.

Several batches may be in flight. A command that failed in passing is sent again, with growing pauses, until
its patience ends. That does no harm: a script that writes keeps its answer under a token, and gives it again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import suppress
from struct import Struct
from typing import Any, Protocol

from raincheck.core import clock
from raincheck.core.errors import StoreError, StoreUnavailable
from raincheck.store.base import Outcome
from raincheck.store.valkey.address import Address, HostPort
from raincheck.store.valkey.commits import Batch, Commits
from raincheck.store.valkey.connection import PATIENCE, Command, Pause, Refused, Server
from raincheck.store.valkey.errors import code_of, passes, translate
from raincheck.store.valkey.hints import Hints
from raincheck.store.valkey.keys import Keys, ShardKeys
from raincheck.store.valkey.packing import Packed
from raincheck.store.valkey.scripts import scripts
from raincheck.store.valkey.server_clock import ServerClock
from raincheck.store.valkey.subscription import Subscription

MAX_REDIRECTS = 5
"""How often in a row a command goes on to another node, or has its script loaded, without a pause."""

ANSWERS = 256
"""Answers kept for one loop in each shard: more scripts that write are not on their way at once."""

CLOSING = 5.0
"""Seconds for which a pipeline that closes waits for replies."""

_token = Struct(">Q").pack


class Servers(Protocol):
    """Where commands go: the only server, or the nodes of a cluster."""

    def slot(self, key: str) -> int:
        """The hash slot of a key; 0 where there is but one server."""

    def write(self, commands: Sequence[Command]) -> None:
        """Send each command to its server."""

    def redirect(self, command: Command, error: Exception) -> bool:
        """Whether an error names another node, to which ``command`` is to be sent at once."""

    def pings(self) -> list[Command]:
        """Commands that were sent to all servers: replied to, all commands before them are."""

    def place(self) -> HostPort | None:
        """A node for a subscription; None: the server that the URL leads to."""

    def close(self) -> None:
        """Close all connections. Commands without a reply fail."""


class OneServer(Server):
    """The only server, or whichever the sentinels say is the primary."""

    def slot(self, key: str) -> int:
        return 0

    def redirect(self, command: Command, error: Exception) -> bool:
        if code_of(error) in ("READONLY", "UNBLOCKED"):  # the sentinels may know another primary by now
            self.abort(error)
        return False

    def pings(self) -> list[Command]:
        ping = Command(("PING",), patience=0.0)
        self.write([ping])
        return [ping]

    def place(self) -> HostPort | None:
        return None


class _Commit(Command):
    """The script call of a batch of changes."""

    def __init__(self, batch: Batch, hints: Hints, words: tuple[Any, ...], slot: int) -> None:
        super().__init__(words, slot=slot, script="commit", durable=True)
        self._batch = batch
        self._hints = hints

    def settle(self, reply: Any) -> None:
        if self.future.done():  # its callers were told that the server does not answer
            self._hints.tell_all()
            return
        self.future.set_result(None)
        self._batch.settle(reply, self._hints)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_result(None)
            self._batch.fail(error)


class Pipeline:
    """The commands of one loop, used from that loop alone."""

    def __init__(
        self,
        keys: Keys,
        make_servers: Callable[[Refused], Servers],
        server_clock: ServerClock,
        hints: Hints,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.servers = make_servers(self._refused)
        self._keys = keys
        self.clock = server_clock
        self._hints = hints
        self._commits = Commits(keys, self._flush, self._schedule)
        self._turn: list[Command] = []
        self._scheduled = False
        self._closing = False
        self._resting: dict[Command, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._origin = clock.new_id()
        self._tokens = itertools.count(1)
        self.subscription: Subscription | None = None
        self._lifetime = self._live()
        with suppress(StopIteration):
            anext(self._lifetime).send(None)

    async def _live(self) -> AsyncGenerator[None]:
        """Ends with the loop: `asyncio.run` and every runner close the asynchronous generators of theirs."""
        try:
            yield
        finally:
            self._abandon()

    def subscribe(self, address: Address) -> None:
        """Hear on this loop what other processes have changed."""
        self.subscription = Subscription(address, self.servers.place, self._keys.bell, self._hints)

    def _abandon(self) -> None:
        self._closing = True
        self._fail_resting()
        self.servers.close()

    def _fail_resting(self) -> None:
        resting, self._resting = self._resting, {}
        for command, timer in resting.items():
            timer.cancel()
            command.fail(StoreUnavailable("the store is not open"))

    async def close(self) -> None:
        """Finish what was begun, but send nothing again; then close the connections."""
        self._closing = True
        if self.subscription is not None:
            await self.subscription.close()
        self._fail_resting()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self._finish()
        await self._lifetime.aclose()

    async def _finish(self) -> None:
        """Wait for every reply."""
        while True:
            if self._turn or self._commits.is_busy:
                self._flush()
            pings = [ping.future for ping in self.servers.pings()]
            failed = [
                each
                for each in await asyncio.gather(*pings, return_exceptions=True)
                if isinstance(each, StoreError)
            ]
            if self._tasks:
                await asyncio.wait(self._tasks)
            elif failed or not (self._turn or self._commits.is_busy):
                return

    def command(
        self,
        name: str,
        shard: ShardKeys,
        words: Sequence[Any],
        keys: Sequence[str] = (),
        patience: float = PATIENCE,
    ) -> Command:
        """The call of a script in a shard, with more ``keys`` after the shard's own."""
        called, slot = self._call(name, shard, [*shard.fixed, *keys], words)
        return Command(called, slot=slot, script=name, patience=patience, durable=scripts()[name].durable)

    def _call(
        self, name: str, shard: ShardKeys, keys: list[str], words: Sequence[Any]
    ) -> tuple[tuple[Any, ...], int]:
        """The words of a script call, with token and key of its answer if it keeps one; and its slot."""
        called = scripts()[name]
        if called.keeps_answer:
            token = next(self._tokens)
            keys.insert(len(shard.fixed), shard.answer(f"{self._origin}:{token % ANSWERS}"))
            words = (_token(token), *words)
        return ("EVALSHA", called.sha, len(keys), *keys, *words), self.servers.slot(keys[0])

    def send(self, command: Command) -> asyncio.Future[Any]:
        """Send a command at the end of this turn; its reply to come."""
        self._turn.append(command)
        self._schedule()
        return command.future

    def withdraw(self, command: Command) -> bool:
        """Do not send a command after all; False: it was sent."""
        if command in self._turn:
            self._turn.remove(command)
            return True
        return False

    def commit(self, changes: Sequence[Packed]) -> asyncio.Future[list[Outcome]]:
        """Commit changes at the end of this turn; their outcomes to come."""
        return self._commits.add(changes)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something that `close` waits for."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what has come together in this turn."""
        self._scheduled = False
        turn, self._turn = self._turn, []
        commands: list[Command] = [self._commit(batch) for batch in self._commits.batches()]
        commands += [command for command in turn if not command.is_dropped]
        if commands:
            if self.clock.is_due:
                commands.insert(0, self.clock.look(self.servers.slot(self._keys.config)))
            self.servers.write(commands)

    def _commit(self, batch: Batch) -> Command:
        keys, words = batch.arguments(self._hints, self._keys.bell)
        return _Commit(batch, self._hints, *self._call("commit", batch.shard, keys, words))

    def _refused(self, command: Command, error: Exception) -> None:
        """A command got an error, or no reply: send it again, now or after a pause, or let it fail."""
        if command.future.done():
            return
        if command.redirects < MAX_REDIRECTS:
            command.redirects += 1
            if code_of(error) == "NOSCRIPT" and command.script is not None:
                self.servers.write([self._load(command), command])
                return
            if self.servers.redirect(command, error):
                self.servers.write([command])
                return
        command.redirects = 0
        command.pause = command.pause or Pause()
        pause = command.pause.next()
        if self._closing or not passes(error) or self.loop.time() + pause > command.until:
            command.fail(translate(error))
        else:
            self._resting[command] = self.loop.call_later(pause, self._send_again, command)

    def _load(self, command: Command) -> Command:
        """Loads the script of a command on its server. Nobody waits for it."""
        load = Command(
            ("SCRIPT", "LOAD", scripts()[command.script or ""].source), slot=command.slot, patience=0.0
        )
        load.asked = command.sent_to
        load.future.cancel()
        return load

    def _send_again(self, command: Command) -> None:
        del self._resting[command]
        self.servers.write([command])
