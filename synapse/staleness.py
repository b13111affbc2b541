"""How old what is in use is, where the sources have not said anything newer. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from smartstack.registry.protocol import Unknown
from synapse.offers import Offer
from synapse.selection import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Services that serve by what was last known, for longer than the limit. `since` is when the oldest of them was
    last heard of, in seconds since the epoch; `reason` why nothing newer is known of it."""

    services: tuple[str, ...]
    since: float
    reason: str


def stale(
    offers: Mapping[str, Offer], unheard: Collection[str], kept_at: float | None, now: float, limit_seconds: float
) -> Stale | None:
    """What has been served for longer than the limit without any news; None when nothing has.

    `unheard` are the services of which nothing was said since this start: what is known of them was last confirmed at
    `kept_at`. `kept_at` and `now` are in seconds since the epoch.
    """
    old: dict[str, float] = {}
    for name, offer in offers.items():
        if offer.choice.origin is Origin.LAST_GOOD and isinstance(offer.known, Unknown):
            since = offer.known.since
            if name in unheard and kept_at is not None:
                since = min(since, kept_at)
            if now - since >= limit_seconds:
                old[name] = since
    if not old:
        return None
    oldest = min(old, key=lambda name: (old[name], name))
    return Stale(services=tuple(sorted(old)), since=old[oldest], reason=offers[oldest].choice.reason)
