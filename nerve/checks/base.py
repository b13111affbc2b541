"""What a check is: a frozen model that a service definition may hold, and that can be run against an instance."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

from smartstack.forms import DURATION, TcpAddress, between, duration
from smartstack.instance import printable

REASON_LIMIT = 200
"""Longest reason of an outcome, in characters: it stands in one log line and in one cell of a table."""

_EXCERPT_LIMIT = 80
_EXCERPT_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run of a check says: whether the instance is well, and why in a few words.

    `conclusive`: this one result is enough, whatever `rise` and `fall` say (another service answered at the port).
    """

    passed: bool
    reason: str
    conclusive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What a service last reported of itself, and when, by a monotonic clock."""

    passed: bool
    note: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom a check asks: the service's name and where its instance listens.

    `heartbeat` is what the service last reported of itself, None when it has not; `watched_since` is when nerve began
    to watch it, and `now` when this run begins, both by the monotonic clock of `Heartbeat.at`.
    """

    service: str
    address: TcpAddress
    heartbeat: Heartbeat | None = None
    watched_since: float = 0.0
    now: float = 0.0


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

    @property
    def down_interval(self) -> float | None:
        """The interval while the service is down; None when it is the same."""

    def run(self, target: Target) -> Outcome | None:
        """Check the instance once, within about `timeout` seconds, in any thread; None when there is no verdict yet.

        Never raises for what an ill instance does.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The keys that every kind of check has."""

    interval: Annotated[float, "from the start of one check to that of the next", duration("10ms")] = 2.0
    down_interval: Annotated[float | None, "the interval while the service is down", duration("10ms")] = None
    timeout: Annotated[float, "a check that takes longer has failed", DURATION] = 1.0
    rise: Annotated[int, "passes in a row that bring a failed instance back", between(1, 1000)] = 2
    fall: Annotated[int, "failures in a row that make an instance fail", between(1, 1000)] = 3


def failed(reason: str, *, conclusive: bool = False) -> Outcome:
    """A failure; the reason may hold anything that came from outside."""
    return Outcome(passed=False, reason=printable(reason, REASON_LIMIT), conclusive=conclusive)


def passed(reason: str, *, conclusive: bool = False) -> Outcome:
    """A pass; the reason may hold anything that came from outside."""
    return Outcome(passed=True, reason=printable(reason, REASON_LIMIT), conclusive=conclusive)


def excerpt(answer: bytes | bytearray) -> str:
    """The first line of an answer, which is an error's explanation more often than not; empty when there is none."""
    lines = answer[:_EXCERPT_BYTES].strip().splitlines()
    line = lines[0].decode("utf-8", "replace") if lines else ""
    return line if len(line) <= _EXCERPT_LIMIT else line[: _EXCERPT_LIMIT - 1] + "~"


def seconds_text(seconds: float) -> str:
    """`1s`, `0.25s`: a time-out as a reason shows it."""
    return f"{seconds:g}s"


def network_reason(error: OSError) -> str:
    """What a socket's error means, in the operating system's own words and without its number."""
    return (error.strerror or str(error) or type(error).__name__).lower()
