"""Which of a service's instances clients on this host use, and in which ring: labels, distance, holds. Pure.

Selection says who is there; placement says what that means here. Every instance stays in the answer with its role and
the reason, so that nobody has to ask why one gets no traffic.
"""

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from smartstack.instance import Instance
from smartstack.locality import Condition, Locality, Where


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
    """What the running HAProxy finds of one service's instances, by address; `full`: requests wait for a free place."""

    up: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()
    full: bool = False


NOTHING_SEEN = Seen()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One instance, its ring (0 is the nearest), its role here and why."""

    instance: Instance
    role: Role
    ring: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """One ring of instances: `zone=us-east-1a`. `used`: its instances take traffic as primaries."""

    name: str
    registered: int
    ready: int
    used: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Every instance in the order of addresses; the rings, the nearest first; and why the rings are used that are."""

    members: tuple[Placed, ...] = ()
    rings: tuple[Ring, ...] = ()
    reason: str = ""

    @property
    def used(self) -> tuple[Placed, ...]:
        """Those that HAProxy is to know."""
        return tuple(placed for placed in self.members if placed.role is not Role.OUT)


def place(
    instances: Sequence[Instance],
    *,
    where: Where,
    locality: Locality | None,
    labels: Mapping[str, str],
    held: Collection[str] = (),
    seen: Seen = NOTHING_SEEN,
) -> Placement:
    """The placement of these instances for clients on a host with these labels."""
    members = []
    for instance in instances:
        unmet = next((each for each in where if not holds(each, dict(instance.labels))), None)
        if unmet is not None:
            members.append(Placed(instance=instance, role=Role.OUT, reason=f"where: {in_words(unmet)}"))
        elif instance.address in held:
            members.append(Placed(instance=instance, role=Role.HELD, reason="held on this host"))
        else:
            members.append(Placed(instance=instance, role=Role.PRIMARY))
    return Placement(members=tuple(members))


def holds(condition: Condition, labels: Mapping[str, str]) -> bool:
    """Whether an instance with these labels meets a condition. One without the label is anything but a value."""
    found = labels.get(condition.label)
    matches = found is not None and (not condition.values or found in condition.values)
    return matches is not condition.negate


def in_words(condition: Condition) -> str:
    """`env is prod`, `canary is there`, with `not` where that is meant."""
    wanted = " or ".join(condition.values) or "there"
    return f"{condition.label} is {'not ' if condition.negate else ''}{wanted}"
