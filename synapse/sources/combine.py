"""What several sources say of one service, together; and who of its instances is the leader. Pure.

A source that is away is not an empty one: what it said last stands in for it, and a listing of which that is true says
so (`Listing.partial`). One that has not said anything since the start is waited for; when that takes too long, the
others are taken without it, together with what was last known to be good (`kept`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from smartstack.instance import Instance
from smartstack.locality import Where
from smartstack.registry.protocol import Listing, Record, Unknown, newest
from synapse.placement import holds

NOTHING = Listing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One source: what it says now, and what it said when it last said anything; None when it never has."""

    now: Listing | Unknown
    last: Listing | None


def union(said: Sequence[Said], kept: Listing = NOTHING, *, waiting: bool = False) -> Listing | Unknown:
    """The instances of all sources; of two with the same address that of the earlier source counts.

    `kept` is what no source that is known has listed, while one of them was never heard of. `waiting`: such a one is
    still waited for.
    """
    away = [each.now for each in said if isinstance(each.now, Unknown)]
    never = any(each.last is None for each in said)
    if len(away) == len(said) or (never and waiting):
        return _unknown(away)
    listings = [each.last for each in said if each.last is not None]
    return Listing(
        records=_merged([*listings, kept] if never else listings),
        refused=tuple(sorted((one for listing in listings for one in listing.refused), key=lambda one: one.node)),
        partial=_reasons(away),
    )


def fallback(said: Sequence[Said], kept: Listing = NOTHING, *, waiting: bool = False) -> Listing | Unknown:
    """The instances of the first source that has any. One that is away and had some when it was last heard of is not
    passed over: what was good stays good (the answer is Unknown)."""
    away: list[Unknown] = []
    empty: list[Listing] = []
    for each in said:
        if isinstance(each.now, Listing):
            if each.now.records:
                refused = [one for listing in (*empty, each.now) for one in listing.refused]
                if not away and len(refused) == len(each.now.refused):
                    return each.now
                ordered = tuple(sorted(refused, key=lambda one: one.node))
                return Listing(records=each.now.records, refused=ordered, partial=_reasons(away))
            empty.append(each.now)
            continue
        away.append(each.now)
        if (waiting or kept.records) if each.last is None else each.last.records:
            return _unknown(away)
    if away:
        return _unknown(away)
    return union(said)


def unclaimed(kept: Listing, said: Iterable[Said]) -> Listing:
    """What is left of `kept` without what the sources list that are known now."""
    listed = {record.instance.address for each in said if isinstance(each.now, Listing) for record in each.now.records}
    records = tuple(record for record in kept.records if record.instance.address not in listed)
    return kept if len(records) == len(kept.records) else Listing(records=records)


def keep(instances: Iterable[Instance]) -> Listing:
    """What was last known to be good, as `union` and `fallback` take it."""
    return Listing(records=tuple(Record(node=instance.address, instance=instance) for instance in instances))


def with_port(known: Listing | Unknown, port: int) -> Listing | Unknown:
    """The same instances at another port."""
    if isinstance(known, Unknown):
        return known
    records = (replace(record, instance=replace(record.instance, port=port)) for record in known.records)
    return replace(known, records=tuple(records))


def leader(known: Listing | Unknown, where: Where = ()) -> Listing | Unknown:
    """The one instance that has been registered longest, of those whose labels are as `where` says; nobody when there
    is none. Those that take no traffic (weight 0) come last.

    `Record.version` tells who came first; where the registry gives none, the lowest address is the leader. Of two nodes
    for one address the newer counts, as everywhere.
    """
    if isinstance(known, Unknown):
        return known
    candidates = [
        record
        for record in newest(known.records).values()
        if all(holds(condition, dict(record.instance.labels)) for condition in where)
    ]
    first = min(candidates, key=_seniority, default=None)
    return replace(known, records=() if first is None else (first,))


def _seniority(record: Record) -> tuple[bool, bool, int, int, int, int]:
    address = ip_address(record.instance.host)
    place = (address.version, int(address), record.instance.port)
    return (record.instance.weight == 0, record.version == 0, record.version, *place)


def _merged(listings: Iterable[Listing]) -> tuple[Record, ...]:
    """One source for each address, sorted by node. The nodes of one source for one address are all kept: which of them
    counts is decided where it always is."""
    records: list[Record] = []
    taken: set[str] = set()
    for listing in listings:
        fresh = [record for record in listing.records if record.instance.address not in taken]
        taken.update(record.instance.address for record in fresh)
        records += fresh
    return tuple(sorted(records, key=lambda record: record.node))


def _unknown(away: Sequence[Unknown]) -> Unknown:
    """Nothing is known since the last of them was lost."""
    if len(away) == 1:
        return away[0]
    return Unknown(reason=_reasons(away), since=max(each.since for each in away))


def _reasons(away: Iterable[Unknown]) -> str:
    return "; ".join(dict.fromkeys(each.reason for each in away))
