"""What is true of the fleet, given the faults under way: who must be routed where, and which failed requests are
explained. Pure."""

import enum
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tests.soak.faults import EVERYWHERE, EXTRA, Effect, Fault


class Expected(enum.Enum):
    """What must become of an instance on a host."""

    ROUTED = "routed"
    UNROUTED = "unrouted"
    OPEN = "open"


def expected(under_way: Collection[Fault], service: str, instance: str, on: str) -> Expected:
    """What must become, on the host `on`, of the instance of a service that is on the host `instance`."""
    if any(_leaves_open(fault, instance, on) for fault in under_way):
        return Expected.OPEN
    if any(_takes_out(fault, service, instance, on) for fault in under_way):
        return Expected.UNROUTED
    is_defined = service != EXTRA or any(fault.kind.effect is Effect.PRESENT for fault in under_way)
    return Expected.ROUTED if is_defined else Expected.UNROUTED


def _takes_out(fault: Fault, service: str, instance: str, on: str) -> bool:
    if (fault.service, fault.host) != (service, instance):
        return False
    return fault.kind.effect is Effect.OUT or (fault.kind.effect is Effect.HELD and fault.by == on)


def _leaves_open(fault: Fault, instance: str, on: str) -> bool:
    match fault.kind.effect:
        case Effect.ALL_UNSURE:
            return True
        case Effect.UNSURE:
            return fault.host == instance
        case Effect.BLIND:
            return fault.host == on
    return False


def is_blind(under_way: Iterable[Fault], host: str) -> bool:
    """Whether synapse or HAProxy on this host is not itself."""
    return any(fault.kind.effect is Effect.BLIND and fault.host == host for fault in under_way)


def may_tell(under_way: Iterable[Fault], host: str) -> bool:
    """Whether a daemon on this host has reason to tell of a problem."""
    return any(fault.kind.tells and fault.touches(host) for fault in under_way)


@dataclass(slots=True, kw_only=True)
class Done:
    """A fault that was done. Times are in seconds since the soak began; `healed` is None as long as it lasts."""

    fault: Fault
    began: float
    undone: float | None = None
    healed: float | None = None
    explains: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A request without a good answer: who asked for what, when it was sent and when it ended."""

    host: str
    service: str
    sent: float
    ended: float
    reason: str

    @property
    def words(self) -> str:
        """For the report."""
        return (
            f"{self.sent:.2f} s, {self.service} from {self.host}, after {self.ended - self.sent:.2f} s: {self.reason}"
        )


def explanation(failed: Failed, done: Sequence[Done]) -> Done | None:
    """The fault that explains it: the latest that does."""
    latest_first = sorted(done, key=lambda each: -each.began)
    return next((each for each in latest_first if _explains(each, failed, done)), None)


def _explains(done: Done, failed: Failed, everything: Sequence[Done]) -> bool:
    excuse, fault = done.fault.kind.excuse, done.fault
    if excuse is None or not any(text in failed.reason for text in excuse.texts):
        return False
    # A fault of an instance has its clients on every host; one of a host is felt there alone.
    is_of_service = fault.service != EVERYWHERE
    if fault.service != failed.service if is_of_service else fault.host not in (failed.host, EVERYWHERE):
        return False
    until = done.began + excuse.seconds
    if excuse.detected:
        for other in sorted(everything, key=lambda each: each.began):
            if other.began <= until and _leaves_open(other.fault, fault.host, failed.host):
                until = max(until, _healed(other) + excuse.seconds)
    return failed.sent <= min(until, _healed(done)) and failed.ended >= done.began


def _healed(done: Done) -> float:
    return math.inf if done.healed is None else done.healed
