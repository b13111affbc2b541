"""Latencies in buckets: each is counted where it belongs, and quantiles are those that Prometheus would give."""

import pytest

from synapse.telemetry.histogram import BOUNDS, BUCKETS, bucket_of, merge, quantile


@pytest.mark.parametrize(
    ("milliseconds", "bucket"),
    [
        pytest.param(-1, 0, id="before it began"),
        pytest.param(0, 0, id="none"),
        pytest.param(1, 0, id="the first bound"),
        pytest.param(2, 1, id="the second bound"),
        pytest.param(6, 5, id="between two bounds"),
        pytest.param(10, 5, id="a bound belongs to its bucket"),
        pytest.param(11, 6, id="beyond it"),
        pytest.param(50_000, 24, id="the last bound"),
        pytest.param(50_001, 25, id="beyond all"),
        pytest.param(10**15, 25, id="for ever"),
    ],
)
def test_a_latency_is_in_the_first_bucket_whose_bound_it_does_not_exceed(milliseconds: int, bucket: int) -> None:
    """As `le` means in Prometheus."""
    assert bucket_of(milliseconds) == bucket


def test_the_bounds_are_linkerds() -> None:
    """25 of them, rising, and one bucket more."""
    assert len(BOUNDS) == 25
    assert BUCKETS == 26
    assert list(BOUNDS) == sorted({factor * 10**power for power in range(5) for factor in (1, 2, 3, 4, 5)})


def counts(**buckets: float) -> list[float]:
    """`b0=5` is five in the first bucket."""
    whole = [0.0] * BUCKETS
    for name, number in buckets.items():
        whole[int(name[1:])] = number
    return whole


@pytest.mark.parametrize(
    ("histogram", "q", "expected"),
    [
        pytest.param(counts(), 0.5, None, id="nothing counted"),
        pytest.param(counts(b0=10), 0.5, 0.5, id="the first bucket begins at 0"),
        pytest.param(counts(b5=10), 0.5, 7.5, id="in the middle of 5 to 10"),
        pytest.param(counts(b5=10), 1.0, 10.0, id="all"),
        pytest.param(counts(b0=50, b10=50), 0.5, 1.0, id="at a border"),
        pytest.param(counts(b0=50, b10=50), 0.99, 99.0, id="in the last that has any: 50 to 100"),
        pytest.param(counts(b0=1, b25=99), 0.99, 50_000.0, id="beyond all: where that begins"),
        pytest.param(counts(b3=4), 0.0, 3.0, id="none of them: where the first begins"),
        pytest.param(counts(b2=0.5, b3=0.5), 0.75, 3.5, id="parts of requests, of a sample"),
    ],
)
def test_a_quantile_is_linear_within_its_bucket(histogram: list[float], q: float, expected: float | None) -> None:
    """As `histogram_quantile` computes it."""
    assert quantile(histogram, q) == expected


def test_histograms_add_up() -> None:
    """Bucket by bucket; of none it is an empty one."""
    assert merge([counts(b1=1), counts(b1=2, b25=1)]) == counts(b1=3, b25=1)
    assert merge([]) == counts()
