"""From what requests cost at the instances to the share of its weight that each gets. Pure."""

from collections.abc import Collection
from typing import Final

CAP: Final = 64
"""The steps of a share. The smallest is 1/CAP: one slow instance of five then gets 0.4 % of the requests, too few to
show in the 99th percentile, and enough to show that it recovered."""

EXPONENT: Final = 2.0
"""Twice as slow is a quarter of the share: at low rates HAProxy's pick knows nothing else."""

SLACK: Final = 1.25
SLACK_MS: Final = 2.0
"""What is not told apart from the fast ones: a quarter more, and what whole milliseconds and chance make of it."""

HYSTERESIS: Final = 0.2
"""Changes of a share by less than this part of it are not worth a command."""


def reference(costs: Collection[float]) -> float:
    """What the fast ones cost: a third of the instances, less one, is below it. Of two or three it is the fastest; of
    many, one that was merely lucky does not make all the others look slow, and never gets all the traffic."""
    return sorted(costs)[(len(costs) - 1) // 3]


def share(cost: float, fast: float) -> float:
    """The share of its weight for an instance where a request costs so much, and `fast` at the fast ones."""
    allowed = fast * SLACK + SLACK_MS
    return in_steps((allowed / cost) ** EXPONENT) if cost > allowed else 1.0


def in_steps(wanted: float) -> float:
    """This share in whole steps, and at least one of them."""
    return min(CAP, max(1, round(wanted * CAP))) / CAP


def settle(before: float, wanted: float) -> float:
    """What is worth telling HAProxy: the ends always, in between only what makes a difference."""
    if wanted in (0.0, 1.0) or before == 0.0 or wanted <= 1 / CAP:
        return wanted
    return before if abs(wanted - before) <= HYSTERESIS * before else wanted
