"""Quantiles out of buckets, for any latencies."""

import math

from hypothesis import given
from hypothesis import strategies as st

from synapse.telemetry.histogram import BOUNDS, BUCKETS, bucket_of, merge, quantile

latencies = st.lists(st.integers(0, 60_000) | st.integers(0, 20), min_size=1, max_size=200)
parts = st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0])


def counted(samples: list[int]) -> list[float]:
    histogram = [0.0] * BUCKETS
    for sample in samples:
        histogram[bucket_of(sample)] += 1
    return histogram


@given(latencies, parts)
def test_a_quantile_is_in_the_bucket_of_the_true_one(samples: list[int], q: float) -> None:
    """The sample of which that part is not above lies in the same bucket, so that no more than one bucket's width is
    lost."""
    found = quantile(counted(samples), q)
    assert found is not None
    true = sorted(samples)[max(0, math.ceil(q * len(samples) - 1e-9) - 1)]
    bucket = bucket_of(true)
    low = BOUNDS[bucket - 1] if bucket else 0
    high = BOUNDS[bucket] if bucket < len(BOUNDS) else BOUNDS[-1]
    assert low <= found <= high


@given(latencies, latencies, parts, parts)
def test_quantiles_rise_and_merging_is_counting_together(
    some: list[int], others: list[int], one: float, other: float
) -> None:
    """More of them is never faster; two histograms added are the one of all samples."""
    both = merge([counted(some), counted(others)])
    assert both == counted(some + others)
    low, high = quantile(both, min(one, other)), quantile(both, max(one, other))
    assert low is not None and high is not None
    assert low <= high
