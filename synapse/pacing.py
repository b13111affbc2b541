"""When HAProxy may be started or reloaded. Pure: the time is an argument, in seconds of a monotonic clock.

- Reloads are at least an interval apart, and further after failures; a start waits for neither.
- A HAProxy that ends soon after each start is started again at once only so often.
- A reload that is not urgent waits a part of the splay that is this host's own, so that a fleet whose hosts all get
  the same edit, or see the same service grow, does not reload at one moment. What is done at run time never waits.
"""

import hashlib

RETRY_SECONDS = 1.0
RETRY_LIMIT_SECONDS = 60.0

QUICK_SECONDS = 5.0
QUICK_STARTS = 3
"""A HAProxy that ends so soon after its start is started again at once only so often."""


def share(host: str, structure: str) -> float:
    """This host's part of the splay for this structure, from 0 to 1: the same each time it is asked, spread evenly over
    the hosts of a fleet, and another for the next structure, so that no host is always the last."""
    number = hashlib.sha256(f"{host}\0{structure}".encode()).digest()[:8]
    return int.from_bytes(number, "big") / 2**64


def delay(failures: int) -> float:
    """How long to wait after so many failures before this one."""
    return min(RETRY_SECONDS * 2.0 ** min(failures, 10), RETRY_LIMIT_SECONDS)


class Pace:
    """What was started and reloaded when, and when it may be done next. `host` is this host's name in the fleet."""

    def __init__(self, *, interval_seconds: float, splay_seconds: float = 0.0, host: str = "") -> None:
        self._interval_seconds = interval_seconds
        self._splay_seconds = splay_seconds
        self._host = host
        self._reload_at = 0.0
        self._start_at = 0.0
        self._splay_until: float | None = None
        self._in_step = False
        self._failures = 0
        self._started_at: float | None = None
        self._quick_starts = 0

    def start_wait(self, now: float) -> float:
        """In how many seconds HAProxy may be started. Reloads that fail never hold up a start, nor does a splay."""
        return max(0.0, self._start_at - now)

    def reload_wait(self, now: float, structure: str | None = None) -> float:
        """In how many seconds HAProxy may be reloaded: urgently, or with `structure` because that is wanted.

        The splay begins when a change of structure is first asked for, and does not begin again when more changes
        come before it is over. It is left out as long as HAProxy never was in step.
        """
        wait = max(0.0, self._reload_at - now)
        if structure is None or not self._in_step or self._splay_seconds == 0:
            return wait
        if self._splay_until is None:
            self._splay_until = now + share(self._host, structure) * self._splay_seconds
        return max(wait, self._splay_until - now)

    def in_step(self) -> None:
        """HAProxy has the wanted structure."""
        self._in_step = True
        self._splay_until = None

    def started(self, now: float) -> None:
        """HAProxy was started."""
        self.reloaded(now)
        quick = self._started_at is not None and now - self._started_at < QUICK_SECONDS
        self._quick_starts = self._quick_starts + 1 if quick else 0
        self._started_at = now
        if self._quick_starts >= QUICK_STARTS:
            self._start_at = now + delay(self._quick_starts - QUICK_STARTS)

    def reloaded(self, now: float) -> None:
        """HAProxy was reloaded."""
        self._failures = 0
        self._reload_at = now + self._interval_seconds
        self._splay_until = None

    def failed(self, now: float, *, starting: bool) -> float:
        """A start or a reload failed; answers how long the next one waits."""
        wait = delay(self._failures)
        self._failures += 1
        if starting:
            self._start_at = now + wait
        else:
            self._reload_at = now + wait
        return wait
