"""What the running HAProxy finds of instances, asked now and then for the services whose offers depend on it."""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from synapse.haproxy.errors import HAProxyError
from synapse.offers import Offer
from synapse.placement import Seen
from synapse.proxy import Observed

POLL_SECONDS = 1.0
"""How often HAProxy is asked about the instances of services whose offers depend on what it finds."""


class Looker(Protocol):
    """Who can look at HAProxy: the controller. `observed` is what it saw last, None when HAProxy did not answer."""

    observed: Observed | None

    def observe(self, names: Collection[str] | None = None) -> Observed | None: ...


class Loads(Protocol):
    """Who can say how much a backend has to do: the runtime socket."""

    def load(self, backend: str) -> tuple[int, int]: ...


class Watcher:
    """Used by the loop's thread only."""

    def __init__(self, controller: Looker, runtime: Loads, clock: Callable[[], float] = time.monotonic) -> None:
        self._controller = controller
        self._runtime = runtime
        self._clock = clock
        self._due = 0.0
        self._loads: dict[str, tuple[int, int]] = {}
        self._seen: dict[str, Seen] = {}

    def due_in(self, watched: Mapping[str, Offer]) -> float | None:
        """In how many seconds HAProxy is to be asked again, None when nobody depends on it."""
        return max(0.0, self._due - self._clock()) if watched else None

    def look(self, watched: Mapping[str, Offer], newcomers: Collection[str] = ()) -> dict[str, Seen]:
        """What HAProxy finds of the instances of these services; what it found last, while it does not answer.

        `newcomers` are services that have no offer yet, as all are after a start: of them it tells what was seen last,
        so that a synapse that starts while a zone is lost does not first undo what keeps its clients going.
        """
        if watched and self._clock() >= self._due:
            self._due = self._clock() + POLL_SECONDS
            if self._observed() is not None:
                self._ask(watched)
        observed = self._observed()
        names = (*watched, *newcomers)
        if observed is None:
            # Unknown is not empty: who was down is not well because nobody can be asked.
            return {name: self._seen[name] for name in names if name in self._seen}
        self._seen = {name: observed.seen(name, *self._loads.get(name, (0, 0))) for name in names}
        return dict(self._seen)

    def _ask(self, watched: Mapping[str, Offer]) -> None:
        with contextlib.suppress(HAProxyError):
            self._controller.observe(watched)
            self._loads = {name: self._runtime.load(name) for name, one in watched.items() if _may_be_full(one)}

    def _observed(self) -> Observed | None:
        return self._controller.observed


def _may_be_full(offer: Offer) -> bool:
    proxy = offer.definition.proxy
    return offer.definition.locality is not None and proxy is not None and proxy.limits.instance is not None
