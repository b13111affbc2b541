"""The loop's hand on balancing: tells the governor who there is, asks HAProxy for it, tells people what it decided."""

import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from threading import Lock
from typing import Protocol

from smartstack.logs import EventLog
from synapse.balancing.breaker import State
from synapse.balancing.governor import Governor, Shares
from synapse.balancing.tidings import Standings, Tidings
from synapse.events import Event, Kind
from synapse.haproxy.errors import HAProxyError
from synapse.metrics import Metrics
from synapse.offers import Offer
from synapse.proxy import Admin, Load, Observed
from synapse.telemetry.receiver import Sink

log = EventLog("synapse")


class Loads(Protocol):
    """Who can say what a backend's slots have to do: the runtime socket."""

    def server_loads(self, backend: str) -> Mapping[str, Load]: ...


class Source(Protocol):
    """Where requests are told of: whoever is among the sinks hears of them, under the lock."""

    lock: Lock
    sinks: list[Sink]


class Balancer:
    """For the loop's thread only, but for `governor`, which is a sink of the feed. While the feed tells nothing, every
    instance gets its whole weight. `post` takes the events for the timeline.
    """

    def __init__(
        self,
        runtime: Loads,
        feed: Source,
        ring: Callable[[], None],
        post: Callable[[Iterable[Event]], None],
        metrics: Metrics,
    ) -> None:
        self.governor = Governor(ring, random.random)
        feed.sinks.append(self.governor)
        self._lock = feed.lock
        self._runtime = runtime
        self._metrics = metrics
        self._post = post
        self._tidings = Tidings()
        self._addresses: dict[str, frozenset[str]] = {}
        self._borrowed: Shares | None = None

    def shares(self, observed: Observed | None) -> Shares:
        """By service, how much of its weight an instance gets at this moment, where that is not all of it. HAProxy, as
        it was `observed` last, is asked where the feed alone does not tell enough."""
        if self._borrowed is not None:
            return self._borrowed
        self._ask(observed)
        return self.governor.shares

    def borrow(self, shares: Shares) -> None:
        """Go by what another synapse decided, which runs while this one only looks."""
        self._borrowed = shares

    def know(self, offers: Mapping[str, Offer], changed: Collection[str]) -> None:
        """These services have other instances, or another definition."""
        now = time.monotonic()
        with self._lock:
            for name in changed:
                offer = offers.get(name)
                self.governor.know(name, offer, now)
                found = () if offer is None else offer.choice.instances
                self._addresses[name] = frozenset(instance.address for instance in found)

    def _ask(self, observed: Observed | None) -> None:
        with self._lock:
            names = self.governor.asks()
        if observed is None:
            return
        for name in names:
            with contextlib.suppress(HAProxyError):
                loads = self._runtime.server_loads(name)
                slots = {slot.name: slot for slot in observed.backends.get(name, ()) if slot.admin is not Admin.MAINT}
                known = {slots[slot].address: load for slot, load in loads.items() if slot in slots}
                with self._lock:
                    self.governor.told(name, known, time.monotonic())

    def tell(self) -> Standings:
        """How the instances stand that do not get all of their weight, by service; what is new of that is told."""
        clock = time.monotonic()
        with self._lock:
            standings, openings = self.governor.standings(clock), self.governor.openings()
        told = self._tidings.standings
        if not standings and not told:
            return standings
        found = self._tidings.look(standings, self._has, time.time(), clock)
        self._post(found)
        for event in found:
            if event.kind is Kind.BREAKER:
                say = log.warning if event.why else log.info
                say(event.what, service=event.service, **({"why": event.why} if event.why else {}))
        for name, count in openings.items():
            self._metrics.breaker_openings.labels(name).inc(count)
        for name in told.keys() - standings.keys():
            self._metrics.balanced(name, 0, 0)
        for name, each in standings.items():
            out = sum(one.state is not State.CLOSED for one in each.values())
            self._metrics.balanced(name, out, len(each) - out)
        return standings

    def _has(self, service: str, address: str) -> bool:
        return address in self._addresses.get(service, ())
