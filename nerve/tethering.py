"""How long a tether is tried, and whether it does harm. Pure; times come in as arguments.

A tether is an idle connection that nerve holds to a service, so that the kernel tells when the service ends. Two kinds
of service do not go with it: those that close idle connections soon, and those that serve one connection at a time, for
which it is a customer who never says a word.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from nerve.health import Result

LONG_SECONDS: Final = 1.5
"""A tether that lived so long was worth having. Just below the shortest time-out for idle connections that is common,
which is gunicorn's 2 s: renewed as often as that, it costs about as much as the checks."""

KEPT_MISSES: Final = 2
"""After so many misses in a row, the connection that shows that the service is still there is still kept as the new
tether. Two, because the kernel closes the sockets of a dying process one after the other, in no order to rely on: a
connection may be made to a port whose listener is gone an instant later, and be reset."""

WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 60.0

COINCIDENCE_SECONDS: Final = 3600.0
"""Within this time one time-out may be an accident, and a second one is none."""

_DOUBLINGS: Final = 10
_TIMED_OUT_SHARE: Final = 0.9


def misses_after(misses: int, lived_seconds: float | None) -> int:
    """How many tethers in a row were not worth having, after one more that lived so long; None: it was not made."""
    return 0 if lived_seconds is not None and lived_seconds >= LONG_SECONDS else misses + 1


def is_kept(misses: int) -> bool:
    """Whether the connection that showed that a service is still there becomes its new tether at once."""
    return misses <= KEPT_MISSES


def wait_seconds(misses: int) -> float:
    """How long to be without a tether before the next attempt: 1 s at first, then doubling up to a minute."""
    doublings = min(max(0, misses - KEPT_MISSES - 1), _DOUBLINGS)
    return min(LONGEST_WAIT_SECONDS, WAIT_SECONDS * (1 << doublings))


class Stage(Enum):
    """What is thought of a service's tether."""

    CLEAR = "nothing is held against it"
    RELEASED = "a check timed out while it was held: it is let go, and the check is run again"
    NOT_TO_BLAME = "the check failed without it too: it waits until the check passes"
    GIVEN_UP = "the check passed without it: it did harm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """Whether a service's tether keeps its checks from being served. One for each service, new with its configuration.

    The rest is memory: the check that timed out and when its result came, whether a check has passed beside the tether
    that is held, and when a time-out was last taken for an accident. Times are by a monotonic clock.
    """

    stage: Stage = Stage.CLEAR
    check: str = ""
    released_at: float = 0.0
    passed_beside: bool = False
    accident_at: float | None = None

    @property
    def may_hold(self) -> bool:
        """Whether the service may have a tether."""
        return self.stage is Stage.CLEAR

    @property
    def text(self) -> str | None:
        """Why it may not, for status and log, to stand behind "the tether is"; None where it may."""
        match self.stage:
            case Stage.CLEAR:
                return None
            case Stage.RELEASED:
                return f"released, because {self.check} timed out while it was held; {self.check} is run again"
            case Stage.NOT_TO_BLAME:
                return f"released until {self.check} passes"
            case Stage.GIVEN_UP:
                return (
                    f"given up: {self.check} timed out while it was held and passed without it, so the service seems "
                    "to serve one connection at a time; write `tether: off` in its definition"
                )


def suspect(suspicion: Suspicion, check: str, result: Result, *, timeout_seconds: float, tethered: bool) -> Suspicion:
    """What is thought after one more result of one of the service's checks, whose time-out is `timeout_seconds`.

    `tethered`: the service has a tether now. Whoever calls releases it, and runs the checks out of turn, when the
    stage has become RELEASED.

    A service that serves one connection at a time lets no check pass beside its tether: one time-out is enough. Where
    checks did pass beside it, a single time-out may be an accident (a pause, a burst of work), and a second one within
    an hour is not: so does a service of several processes that serve one connection each.
    """
    match suspicion.stage:
        case Stage.CLEAR if tethered and _timed_out(result, timeout_seconds):
            return replace(suspicion, stage=Stage.RELEASED, check=check, released_at=result.at)
        case Stage.CLEAR if tethered and result.passed:
            return replace(suspicion, passed_beside=True)
        case Stage.RELEASED if check == suspicion.check and _began(result) >= suspicion.released_at:
            return _judged(suspicion, result)
        case Stage.NOT_TO_BLAME if check == suspicion.check and result.passed:
            return Suspicion(accident_at=suspicion.accident_at)
    return suspicion


def _judged(suspicion: Suspicion, result: Result) -> Suspicion:
    """After the result of the check that was begun without the tether."""
    if not result.passed:
        return replace(suspicion, stage=Stage.NOT_TO_BLAME)
    last = suspicion.accident_at
    again = last is not None and suspicion.released_at - last < COINCIDENCE_SECONDS
    if again or not suspicion.passed_beside:
        return replace(suspicion, stage=Stage.GIVEN_UP)
    return Suspicion(accident_at=suspicion.released_at)


def _timed_out(result: Result, timeout_seconds: float) -> bool:
    # A result does not say so in so many words; what fails for another reason fails sooner.
    return not result.passed and result.duration_seconds >= timeout_seconds * _TIMED_OUT_SHARE


def _began(result: Result) -> float:
    return result.at - result.duration_seconds
