"""What a check is: a frozen model that a service definition may hold, and that can be run against an instance."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

from smartstack.forms import DURATION, TcpAddress, between, duration
from smartstack.instance import printable

REASON_LIMIT = 200
"""Longest reason of an outcome, in characters: it stands in one log line and in one cell of a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run of a check says: whether the instance is well, and why in a few words."""

    passed: bool
    reason: str


class Check(Protocol):
    """A check kind's model. Third-party kinds offer one by an entry point named like the `type` that users write."""

    kind: ClassVar[str]

    @property
    def interval(self) -> float:
        """Seconds from the start of one run to the start of the next."""

    @property
    def timeout(self) -> float:
        """Seconds after which a run is a failure."""

    @property
    def rise(self) -> int:
        """How many passes in a row bring a failed instance back."""

    @property
    def fall(self) -> int:
        """How many failures in a row make it fail."""

    def run(self, address: TcpAddress) -> Outcome:
        """Check the instance at this address once, within about `timeout` seconds, in any thread.

        Never raises for what an ill instance does.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The keys that every kind of check has."""

    interval: Annotated[float, "from the start of one check to that of the next", duration("10ms")] = 2.0
    timeout: Annotated[float, "a check that takes longer has failed", DURATION] = 1.0
    rise: Annotated[int, "passes in a row that bring a failed instance back", between(1, 1000)] = 2
    fall: Annotated[int, "failures in a row that make an instance fail", between(1, 1000)] = 3


def failed(reason: str) -> Outcome:
    """A failure; the reason may hold anything that came from outside."""
    return Outcome(passed=False, reason=printable(reason, REASON_LIMIT))


def passed(reason: str) -> Outcome:
    """A pass; the reason may hold anything that came from outside."""
    return Outcome(passed=True, reason=printable(reason, REASON_LIMIT))


def seconds_text(seconds: float) -> str:
    """`1s`, `0.25s`: a time-out as a reason shows it."""
    return f"{seconds:g}s"


def network_reason(error: OSError) -> str:
    """What a socket's error means, in the operating system's own words and without its number."""
    return (error.strerror or str(error) or type(error).__name__).lower()
