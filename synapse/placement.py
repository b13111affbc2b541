"""Which of a service's instances clients on this host use, and in which ring: labels, distance, holds. Pure.

Selection says who is there; placement says what that means here. Every instance stays in the answer with its role and
the reason, so that nobody has to ask why one gets no traffic.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from smartstack.instance import Instance
from smartstack.locality import Condition, Locality, Where
from synapse.rings import Load, Ring, Standing, choose_rings, ring_names, ring_of


class Role(enum.Enum):
    """What an instance is for clients on this host."""

    PRIMARY = "primary"
    """Takes traffic."""
    BACKUP = "backup"
    """Takes traffic at once when no primary is up."""
    HELD = "held"
    """Takes no new requests, because somebody holds it on this host."""
    OUT = "out"
    """Not used here: its labels are not those that the definition asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the running HAProxy finds of one service's instances, by address, and how many requests are under way
    and wait for a free place, where it was asked for that. `primaries` are those that it was told to send traffic to
    before all others, up or down."""

    up: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()
    primaries: frozenset[str] = frozenset()
    current: int = 0
    queued: int = 0


NOTHING_SEEN = Seen()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One instance, its ring (0 is the nearest), its role here and why."""

    instance: Instance
    role: Role
    ring: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Every instance in the order of addresses; the rings, the nearest first; and why the rings are used that are.

    `standing` is what the next placement goes on from, None while nobody was registered. `due` is when it changes by
    itself, in seconds of a monotonic clock; None when only news can change it.
    """

    members: tuple[Placed, ...] = ()
    rings: tuple[Ring, ...] = ()
    reason: str = ""
    standing: Standing | None = None
    due: float | None = None

    @property
    def rings_used(self) -> tuple[str, ...]:
        """The names of the rings whose instances take traffic; none where the service has no locality."""
        return tuple(ring.name for ring in self.rings if ring.used)

    @property
    def used(self) -> tuple[Placed, ...]:
        """Those that HAProxy is to know."""
        return tuple(placed for placed in self.members if placed.role is not Role.OUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What a placement depends on besides the instances: this host's labels, the addresses that are held on it, what
    HAProxy finds, and how much one instance may have to do at once (None: any number)."""

    labels: Mapping[str, str] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    seen: Seen = NOTHING_SEEN
    limit: int | None = None


def place(
    instances: Sequence[Instance],
    *,
    where: Where,
    locality: Locality | None,
    here: Here,
    before: Placement | None = None,
    now: float = 0.0,
) -> Placement:
    """The placement of these instances here. `before` is the last one, `now` of a monotonic clock in seconds."""
    members = [_placed(instance, where, locality, here) for instance in instances]
    if locality is None:
        return Placement(members=tuple(members))
    names = ring_names(locality, here.labels)
    counts = [_count(members, ring, here.seen) for ring in range(len(names))]
    load = Load(current=here.seen.current, queued=here.seen.queued, limit=here.limit)
    stood = (before.standing if before else None) or _found_standing(members, here.seen)
    standing, due, reason = choose_rings(counts, locality, load, stood, now)
    return Placement(
        members=tuple(
            replace(placed, role=Role.BACKUP, reason=f"{names[placed.ring]} is not needed")
            if placed.role is Role.PRIMARY and placed.ring >= standing.used
            else placed
            for placed in members
        ),
        rings=tuple(
            Ring(name=name, registered=registered, ready=ready, used=ring < standing.used)
            for ring, (name, (registered, ready)) in enumerate(zip(names, counts, strict=True))
        ),
        reason=reason,
        standing=standing if any(registered for registered, _ in counts) else None,
        due=due,
    )


def _placed(instance: Instance, where: Where, locality: Locality | None, here: Here) -> Placed:
    ring = 0 if locality is None else ring_of(instance, locality, here.labels)
    unmet = next((each for each in where if not holds(each, dict(instance.labels))), None)
    if unmet is not None:
        return Placed(instance=instance, role=Role.OUT, ring=ring, reason=f"where: not {in_words(unmet)}")
    if instance.address in here.held:
        return Placed(instance=instance, role=Role.HELD, ring=ring, reason="held on this host")
    return Placed(instance=instance, role=Role.PRIMARY, ring=ring)


def _count(members: Sequence[Placed], ring: int, seen: Seen) -> tuple[int, int]:
    """How many a ring has, and how many of them take new requests as far as is known: whoever drains, is held or is
    down is one of the ring that it has to do without."""
    there = [one for one in members if one.ring == ring and one.role is not Role.OUT]
    meant = [one.instance for one in there if one.role is Role.PRIMARY and one.instance.weight != 0]
    return len(there), sum(instance.address not in seen.down for instance in meant)


def _found_standing(members: Sequence[Placed], seen: Seen) -> Standing | None:
    """The rings that HAProxy has in use when nothing is remembered: a synapse that starts, or one that only looks,
    goes on from there."""
    rings = [one.ring for one in members if one.role is Role.PRIMARY and one.instance.address in seen.primaries]
    return Standing(used=max(rings) + 1) if rings else None


def ring_lines(placement: Placement) -> list[str]:
    """The rings for people, one a line; none where a service has no locality."""
    lines = [
        f"{'in use ' if ring.used else 'backup '} {ring.name}: {ring.ready} of {ring.registered} ready"
        for ring in placement.rings
    ]
    return [*lines, f"because {placement.reason}"] if lines else []


def holds(condition: Condition, labels: Mapping[str, str]) -> bool:
    """Whether an instance with these labels meets a condition. One without the label is anything but a value."""
    found = labels.get(condition.label)
    matches = found is not None and (not condition.values or found in condition.values)
    return matches is not condition.negate


def in_words(condition: Condition) -> str:
    """`env is prod`, `canary is there`, with `not` where that is meant."""
    wanted = " or ".join(condition.values) or "there"
    return f"{condition.label} is {'not ' if condition.negate else ''}{wanted}"
