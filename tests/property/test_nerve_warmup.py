"""Warm-up, for any weight, any length and any time."""

from hypothesis import given
from hypothesis import strategies as st

from nerve.warmup import STEPS, next_step, resume, weight_at

FULL = st.integers(0, 256)
LENGTH = st.floats(min_value=1.0, max_value=1_728_000.0)
SHARE = st.floats(min_value=0.0, max_value=1.5)


@given(FULL, LENGTH, SHARE, SHARE)
def test_a_weight_never_falls(full: int, length: float, one: float, other: float) -> None:
    """Later is never less; never draining, never more than full; all of it at the end."""
    earlier, later = sorted((one * length, other * length))
    assert min(full, 1) <= weight_at(full, length, earlier) <= weight_at(full, length, later) <= full
    assert weight_at(full, length, length) == full


@given(FULL, LENGTH, SHARE)
def test_it_is_in_step_with_time(full: int, length: float, share: float) -> None:
    """At any time the weight is within a tenth, and what rounding takes, of the straight line."""
    line = full * min(1.0, 0.1 + 0.9 * share)
    assert abs(weight_at(full, length, share * length) - line) <= full / 10 + 1.5


@given(FULL, LENGTH, SHARE, st.floats(min_value=0.0, max_value=1e7))
def test_steps_are_few_and_each_is_one(full: int, length: float, share: float, started: float) -> None:
    """From any time on, a loop that wakes when it is told, by a clock that counts from anywhere, makes at most nine
    further writes, each of another weight, and ends with the full one."""
    now, writes = started + share * length, 0
    weight = weight_at(full, length, now - started)
    while (wait := next_step(full, length, now - started)) is not None:
        assert now + wait > now
        now += wait
        after = weight_at(full, length, now - started)
        assert after > weight
        weight, writes = after, writes + 1
    assert weight == full
    assert writes <= STEPS - 1


@given(FULL, LENGTH, SHARE)
def test_nothing_changes_before_the_next_step(full: int, length: float, share: float) -> None:
    """Until then, but for the millisecond that a step may come early, the weight is the same."""
    wait = next_step(full, length, share * length)
    until = length if wait is None else max(0.0, wait - 0.0011)
    assert weight_at(full, length, share * length + until * 0.999) == weight_at(full, length, share * length)


@given(FULL, LENGTH, SHARE)
def test_a_restart_is_no_step_back(full: int, length: float, share: float) -> None:
    """Whatever weight the node had, the warm-up goes on with exactly that, and not later than it would have ended by
    more than the step that it was in."""
    held = weight_at(full, length, share * length)
    resumed = resume(full, length, held)
    assert weight_at(full, length, resumed) == held
    assert 0 <= resumed <= length
    assert resumed <= share * length + 0.002 or held == full


@given(FULL, LENGTH, st.none() | st.integers(-5, 300))
def test_any_weight_can_be_resumed(full: int, length: float, held: int | None) -> None:
    """A weight of whatever origin: never less than it, unless that is more than full, or says nothing."""
    weight = weight_at(full, length, resume(full, length, held))
    assert weight >= min(full, held or 0)
    assert weight == full or (held is not None and 0 < held < full)
