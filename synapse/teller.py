"""Tells people what changed: the log, one line an event, and the gauges. Remembers only what it said last."""

from collections.abc import Collection, Iterable, Mapping

from smartstack.logs import EventLog
from smartstack.registry.protocol import Listing
from synapse.metrics import Metrics
from synapse.offers import Offer
from synapse.plan import Action, Disable, Enable, SetWeight
from synapse.selection import Origin
from synapse.status import Snapshot

_NAMED = 5
"""How many services a line names before it only counts them."""


class Teller:
    """Compares each snapshot with the one before."""

    def __init__(self, metrics: Metrics, log: EventLog) -> None:
        self._metrics = metrics
        self._log = log
        self._origins: dict[str, Origin] = {}
        self._refused: dict[str, int] = {}
        self._rings: dict[str, tuple[str, ...]] = {}
        self._problems: set[str] = set()
        self._refusals: dict[str, str] = {}
        self._connected: bool | None = None
        self._error: str | None = None
        self._needs_restart: tuple[str, ...] = ()
        self._stale = False
        self._drift_at: float | None = None

    def tell(self, snapshot: Snapshot, changed: Collection[str]) -> None:
        """Log what is new in this snapshot, and set the gauges of the services whose offers changed."""
        self._link(snapshot)
        offers = {name: snapshot.offers[name] for name in sorted(changed) if name in snapshot.offers}
        self._origin_changes(offers)
        self._ring_changes(offers)
        if snapshot.planned_at == snapshot.at:
            self._members(snapshot.plan.actions)
        self._refused_nodes(offers)
        self._config_problems(snapshot)
        self._refused_definitions(snapshot)
        if snapshot.needs_restart and snapshot.needs_restart != self._needs_restart:
            self._log.warning("edited settings that only a restart applies", settings=",".join(snapshot.needs_restart))
        self._needs_restart = snapshot.needs_restart
        if snapshot.error != self._error:
            if snapshot.error:
                self._log.error("HAProxy is not as it should be", why=snapshot.error)
            else:
                self._log.info("HAProxy is as it should be")
            self._error = snapshot.error
        self._drift(snapshot)
        self._age(snapshot)
        self._gauges(snapshot)
        for name, offer in offers.items():
            _service_gauges(self._metrics, name, offer)
        if len(offers) < len(changed):
            self._forget(set(snapshot.offers))

    def _drift(self, snapshot: Snapshot) -> None:
        if snapshot.drift.at != self._drift_at:
            self._drift_at = snapshot.drift.at
            self._log.warning("somebody else changed HAProxy: it is put right", what=_named(list(snapshot.drift.last)))

    def _age(self, snapshot: Snapshot) -> None:
        old = snapshot.stale
        self._metrics.last_good_age.set(0 if old is None else snapshot.at - old.since)
        if old is not None and not self._stale:
            self._log.warning(
                "nobody has confirmed the instances in use for long",
                services=_named(list(old.services)),
                minutes=round((snapshot.at - old.since) / 60),
                why=old.reason,
            )
        self._stale = old is not None

    def _link(self, snapshot: Snapshot) -> None:
        link = snapshot.registry
        if link.connected is not self._connected:
            say = self._log.info if link.connected else self._log.warning
            say(
                "the registry answers" if link.connected else "the registry is away",
                why=link.detail,
                session=link.session,
            )
            self._connected = link.connected

    def _forget(self, present: set[str]) -> None:
        for kept in (self._origins, self._refused, self._rings):
            for name in kept.keys() - present:
                del kept[name]
        self._metrics.keep_services(present)

    def _origin_changes(self, offers: Mapping[str, Offer]) -> None:
        by_reason: dict[tuple[Origin, str], list[str]] = {}
        for name, offer in offers.items():
            origin = offer.choice.origin
            if self._origins.get(name, Origin.LISTING) is not origin:
                reason = "" if origin is Origin.LISTING else offer.choice.reason
                by_reason.setdefault((origin, reason), []).append(name)
            self._origins[name] = origin
        for (origin, reason), names in by_reason.items():
            if origin is Origin.LISTING:
                self._log.info("the registry's word is in use again", services=_named(names))
            else:
                self._log.warning(f"in use: {origin.value}", services=_named(names), why=reason)

    def _ring_changes(self, offers: Mapping[str, Offer]) -> None:
        for name, offer in offers.items():
            if offer.placement.standing is None:
                continue  # nobody was registered yet, or there is no locality
            rings, before = offer.placement.rings_used, self._rings.get(name, ())
            self._rings[name] = rings
            if rings != before and max(len(rings), len(before)) > 1:
                why = offer.placement.reason
                self._log.info("other rings of instances serve", service=name, rings=",".join(rings), why=why)

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
            told = _named([f"{name}({_named(each)})" for name, each in changes.items()])
            self._log.info("changed HAProxy at run time", changes=told)

    def _refused_nodes(self, offers: Mapping[str, Offer]) -> None:
        for name, offer in offers.items():
            refused = offer.choice.refused
            if len(refused) > self._refused.get(name, 0):
                self._log.warning(
                    "refused registry nodes",
                    service=name,
                    count=len(refused),
                    node=refused[0].node,
                    why=refused[0].reason,
                )
            self._refused[name] = len(refused)

    def _config_problems(self, snapshot: Snapshot) -> None:
        now = {str(problem) for problems in snapshot.problems.values() for problem in problems}
        for text in sorted(now - self._problems):
            self._log.error("configuration problem, what was in use stays in use", problem=text)
        if self._problems and not now:
            self._log.info("the configuration has no problem any more")
        self._problems = now

    def _refused_definitions(self, snapshot: Snapshot) -> None:
        now = {name: refusal.reason for name, refusal in snapshot.refusals.items()}
        for name, why in sorted(now.items()):
            if self._refusals.get(name) != why:
                self._log.error("the definition is not taken, the service stays as it was", service=name, why=why)
        for name in sorted(self._refusals.keys() - now.keys()):
            self._log.info("no definition of the service is refused any more", service=name)
        self._refusals = now

    def _gauges(self, snapshot: Snapshot) -> None:
        metrics = self._metrics
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


def _named(names: list[str]) -> str:
    shown = ",".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown},+{len(names) - _NAMED}"
