"""Which instances a service has: what its sources say, held against what was last known to be good. Pure.

Unknown is not empty: only a `Listing` may remove an instance, and one that loses too many at once is held back until
something else says the same: time, a new session with the registry, HAProxy's own checks, an operator. What a listing
adds or re-weighs is taken at once, held back or not.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from smartstack.instance import Instance
from smartstack.registry.protocol import Listing, Record, Refused, Unknown, newest
from synapse.placement import NOTHING_SEEN, Seen

DEAD_SECONDS = 5.0
"""So long must HAProxy find every missing instance dead, at the most, before a shrunken listing is believed for it."""


class Origin(enum.Enum):
    """Why these instances."""

    LISTING = "listing"
    HELD_BACK = "held back"
    LAST_GOOD = "last good"
    NOTHING = "nothing known"


class Confirmation(enum.Enum):
    """What made a shrunken listing believed."""

    TIME = "time"
    SESSION = "session"
    CHECKS = "checks"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorPolicy:
    """A listing with fewer instances than `floor` (a share, 0 to 1) of those that served at any time within the last
    `confirm_seconds` is believed only after it has lasted for as long. So a loss is held back at the floor however
    many small steps it comes in: a tree that is wiped is wiped node by node.

    `keep_alive`: a listing that leaves nobody to serve is not believed for its age alone unless HAProxy finds the
    missing instances dead: without them there is nothing but errors.
    """

    floor: float = 0.5
    confirm_seconds: float = 30.0
    keep_alive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A run of held-back listings. `since`, and `dead_since` (HAProxy finds every missing instance dead), are in
    seconds of a monotonic clock; `session` is the one with the registry in which it began."""

    since: float
    session: str | None = None
    dead_since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What selection carries from one look to the next.

    `good` is the last set that was accepted, None before the first. `hold` is the present run of held-back listings;
    an interruption by `Unknown` ends its time but not its session. `losses` are the accepted losses that still count:
    until when (of the same clock) how many instances served, fewer each time.
    """

    good: tuple[Instance, ...] | None = None
    hold: Hold | None = None
    interrupted: bool = False
    losses: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The instances to offer, one an address, sorted by address; and why.

    `due` is when the choice changes by itself (seconds of the same clock as `now`), None when only news can change it.
    `confirmed` is what made a shrunken listing believed, in the one look in which that happened.
    """

    instances: tuple[Instance, ...]
    origin: Origin
    reason: str
    memory: Memory
    refused: tuple[Refused, ...] = ()
    due: float | None = None
    confirmed: Confirmation | None = None


def choose(
    known: Listing | Unknown,
    memory: Memory,
    policy: FloorPolicy,
    now: float,
    *,
    seen: Seen = NOTHING_SEEN,
    session: str | None = None,
    accepted: bool = False,
) -> Choice:
    """The instances to offer, given what the sources say and what was good before.

    `seen` is what HAProxy finds of them, `session` the session with the registry, `accepted` an operator's word for
    this listing, however small it is.
    """
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
    hold = _hold(memory, missing, seen, session, now)
    alive = sum(instance.address in seen.up for instance in missing)
    indispensable = policy.keep_alive and not _serving(listed) and (alive > 0 or not seen.down)
    if accepted:
        return _confirm(listed, known, Confirmation.OPERATOR, "as an operator accepted")
    dues: list[float] = []
    if hold.dead_since is not None:
        dues.append(hold.dead_since + min(DEAD_SECONDS, policy.confirm_seconds))
        if now >= dues[-1]:
            return _confirm(listed, known, Confirmation.CHECKS, "and HAProxy finds those that are missing dead")
    if not indispensable:
        dues.append(hold.since + policy.confirm_seconds)
        if now >= dues[-1]:
            return _confirm(listed, known, Confirmation.TIME, f"fewer than before for {policy.confirm_seconds:g} s")
        if session is not None and hold.session is not None and session != hold.session:
            return _confirm(listed, known, Confirmation.SESSION, "and a new session with the registry says so too")
    until = f"until this has lasted {policy.confirm_seconds:g} s"
    if indispensable:
        until = f"while HAProxy does not find them all dead ({alive} are up), or until somebody accepts the listing"
    reason = (
        f"the registry has {len(listed)} of {served} instances, below the floor of {policy.floor:.0%}: "
        f"the {len(missing)} missing stay in use {until}"
    )
    instances = _by_address([*listed, *missing])
    return Choice(
        instances=instances,
        origin=Origin.HELD_BACK,
        reason=reason,
        memory=Memory(good=instances, hold=hold, losses=losses),
        refused=known.refused,
        due=min(dues, default=None),
    )


def one_per_address(records: Iterable[Record]) -> tuple[Instance, ...]:
    """The instances, one an address, sorted by address: of two nodes for one address the newer counts."""
    return _by_address(record.instance for record in newest(records).values())


def _hold(memory: Memory, missing: list[Instance], seen: Seen, session: str | None, now: float) -> Hold:
    """The run of held-back listings that this one belongs to."""
    hold = memory.hold or Hold(since=now, session=session)
    if memory.interrupted:
        hold = replace(hold, since=now, dead_since=None)
    checked = [instance for instance in missing if instance.address in seen.up | seen.down]
    dead = bool(checked) and all(instance.address in seen.down for instance in checked)
    dead_since = (now if hold.dead_since is None else hold.dead_since) if dead else None
    return replace(hold, dead_since=dead_since)


def _unknown(known: Unknown, memory: Memory) -> Choice:
    memory = replace(memory, interrupted=memory.hold is not None)
    if memory.good is None:
        return Choice(instances=(), origin=Origin.NOTHING, reason=known.reason, memory=memory)
    return Choice(instances=memory.good, origin=Origin.LAST_GOOD, reason=known.reason, memory=memory)


def _confirm(listed: tuple[Instance, ...], known: Listing, how: Confirmation, words: str) -> Choice:
    return replace(_accept(listed, known, f"{_count(listed)} in the registry, {words}"), confirmed=how)


def _accept(
    listed: tuple[Instance, ...], known: Listing, reason: str, losses: tuple[tuple[float, int], ...] = ()
) -> Choice:
    memory = Memory(good=listed, losses=losses)
    if known.partial:
        reason = f"{reason}; {known.partial}: what was known of that stays"
    return Choice(instances=listed, origin=Origin.LISTING, reason=reason, memory=memory, refused=known.refused)


def _serving(instances: Iterable[Instance]) -> int:
    """How many take traffic: one that was draining does not count as a loss when it goes."""
    return sum(instance.weight != 0 for instance in instances)


def _by_address(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    return tuple(sorted(instances, key=lambda instance: (instance.host, instance.port)))


def _count(instances: tuple[Instance, ...]) -> str:
    return "no instance" if not instances else "1 instance" if len(instances) == 1 else f"{len(instances)} instances"
