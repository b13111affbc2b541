"""What people may ask of a running synapse. Pure."""

from dataclasses import dataclass
from typing import TypeAlias


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


Order: TypeAlias = Accept | HoldOrder | LetGo | LookAt
