"""One server on one event loop: a connection that carries many commands at once, and is reopened if it fails.

redis-py opens the connection (TLS, unix sockets, passwords, users, Sentinel). Then raincheck takes over its
transport: hiredis packs commands and parses replies, and each reply settles its command when it arrives.
The errors of the server and of redis-py are translated here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from ssl import SSLCertVerificationError
from typing import Any, NamedTuple

import hiredis
from redis import exceptions

from raincheck.core import clock
from raincheck.core.errors import StoreError, StoreFull, StoreUnavailable, StoreUnusable
from raincheck.store.valkey.address import CONNECT_TIMEOUT, SENTINEL_TIMEOUT, Address, HostPort, make_pool

logger = logging.getLogger("raincheck.store")

RETRY_FOR = 4.0
"""Seconds for which a command is sent again, by default."""

FIRST_DELAY, MAX_DELAY = 0.02, 0.5
"""Seconds before the first retry, and at most."""

TICK = 0.5
"""Seconds without a reply after which a server counts as silent."""

pack_command: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
"""A command as bytes."""

ACK_MILLISECONDS = 2000
ACK_COMMANDS: dict[str, bytes] = {
    "fsync": pack_command(("WAITAOF", 1, 0, ACK_MILLISECONDS)),
    "replicated": pack_command(("WAIT", 1, ACK_MILLISECONDS)),
}
ASKING: bytes = pack_command(("ASKING",))

_TEMPORARY = {
    *("LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "UNBLOCKED", "BUSY", "NOREPLICAS"),
    *("NOSCRIPT", "MOVED", "ASK"),
}
"""Error replies during a start, a failover or the move of a slot, or before a script is loaded."""

_TEMPORARY_ERRORS = (
    OSError,
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
)
_LOGIN_ERRORS = ("NOAUTH", "WRONGPASS", "NOPERM")


def error_code(error: BaseException) -> str:
    """The first word of an error reply; empty for any other error."""
    return str(error).partition(" ")[0] if isinstance(error, hiredis.ReplyError) else ""


def is_temporary(error: BaseException) -> bool:
    """Whether the same command may succeed later."""
    if isinstance(error, exceptions.AuthenticationError):
        return False
    if isinstance(error.__context__, SSLCertVerificationError):
        return False
    return isinstance(error, _TEMPORARY_ERRORS) or error_code(error) in _TEMPORARY


def translate(error: BaseException) -> StoreError:
    """The `StoreError` to raise for an error of the server or of redis-py."""
    if isinstance(error, StoreError):
        return error
    text, code = str(error) or type(error).__name__, error_code(error)
    if code == "OOM":
        return StoreFull("the server is out of memory (maxmemory): raise the limit, or keep results shorter")
    if code == "MISCONF":
        return StoreFull(f"the server cannot write to its disk: {text}")
    if code in _LOGIN_ERRORS or isinstance(
        error, exceptions.AuthenticationError | exceptions.NoPermissionError
    ):
        return StoreUnavailable(f"the server refused the login: {text}")
    if code == "WRONGTYPE":
        return StoreUnusable(f"another program uses keys of this namespace: {text}")
    if "cluster support disabled" in text:
        return StoreUnusable("the server is not part of a cluster: use redis://, not redis+cluster://")
    if code == "TRYAGAIN":
        return StoreUnavailable("the cluster is moving this slot to another node")
    if isinstance(error, hiredis.ReplyError | exceptions.ResponseError) and not is_temporary(error):
        return StoreError(f"the server refused the command: {text}")
    return StoreUnavailable(f"the server cannot be reached: {text}")


class Backoff:
    """Seconds to wait between retries: longer each time, with jitter."""

    def __init__(self) -> None:
        self._next = FIRST_DELAY

    def next(self) -> float:
        """The next delay."""
        delay, self._next = self._next, min(2 * self._next, MAX_DELAY)
        return delay * (0.5 + clock.chance())


class Command:
    """The words of a command and the future of its reply. Create it on the loop that sends it.

    It is sent again for ``retry_for`` seconds. ``slot`` is its hash slot in a cluster, ``script`` the name of
    the script that it calls. ``durable``: its reply counts only after the server acknowledged the write.
    """

    def __init__(
        self,
        words: tuple[Any, ...],
        *,
        slot: int = 0,
        script: str | None = None,
        retry_for: float = RETRY_FOR,
        durable: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.words = words
        self.slot = slot
        self.script = script
        self.durable = durable
        self.retry_for = retry_for
        self.deadline = loop.time() + retry_for
        self.future: asyncio.Future[Any] = loop.create_future()
        self.backoff: Backoff | None = None
        self.redirects = 0
        self.ask_node: HostPort | None = None
        """The cluster node to send it to once, after ASKING."""
        self.sent_to: HostPort | None = None
        """The cluster node that it was last sent to."""
        self.acknowledgement: _Acknowledgement | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the caller was cancelled, so that it need not be sent."""
        return self.future.cancelled()

    def settle(self, reply: Any) -> None:
        """Deliver the reply."""
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Deliver an error in place of the reply."""
        if not self.future.done():
            self.future.set_exception(error)


class _Acknowledgement:
    """A WAIT or WAITAOF: it holds back the replies of the durable commands before it until it is answered."""

    def __init__(self, ack: str) -> None:
        self._ack = ack
        self.replies: list[tuple[Command, Any]] = []

    def settle(self, reply: Any) -> None:
        count = reply[0] if isinstance(reply, list) else reply
        if count < 1:
            target = "synced to disk" if self._ack == "fsync" else "received by a replica"
            self.fail(
                StoreUnavailable(f"ack={self._ack}: the write was not {target} in time and may be lost")
            )
            return
        for command, held_back in self.replies:
            command.settle(held_back)

    def fail(self, error: Exception) -> None:
        for command, _ in self.replies:
            command.fail(error)


OnFailure = Callable[[Command, Exception], None]
"""Handles a command that got an error or no reply: sends it again, or fails it. Ignores a settled command."""


class OpenedStream(NamedTuple):
    """A connection that redis-py opened, and the seconds that a reply may take (None: no limit)."""

    writer: asyncio.StreamWriter
    timeout: float | None


class Connection(asyncio.Protocol):
    """An open connection. Replies arrive in the order of the commands."""

    def __init__(self, stream: OpenedStream, ack: str, on_failure: OnFailure) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = stream.writer  # the transport is closed when the writer is garbage-collected
        self._transport = stream.writer.transport
        self._reader = hiredis.Reader()
        self._ack = ack
        self._on_failure = on_failure
        self._sent: deque[Command | _Acknowledgement | None] = deque()
        self._silent_ticks = 0
        self._max_ticks = round((stream.timeout or 3600.0) / TICK)
        self._timer: asyncio.TimerHandle | None = None
        self.is_lost = False
        self._transport.set_protocol(self)

    @property
    def is_silent(self) -> bool:
        """Whether replies are overdue."""
        return self._silent_ticks > 0

    def write(self, commands: Sequence[Command]) -> None:
        """Send commands in one write."""
        chunks: list[bytes] = []
        acknowledgement: _Acknowledgement | None = None
        for command in commands:
            if command.ask_node is not None:
                chunks.append(ASKING)
                self._sent.append(None)
                command.ask_node = None
            chunks.append(pack_command(command.words))
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
        while not self.is_lost:  # a reply may close the connection: wrong server
            try:
                reply = self._reader.gets()
                if reply is False:
                    return
                sent = self._sent.popleft()
            except (hiredis.ProtocolError, IndexError) as error:
                self.abort(ConnectionError(f"not a reply to a command: {error}"))
                return
            if sent is not None:
                self._deliver(sent, reply)

    def _deliver(self, sent: Command | _Acknowledgement, reply: Any) -> None:
        try:
            if isinstance(reply, hiredis.ReplyError):
                if isinstance(sent, Command):
                    sent.acknowledgement = None
                    self._on_failure(sent, reply)
                else:
                    sent.fail(translate(reply))
            elif isinstance(sent, Command) and sent.acknowledgement is not None:
                sent.acknowledgement.replies.append((sent, reply))
                sent.acknowledgement = None
            else:
                sent.settle(reply)
        except Exception as error:  # a bug: the caller must not wait forever
            logger.exception("could not process a reply of the store")
            sent.fail(error)

    def _tick(self) -> None:
        """Count the ticks without a reply. A blocked loop counts one tick, however long it was blocked."""
        self._timer = None
        if not self._sent:
            return
        self._silent_ticks += 1
        if self._silent_ticks >= self._max_ticks:
            self.abort(TimeoutError(f"no reply for {self._max_ticks * TICK:g} s"))
            return
        self._timer = self._loop.call_later(TICK, self._tick)
        if self._silent_ticks > 1:
            now = self._loop.time()
            for sent in list(self._sent):
                if isinstance(sent, Command) and now > sent.deadline:
                    self._on_failure(sent, TimeoutError("the server does not reply"))

    def abort(self, error: Exception) -> None:
        """Close the connection at once: later data on it would not match the commands."""
        self._transport.abort()
        self.connection_lost(error)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unanswered, self._sent = self._sent, deque()
        reason = error or ConnectionError("the server closed the connection")
        self.is_lost = True
        for sent in unanswered:
            if isinstance(sent, Command):
                sent.acknowledgement = None
                self._on_failure(sent, reason)
            elif sent is not None:
                for command, _ in sent.replies:
                    self._on_failure(command, reason)


async def connect(address: Address, node: HostPort | None) -> OpenedStream:
    """Open a connection. Raises `StoreUnusable` for invalid options, or an error for `translate`."""
    pool = make_pool(address, node)
    make_connection: Any = pool.make_connection  # untyped
    try:
        connection = make_connection()
    except TypeError as error:
        raise StoreUnusable(f"invalid store URL: {error}") from error
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT + SENTINEL_TIMEOUT * len(address.nodes)):
            await connection.connect()
            await connection.send_command("PING")  # a hanging server still accepts connections
            await connection.read_response()
    except BaseException:
        if (writer := _take_writer(connection)) is not None:
            writer.transport.abort()
        raise
    finally:
        sentinels = getattr(pool, "sentinel_manager", None)
        for sentinel in sentinels.sentinels if sentinels else ():
            await sentinel.aclose()
    return OpenedStream(_take_writer(connection), connection.socket_timeout)


def _take_writer(connection: Any) -> Any:
    """Take the stream away from a redis-py connection. A test covers the private attributes used here.

    redis-py has no public access to a transport that it opened.
    """
    writer = connection._writer
    connection._reader = connection._writer = None
    return writer


class Server:
    """A server: it connects when there is a command to send, and again after the connection was lost."""

    def __init__(self, address: Address, node: HostPort | None, on_failure: OnFailure) -> None:
        self._address = address
        self._node = node
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._unsent: list[Command] = []
        self._closed = False
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._connect_error: Exception | None = None
        """Why the last attempt to connect failed."""

    def write(self, commands: Sequence[Command]) -> None:
        """Send commands now, or when connected."""
        connection = self._connection
        if connection is not None and not connection.is_lost:
            if connection.is_silent:
                commands = self._fail_without_retry(commands, TimeoutError("the server does not reply"))
            if commands:
                connection.write(commands)
            return
        if self._connect_error is not None:
            commands = self._fail_without_retry(commands, self._connect_error)
            if self._connecting is None and self._loop.time() < self._retry_at:
                for command in commands:
                    self._on_failure(command, self._connect_error)
                return
        self._unsent += commands
        if self._connecting is None:
            self._connecting = self._loop.create_task(self._connect())

    def _fail_without_retry(self, commands: Sequence[Command], error: Exception) -> list[Command]:
        """Fail the commands that must not wait, for they would delay other servers; return the others."""
        for command in commands:
            if not command.retry_for:
                self._on_failure(command, error)
        return [command for command in commands if command.retry_for]

    async def _connect(self) -> None:
        try:
            stream = await connect(self._address, self._node)
        except asyncio.CancelledError:
            self._fail_unsent(StoreUnavailable("the event loop ended"))
            raise
        except Exception as error:  # noqa: BLE001 - every error goes to the callers
            self._connect_error = error
            self._retry_at = self._loop.time() + self._backoff.next()
            self._fail_unsent(error)
            return
        if self._closed:  # redis-py can swallow a cancellation
            stream.writer.transport.abort()
            self._fail_unsent(StoreUnavailable("the store is not open"))
            return
        self._connection = Connection(stream, self._address.ack, self._on_failure)
        self._backoff, self._connect_error, self._connecting = Backoff(), None, None
        unsent, self._unsent = self._unsent, []
        if unsent := [command for command in unsent if not command.is_cancelled]:
            self._connection.write(unsent)

    def _fail_unsent(self, error: Exception) -> None:
        self._connecting = None
        unsent, self._unsent = self._unsent, []
        for command in unsent:
            self._on_failure(command, error)

    @property
    def is_unreachable(self) -> bool:
        """Whether the last attempt to connect failed, or replies are overdue."""
        return self._connect_error is not None or (
            self._connection is not None and self._connection.is_silent
        )

    def abort(self, error: Exception) -> None:
        """Close the connection; later commands open a new one."""
        if self._connection is not None and not self._connection.is_lost:
            self._connection.abort(error)

    def close(self) -> None:
        """Close the connection. Commands without a reply fail."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        self.abort(StoreUnavailable("the store is not open"))
