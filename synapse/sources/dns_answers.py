"""What answers of the domain name system mean: instances, and when to ask again. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from smartstack.instance import NAME
from smartstack.registry.protocol import Listing, Refused
from synapse.sources.listing import listing_of

FULL_WEIGHT = 100
"""The weight of the heaviest target of an SRV record; that of an instance without one is the same in HAProxy."""

RETRY_SECONDS = (1.0, 30.0)
"""The pause after the first failure, and the longest: each is twice the one before."""

JITTER = 0.1
"""Each pause is longer by up to this share, so that a fleet does not ask all at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    name: str


def addresses_listing(addresses: Iterable[str], port: int) -> Listing:
    """An instance for each address of a name."""
    return listing_of((address, {"host": address, "port": port}) for address in sorted(set(addresses)))


def best_targets(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Those of the best priority, which is the lowest number. The target "." says that there is no such service."""
    found = {target for target in targets if target.name not in ("", ".")}
    best = min((target.priority for target in found), default=0)
    chosen = (target for target in found if target.priority == best)
    return tuple(sorted(chosen, key=lambda target: (target.name, target.port, target.weight)))


def targets_listing(
    targets: Sequence[Target], addresses: Mapping[str, Sequence[str]], port: int | None = None
) -> Listing:
    """An instance for each address of each target. `port` stands in for the records' own.

    Weights are relative to the heaviest target's; a target without weight has the least there is, for its 0 is no
    drain.
    """
    heaviest = max((target.weight for target in targets), default=0)
    alike = len({target.weight for target in targets}) < 2
    payloads: list[tuple[str, dict[str, object]]] = []
    nowhere: list[Refused] = []
    for target in targets:
        weight = None if alike else max(1, round(target.weight * FULL_WEIGHT / heaviest))
        for address in sorted(addresses.get(target.name, ())):
            payload: dict[str, object] = {"host": address, "port": port or target.port, "weight": weight}
            if NAME.fullmatch(target.name):
                payload["name"] = target.name
            payloads.append((f"{target.name}:{target.port} {address}", payload))
        if not addresses.get(target.name):
            nowhere.append(Refused(node=f"{target.name}:{target.port}", reason="its name has no address"))
    listing = listing_of(payloads)
    refused = sorted((*listing.refused, *nowhere), key=lambda each: each.node)
    return Listing(records=listing.records, refused=tuple(refused))


def pause_seconds(ttl: float, least: float, most: float, jitter: float) -> float:
    """When to ask again after an answer that is good for `ttl` seconds. `jitter` is a random number from 0 to 1."""
    return min(max(ttl, least), most) * (1 + JITTER * jitter)


def retry_seconds(failures: int, most: float, jitter: float) -> float:
    """When to ask again after so many failures in a row; never later than after an answer."""
    first, longest = RETRY_SECONDS
    pause: float = min(first * 2 ** min(failures - 1, 10), longest, most)
    return pause * (1 + JITTER * jitter)
