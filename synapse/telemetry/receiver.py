"""The feed's socket and its thread: takes what HAProxy tells, reads it, and hands it on. Nothing here holds HAProxy up:
what is not taken in time is lost, and counted."""

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from smartstack.logs import EventLog
from synapse.telemetry.line import LINE_LIMIT, Bad, Feed, Unnamed, parse
from synapse.telemetry.request import Request
from synapse.telemetry.source import nobody

BATCH_LIMIT: Final = 500
"""Datagrams that are taken before anybody is told of them."""

TICK_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 3.0
"""How often an address that could not be had is tried again."""

BUFFER_BYTES: Final = 1 << 20

_PAUSE_SECONDS: Final = 0.02
"""For more lines to come, so that a busy feed costs fifty turns a second and not one for each request."""

_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")
"""The last of the kernel's figures of a socket is how many datagrams it dropped (linux/sock_diag.h)."""


class Sink(Protocol):
    """Who is told of requests. Both are called with the lock held; `now` is time.monotonic()."""

    def take(self, requests: Sequence[Request], now: float) -> None:
        """These requests have ended."""

    def tick(self, now: float) -> None:
        """Some time has passed: about 0.1 s since the last call."""


@dataclass(slots=True, kw_only=True)
class Counts:
    """What was received since the start, and what was lost on the way: `unparsed` was no line of HAProxy's, `forged`
    did not have the key, `dropped` came faster than it was taken."""

    received: int = 0
    unparsed: int = 0
    forged: int = 0
    dropped: int = 0


class Receiver:
    """Takes lines from the feed's address until it is stopped, and hands the requests in them to every sink.

    `problem` says why nothing can be received; None while all is well. It is tried again until it can. `changed` is
    called whenever that changes. `unnamed` says who calls where HAProxy does not know.
    """

    def __init__(
        self,
        feed: Feed,
        sinks: Sequence[Sink],
        lock: threading.Lock,
        log: EventLog,
        *,
        changed: Callable[[], None],
        unnamed: Unnamed = nobody,
    ) -> None:
        self.counts = Counts()
        self.problem: str | None = None
        self._feed = feed
        self._sinks = sinks
        self._lock = lock
        self._log = log
        self._changed = changed
        self._unnamed = unnamed
        self._socket: socket.socket | None = None
        self._dropped_before = 0
        self._ticked = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take the address, if it can be had, and begin."""
        self._open()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it and free the address; safe to repeat."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._socket is None and not self._open():
                    self._stopping.wait(RETRY_SECONDS)
                elif not self._turn():
                    self._stopping.wait(_PAUSE_SECONDS)
        finally:
            # Without a stop, this is a mistake of a sink's, which the traceback on standard error tells.
            if not self._stopping.is_set():
                self._told("what HAProxy tells of requests is not taken any more, after a failure: restart synapse")
            self._close()

    def _turn(self) -> bool:
        """Wait for lines, take them and hand them on; whether there were as many as one turn takes."""
        try:
            datagrams = self._receive()
        except OSError as error:
            self._close()
            self._told(f"cannot receive what HAProxy tells: {_words(error)}")
            return False
        now = time.monotonic()
        requests = self._requests(datagrams)
        if requests or now - self._ticked >= TICK_SECONDS:
            with self._lock:
                for sink in self._sinks:
                    if requests:
                        sink.take(requests, now)
                    if now - self._ticked >= TICK_SECONDS:
                        sink.tick(now)
            if now - self._ticked >= TICK_SECONDS:
                self._ticked = now
                self._count_dropped()
        return len(datagrams) >= BATCH_LIMIT

    def _receive(self) -> list[bytes]:
        assert self._socket is not None
        datagrams: list[bytes] = []
        if select.select([self._socket], [], [], TICK_SECONDS)[0]:
            receive = self._socket.recv
            with suppress(BlockingIOError):
                while len(datagrams) < BATCH_LIMIT:
                    datagrams.append(receive(2 * LINE_LIMIT))
        return datagrams

    def _requests(self, datagrams: list[bytes]) -> list[Request]:
        key, unnamed, counts = self._feed.key, self._unnamed, self.counts
        requests: list[Request] = []
        for datagram in datagrams:
            told = parse(datagram, key, unnamed)
            if told is Bad.FORGED:
                counts.forged += 1
            elif told is Bad.UNPARSED:
                counts.unparsed += 1
            elif told is not Bad.NOTICE:
                requests.append(told)
        counts.received += len(requests)
        return requests

    def _count_dropped(self) -> None:
        if self._socket is None:
            return
        with suppress(OSError, struct.error):  # a kernel before 4.12 does not say
            *_, dropped = _MEMINFO.unpack(self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
            self.counts.dropped = self._dropped_before + dropped

    def _open(self) -> bool:
        address = self._feed.address
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        opened = None
        try:
            opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            _enlarge(opened)
            opened.bind((address.host, address.port))
        except OSError as error:
            if opened is not None:
                opened.close()
            self._told(
                f"cannot receive at {address} what HAProxy tells of requests: {_words(error)}; "
                "stop what listens there, or give telemetry.listen another address"
            )
            return False
        self._socket = opened
        self._told(None)
        return True

    def _close(self) -> None:
        if self._socket is not None:
            self._dropped_before = self.counts.dropped
            self._socket.close()
            self._socket = None

    def _told(self, problem: str | None) -> None:
        if problem == self.problem:
            return
        if problem is None:
            self._log.info("requests are told of again", address=self._feed.address)
        else:
            self._log.warning("nothing is known of requests", why=problem)
        self.problem = problem
        self._changed()


def _enlarge(opened: socket.socket) -> None:
    """For bursts. The system may have a limit (net.core.rmem_max), which only root is above."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
