"""What people may ask of a running synapse. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from synapse.shifts import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """Take the sources at their word on this service, though they show far fewer instances than before."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOrder:
    """Send no new requests to this instance from this host, until then (seconds since the epoch; None: until it is
    let go). `address` as it was typed. `force`: also when nobody else serves."""

    service: str
    address: str
    until: float | None
    reason: str
    owner: str
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """End a hold. `address` as it was typed."""

    service: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAt:
    """Ask HAProxy anew of this service, and tell."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitOrder:
    """Send these shares of a service's requests to these targets, in parts of 10,000, whatever the definition says.
    A target as it was typed: its name, or a subset's own name alone."""

    service: str
    shares: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearSplit:
    """Let a service's definition say its shares again."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOrder:
    """Have requests fail on purpose."""

    fault: Fault

    @property
    def service(self) -> str:
        """Whose requests."""
        return self.fault.service


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearFault:
    """End a service's fault."""

    service: str


ShiftOrder: TypeAlias = SplitOrder | ClearSplit | FaultOrder | ClearFault
Order: TypeAlias = Accept | HoldOrder | LetGo | LookAt | ShiftOrder
