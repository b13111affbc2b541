"""Selection for every service, incrementally: work is done only for services of which something changed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from smartstack.definition import ServiceDefinition
from smartstack.instance import Instance
from smartstack.registry.protocol import Listing, Unknown
from synapse.placement import NOTHING_SEEN, Here, Placement, Seen, place
from synapse.proxy import NO_SHARES
from synapse.selection import Choice, FloorPolicy, Memory, Origin, choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is known of one service, what was chosen for that, and what that means on this host. `shares` is how much of
    its weight an instance gets at this moment, by address, where that is not all."""

    definition: ServiceDefinition
    known: Listing | Unknown
    choice: Choice
    placement: Placement
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def due(self) -> float | None:
        """When it changes by itself, in seconds of a monotonic clock; None when only news can change it."""
        return min((due for due in (self.choice.due, self.placement.due) if due is not None), default=None)

    @property
    def watched(self) -> bool:
        """Whether what HAProxy finds of the instances may change this offer, so that HAProxy has to be asked."""
        return self.definition.locality is not None or self.choice.origin is Origin.HELD_BACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an offer depends on besides what the sources say.

    `labels` are this host's. `held` are the addresses that somebody holds on this host, by service; `seen` is what
    HAProxy finds of the instances of the watched services. `accepted` are the services whose shrunken listing an
    operator takes at its word, now. `session` names the session with the registry, None where there is none. `shares`
    is, by service, how much of its weight an instance gets at this moment.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, frozenset[str]] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)
    accepted: Collection[str] = ()
    session: str | None = None
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Offers:
    """The offers of all services, and what selection remembers of each."""

    def __init__(self, good: Mapping[str, tuple[Instance, ...]]) -> None:
        self._memories = {name: Memory(good=instances) for name, instances in good.items()}
        self._surroundings = Surroundings()
        self._dues: dict[str, float] = {}
        self.by_name: dict[str, Offer] = {}
        self.watched: dict[str, Offer] = {}
        """The services of whose instances HAProxy has to be asked now and then."""
        self.reweighed: set[str] = set()
        """The services of which the last update changed only the shares."""

    def newcomers(self, definitions: Mapping[str, ServiceDefinition]) -> set[str]:
        """The services that are not placed yet and whose placement depends on what HAProxy finds."""
        return {name for name in definitions.keys() - self.by_name.keys() if definitions[name].locality is not None}

    def remember(self, name: str, instances: tuple[Instance, ...]) -> None:
        """Take this as the last good set of a service of which nothing better is known."""
        if self._memories.get(name, Memory()).good is None:
            self._memories[name] = Memory(good=instances)

    def last_good(self, name: str) -> tuple[Instance, ...]:
        """The last good instances of one service; nobody where none are known."""
        return self._memories.get(name, Memory()).good or ()

    def good(self) -> dict[str, tuple[Instance, ...]]:
        """Each service's last good instances, for the disk. Those of services that are gone are left out."""
        return {
            name: memory.good
            for name, memory in self._memories.items()
            if memory.good is not None and name in self.by_name
        }

    def update(
        self,
        definitions: Mapping[str, ServiceDefinition],
        known: Mapping[str, Listing | Unknown],
        now: float,
        surroundings: Surroundings | None = None,
    ) -> set[str]:
        """Look at every service again where there is something new; answer which offers changed, came or went.

        `known` is by service. `now` is of a monotonic clock, in seconds.
        """
        surroundings = surroundings or Surroundings()
        changed = self.by_name.keys() - definitions.keys()
        for name in changed:
            for kept in (self.by_name, self._memories, self._dues, self.watched):
                kept.pop(name, None)
        touched = self._touched(surroundings, now)
        before_shares, self._surroundings = self._surroundings.shares, surroundings
        for name, definition in definitions.items():
            before = self.by_name.get(name)
            # Thousands of services come by here at every change of one: this line is what the others cost.
            if before is None or before.definition is not definition or before.known is not known[name]:
                touched.add(name)
        for name in touched & definitions.keys():
            if self._look(name, definitions[name], known[name], now):
                changed.add(name)
        self.reweighed = self._reweigh(before_shares) - changed
        return changed

    def _reweigh(self, before: Mapping[str, Mapping[str, float]]) -> set[str]:
        """Take in the shares that are others than before; answer whose they are."""
        now = self._surroundings.shares
        if now is before:
            return set()
        names = {name for name in before.keys() | now.keys() if before.get(name) is not now.get(name)}
        for name in names & self.by_name.keys():
            self.by_name[name] = replace(self.by_name[name], shares=now.get(name, NO_SHARES))
        return names & self.by_name.keys()

    def due(self) -> float | None:
        """When an offer changes by itself, in seconds of that clock; None when none will."""
        return min(self._dues.values(), default=None)

    def _touched(self, surroundings: Surroundings, now: float) -> set[str]:
        """The services around which something is new, or whose time has come."""
        before = self._surroundings
        if surroundings.labels != before.labels:
            return set(self.by_name)
        touched = {*surroundings.accepted, *(name for name, due in self._dues.items() if now >= due)}
        touched.update(name for name, _ in before.held.items() ^ surroundings.held.items())
        names = before.seen.keys() | surroundings.seen.keys()
        touched.update(name for name in names if before.seen.get(name) != surroundings.seen.get(name))
        return touched

    def _look(self, name: str, definition: ServiceDefinition, known: Listing | Unknown, now: float) -> bool:
        """Choose and place anew; whether that made a difference."""
        surroundings, before = self._surroundings, self.by_name.get(name)
        seen = surroundings.seen.get(name, NOTHING_SEEN)
        memory = self._memories.get(name, Memory())
        if definition.leader_only and len(memory.good or ()) > 1:
            memory = Memory()  # who of them leads is not known, and then it is nobody, never all of them
        choice = choose(
            known,
            memory,
            _policy(definition),
            now,
            seen=seen,
            session=surroundings.session,
            accepted=name in surroundings.accepted,
        )
        placement = place(
            choice.instances,
            where=definition.where,
            locality=definition.locality,
            here=Here(
                labels=surroundings.labels,
                held=surroundings.held.get(name, frozenset()),
                seen=seen,
                limit=definition.proxy.limits.instance if definition.proxy else None,
            ),
            before=before.placement if before else None,
            now=now,
        )
        shares = surroundings.shares.get(name, NO_SHARES)
        offer = Offer(definition=definition, known=known, choice=choice, placement=placement, shares=shares)
        self._memories[name] = choice.memory
        self.by_name[name] = offer
        for kept in (self._dues, self.watched):
            kept.pop(name, None)
        if offer.due is not None:
            self._dues[name] = offer.due
        if offer.watched:
            self.watched[name] = offer
        return before is None or before.definition is not definition or _differ(before, offer)


def _policy(definition: ServiceDefinition) -> FloorPolicy:
    proxy = definition.proxy
    if proxy is None:
        return FloorPolicy()  # nobody checks who is alive
    return FloorPolicy(
        floor=proxy.shrink_floor,
        confirm_seconds=proxy.shrink_confirm,
        keep_alive=proxy.shrink_to_nothing == "while_alive",
    )


def _differ(before: Offer, after: Offer) -> bool:
    return (
        before.choice.instances != after.choice.instances
        or before.choice.origin is not after.choice.origin
        or before.choice.refused != after.choice.refused
        or before.placement.members != after.placement.members
        or before.placement.rings != after.placement.rings
    )
