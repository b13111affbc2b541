"""The roster: every announced service, how it is, what is asked of it, and what should be registered for it.

It holds what has to be remembered from one turn of the loop to the next, and sees neither a clock nor a registry:
times and what was seen come in as arguments. Only what may have changed is worked out again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nerve import warmup
from nerve.admission import Admission, admit
from nerve.health import Result, ServiceHealth, State, observe, refuse, reshape
from nerve.intent import Intent, intend, places
from nerve.maintenance import covering
from nerve.registrations import MAIN, Registration, weight_of
from nerve.services import Service
from nerve.settings import FlapDamping, PublishLimit
from smartstack.instance import decode, payload_in_name
from smartstack.maintenance import Maintenance, Maintenances
from smartstack.registry.protocol import HeldNode, NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """A service came into another state; `before` None is a service that was not watched."""

    service: str
    before: ServiceHealth | None
    after: ServiceHealth


@dataclass(frozen=True, slots=True)
class _Placed:
    """What should be registered for a service as it was announced, and for what reason."""

    service: Service
    intent: Intent
    places: tuple[Registration, ...]


class Roster:
    """Used by the loop thread only. All times are monotonic seconds, but for those of maintenances."""

    def __init__(self, limit: PublishLimit, damping: FlapDamping) -> None:
        self.services: Mapping[str, Service] = {}
        self.healths: dict[str, ServiceHealth] = {}
        self.admissions: dict[str, Admission] = {}
        self.intents: dict[str, Intent] = {}
        self.maintenances: Maintenances = {}
        self.wanted: Mapping[str, tuple[Registration, ...]] = {MAIN: ()}
        """What should stand in each registry; the same object as long as it is the same."""
        self._limit = limit
        self._damping = damping
        self._joined: dict[str, float] = {}
        self._followers: dict[str, list[str]] = {}
        self._dirty: set[str] = set()
        self._due: dict[str, float] = {}
        self._places: dict[str, _Placed] = {}
        self._stale = False

    def configure(
        self, services: Mapping[str, Service], limit: PublishLimit, damping: FlapDamping, now: float
    ) -> list[Turned]:
        """From now on these are announced."""
        before, turned = self.services, []
        self._limit, self._damping = limit, damping
        self._followers = {}
        healths: dict[str, ServiceHealth] = {}
        for name, service in services.items():
            old = before.get(name)
            # Another address is another instance: what was seen of the old one says nothing of it.
            same = old is not None and old.probe.address == service.probe.address
            known = self.healths.get(name) if same else None
            if not same:
                self._joined.pop(name, None)
                self.admissions.pop(name, None)
            if service.follows is None:
                healths[name] = reshape(known, service.probe.checks, now)
            else:
                self._followers.setdefault(service.follows, []).append(name)
        for parent, followers in self._followers.items():
            healths.update(dict.fromkeys(followers, healths[parent]))
        for name, health in healths.items():
            known = self.healths.get(name)
            if known is None or known.state is not health.state:
                turned.append(Turned(service=name, before=known, after=health))
        for gone in before.keys() - services.keys():
            self._forget(gone)
        self.services, self.healths = services, {name: healths[name] for name in services}
        self._dirty = set(services)
        self._stale = True
        return turned

    def maintain(self, maintenances: Maintenances) -> None:
        """These are in force now."""
        if maintenances != self.maintenances:
            self.maintenances = maintenances
            self._dirty.update(self.services)

    def maintenance(self, name: str) -> Maintenance | None:
        """What holds for this service."""
        return covering(self.maintenances, name, self.services[name].port_of)

    def result(self, name: str, check: str, result: Result) -> list[Turned]:
        """A check gave a result."""
        known = self.services[name].probe.checks[check]
        return self._take(name, observe(self.healths[name], check, result, rise=known.rise, fall=known.fall))

    def refused(self, name: str, reason: str, at: float) -> list[Turned]:
        """Nobody listens at the service's address any more."""
        return self._take(name, refuse(self.healths[name], reason, at))

    def seen(self, held: Mapping[NodeId, HeldNode], now: float) -> None:
        """This is in the main registry: who is there has joined, and if that was in an earlier life of nerve, goes on
        with the weight that it had."""
        for name, service in self.services.items():
            there = held.get(self._main(name, service).node)
            if there is None:
                if self._joined.pop(name, None) is not None and service.warmup is not None:
                    self._dirty.add(name)
            elif name not in self._joined:
                self._joined[name] = now - _warm_for(service, there, self._main(name, service).node)
                if self.healths[name].state is State.UNKNOWN:
                    self.admissions[name] = Admission.initial(present=True)
                self._dirty.add(name)

    def turn(self, now: float) -> None:
        """Work out again what may have changed, up to this moment."""
        names = self._dirty | {name for name, due in self._due.items() if due <= now}
        self._dirty = set()
        for name in names:
            service, intent, known = self.services[name], self._intend(name, now), self._places.get(name)
            self.intents[name] = intent
            if known is None or known.intent != intent or known.service is not service:
                self._places[name] = _Placed(service, intent, places(service, intent))
                self._stale = True
        if self._stale:
            self._collect()

    def next_turn(self, now: float) -> float:
        """Seconds until something changes by the time alone; 0 when there is something to be worked out already."""
        if self._dirty:
            return 0.0
        return max(0.0, min(self._due.values(), default=float("inf")) - now)

    def _take(self, name: str, health: ServiceHealth) -> list[Turned]:
        turned = []
        for one in (name, *self._followers.get(name, ())):
            before = self.healths[one]
            self.healths[one] = health
            if health.state is not before.state:
                turned.append(Turned(service=one, before=before, after=health))
                self._dirty.add(one)
        return turned

    def _intend(self, name: str, now: float) -> Intent:
        service, health = self.services[name], self.healths[name]
        admission = self.admissions.get(name) or Admission.initial(present=name in self._joined)
        admission = admit(admission, health.state, now, self._limit, self._damping)
        self.admissions[name] = admission
        joined = self._joined.get(name)
        joined_for = None if joined is None else now - joined
        dues = [] if admission.until is None else [admission.until]
        if service.warmup is not None and joined_for is not None:
            step = warmup.next_step(weight_of(service.main.instance), service.warmup, joined_for)
            dues += [] if step is None else [now + step]
        self._due.pop(name, None)
        if dues:
            self._due[name] = min(dues)
        return intend(service, health.state, admission, self.maintenance(name), joined_for)

    def _main(self, name: str, service: Service) -> Registration:
        """The main place as it should be now, or as it would be without further ado."""
        placed = self._places.get(name)
        return placed.places[0] if placed is not None and placed.service is service else service.main

    def _collect(self) -> None:
        self._stale = False
        collected: dict[str, list[Registration]] = {MAIN: []}
        for name in self.services:
            for place in self._places[name].places:
                collected.setdefault(place.registry, []).append(place)
        wanted = {registry: tuple(some) for registry, some in collected.items()}
        # What did not change stays the same object: who compares by identity has nothing to do then.
        self.wanted = {name: was if (was := self.wanted.get(name)) == some else some for name, some in wanted.items()}

    def _forget(self, name: str) -> None:
        self._joined.pop(name, None)
        self.admissions.pop(name, None)
        self.intents.pop(name, None)
        self._due.pop(name, None)
        self._places.pop(name, None)


def _warm_for(service: Service, there: HeldNode, node: NodeId) -> float:
    """How long ago an instance joined, going by the weight that its node has."""
    if service.warmup is None:
        return 0.0
    instance = decode(payload_in_name(node.node) or there.payload)
    weight = None if isinstance(instance, str) else weight_of(instance)
    return warmup.resume(weight_of(service.main.instance), service.warmup, weight)
