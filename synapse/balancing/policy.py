"""What balancing goes by in one service, and what one request says of the instance that had it. Pure."""

from dataclasses import dataclass
from typing import Final

from smartstack.traffic import Breaker, Proxy
from synapse.placement import Placement, Role
from synapse.proxy import DEFAULT_WEIGHT
from synapse.telemetry.request import Request

RAMP_SECONDS: Final = 3.0
"""How long an instance takes from the first answer after a pause to its whole share, where no slow_start is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`by_latency`: shares follow how fast the instances answer. `breaker` is None where none is wanted."""

    by_latency: bool
    breaker: Breaker | None
    ramp_seconds: float = RAMP_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An instance that gets new requests, and the weight that it is registered with."""

    address: str
    weight: int


def policy_of(proxy: Proxy) -> Policy:
    """The policy that a definition asks for."""
    return Policy(
        by_latency=proxy.balancing == "latency",
        breaker=proxy.breaker,
        ramp_seconds=RAMP_SECONDS if proxy.slow_start is None else proxy.slow_start,
    )


def members_of(placement: Placement) -> tuple[Member, ...]:
    """The instances that are to get new requests from this host, or would if others were not there."""
    return tuple(
        Member(
            address=placed.instance.address,
            weight=DEFAULT_WEIGHT if placed.instance.weight is None else placed.instance.weight,
        )
        for placed in placement.used
        if placed.role is not Role.HELD and placed.instance.weight != 0
    )


def went_well(request: Request) -> bool | None:
    """Whether the instance did its part; None where the request says nothing of that.

    In mode http an instance fails by a 5xx, by an answer that is none, or by not answering; in mode tcp by not taking
    the connection. HAProxy's manual, 8.5: `S` and `s` are the instance's doing, in `Q` the request only waited for a
    place, and `PH` is an answer that HAProxy could not make sense of.
    """
    who, when = request.termination[:1], request.termination[1:2]
    if request.mode == "tcp":
        if who in ("S", "s"):
            return False if when == "C" else None
        return True if who == "-" else None
    if who in ("S", "s"):
        return None if when == "Q" else False
    if who == "-" or (who == "P" and when == "H"):
        return 0 < request.status < 500
    return None


def answer_ms(request: Request) -> int | None:
    """How long the instance took to answer, from the connection to it on; None where it did not."""
    if request.response_ms is None:
        return None
    return request.response_ms + (request.connect_ms or 0)


def waited_ms(request: Request) -> int | None:
    """How long it was waited for an answer that never came; None where one came, or where nobody waited."""
    if request.response_ms is not None or request.termination[1:2] not in ("C", "H"):
        return None
    return max(0, request.total_ms - (request.queue_ms or 0))
