"""How slow an instance is: what its answers typically take, which rises at once and comes down slowly, and what all of
them take in the mean. Pure.

The typical answer is Linkerd's peak-EWMA with two changes. It moves on a scale of ratios, so that coming down from 50
times too slow takes seconds and not the half minute of an absolute scale, and so that a rare answer that takes long by
its nature (a report among pages) does not make its instance look ill; and a rise counts by how many answers say so: one
goes half of the way. Answers that take long too often show in the mean, which needs more of them to say something.
"""

import math
from typing import Final

MEASURED_SECONDS: Final = 3.0
"""Time constant of coming down while the instance answers."""

IDLE_SECONDS: Final = 10.0
"""Time constant of forgetting: the longer an instance had no requests, the more it deserves another try."""

LEAST_MS: Final = 0.5
"""HAProxy counts whole milliseconds: what it calls 0 is half of one."""

FAILURE_MS: Final = 1000.0
"""What a failed request costs. Fast failures must count as slow, or who fails at once would get all the traffic."""

MEAN_DOUBT: Final = 100.0
FAILURE_DOUBT: Final = 10.0
"""Of so many requests an instance is taken to be like all of the service: few of its own do not tell it apart."""


def log_ms(milliseconds: float) -> float:
    """A time on the scale of ratios."""
    return math.log(max(milliseconds, LEAST_MS))


def fold(before: float | None, mean_log: float, count: int, seconds: float) -> float:
    """The typical time after so many answers with this mean on the scale of ratios, in the last `seconds`. None: the
    first ones."""
    now = math.exp(mean_log)
    if before is None:
        return now
    part = count / (count + 1) if now > before else 1.0 - math.exp(-seconds / MEASURED_SECONDS)
    return float(before * (now / before) ** part)


def fade(before: float, toward: float, seconds: float) -> float:
    """The typical time of an instance that had no answers, on its way down to what others have."""
    if before <= toward:
        return before
    return float(before * (toward / before) ** (1.0 - math.exp(-seconds / IDLE_SECONDS)))


def faded(amount: float, seconds: float, window_seconds: float) -> float:
    """An amount of the last `window_seconds`, roughly: what came counts the less the longer ago it was."""
    return amount * math.exp(-seconds / window_seconds)


def blended(amount: float, count: float, general: float, doubt: float) -> float:
    """The mean of an amount over `count` requests, with `doubt` more that are like those of all of the service."""
    return (amount + doubt * general) / (count + doubt)


def cost(typical_ms: float, mean_ms: float, failing: float) -> float:
    """What a request to this instance costs in milliseconds: the time of an answer, and the risk that there is none."""
    return max(typical_ms, mean_ms) + FAILURE_MS * failing
