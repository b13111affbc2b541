"""Rings of instances around this host: the nearest serves, and the next helps when that has too few or is full. Pure.

A ring joins at once and leaves slowly: only after it was not needed for a while, so that instances that come and go do
not pull it in and out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smartstack.instance import Instance
from smartstack.locality import Locality

LEAVE_SECONDS = 10.0
"""So long must a ring have been of no need before it leaves."""

ROOM = 0.7
"""A ring that joined because the nearer ones were full leaves when their requests would fill no more than this share
of them."""

ANYWHERE = "anywhere"
"""The name of the last ring, which has everybody who is in no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """One ring: `zone=us-east-1a`. `registered` are its instances, `ready` those that neither drain nor are held or
    found down. `used`: its instances take traffic as primaries."""

    name: str
    registered: int
    ready: int
    used: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many rings are in use, the nearest first, and since when fewer would do (seconds of a monotonic clock)."""

    used: int
    calm_since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a service's instances have to do, as HAProxy counts it: requests under way, and those that wait for a free
    place. `limit` is how many one instance may have at once, None for any number."""

    current: int = 0
    queued: int = 0
    limit: int | None = None


NO_LOAD = Load()


def ring_names(locality: Locality, labels: Mapping[str, str]) -> list[str]:
    """The rings around a host with these labels. A label that the host does not have makes no ring."""
    return [*(f"{label}={labels[label]}" for label in locality.prefer if label in labels), ANYWHERE]


def ring_of(instance: Instance, locality: Locality, labels: Mapping[str, str]) -> int:
    """The nearest ring that this instance is in; one without the labels is in the last."""
    theirs = dict(instance.labels)
    known = [label for label in locality.prefer if label in labels]
    return next((ring for ring, label in enumerate(known) if theirs.get(label) == labels[label]), len(known))


def choose_rings(
    counts: Sequence[tuple[int, int]], locality: Locality, load: Load, before: Standing | None, now: float
) -> tuple[Standing, float | None, str]:
    """How many rings to use, given (registered, ready) of each; when that changes by itself, and why it is so."""
    needed, reason = _needed(counts, locality)
    if before is None:
        return Standing(used=needed), None, reason
    in_use = min(before.used, len(counts))
    full = load.limit is not None and load.queued > 0
    helper = next((ring for ring in range(in_use, len(counts)) if counts[ring][1]), None)
    if full and helper is not None and needed <= in_use:
        return Standing(used=helper + 1), None, "requests wait for a free place in the nearer rings"
    if needed >= in_use:
        return Standing(used=needed), None, reason
    smaller = sum(ready for _, ready in counts[:needed])
    if full or (load.limit is not None and load.current > ROOM * load.limit * smaller):
        return Standing(used=in_use), None, "the nearer rings would be full without the others"
    calm_since = now if before.calm_since is None else before.calm_since
    due = calm_since + LEAVE_SECONDS
    if now >= due:
        return Standing(used=needed), None, reason
    return Standing(used=in_use, calm_since=calm_since), due, f"{reason}; the others leave after {LEAVE_SECONDS:g} s"


def _needed(counts: Sequence[tuple[int, int]], locality: Locality) -> tuple[int, str]:
    """The rings that it takes to have enough instances ready; all of them where there are never enough."""
    registered = next((some for some, _ in counts if some), 0)
    enough = max(locality.min_servers, math.ceil(locality.min_percent * registered - 1e-9))
    ready = 0
    for number, (_, some) in enumerate(counts, start=1):
        ready += some
        if ready >= enough:
            return number, f"{ready} ready where {enough} are enough"
    return len(counts), f"{ready} ready in all, where {enough} would be enough"
