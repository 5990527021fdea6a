"""One server on one event loop: a connection that carries many commands at once, made anew when it fails.

redis-py makes the connection (TLS, unix sockets, passwords, users, sentinels). Then its transport is ours:
hiredis packs commands and parses replies, and a reply settles its command in the moment in which it comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import hiredis

from raincheck.core import clock
from raincheck.core.errors import StoreUnavailable, StoreUnusable
from raincheck.store.valkey.address import CONNECT_TIMEOUT, SENTINEL_TIMEOUT, Address, HostPort, make_pool
from raincheck.store.valkey.errors import translate

logger = logging.getLogger("raincheck.store")

PATIENCE = 4.0
"""Seconds for which a command is sent again, unless it says otherwise."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds before something is tried again: the first time, and at most."""

TICK = 0.5
"""Seconds without any answer after which a server is called silent."""

pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
"""A command as it is sent."""

ACK_MILLISECONDS = 2000
ACK_COMMANDS: dict[str, bytes] = {
    "fsync": pack(("WAITAOF", 1, 0, ACK_MILLISECONDS)),
    "replicated": pack(("WAIT", 1, ACK_MILLISECONDS)),
}
ASKING: bytes = pack(("ASKING",))


class Pause:
    """Seconds to wait between tries: longer each time, and not the same for all."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def next(self) -> float:
        """The next one."""
        pause, self._next = self._next, min(2 * self._next, LONGEST_PAUSE)
        return pause * (0.5 + clock.chance())


class Command:
    """Words to be sent to a server, and the future of the reply. Made on the loop that sends it.

    It is sent again for ``patience`` seconds. ``slot`` is its hash slot in a cluster, ``script`` what it
    calls. ``durable``: the reply counts only when what was written is acknowledged.
    """

    def __init__(
        self,
        words: tuple[Any, ...],
        *,
        slot: int = 0,
        script: str | None = None,
        patience: float = PATIENCE,
        durable: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.words = words
        self.slot = slot
        self.script = script
        self.durable = durable
        self.patience = patience
        self.until = loop.time() + patience
        self.future: asyncio.Future[Any] = loop.create_future()
        self.pause: Pause | None = None
        self.redirects = 0
        self.asked: HostPort | None = None
        """The node of a cluster that has the slot for this once."""
        self.sent_to: HostPort | None = None
        """The node of a cluster that it was sent to last."""
        self.acknowledgement: _Acknowledgement | None = None

    @property
    def is_dropped(self) -> bool:
        """Whether its caller has gone, so that it need not be sent."""
        return self.future.cancelled()

    def settle(self, reply: Any) -> None:
        """The reply has come."""
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: Exception) -> None:
        """There will be no reply."""
        if not self.future.done():
            self.future.set_exception(error)


class _Acknowledgement:
    """A WAIT or WAITAOF: the replies to the durable commands before it count once it is answered."""

    def __init__(self, ack: str) -> None:
        self._ack = ack
        self.replies: list[tuple[Command, Any]] = []

    def settle(self, reply: Any) -> None:
        count = reply[0] if isinstance(reply, list) else reply
        if count < 1:
            what = "synced to disk" if self._ack == "fsync" else "received by a replica"
            self.fail(
                StoreUnavailable(f"ack={self._ack}: it was written, but not {what} in time; it may be lost")
            )
            return
        for command, kept in self.replies:
            command.settle(kept)

    def fail(self, error: Exception) -> None:
        for command, _ in self.replies:
            command.fail(error)


Refused = Callable[[Command, Exception], None]
"""Decides about a command that got an error or no reply: it is sent again, or fails. A command that has its
reply, or whose caller has gone, is left alone."""


class Opened(NamedTuple):
    """A connection as redis-py has opened it, and the seconds that a reply may take (None: any)."""

    writer: asyncio.StreamWriter
    timeout: float | None


class Connection(asyncio.Protocol):
    """A connection from when it is there until it is lost. Replies come in the order of the commands."""

    def __init__(self, opened: Opened, ack: str, refused: Refused) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = opened.writer  # kept, for it closes the transport when it is collected
        self._transport = opened.writer.transport
        self._reader = hiredis.Reader()
        self._ack = ack
        self._refused = refused
        self._sent: deque[Command | _Acknowledgement | None] = deque()
        self._silent_ticks = 0
        self._last_tick = round((opened.timeout or 3600.0) / TICK)
        self._timer: asyncio.TimerHandle | None = None
        self.is_lost = False
        self._transport.set_protocol(self)

    @property
    def is_silent(self) -> bool:
        """Whether the server owes replies and has not answered for a while."""
        return self._silent_ticks > 0

    def write(self, commands: Sequence[Command]) -> None:
        """Send commands, in one piece."""
        chunks: list[bytes] = []
        acknowledgement: _Acknowledgement | None = None
        for command in commands:
            if command.asked is not None:
                chunks.append(ASKING)
                self._sent.append(None)
                command.asked = None
            chunks.append(pack(command.words))
            self._sent.append(command)
            if command.durable and self._ack in ACK_COMMANDS:
                acknowledgement = acknowledgement or _Acknowledgement(self._ack)
                command.acknowledgement = acknowledgement
        if acknowledgement is not None:
            chunks.append(ACK_COMMANDS[self._ack])
            self._sent.append(acknowledgement)
        self._transport.write(b"".join(chunks) if len(chunks) > 1 else chunks[0])
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)

    def data_received(self, data: bytes) -> None:
        self._silent_ticks = 0
        self._reader.feed(data)
        while not self.is_lost:  # a reply may say that this is the wrong server
            try:
                reply = self._reader.gets()
                if reply is False:
                    return
                sent = self._sent.popleft()
            except (hiredis.ProtocolError, IndexError) as error:
                self.abort(ConnectionError(f"not a reply to a command: {error}"))
                return
            if sent is not None:
                self._hand_over(sent, reply)

    def _hand_over(self, sent: Command | _Acknowledgement, reply: Any) -> None:
        try:
            if isinstance(reply, hiredis.ReplyError):
                if isinstance(sent, Command):
                    sent.acknowledgement = None
                    self._refused(sent, reply)
                else:
                    sent.fail(translate(reply))
            elif isinstance(sent, Command) and sent.acknowledgement is not None:
                sent.acknowledgement.replies.append((sent, reply))
                sent.acknowledgement = None
            else:
                sent.settle(reply)
        except Exception as error:  # a bug: its caller must not wait for ever
            logger.exception("a reply of the store could not be read")
            sent.fail(error)

    def _tick(self) -> None:
        """Count how long no reply has come. A loop that was blocked counts one tick, however long it was."""
        self._timer = None
        if not self._sent:
            return
        self._silent_ticks += 1
        if self._silent_ticks >= self._last_tick:
            self.abort(TimeoutError(f"no answer for {self._last_tick * TICK:g} s"))
            return
        self._timer = self._loop.call_later(TICK, self._tick)
        if self._silent_ticks > 1:
            now = self._loop.time()
            for sent in list(self._sent):
                if isinstance(sent, Command) and now > sent.until:
                    self._refused(sent, TimeoutError("the server does not answer"))

    def abort(self, error: Exception) -> None:
        """Close the connection at once: nothing that may still come on it is a reply to what follows."""
        self._transport.abort()
        self.connection_lost(error)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sent, self._sent = self._sent, deque()
        reason = error or ConnectionError("the server closed the connection")
        self.is_lost = True
        for each in sent:
            if isinstance(each, Command):
                each.acknowledgement = None
                self._refused(each, reason)
            elif each is not None:
                for command, _ in each.replies:
                    self._refused(command, reason)


async def connect(address: Address, place: HostPort | None) -> Opened:
    """Open a connection. Raises `StoreUnusable` for options that mean nothing, or what `translate` knows."""
    pool = make_pool(address, place)
    make: Any = pool.make_connection  # has no types
    try:
        connection = make()
    except TypeError as error:
        raise StoreUnusable(f"the URL of the store cannot be used: {error}") from error
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT + SENTINEL_TIMEOUT * len(address.places)):
            await connection.connect()
            await connection.send_command("PING")  # a server that hangs still lets everybody connect
            await connection.read_response()
    except BaseException:
        if (writer := _take_writer(connection)) is not None:
            writer.transport.abort()
        raise
    finally:
        sentinels = getattr(pool, "sentinel_manager", None)
        for sentinel in sentinels.sentinels if sentinels else ():
            await sentinel.aclose()
    return Opened(_take_writer(connection), connection.socket_timeout)


def _take_writer(connection: Any) -> Any:
    """The stream of a connection of redis-py, which then has none. A test says what we rely on.

    It is the only way to a transport that redis-py has opened by all its rules.
    """
    writer = connection._writer
    connection._reader = connection._writer = None
    return writer


class Server:
    """A server: connected to when there is something to send, and again when the connection was lost."""

    def __init__(self, address: Address, place: HostPort | None, refused: Refused) -> None:
        self._address = address
        self._place = place
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[Command] = []
        self._closed = False
        self._pause = Pause()
        self._away_until = 0.0
        self._away: Exception | None = None
        """Why the last connection could not be made."""

    def write(self, commands: Sequence[Command]) -> None:
        """Send commands, or keep them until there is a connection."""
        connection = self._connection
        if connection is not None and not connection.is_lost:
            if connection.is_silent:
                commands = self._refuse_impatient(commands, TimeoutError("the server does not answer"))
            if commands:
                connection.write(commands)
            return
        if self._away is not None:
            commands = self._refuse_impatient(commands, self._away)
            if self._connecting is None and self._loop.time() < self._away_until:
                for command in commands:
                    self._refused(command, self._away)
                return
        self._waiting += commands
        if self._connecting is None:
            self._connecting = self._loop.create_task(self._connect())

    def _refuse_impatient(self, commands: Sequence[Command], error: Exception) -> list[Command]:
        """The commands that can wait; the others fail, so that they hold up nothing at the other servers."""
        for command in commands:
            if not command.patience:
                self._refused(command, error)
        return [command for command in commands if command.patience]

    async def _connect(self) -> None:
        try:
            opened = await connect(self._address, self._place)
        except asyncio.CancelledError:
            self._give_up(StoreUnavailable("the event loop ends"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers are told
            self._away = error
            self._away_until = self._loop.time() + self._pause.next()
            self._give_up(error)
            return
        if self._closed:  # redis-py may miss that it is cancelled
            opened.writer.transport.abort()
            self._give_up(StoreUnavailable("the store is not open"))
            return
        self._connection = Connection(opened, self._address.ack, self._refused)
        self._pause, self._away, self._connecting = Pause(), None, None
        waiting, self._waiting = self._waiting, []
        if waiting := [command for command in waiting if not command.is_dropped]:
            self._connection.write(waiting)

    def _give_up(self, error: Exception) -> None:
        self._connecting = None
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            self._refused(command, error)

    @property
    def is_away(self) -> bool:
        """Whether the last connection could not be made, or the server owes replies for too long."""
        return self._away is not None or (self._connection is not None and self._connection.is_silent)

    def abort(self, error: Exception) -> None:
        """Give the connection up; what is still to be sent needs another."""
        if self._connection is not None and not self._connection.is_lost:
            self._connection.abort(error)

    def close(self) -> None:
        """Close the connection. Commands without a reply fail."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        self.abort(StoreUnavailable("the store is not open"))
