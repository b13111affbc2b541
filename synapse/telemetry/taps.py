"""Taps: requests shown live to who listens. While nobody does, they cost the feed one comparison a batch."""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from smartstack.inbox import Unanswered
from synapse.telemetry.request import Request

TAPS_LIMIT: Final = 20
"""Most at once; each that waits holds a thread of the admin address."""

QUEUE_LIMIT: Final = 1000
"""Requests that are kept for one tap until it is asked again; the oldest give way."""

LINGER_SECONDS: Final = 10.0
"""A tap that nobody asks for so long ends."""

LONGEST_WAIT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which requests are shown; None takes all. `path` is the beginning of the path; `statuses` the first and the last
    that are meant."""

    service: str
    path: str | None = None
    method: str | None = None
    statuses: tuple[int, int] | None = None
    source: str | None = None

    def takes(self, request: Request) -> bool:
        """Whether this one is."""
        return (
            request.service == self.service
            and (self.path is None or request.path.startswith(self.path))
            and (self.method is None or request.method == self.method)
            and (self.statuses is None or self.statuses[0] <= request.status <= self.statuses[1])
            and (self.source is None or request.source == self.source)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A request, and when the feed told of it, in seconds of the epoch."""

    at: float
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Catch:
    """What a tap has since it was asked before; `missed` is how many more there were than it may show."""

    missed: int
    heard: tuple[Heard, ...]


class _Tap:
    """One listener: what it takes, how many a second, and since when nobody asked."""

    def __init__(self, wanted: Filter, max_rate: float, now: float) -> None:
        self.wanted = wanted
        self.max_rate = max_rate
        self.left = max_rate
        self.filled_at = now
        self.asked_at = now
        self.turn = 0
        self.missed = 0
        self.heard: deque[Heard] = deque()

    def take(self, requests: Sequence[Request], now: float, at: float) -> None:
        """Keep what is wanted."""
        self.left = min(self.max_rate, self.left + (now - self.filled_at) * self.max_rate)
        self.filled_at = now
        for request in requests:
            if not self.wanted.takes(request):
                continue
            if self.left < 1:
                self.missed += 1
                continue
            self.left -= 1
            if len(self.heard) >= QUEUE_LIMIT:
                self.heard.popleft()
                self.missed += 1
            self.heard.append(Heard(at=at, request=request))

    def empty(self) -> Catch:
        """What it has; it has nothing then."""
        catch = Catch(missed=self.missed, heard=tuple(self.heard))
        self.missed = 0
        self.heard.clear()
        return catch


class Taps:
    """A sink of the feed. The threads of the admin address open taps and ask them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall = wall
        self._news = threading.Condition()
        self._taps: dict[str, _Tap] = {}
        self._closed = False

    def take(self, requests: Sequence[Request], now: float) -> None:
        """Show these to whoever wants them, at once."""
        if not self._taps:
            return
        with self._news:
            at = self._wall()
            for tap in self._taps.values():
                tap.take(requests, now, at)
            if any(tap.heard for tap in self._taps.values()):
                self._news.notify_all()

    def tick(self, now: float) -> None:
        """End the taps that nobody asks any more."""
        if self._taps:
            with self._news:
                self._end_late(now)

    def open(self, wanted: Filter, max_rate: float) -> str:
        """A new tap, which shows what comes from now on, so many a second at most; what it is called. Raises
        `Unanswered` when there are too many."""
        with self._news:
            self._end_late(self._clock())
            if len(self._taps) >= TAPS_LIMIT:
                raise Unanswered(f"{len(self._taps)} taps are open already: ask again when one has ended")
            name = secrets.token_hex(8)
            self._taps[name] = _Tap(wanted, max_rate, self._clock())
            return name

    def ask(self, name: str, seconds: float) -> Catch | None:
        """What this tap has, waiting so long until it has something; None when there is no such tap (any more). Who
        waits already for the same tap is let go with nothing."""
        deadline = self._clock() + min(seconds, LONGEST_WAIT_SECONDS)
        with self._news:
            tap = self._taps.get(name)
            if tap is None:
                return None
            tap.turn += 1
            turn = tap.turn
            self._news.notify_all()
            while True:
                tap.asked_at = self._clock()
                left = deadline - tap.asked_at
                if tap.turn != turn:
                    return Catch(missed=0, heard=())
                if tap.heard or left <= 0 or self._closed:
                    return tap.empty()
                self._news.wait(left)

    def close(self) -> None:
        """Let everybody go who waits."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _end_late(self, now: float) -> None:
        for name in [name for name, tap in self._taps.items() if now - tap.asked_at > LINGER_SECONDS]:
            del self._taps[name]
