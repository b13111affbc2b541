"""A session with ZooKeeper without a daemon: kazoo's pings, time-outs and reconnects, at a hundredth of its memory."""

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

from smartstack.registry.zookeeper.client import CONNECT_SECONDS, RETRY_SECONDS
from smartstack.registry.zookeeper.link import WINDOW
from smartstack.registry.zookeeper.wire import Event, Request, read_event
from tests.bench import scale_wire as wire

T = TypeVar("T")

Server: TypeAlias = tuple[str, int]
Answer: TypeAlias = tuple[int, bytes]
"""The error or 0, and the answer after its head."""

_Grant: TypeAlias = wire.Grant | ConnectionError | None
"""None says that the session has expired."""

_JITTER_SECONDS: Final = (0.01, 0.4)
"""By so much kazoo pings before a third of the session time-out is over."""

_STOP_SECONDS: Final = 5.0


class Unavailable(Exception):
    """The link failed, or an answer took too long: nothing is known of what was not answered."""


@dataclass(slots=True)
class Traffic:
    """What all sessions together have sent and got; only ever grows. Bytes are those of ZooKeeper's protocol, without
    TCP's; `requests` are counted by opcode, without pings and connects."""

    requests: Counter[int] = field(default_factory=Counter)
    pings: int = 0
    connects: int = 0
    events: int = 0
    bytes_to_server: int = 0
    bytes_from_server: int = 0
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Clock:
    """The time by which simulated hosts judge the server: it stands still while the simulator, which is all of them,
    has no time for them, so that no host takes the simulator's lateness for the server's. `late_seconds` is how long
    it stood still. The server's clock does not: pings go by the real time.
    """

    late_seconds: float = 0.0

    def now(self) -> float:
        """Monotonic, in seconds."""
        return time.monotonic() - self.late_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What all sessions of a fleet have in common: the servers, the session time-out, and what is counted."""

    servers: tuple[Server, ...]
    timeout_seconds: float
    traffic: Traffic = field(default_factory=Traffic)
    clock: Clock = field(default_factory=Clock)


@dataclass(slots=True)
class _Batch:
    """Requests that are being asked, in a window."""

    unsent: Iterator[Request]
    left: int
    take: Callable[[Answer], None]
    done: asyncio.Future[None]
    moved_at: float


class Session(asyncio.Protocol):
    """Connected from `start` to `stop`, as long as a server can be reached.

    `on_up` is called with each connection, `on_event` with what a watch reported. `source` is the address to connect
    from, so that each simulated host has its own. `tick` has to be called several times a second.
    """

    def __init__(
        self,
        registry: Registry,
        source: str,
        *,
        on_up: Callable[[], None],
        on_event: Callable[[Event], None],
    ) -> None:
        timeout_seconds = registry.timeout_seconds
        self._servers = list(registry.servers)
        self._source = source
        self._timeout_seconds = timeout_seconds
        self._answer_seconds = max(1.0, min(5.0, timeout_seconds / 3))
        self._traffic = registry.traffic
        self._now = registry.clock.now
        self._on_up = on_up
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._grant = wire.Grant()
        self._granted: asyncio.Future[_Grant] | None = None
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._batch: _Batch | None = None
        self._rest = b""
        self._xid = 0
        self._answered_xid = 0
        self._last_zxid = 0
        self._sent_at = 0.0
        self._ping_after = 0.0
        self._pinged_at: float | None = None
        self._stopping = False
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self.connected = False
        self.generation = 0

    @property
    def id(self) -> int:
        """The session's number, as it stands in ephemeral nodes."""
        return self._grant.session

    def start(self) -> None:
        """Begin to connect, without waiting."""
        self._connecting = self._loop.create_task(self._connect())

    async def ask(self, requests: Sequence[Request], take: Callable[[Answer], None]) -> None:
        """Send these in a window, and have each answer taken, in order. One caller at a time. Raises `Unavailable`.

        An answer that takes too long ends it, as it does for a daemon, which goes on only once it has come.
        """
        if not requests:
            return
        if not self.connected or self._transport is None:
            raise Unavailable
        done: asyncio.Future[None] = self._loop.create_future()
        first = requests[:WINDOW]
        self._batch = _Batch(iter(requests[WINDOW:]), len(requests), take, done, self._now())
        self._send(first)
        try:
            await done
        finally:
            self._batch = None

    def tick(self) -> None:
        """Ping when it is time, and give up what does not answer."""
        if not self.connected or self._transport is None:
            return
        now = self._now()
        if time.monotonic() - self._sent_at >= self._ping_after:
            if self._pinged_at is None:
                self._pinged_at = now
                self._traffic.pings += 1
                self._write(wire.PING)
            elif now - self._pinged_at >= self._ping_after:
                self._traffic.errors["ping not answered"] += 1
                self._transport.abort()
                return
        batch = self._batch
        if batch is not None and not batch.done.done() and now - batch.moved_at > self._answer_seconds:
            self._traffic.errors["answer took too long"] += 1
            batch.take = _drop
            batch.unsent = iter(())
            batch.left = self._xid - self._answered_xid
            batch.moved_at = float("inf")

    def cut(self) -> None:
        """Lose the connection, and so connect again."""
        if self._transport is not None:
            self._transport.abort()

    async def stop(self) -> None:
        """End the session, as a daemon does that is told to stop."""
        self._stopping = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self.connected and self._transport is not None:
            self._traffic.requests[wire.CLOSE_TYPE] += 1
            self._xid += 1
            self._write(wire.close(self._xid))
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._lost), _STOP_SECONDS)
        if self._transport is not None:
            self._transport.abort()

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._lost = self._loop.create_future()
        self._rest = b""
        self._xid = self._answered_xid = 0
        self._pinged_at = None
        self._write(wire.connect(self._grant, self._last_zxid, self._timeout_seconds))

    def data_received(self, data: bytes) -> None:
        self._traffic.bytes_from_server += len(data)
        if self._rest:
            data = self._rest + data
        taken = 0
        for start, end in wire.frames(data):
            taken = end
            if self._granted is not None:
                self._grant_came(wire.read_grant(data[start:end]))
            else:
                self._receive(data, start, end)
        self._rest = data[taken:]

    def connection_lost(self, error: Exception | None) -> None:
        was_up, self.connected = self.connected, False
        self._transport = None
        self._grant_came(ConnectionError("closed before a session was granted"))
        if self._batch is not None and not self._batch.done.done():
            self._batch.done.set_exception(Unavailable())
        if not self._lost.done():
            self._lost.set_result(None)
        if was_up and not self._stopping:
            self._traffic.errors["connection lost"] += 1
            self.start()

    def _grant_came(self, grant: _Grant) -> None:
        granted, self._granted = self._granted, None
        if granted is not None and not granted.done():
            granted.set_result(grant)

    def _receive(self, data: bytes, start: int, end: int) -> None:
        xid, zxid, error = wire.answer_head(data, start)
        body = start + wire.ANSWER_HEAD_BYTES
        if zxid > 0:
            self._last_zxid = zxid
        if xid == wire.EVENT_XID:
            self._traffic.events += 1
            event = read_event(data, body)
            if event is not None:
                self._on_event(event)
        elif xid == wire.PING_XID:
            self._pinged_at = None
        elif (batch := self._batch) is not None:
            self._answered_xid = xid
            batch.left -= 1
            batch.moved_at = max(batch.moved_at, self._now())
            batch.take((error, data[body:end]))
            if (following := next(batch.unsent, None)) is not None:
                self._send([following])
            if batch.left == 0 and not batch.done.done():
                if batch.take is _drop:
                    batch.done.set_exception(Unavailable())
                else:
                    batch.done.set_result(None)

    def _send(self, requests: Sequence[Request]) -> None:
        parts = []
        for each in requests:
            self._xid += 1
            self._traffic.requests[each.type] += 1
            parts.append(wire.request(self._xid, each))
        self._write(b"".join(parts))

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._traffic.bytes_to_server += len(data)
        self._transport.write(data)
        self._sent_at = time.monotonic()
        self._ping_after = self._timeout_seconds / 3 - random.uniform(*_JITTER_SECONDS)

    async def _connect(self) -> None:
        """Round after round over all servers, with kazoo's pauses in between."""
        pause = 0.1
        limit = min(RETRY_SECONDS, self._timeout_seconds / 3)
        while not self._stopping:
            random.shuffle(self._servers)
            for server in self._servers:
                if await self._try(server):
                    self.connected = True
                    self.generation += 1
                    self._on_up()
                    return
            await asyncio.sleep(pause * random.uniform(0.6, 1.4))
            pause = min(2 * pause, limit)

    async def _try(self, server: Server) -> bool:
        """Whether this server took us. A session that has expired is given up, for another at the next attempt."""
        self._traffic.connects += 1
        connection = socket.socket()
        connection.setblocking(False)
        granted = self._granted = self._loop.create_future()
        try:
            connection.bind((self._source, 0))
            await self._within(self._loop.sock_connect(connection, server), CONNECT_SECONDS)
            await self._loop.create_connection(lambda: self, sock=connection)
            grant = await self._within(granted, self._answer_seconds)
            if isinstance(grant, ConnectionError):
                raise grant
        except (OSError, TimeoutError) as error:
            self._traffic.errors[f"cannot connect: {type(error).__name__}"] += 1
            self._granted = None
            await self._hang_up(connection)
            return False
        if grant is None:
            self._traffic.errors["session expired"] += 1
            self._grant = wire.Grant()
            await self._hang_up(connection)
            return False
        self._grant = grant
        return self._transport is not None

    async def _within(self, waited_for: Awaitable[T], seconds: float) -> T:
        """What is waited for. Raises TimeoutError after so many seconds of the simulated hosts' clock."""
        task = asyncio.ensure_future(waited_for)
        end = self._now() + seconds
        try:
            while not task.done() and self._now() < end:
                await asyncio.wait([task], timeout=seconds / 4)
            if not task.done():
                raise TimeoutError
            return task.result()
        finally:
            task.cancel()

    async def _hang_up(self, connection: socket.socket) -> None:
        """End an attempt whole, so that its end is not taken for that of the next."""
        if self._transport is None:
            connection.close()
        else:
            self._transport.abort()
            await asyncio.shield(self._lost)


def _drop(_answer: Answer) -> None:
    """What comes too late is of no use."""
