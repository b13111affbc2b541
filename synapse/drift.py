"""Drift: what HAProxy shows that synapse did not do, and that nobody should have done past it. Pure.

It is found by comparing what HAProxy shows with what it showed after synapse's own last change. Putting it right is the
plan's work, as ever; here it is counted and put into words, so that people learn that somebody works against synapse.
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from synapse.proxy import Slot

_WORDS = 20
"""How many differences are kept in words."""


class Kind(enum.Enum):
    """What drifted."""

    WEIGHT = "weight"
    ADDRESS = "address"
    STATE = "state"
    SERVER = "server"
    FILE = "file"
    MAP = "map"
    PROCESS = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One thing that differs, in words; `backend` is where, None for HAProxy as a whole."""

    kind: Kind
    what: str
    backend: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRecord:
    """What was found since the start: how often by kind, and what was found last, when (seconds since the epoch)."""

    counts: Mapping[str, int] = field(default_factory=dict)
    last: Sequence[str] = ()
    at: float | None = None

    def plus(self, found: Sequence[Drift], at: float) -> "DriftRecord":
        """With these too."""
        counts = dict(self.counts)
        for drift in found:
            counts[drift.kind.value] = counts.get(drift.kind.value, 0) + 1
        return DriftRecord(counts=counts, last=tuple(drift.what for drift in found[:_WORDS]), at=at)


def differences(before: Mapping[str, Sequence[Slot]], now: Mapping[str, Sequence[Slot]]) -> Iterator[Drift]:
    """What differs of the backends that are in both. What HAProxy's own checks find is no drift."""
    for backend in sorted(before.keys() & now.keys()):
        if before[backend] is now[backend]:
            continue
        old = {slot.name: slot for slot in before[backend]}
        new = {slot.name: slot for slot in now[backend]}
        for name in sorted(old.keys() | new.keys()):
            if name not in new:
                yield Drift(kind=Kind.SERVER, what=f"{backend}/{name} was deleted", backend=backend)
            elif name not in old:
                yield Drift(kind=Kind.SERVER, what=f"{backend}/{name} was added", backend=backend)
            else:
                yield from _slot(backend, old[name], new[name])


def _slot(backend: str, old: Slot, new: Slot) -> Iterator[Drift]:
    place = f"{backend}/{new.name}"
    if old.address != new.address:
        yield Drift(kind=Kind.ADDRESS, what=f"{place} went from {old.address} to {new.address}", backend=backend)
    if old.weight != new.weight:
        what = f"the weight of {place} ({new.address}) went from {old.weight} to {new.weight}"
        yield Drift(kind=Kind.WEIGHT, what=what, backend=backend)
    if old.admin is not new.admin:
        what = f"{place} ({new.address}) went from {old.admin.value} to {new.admin.value}"
        yield Drift(kind=Kind.STATE, what=what, backend=backend)
