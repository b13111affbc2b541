"""Warm-up: the weights of an instance that has just joined."""

import pytest

from nerve.warmup import next_step, resume, weight_at


def ramp(full: int, warmup_seconds: float) -> list[tuple[float, int]]:
    """The whole warm-up as a loop sees it that wakes for each step: when, and what weight."""
    at, steps = 0.0, [(0.0, weight_at(full, warmup_seconds, 0.0))]
    while (wait := next_step(full, warmup_seconds, at)) is not None:
        at += wait
        steps.append((round(at, 6), weight_at(full, warmup_seconds, at)))
    return steps


@pytest.mark.parametrize(
    ("full", "warmup_seconds", "steps"),
    [
        pytest.param(
            100,
            90.0,
            [(0, 10), (10, 20), (20, 30), (30, 40), (40, 50), (50, 60), (60, 70), (70, 80), (80, 90), (90, 100)],
            id="a hundred in tenths",
        ),
        pytest.param(
            256,
            9.0,
            [(0, 26), (1, 51), (2, 77), (3, 102), (4, 128), (5, 154), (6, 179), (7, 205), (8, 230), (9, 256)],
            id="the largest weight",
        ),
        pytest.param(3, 9.0, [(0, 1), (4, 2), (8, 3)], id="a small weight has fewer steps"),
        pytest.param(1, 9.0, [(0, 1)], id="a weight of 1 has none"),
        pytest.param(0, 9.0, [(0, 0)], id="a weight of 0 stays 0"),
    ],
)
def test_a_warm_up(full: int, warmup_seconds: float, steps: list[tuple[float, int]]) -> None:
    """From a tenth to the full weight in ten steps at equal distances, the last at the end."""
    assert ramp(full, warmup_seconds) == steps


@pytest.mark.parametrize(
    ("joined_for", "weight", "wait"),
    [
        pytest.param(0.0, 10, 10.0, id="just now"),
        pytest.param(9.9, 10, pytest.approx(0.1), id="just before a step"),
        pytest.param(9.9995, 20, pytest.approx(10.0005), id="half a millisecond before it: taken"),
        pytest.param(25.0, 30, 5.0, id="between two"),
        pytest.param(90.0, 100, None, id="at the end"),
        pytest.param(1e9, 100, None, id="long after it"),
        pytest.param(-5.0, 10, 15.0, id="a clock that was put back"),
    ],
)
def test_a_moment_of_it(joined_for: float, weight: int, wait: float | None) -> None:
    """A hundred in 90 s, so long after it joined."""
    assert weight_at(100, 90.0, joined_for) == weight
    assert next_step(100, 90.0, joined_for) == wait


@pytest.mark.parametrize(
    ("full", "held", "joined_for"),
    [
        pytest.param(100, 100, 90.0, id="the full weight: warm"),
        pytest.param(100, 120, 90.0, id="more than that: warm"),
        pytest.param(100, 0, 90.0, id="draining: warm"),
        pytest.param(100, None, 90.0, id="not known: warm"),
        pytest.param(0, 0, 90.0, id="a weight of 0: warm"),
        pytest.param(100, 10, 0.0, id="at the beginning"),
        pytest.param(100, 30, 20.0, id="in the middle"),
        pytest.param(100, 35, 30.0, id="a weight of another ramp: the next one up"),
        pytest.param(100, 5, 0.0, id="less than any of the ramp: from the beginning"),
        pytest.param(3, 2, 40.0, id="a small weight: where it was reached"),
    ],
)
def test_a_warm_up_goes_on_after_a_restart(full: int, held: int | None, joined_for: float) -> None:
    """The weight in the registry says how long ago the instance joined, in a warm-up of 90 s."""
    assert resume(full, 90.0, held) == joined_for
