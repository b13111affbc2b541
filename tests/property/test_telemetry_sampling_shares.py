"""Properties of sampling: never much more than the limit, and no to and fro."""

from hypothesis import given
from hypothesis import strategies as st

from synapse.telemetry.sampling import MARGIN, STEPS, next_share

rates = st.floats(0, 1e6)
limits = st.floats(10, 1e5)
shares = st.sampled_from(STEPS)


@given(shares, rates, limits)
def test_no_more_than_the_limit_is_told(before: float, rate: float, limit: float) -> None:
    """Unless even the least share is more; and no less than three eighths of it where not all is told."""
    share = next_share(before, rate, rate, limit)
    assert rate * share <= limit or share == STEPS[-1]
    assert share in STEPS
    fresh = next_share(1.0, rate, rate, limit)
    assert fresh == 1.0 or 2 * rate * fresh > limit


@given(shares, rates, limits)
def test_a_steady_rate_decides_once(before: float, rate: float, limit: float) -> None:
    """What was decided for a rate is decided for it again."""
    share = next_share(before, rate, rate, limit)
    assert next_share(share, rate, rate, limit) == share


@given(shares, st.floats(1, 1e6), limits, st.lists(st.floats(MARGIN, 1), max_size=30))
def test_a_rate_that_wavers_makes_no_to_and_fro(
    before: float, highest: float, limit: float, parts: list[float]
) -> None:
    """Within a quarter below its highest, whatever the limit: the share goes one way only."""
    found = [before]
    for part in parts:
        found.append(next_share(found[-1], highest * part, highest * part, limit))
    assert found in (sorted(found), sorted(found, reverse=True))


@given(shares, rates, rates, limits)
def test_who_calls_more_is_never_told_of_more(before: float, rate: float, more: float, limit: float) -> None:
    """Of two rates with the same past."""
    low, high = sorted((rate, more))
    assert next_share(before, high, high, limit) <= next_share(before, low, low, limit)
