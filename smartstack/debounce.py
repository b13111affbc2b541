"""A quiet period: what comes in bursts is answered once, when the burst is over or has lasted long enough."""

import time
from collections.abc import Callable


class Debounce:
    """Call `touch` for each event, from any thread; ask `due_in` from the one thread that acts, and `take` before it
    acts.

    Becomes due when nothing came for `quiet_seconds`, at the latest `limit_seconds` after the first event. `clock` is
    monotonic, in seconds.
    """

    def __init__(
        self, quiet_seconds: float = 0.1, limit_seconds: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quiet_seconds = quiet_seconds
        self._limit_seconds = limit_seconds
        self._clock = clock
        self._burst: tuple[float, float] | None = None

    def touch(self) -> None:
        """Something happened."""
        now = self._clock()
        burst = self._burst
        self._burst = (burst[0] if burst else now, now)

    def due_in(self) -> float | None:
        """Seconds until it is time to act, 0.0 when it is now, None when nothing happened."""
        burst = self._burst
        if burst is None:
            return None
        first, last = burst
        return max(0.0, min(last + self._quiet_seconds, first + self._limit_seconds) - self._clock())

    def take(self) -> None:
        """The events so far are about to be answered. What comes from now on is a new burst, so that nothing that
        happens during the answer is lost."""
        self._burst = None
