"""Latencies, counted in buckets: Linkerd's bounds, and quantiles as Prometheus computes them. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import add
from typing import Final

BOUNDS: Final = (
    *(1, 2, 3, 4, 5),
    *(10, 20, 30, 40, 50),
    *(100, 200, 300, 400, 500),
    *(1000, 2000, 3000, 4000, 5000),
    *(10_000, 20_000, 30_000, 40_000, 50_000),
)
"""The upper bounds of the buckets in milliseconds, each belonging to its bucket; one more bucket takes what is longer.
From linkerd2-proxy's `metrics` crate, so that its dashboards and alerts fit."""

BUCKETS: Final = len(BOUNDS) + 1


def bucket_of(milliseconds: float) -> int:
    """The number of the bucket that counts this latency; what is below 0 counts as 0."""
    return bisect_left(BOUNDS, milliseconds)


def quantile(counts: Sequence[float], q: float) -> float | None:
    """The latency in milliseconds below which the part `q` (0 to 1) of the requests stayed, None where there are none.

    As Prometheus' `histogram_quantile`: linear within the bucket that holds it, the first of which begins at 0; for the
    last, which has no end, it is where that begins.
    """
    cumulative = list(accumulate(counts))
    if not cumulative or cumulative[-1] <= 0:
        return None
    rank = q * cumulative[-1]
    bucket = next(number for number, until in enumerate(cumulative) if until >= rank and until > 0)
    if bucket >= len(BOUNDS):
        return float(BOUNDS[-1])
    low = BOUNDS[bucket - 1] if bucket else 0
    before = cumulative[bucket - 1] if bucket else 0.0
    return low + (BOUNDS[bucket] - low) * (rank - before) / counts[bucket]


def merge(histograms: Iterable[Sequence[float]]) -> list[float]:
    """The counts of all of them together."""
    whole = [0.0] * BUCKETS
    for counts in histograms:
        whole = list(map(add, whole, counts))
    return whole
