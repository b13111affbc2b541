"""When a drained instance is safe to stop: consumers had their time, and its connections have ended. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from nerve.settings import Drain


class Verdict(Enum):
    """Whether to go on waiting."""

    WAIT = "wait"
    SAFE = "safe"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draining:
    """One moment of a wait. `told_for_seconds` is how long every registry has said that these are drained, None while
    one does not say so yet; `connections` are the established ones by service, None where they cannot be counted: what
    is not known is not 0."""

    waited_seconds: float
    told_for_seconds: float | None
    connections: Mapping[str, int] | None


def judge(draining: Draining, drain: Drain) -> Verdict:
    """SAFE once consumers had `settle` to hear of it and no connection is left; OVERDUE after `timeout`."""
    told = draining.told_for_seconds is not None and draining.told_for_seconds >= drain.settle
    if told and draining.connections is not None and not any(draining.connections.values()):
        return Verdict.SAFE
    return Verdict.OVERDUE if draining.waited_seconds >= drain.timeout else Verdict.WAIT


def leftover(draining: Draining) -> str:
    """What is not over yet, in a few words."""
    if draining.told_for_seconds is None:
        return "the registry does not say yet that it is drained"
    if draining.connections is None:
        return "the connections cannot be counted"
    left = [f"{name} has {count}" for name, count in sorted(draining.connections.items()) if count]
    return f"connections: {', '.join(left)}" if left else "consumers are given time to hear of it"
