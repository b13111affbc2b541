"""Admission: whether a healthy service may join the registry now, or waits. Pure; times come in as arguments.

Two gates stand in a row. The first keeps out what went down too often lately, until it has been quiet; the second is a
token bucket and bounds the joins. A gate is passed once for each time that the service comes up: who is in stays in
until it is down. To leave is never held up.

A gate in shadow mode decides and counts in the same way, and lets everybody through.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from nerve.health import State
from nerve.settings import FlapDamping, PublishLimit

PENALTY_CEILING: Final = 4
"""Most that is remembered of a flapping service, in limits: it is let in again after three half-lives at the latest."""


class HeldBack(Enum):
    """Which gate a healthy service waits at."""

    FLAPPING = "flapping"
    RATE = "rate"


class Gate(Enum):
    """CLOSED: nobody wants in. WAITING: the service is up and has to wait. OPEN: it came in."""

    CLOSED = "closed"
    WAITING = "waiting"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A service at the door of the registry.

    `admitted`: it may be in the registry. `held_back` is the gate that keeps it out although it is up, `shadowed` the
    one that would if it were not in shadow mode. `until` is when that changes if nothing else happens, None when the
    time alone changes nothing. `throttled` and `suppressed` count the joins that had to wait for a token, and for the
    end of the flapping, once each time that the service came up, in shadow mode too.

    The rest is memory: the state that was last known, the penalty as it was at `penalty_at`, whether it has reached the
    limit (`damped`), and when the bucket is full again.
    """

    admitted: bool = False
    held_back: HeldBack | None = None
    shadowed: HeldBack | None = None
    until: float | None = None
    throttled: int = 0
    suppressed: int = 0
    known: State = State.UNKNOWN
    penalty: float = 0.0
    penalty_at: float = 0.0
    damped: bool = False
    full_at: float = -math.inf
    flap_gate: Gate = Gate.CLOSED
    rate_gate: Gate = Gate.CLOSED

    @classmethod
    def initial(cls, *, present: bool) -> "Admission":
        """A service that was not watched before, with a full bucket and no past. `present`: it is in the registry,
        where an earlier nerve put it; it stays, and that costs nothing."""
        if not present:
            return cls()
        return cls(admitted=True, known=State.UP, flap_gate=Gate.OPEN, rate_gate=Gate.OPEN)


def admit(admission: Admission, state: State, now: float, limit: PublishLimit, damping: FlapDamping) -> Admission:
    """The admission of a service that is in this state at this time.

    May be called as often as one likes: with the same state and time it changes nothing more. An unknown state leaves
    who is in inside and who is out outside.
    """
    if state is State.UNKNOWN:
        return replace(admission, held_back=None, shadowed=None, until=None)
    if state is State.DOWN:
        fallen = _fallen(admission, now, damping) if admission.known is State.UP else admission
        return replace(
            fallen,
            admitted=False,
            held_back=None,
            shadowed=None,
            until=None,
            known=State.DOWN,
            flap_gate=Gate.CLOSED,
            rate_gate=Gate.CLOSED,
        )
    asked = _at_flap_gate(replace(admission, known=State.UP), now, damping)
    if _is_through(asked, damping):
        asked = _at_rate_gate(asked, now, limit)
        if asked.rate_gate is Gate.OPEN or limit.shadow:
            asked = replace(asked, admitted=True)
    return _told(asked, limit, damping)


def penalty_now(admission: Admission, now: float, damping: FlapDamping) -> float:
    """How much of the service's going down is not forgotten yet."""
    age = max(0.0, now - admission.penalty_at)
    return admission.penalty * math.pow(2.0, -age / damping.half_life)


def _fallen(admission: Admission, now: float, damping: FlapDamping) -> Admission:
    """It was up and is down: one more on the account."""
    penalty = min(penalty_now(admission, now, damping) + 1.0, float(PENALTY_CEILING * damping.limit))
    still = admission.damped and now < _calm_at(admission, damping)
    return replace(admission, penalty=penalty, penalty_at=now, damped=still or penalty >= damping.limit)


def _calm_at(admission: Admission, damping: FlapDamping) -> float:
    """When half of the limit is left of the penalty. Always worked out from the same numbers, so that who looks again
    at exactly this time finds it over."""
    return admission.penalty_at + damping.half_life * math.log2(2.0 * admission.penalty / damping.limit)


def _at_flap_gate(asked: Admission, now: float, damping: FlapDamping) -> Admission:
    if asked.flap_gate is Gate.OPEN:
        return asked
    if not asked.damped or now >= _calm_at(asked, damping):
        return replace(asked, damped=False, flap_gate=Gate.OPEN)
    return replace(asked, flap_gate=Gate.WAITING, suppressed=asked.suppressed + (asked.flap_gate is Gate.CLOSED))


def _is_through(asked: Admission, damping: FlapDamping) -> bool:
    """Whether it may go on to the second gate."""
    return asked.flap_gate is Gate.OPEN or damping.shadow


def _at_rate_gate(asked: Admission, now: float, limit: PublishLimit) -> Admission:
    """Take a token, if there is one. The bucket is kept as the time at which it is full again (the generic cell rate
    algorithm): no fraction of a token gets lost, and the time of the next one is exact."""
    if asked.rate_gate is Gate.OPEN:
        return asked
    # A bucket cannot be emptier than empty: a limit that was made wider holds from now on.
    asked = replace(asked, full_at=min(asked.full_at, now + limit.burst * limit.every))
    if now >= _token_at(asked, limit):
        return replace(asked, full_at=max(asked.full_at, now) + limit.every, rate_gate=Gate.OPEN)
    return replace(asked, rate_gate=Gate.WAITING, throttled=asked.throttled + (asked.rate_gate is Gate.CLOSED))


def _token_at(admission: Admission, limit: PublishLimit) -> float:
    """When there is a token."""
    return admission.full_at - (limit.burst - 1) * limit.every


def _told(asked: Admission, limit: PublishLimit, damping: FlapDamping) -> Admission:
    """The same, with what somebody outside wants to know of it."""
    waiting: dict[HeldBack, tuple[bool, float]] = {}
    if asked.flap_gate is Gate.WAITING:
        waiting[HeldBack.FLAPPING] = damping.shadow, _calm_at(asked, damping)
    if asked.rate_gate is Gate.WAITING and _is_through(asked, damping):
        waiting[HeldBack.RATE] = limit.shadow, _token_at(asked, limit)
    held = [gate for gate, (shadow, _) in waiting.items() if not shadow and not asked.admitted]
    shadowed = [gate for gate in waiting if gate not in held]
    return replace(
        asked,
        held_back=next(iter(held), None),
        shadowed=next(iter(shadowed), None),
        until=min((until for _, until in waiting.values()), default=None),
    )
