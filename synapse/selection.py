"""Which instances a service has: the registry's word, held against what was last known to be good. Pure.

Unknown is not empty: only a `Listing` may remove an instance, and one that loses too many at once is held back until
it has lasted. What a listing adds or re-weighs is taken at once, held back or not.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from smartstack.instance import Instance
from smartstack.registry.protocol import Listing, Record, Refused, Unknown


class Origin(enum.Enum):
    """Why these instances."""

    LISTING = "listing"
    HELD_BACK = "held back"
    LAST_GOOD = "last good"
    NOTHING = "nothing known"


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorPolicy:
    """A listing with fewer instances than `floor` (a share, 0 to 1) of those that served at any time within the last
    `confirm_seconds` is believed only after it has lasted for as long. So a loss is held back at the floor however
    many small steps it comes in: a tree that is wiped is wiped node by node."""

    floor: float = 0.5
    confirm_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What selection carries from one look to the next.

    `good` is the last set that was accepted, None before the first. `held_since` is when the present run of
    held-back listings began, in seconds of a monotonic clock; None when nothing is held back. `losses` are the
    accepted losses that still count: until when (of the same clock) how many instances served, fewer each time.
    """

    good: tuple[Instance, ...] | None = None
    held_since: float | None = None
    losses: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The instances to offer, one an address, sorted by address; and why.

    `due` is when the choice changes by itself (seconds of the same clock as `now`), None when only news can change it.
    """

    instances: tuple[Instance, ...]
    origin: Origin
    reason: str
    memory: Memory
    refused: tuple[Refused, ...] = ()
    due: float | None = None


def choose(known: Listing | Unknown, memory: Memory, policy: FloorPolicy, now: float) -> Choice:
    """The instances to offer, given what the registry says and what was good before."""
    if isinstance(known, Unknown):
        return _unknown(known, memory)
    listed = one_per_address(known.records)
    good = memory.good or ()
    addresses = {instance.address for instance in listed}
    missing = [instance for instance in good if instance.address not in addresses]
    losses = tuple((until, served) for until, served in memory.losses if now - until < policy.confirm_seconds)
    served = max([_serving(good), *(served for _, served in losses)])
    if not missing or len(listed) >= policy.floor * served:
        if _serving(missing):
            losses = (*((until, many) for until, many in losses if many > _serving(good)), (now, _serving(good)))
        return _accept(listed, known, f"{_count(listed)} in the registry", losses)
    held_since = now if memory.held_since is None else memory.held_since
    due = held_since + policy.confirm_seconds
    if now >= due:
        return _accept(
            listed, known, f"{_count(listed)} in the registry, fewer than before for {policy.confirm_seconds:g} s"
        )
    reason = (
        f"the registry has {len(listed)} of {served} instances, below the floor of {policy.floor:.0%}: "
        f"the {len(missing)} missing stay in use until this has lasted {policy.confirm_seconds:g} s"
    )
    instances = _by_address([*listed, *missing])
    return Choice(
        instances=instances,
        origin=Origin.HELD_BACK,
        reason=reason,
        memory=Memory(good=instances, held_since=held_since, losses=losses),
        refused=known.refused,
        due=due,
    )


def one_per_address(records: Iterable[Record]) -> tuple[Instance, ...]:
    """The instances, one an address, sorted by address: of two nodes for one address the newer counts.

    Two nodes for one address are what a restart within the session time-out leaves behind.
    """
    newest: dict[str, Record] = {}
    for record in records:
        other = newest.get(record.instance.address)
        if other is None or (record.version, record.node) > (other.version, other.node):
            newest[record.instance.address] = record
    return _by_address(record.instance for record in newest.values())


def _unknown(known: Unknown, memory: Memory) -> Choice:
    memory = replace(memory, held_since=None)
    if memory.good is None:
        return Choice(instances=(), origin=Origin.NOTHING, reason=known.reason, memory=memory)
    return Choice(instances=memory.good, origin=Origin.LAST_GOOD, reason=known.reason, memory=memory)


def _accept(
    listed: tuple[Instance, ...], known: Listing, reason: str, losses: tuple[tuple[float, int], ...] = ()
) -> Choice:
    memory = Memory(good=listed, losses=losses)
    return Choice(instances=listed, origin=Origin.LISTING, reason=reason, memory=memory, refused=known.refused)


def _serving(instances: Iterable[Instance]) -> int:
    """How many take traffic: one that was draining does not count as a loss when it goes."""
    return sum(instance.weight != 0 for instance in instances)


def _by_address(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    return tuple(sorted(instances, key=lambda instance: (instance.host, instance.port)))


def _count(instances: tuple[Instance, ...]) -> str:
    return "no instance" if not instances else "1 instance" if len(instances) == 1 else f"{len(instances)} instances"
