"""The other synapses of the fleet, read from the registry while somebody asks for them."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from smartstack.errors import RegistryError
from smartstack.registry.protocol import Listing, RegistryReader, Unknown
from smartstack.wake import Wake
from synapse.fleet.peer import PATH, Peer, peers

IDLE_SECONDS: Final = 60.0
"""A registry that nobody asked for so long is closed: a fleet in which every synapse watched every other would pay for
each restart once for each host."""

LOOK_SECONDS: Final = 1.0
STOP_SECONDS: Final = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Who is announced. `problem` says why that may not be so any more, or why nothing is known."""

    peers: tuple[Peer, ...]
    problem: str | None = None


class Peers:
    """Used by the threads of the admin address. The registry is read on a thread of its own, which is there from the
    first question to a minute after the last."""

    def __init__(self, open_reader: Callable[[], RegistryReader], *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._open = open_reader
        self._idle_seconds = idle_seconds
        self._changed = threading.Condition()
        self._now: Listing | Unknown = Unknown(reason="the registry was not read yet", since=0.0)
        self._last: Listing | None = None
        self._asked = float("-inf")
        self._reading: tuple[threading.Thread, Wake] | None = None
        self._stopped = False

    def known(self, within_seconds: float) -> Known:
        """Who is announced now, as soon as the registry has said it; after so many seconds, who was the last time."""
        end = time.monotonic() + within_seconds
        with self._changed:
            self._asked = time.monotonic()
            if self._reading is None and not self._stopped:
                self._begin()
            while isinstance(self._now, Unknown) and self._reading is not None:
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            now, last = self._now, self._last
        if isinstance(now, Listing):
            return Known(peers=peers(now.records))
        return Known(peers=() if last is None else peers(last.records), problem=now.reason)

    def stop(self) -> None:
        """End the thread and its session; nobody is read any more."""
        with self._changed:
            self._stopped = True
            reading = self._reading
        if reading is not None:
            thread, wake = reading
            wake.ring()
            thread.join(STOP_SECONDS)

    def _begin(self) -> None:
        wake = Wake()
        thread = threading.Thread(target=self._run, args=(wake,), name="fleet-peers", daemon=True)
        self._now = Unknown(reason="the registry has not answered yet", since=time.time())
        self._reading = thread, wake
        thread.start()

    def _run(self, wake: Wake) -> None:
        try:
            reader = self._open()
            reader.start(wake.ring)
        except RegistryError as error:
            with self._changed:
                self._now = Unknown(reason=str(error), since=time.time())
                self._reading = None
                self._changed.notify_all()
            return
        try:
            self._learn(reader.read([PATH])[PATH])
            while not self._is_over():
                wake.wait(LOOK_SECONDS)
                self._learn(reader.read([PATH])[PATH])
        finally:
            reader.stop()

    def _learn(self, now: Listing | Unknown) -> None:
        with self._changed:
            self._now = now
            if isinstance(now, Listing):
                self._last = now
            self._changed.notify_all()

    def _is_over(self) -> bool:
        with self._changed:
            over = self._stopped or time.monotonic() - self._asked > self._idle_seconds
            if over:
                self._reading = None
                self._changed.notify_all()
            return over
