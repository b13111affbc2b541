"""How long a change takes from the source's ring to HAProxy."""

import time
from collections.abc import Callable

from synapse.plan import Plan


class Propagation:
    """A clock that a source's ring starts and that stops when HAProxy shows what came of it.

    `ring` is given to the sources, and passes on to the loop's bell; it may be called from any thread. The time is that
    of the first ring which no turn has answered yet. A turn that finds nothing to change stops the clock unseen; one
    that changes HAProxy and is not through with it leaves it running. A start of HAProxy is not measured: what it waits
    for is not the change.
    """

    def __init__(
        self, ring: Callable[[], None], seen: Callable[[float], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ring = ring
        self._seen = seen
        self._clock = clock
        self._rung: float | None = None
        self._since: float | None = None
        self._changed = False
        self._error: str | None = None

    def ring(self) -> None:
        """A source has news."""
        if self._rung is None:
            self._rung = self._clock()
        self._ring()

    def reading(self) -> None:
        """The sources are about to be read: what rings from now on is for the next turn."""
        rung, self._rung = self._rung, None
        if self._since is None:
            self._since = rung

    def turned(self, plan: Plan, *, running: bool, error: str | None) -> None:
        """HAProxy was brought in step: what there was to do, whether it ran before, and what went wrong, if anything.

        An error that was there before is none of this change's: a full disk, which keeps the file from following.
        """
        before, self._error = self._error, error
        self._changed |= not plan.empty
        if running and (plan.reload_reasons or error not in (None, before)):
            return  # there is more to do: a reload that is due, or done and to be looked at
        if running and self._changed and self._since is not None:
            self._seen(self._clock() - self._since)
        self._since, self._changed = None, False
