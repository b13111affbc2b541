"""The circuit breaker of one instance: when it opens, for how long, and what closes it again. Pure.

Failures are judged by comparison: requests that fail everywhere say something of the requests, or of what all instances
need, and taking instances away would only make it worse. So an instance is out only where it does clearly worse than
the others at the same time, and within rails: never the last one, never more than a share of them.
"""

import enum
import math
from dataclasses import dataclass, replace
from typing import Final

from smartstack.traffic import Breaker

FIRST_PAUSE_SECONDS: Final = 1.0
JITTER: Final = 0.25
"""The part of a pause that is left to chance, so that not all hosts try the same instance in the same moment."""

_SURE: Final = 3.0
"""By how many standard deviations an instance must be worse than the others for that to be no accident."""


class State(enum.Enum):
    """Closed is as it should be: requests flow."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"
    """A few requests try it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """`since` is when it came into this state, `until` when an open one may be tried, in seconds of a monotonic clock;
    `openings` is how often in a row it was opened, `why` for what, the last time."""

    state: State = State.CLOSED
    since: float = -math.inf
    until: float = 0.0
    openings: int = 0
    why: str = ""


CLOSED: Final = Circuit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Requests that went well and that failed; parts of them where what is long ago counts less."""

    good: float = 0.0
    failed: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.good + self.failed


NONE: Final = Results()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What speaks for and against an instance: its failures in a row, its window, what the others had since that row
    began and in the same window, and how long it has had requests under way and finished none (None: it has not)."""

    streak: float
    others_since: Results
    window: Results
    others: Results
    hung_seconds: float | None = None


def fault(record: Record, breaker: Breaker) -> str | None:
    """Why the instance should be out, in words; None where it should not."""
    if record.hung_seconds is not None:
        return f"requests are under way and none has ended for {record.hung_seconds:.1f} s"
    own = Results(failed=record.streak)
    if record.streak >= breaker.failures and worse(own, record.others_since):
        return f"{record.streak:.0f} failures in a row"
    window = record.window
    enough = window.total >= breaker.min_requests and window.good < breaker.success_rate * window.total
    if enough and worse(window, record.others):
        return f"{window.failed / window.total:.0%} of its requests failed"
    return None


def worse(own: Results, others: Results) -> bool:
    """Whether an instance does clearly worse than the others. Where nobody else had requests, its failures are its
    own."""
    if others.total < 1.0 or own.total <= 0.0:
        return own.failed > 0.0
    rate, general = own.good / own.total, (own.good + others.good) / (own.total + others.total)
    accident = math.sqrt(general * (1.0 - general) / own.total)
    return others.good / others.total - rate > _SURE * accident


def room(members: int, breaker: Breaker) -> int:
    """How many of so many instances may be out at once: never the last, and one of two where any may be."""
    share = math.floor(members * breaker.max_ejected + 1e-9)
    return max(0, min(members - 1, max(share, 1 if breaker.max_ejected > 0 else 0)))


def open_circuit(circuit: Circuit, why: str, breaker: Breaker, now: float, chance: float) -> Circuit:
    """Out for a pause that doubles each time. `chance` is from 0 to 1.

    An instance that fell back soon after it had come back goes on where it was; one that was well for as long as it had
    been out begins anew.
    """
    well = circuit.state is State.CLOSED and now - circuit.since > max(
        breaker.window, _pause(circuit.openings, breaker)
    )
    openings = 1 if well else circuit.openings + 1
    pause = _pause(openings, breaker) * (1.0 - JITTER * chance)
    return Circuit(state=State.OPEN, since=now, until=now + pause, openings=openings, why=why)


def try_again(circuit: Circuit, now: float) -> Circuit:
    """Let a few requests there."""
    return replace(circuit, state=State.HALF_OPEN, since=now)


def close_circuit(circuit: Circuit, now: float) -> Circuit:
    """It answered: requests flow again."""
    return replace(circuit, state=State.CLOSED, since=now)


def ramp(circuit: Circuit, now: float, seconds: float) -> float:
    """How much of its share an instance gets that came back: all of it after so many seconds."""
    return min(1.0, max(0.0, (now - circuit.since) / seconds)) if seconds > 0 else 1.0


def _pause(openings: int, breaker: Breaker) -> float:
    # 2**60 s is beyond any maximum, and the count of openings has none.
    return float(min(breaker.max_pause, FIRST_PAUSE_SECONDS * 2 ** min(60, max(0, openings - 1))))
