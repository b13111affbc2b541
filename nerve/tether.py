"""Tethers: an idle connection to each service, whose end says that the service ended. One thread holds them all.

A service that hangs keeps its tether: that is the checks' affair.
"""

import errno
import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from nerve.idle_connection import ENDED, HEARD, MADE, IdleConnection
from nerve.tethering import is_kept, misses_after, wait_seconds
from smartstack.forms import TcpAddress

CONNECT_SECONDS: Final = 1.0
"""How long a connection may take to be made. On one host it is made at once, or the service's queue is full."""

REST_SECONDS: Final = 1.0
"""How long a service that says something on its own is not listened to afterwards: what it says is thrown away, and
costs one reading in this time, however much it is. Its end is heard all the same."""

STOP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A tether that was closed by the service's end, at `at` by a monotonic clock; and what a connection attempted at
    once afterwards has shown.

    `refused`: nobody listens at the address any more. Otherwise it was made, or came to nothing for another reason
    (a full queue, no descriptor left), and says nothing for certain. `reason` is the whole story in one sentence.
    """

    service: str
    address: TcpAddress
    refused: bool
    reason: str
    at: float


class Tethers:
    """Holds the connections that are wanted. `heard` is called by its thread for each that broke, and `made` when there
    is one more to show in `held`; they must be quick and raise nothing. Raises OSError where there is no descriptor
    left to begin with.

    A connection that cannot be made is no event, and is tried again, in a second at first and in a minute at last.
    A service that closes idle connections again and again soon after they were made has no tether in between.
    """

    def __init__(self, heard: Callable[[Broken], None], made: Callable[[], None] = lambda: None) -> None:
        self._heard = heard
        self._made = made
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._tethers: dict[str, _Tether] = {}
        self._open: dict[int, _Tether] = {}
        # From here on shared with whoever calls; the rest is the thread's.
        self._lock = threading.Lock()
        self._wanted: Mapping[str, TcpAddress] = {}
        self._held: dict[str, tuple[str, int]] = {}
        self._stopped = False
        self._thread: threading.Thread | None = None

    def hold(self, wanted: Mapping[str, TcpAddress]) -> None:
        """From now on hold a connection to each of these, and no others. Hosts must be IP addresses. One that is held
        already, for the same service to the same address, is left undisturbed."""
        with self._lock:
            if self._stopped or self._wanted == wanted:
                return
            self._wanted = dict(wanted)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tethers", daemon=True)
                self._thread.start()
            os.eventfd_write(self._bell, 1)

    def release(self, service: str) -> None:
        """Close the connection to this service, if there is one, until it is wanted anew."""
        self.hold({name: address for name, address in self._wanted.items() if name != service})

    def held(self) -> Mapping[str, tuple[str, int]]:
        """Our ends, host and port, of the connections that are held now, by service."""
        with self._lock:
            return dict(self._held)

    def stop(self) -> None:
        """Close all connections and end the thread; safe to repeat."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            os.eventfd_write(self._bell, 1)
        if self._thread is None:
            self._close()
        else:
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopped:
            due = min((tether.due for tether in self._tethers.values()), default=inf)
            # A descriptor comes up once in the answer: none is closed and used anew before its turn.
            for descriptor, events in self._epoll.poll(None if due == inf else max(0.0, due - time.monotonic())):
                if descriptor == self._bell:
                    os.eventfd_read(self._bell)
                    self._follow()
                elif descriptor in self._open:
                    self._event(self._open[descriptor], events)
            now = time.monotonic()
            for tether in [tether for tether in self._tethers.values() if tether.due <= now]:
                self._due(tether)
        for tether in self._tethers.values():
            self._drop(tether)
        self._close()

    def _close(self) -> None:
        self._epoll.close()
        os.close(self._bell)

    def _follow(self) -> None:
        """Begin and end tethers, as wanted."""
        wanted = self._wanted
        for service, tether in list(self._tethers.items()):
            if wanted.get(service) != tether.address:
                self._drop(self._tethers.pop(service))
        for service, address in wanted.items():
            if service not in self._tethers:
                self._tethers[service] = tether = _Tether(service, address)
                self._dial(tether)

    def _event(self, tether: "_Tether", events: int) -> None:
        """Something happened to a tether's connection."""
        assert tether.link is not None
        if tether.stage is _Stage.DIALLING:
            self._dialled(tether, tether.link.error())
        elif events & ENDED or not tether.link.discard():
            self._ended(tether)
        else:
            self._epoll.modify(tether.link.descriptor, select.EPOLLRDHUP)
            tether.due = time.monotonic() + REST_SECONDS

    def _due(self, tether: "_Tether") -> None:
        """The time has come that a tether waited for."""
        match tether.stage:
            case _Stage.WAITING:
                self._dial(tether)
            case _Stage.DIALLING:
                self._dialled(tether, errno.ETIMEDOUT)
            case _Stage.HELD:
                self._listen(tether)

    def _listen(self, tether: "_Tether") -> None:
        """Hear all that comes from the service."""
        assert tether.link is not None
        self._epoll.modify(tether.link.descriptor, HEARD | ENDED)
        tether.due = inf

    def _dial(self, tether: "_Tether") -> None:
        """Begin to make a connection; on one host it is made at once as a rule."""
        tether.stage, tether.due = _Stage.DIALLING, time.monotonic() + CONNECT_SECONDS
        try:
            tether.link = IdleConnection(tether.address)
            self._epoll.register(tether.link.descriptor, MADE)
            self._open[tether.link.descriptor] = tether
            error = tether.link.at_once
        except OSError as failure:
            error = failure.errno or errno.EIO
        if error != errno.EINPROGRESS:
            self._dialled(tether, error)

    def _dialled(self, tether: "_Tether", error: int) -> None:
        """A connection was made (0), or was not."""
        if tether.link is not None and not error:
            error = tether.link.flaw()
        if error:
            tether.misses = misses_after(tether.misses, None)
            self._drop(tether, reset=error == errno.ECONNREFUSED)
            if error == errno.ECONNRESET and tether.ended and is_kept(tether.misses):
                # It was made, and was over at once: the listener is being closed just now.
                self._dial(tether)
                return
            tether.wait()
        elif tether.ended and not is_kept(tether.misses):
            self._drop(tether)
            tether.wait()
        else:
            self._hold(tether)
        self._tell(tether, error)

    def _hold(self, tether: "_Tether") -> None:
        assert tether.link is not None
        tether.stage, tether.since = _Stage.HELD, time.monotonic()
        self._listen(tether)
        with self._lock:
            self._held[tether.service] = tether.link.local()
        self._made()

    def _ended(self, tether: "_Tether") -> None:
        """The service's end closed a connection that was held: find out at once whether there is still somebody."""
        assert tether.link is not None
        error, now = tether.link.error(), time.monotonic()
        how = f"broke ({os.strerror(error).lower()})" if error else "was closed by the service"
        self._drop(tether, reset=True)
        tether.misses = misses_after(tether.misses, now - tether.since)
        tether.ended = how, now
        self._dial(tether)

    def _tell(self, tether: "_Tether", error: int) -> None:
        """Say what became of a connection that broke, now that it is known; nothing where none did."""
        if tether.ended is None:
            return
        (how, at), tether.ended = tether.ended, None
        refused = error == errno.ECONNREFUSED
        if refused:
            then = f"nobody listens at {tether.address} any more"
        elif error:
            then = f"a new one could not be made: {os.strerror(error).lower()}"
        else:
            then = "a new one was made"
        reason = f"the idle connection {how}, and {then}"
        self._heard(Broken(service=tether.service, address=tether.address, refused=refused, reason=reason, at=at))

    def _drop(self, tether: "_Tether", *, reset: bool = False) -> None:
        """Close a tether's connection, if there is one."""
        with self._lock:
            self._held.pop(tether.service, None)
        if (link := tether.link) is not None:
            # By hand: a check that is just being started has a copy for a moment, with which the kernel would go on.
            if self._open.pop(link.descriptor, None) is not None:
                self._epoll.unregister(link.descriptor)
            link.close(reset=reset)
            tether.link = None


class _Stage(Enum):
    """What a tether does until it is due: WAITING for the next attempt; DIALLING, for a connection; HELD, for the end
    of its rest."""

    WAITING = "waiting"
    DIALLING = "dialling"
    HELD = "held"


class _Tether:
    """One tether and its connection. `ended` is how and when the last connection was closed by the service, while it
    is not known yet whether somebody is still there."""

    def __init__(self, service: str, address: TcpAddress) -> None:
        self.service = service
        self.address = address
        self.stage = _Stage.WAITING
        self.due = inf
        self.since = 0.0
        self.misses = 0
        self.ended: tuple[str, float] | None = None
        self.link: IdleConnection | None = None

    def wait(self) -> None:
        """Be without a connection for as long as the misses say."""
        self.stage, self.due = _Stage.WAITING, time.monotonic() + wait_seconds(self.misses)
