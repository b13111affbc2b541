"""What changed of a service's instances from one offer to the next, and why, in words. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from smartstack.instance import MAINTENANCE_LABEL, Instance, printable
from synapse.offers import Offer
from synapse.placement import Placed, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One instance's change: `what` names it, `word` is the same without its name, for counting. `drains`: it began to
    drain, or ended that."""

    what: str
    word: str
    why: str = ""
    drains: bool = False


def member_changes(before: Offer, after: Offer) -> Iterator[Change]:
    """The instances that came, left, drain, weigh otherwise or are not for this host any more, by address.

    What else changes an instance's role, its ring or a hold on this host, is told of by those.
    """
    were = {placed.instance.address: placed for placed in before.placement.members}
    are = {placed.instance.address: placed for placed in after.placement.members}
    for address in sorted(were.keys() | are.keys()):
        old, new = were.get(address), are.get(address)
        change = _left(address, old, after) if new is None else _came(address, new) if old is None else None
        if old is not None and new is not None and old != new:
            change = _changed(address, old, new)
        if change is not None:
            yield change


def _came(address: str, placed: Placed) -> Change:
    if placed.role is Role.OUT:
        return Change(what=f"{address} is not used here", word="not used here", why=placed.reason)
    if placed.instance.weight == 0:
        return Change(what=f"{address} came draining", word="came draining", why=_drain(placed.instance), drains=True)
    why = f"registered; a backup: {placed.reason}" if placed.role is Role.BACKUP else "registered"
    return Change(what=f"{address} joined", word="joined", why=why)


def _left(address: str, placed: Placed | None, after: Offer) -> Change:
    drained = placed is not None and placed.instance.weight == 0
    why = f"{'drained, and ' if drained else ''}not registered any more"
    if after.choice.confirmed:
        why = after.choice.reason
    return Change(what=f"{address} left", word="left", why=why)


def _changed(address: str, old: Placed, new: Placed) -> Change | None:
    if (old.role is Role.OUT) is not (new.role is Role.OUT):
        word = "not used here any more" if new.role is Role.OUT else "used here now"
        return Change(what=f"{address} is {word}", word=word, why=new.reason)
    was, now = old.instance.weight, new.instance.weight
    if was == now:
        return None
    if now == 0:
        return Change(what=f"{address} drains", word="drain", why=_drain(new.instance), drains=True)
    if was == 0:
        return Change(
            what=f"{address} takes requests again", word="take requests again", why="registered so", drains=True
        )
    what = f"{address} went from {_weight(was)} to {_weight(now)}"
    return Change(what=what, word="with another weight", why="registered so")


def _weight(weight: int | None) -> str:
    return "the usual weight" if weight is None else f"weight {weight}"


def _drain(instance: Instance) -> str:
    """Why its nerve drains it, and by whose order."""
    labels = dict(instance.labels)
    reason, owner = labels.get(MAINTENANCE_LABEL), labels.get(f"{MAINTENANCE_LABEL}_owner")
    if reason is None:
        return "registered with weight 0"
    return printable(reason, 200) + (f" ({printable(owner)})" if owner else "")
