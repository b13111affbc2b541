"""Sampling: which part of a service's requests HAProxy tells of, so that a busy one costs no more than a less busy one.
Pure.

Each line says for how many requests it stands, so that the counts are right whatever the share is. What failed is told
of whatever the share is: nobody has to guess at how often.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from synapse.telemetry.request import Request

STEPS: Final = tuple(2.0**-power for power in range(7))
"""The shares that there are, from all of them to 1/64."""

MARGIN: Final = 0.75
"""More is told only while that is this part of the limit at most, so that a rate near the limit changes nothing."""

INTERVAL_SECONDS: Final = 1.0
"""How often it is decided."""

CALM_INTERVALS: Final = 5
"""More is told only if the busiest of so many intervals allows it."""


def next_share(before: float, rate: float, peak: float, limit: float) -> float:
    """The share that a service is to have which has `before`, and `rate` requests a second; `peak` is the highest such
    rate of late, at least `rate`. Of what comes, `limit` a second is told at most, if the least share allows it."""
    most, least = _step(limit, rate), _step(MARGIN * limit, peak)
    return min(most, max(least, before))


def _step(room: float, rate: float) -> float:
    """The largest share that leaves so many a second of such a rate."""
    return next((step for step in STEPS if rate * step <= room), STEPS[-1])


class Sampler:
    """A sink of the feed. `shares` are those of the services of which not all is told, by the frontend that their
    clients use; it is replaced as a whole, and `ring` is called then. `known` are those with which HAProxy runs
    already. Mode tcp is told of whole.
    """

    def __init__(self, limit: float, ring: Callable[[], None], known: Mapping[str, float]) -> None:
        self.shares: Mapping[str, float] = MappingProxyType(dict(known))
        self._limit = limit
        self._ring = ring
        self._counts: dict[str, float] = {}
        # What was decided before this start was decided for a rate that is not over yet.
        self._rates = {name: deque([limit / share], CALM_INTERVALS) for name, share in known.items()}
        self._since: float | None = None

    def take(self, requests: Sequence[Request], now: float) -> None:
        """These requests have ended."""
        counts = self._counts
        for request in requests:
            if request.mode == "http":
                name = request.frontend
                counts[name] = counts.get(name, 0.0) + (1.0 if request.share == 1.0 else 1.0 / request.share)

    def tick(self, now: float) -> None:
        """Some time has passed."""
        if self._since is None:
            self._since = now
        seconds = now - self._since
        if seconds < INTERVAL_SECONDS:
            return
        counts, self._counts, self._since = self._counts, {}, now
        shares: dict[str, float] = {}
        for name in self._rates.keys() | counts.keys():
            share = self._decide(name, counts.get(name, 0.0) / seconds)
            if share < 1.0:
                shares[name] = share
        if shares != self.shares:
            self.shares = MappingProxyType(shares)
            self._ring()

    def _decide(self, name: str, rate: float) -> float:
        rates = self._rates.setdefault(name, deque(maxlen=CALM_INTERVALS))
        rates.append(rate)
        peak = max(rates)
        if peak == 0.0:
            del self._rates[name]
        return next_share(self.shares.get(name, 1.0), rate, peak, self._limit)
