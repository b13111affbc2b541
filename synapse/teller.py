"""Tells people what changed: the timeline, the log, one line an event, and the gauges. Remembers the last snapshot."""

from collections.abc import Callable, Collection, Iterable

from smartstack.logs import EventLog
from smartstack.registry.protocol import Listing
from synapse.events import Event, Kind, Level, grouped, merged, named, news
from synapse.metrics import Metrics
from synapse.offers import Offer
from synapse.plan import Action, Disable, Enable, SetWeight
from synapse.selection import Origin
from synapse.status import Snapshot

_LOGGED_BY_WHO_DID_IT = frozenset(
    {Kind.RUNTIME, Kind.DRAIN, Kind.HOLD, Kind.RELOAD, Kind.WEIGHTS, Kind.BREAKER, Kind.SPLIT, Kind.FAULT}
)
"""Of these the log has a line already, with more in it than the event."""


class Teller:
    """Compares each snapshot with the one before. `post` takes the events for the timeline."""

    def __init__(self, metrics: Metrics, log: EventLog, post: Callable[[Iterable[Event]], None]) -> None:
        self._metrics = metrics
        self._log = log
        self._post = post
        self._before: Snapshot | None = None

    def tell(self, snapshot: Snapshot, changed: Collection[str]) -> None:
        """Tell what is new in this snapshot, and set the gauges of the services whose offers changed."""
        found = news(self._before, snapshot, changed)
        self._before = snapshot
        if found:
            self._post(merged(found))
            self._write(found)
        if snapshot.planned_at == snapshot.at:
            self._members(snapshot.plan.actions)
        self._gauges(snapshot)
        offers = {name: snapshot.offers[name] for name in sorted(changed) if name in snapshot.offers}
        for name, offer in offers.items():
            _service_gauges(self._metrics, name, offer)
        if len(offers) < len(changed):
            self._metrics.keep_services(set(snapshot.offers))

    def _write(self, events: Iterable[Event]) -> None:
        say = {Level.INFO: self._log.info, Level.WARNING: self._log.warning, Level.ERROR: self._log.error}
        for event, names in grouped(event for event in events if event.kind not in _LOGGED_BY_WHO_DID_IT):
            fields = {"services": named(names)} if len(names) > 1 else {"service": names[0]} if names else {}
            if event.why:
                fields["why"] = event.why
            say[event.level](event.what, **fields)

    def _members(self, actions: Iterable[Action]) -> None:
        changes: dict[str, list[str]] = {}
        for action in actions:
            match action:
                case Enable(backend=backend, host=host, port=port):
                    changes.setdefault(backend, []).append(f"+{host}:{port}")
                case Disable(backend=backend, host=host, port=port):
                    changes.setdefault(backend, []).append(f"-{host}:{port}")
                case SetWeight(backend=backend, host=host, port=port, weight=weight):
                    changes.setdefault(backend, []).append(f"{host}:{port}={weight}")
        if changes:
            told = named([f"{name}({named(each)})" for name, each in changes.items()])
            self._log.info("changed HAProxy at run time", changes=told)

    def _gauges(self, snapshot: Snapshot) -> None:
        metrics = self._metrics
        old = snapshot.stale
        metrics.last_good_age.set(0 if old is None else snapshot.at - old.since)
        metrics.connected.set(snapshot.registry.connected)
        metrics.holds.set(len(snapshot.holds))
        for counter, total in snapshot.registry.counters.items():
            metrics.link.labels(counter).set(total)
        metrics.problems.clear()
        for name, problems in snapshot.problems.items():
            metrics.problems.labels(name).set(len(problems))
        metrics.refused_definitions.clear()
        for name in snapshot.refusals:
            metrics.problems.labels(name).inc()
            metrics.refused_definitions.labels(name).set(1)


def _service_gauges(metrics: Metrics, name: str, offer: Offer) -> None:
    metrics.instances.labels(name).set(len(offer.choice.instances))
    metrics.refused.labels(name).set(len(offer.choice.refused))
    metrics.held_back.labels(name).set(offer.choice.origin is Origin.HELD_BACK)
    metrics.known.labels(name).set(isinstance(offer.known, Listing))
    metrics.placed(name, len(offer.placement.rings_used))
    for each in (metrics.breaker_openings, metrics.breakers_open, metrics.slowed):
        each.labels(name)  # there from the start, with 0
