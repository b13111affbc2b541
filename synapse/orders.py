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
    let go)."""

    service: str
    address: str
    until: float | None
    reason: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """End a hold."""

    service: str
    address: str


Order: TypeAlias = Accept | HoldOrder | LetGo
