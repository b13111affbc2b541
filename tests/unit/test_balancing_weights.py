"""What requests cost at an instance, and the share of its weight that it gets for that."""

import math
from collections.abc import Sequence

import pytest

from synapse.balancing.ewma import blended, cost, fade, fold, log_ms
from synapse.balancing.weights import CAP, in_steps, reference, settle, share

FOLDS = {
    "the first answers are taken as they are": (None, 40.0, 3, 0.25, 40.0),
    "one slow answer goes half of the way, in ratios": (2.0, 200.0, 1, 0.25, 20.0),
    "many slow answers go nearly all of it": (2.0, 200.0, 99, 0.25, 191.0),
    "coming down takes its time": (200.0, 2.0, 99, 3.0, 10.9),
    "what HAProxy calls 0 ms is half of one": (None, 0.0, 1, 0.25, 0.5),
}


@pytest.mark.parametrize(("before", "now", "count", "seconds", "after"), FOLDS.values(), ids=FOLDS)
def test_the_typical_answer_rises_at_once_and_comes_down_slowly(
    before: float | None, now: float, count: int, seconds: float, after: float
) -> None:
    """A rise counts by how many say so; a fall, by a time constant of 3 s."""
    assert fold(before, log_ms(now), count, seconds) == pytest.approx(after, rel=0.01)


def test_who_has_no_requests_comes_nearer_to_the_others() -> None:
    """What was slow once gets another try, however long ago; what is faster than the others is left as it is."""
    assert fade(200.0, 2.0, 10.0) == pytest.approx(2.0 * 100 ** (1 / math.e))
    assert fade(200.0, 2.0, 1000.0) == pytest.approx(2.0)
    assert fade(1.0, 2.0, 10.0) == 1.0


def test_few_requests_do_not_tell_an_instance_apart() -> None:
    """One answer of 2 s moves the mean of an instance little, a hundred of them much."""
    assert blended(2000.0, 1.0, 2.0, 100.0) < 25.0
    assert blended(200_000.0, 100.0, 2.0, 100.0) > 1000.0


def test_what_fails_at_once_costs_more_than_what_is_slow() -> None:
    """Otherwise who answers 500 in no time would get all the traffic."""
    assert cost(0.5, 0.5, 0.5) > cost(400.0, 400.0, 0.0)
    assert cost(2.0, 80.0, 0.0) == 80.0


REFERENCES: dict[str, tuple[Sequence[float], float]] = {
    "of two the faster": ([50.0, 2.0], 2.0),
    "of three the fastest": ([50.0, 40.0, 2.0], 2.0),
    "of five not one that is merely lucky": ([20.0, 1.0, 20.0, 21.0, 22.0], 20.0),
    "of five with three slow ones a fast one": ([50.0, 2.0, 2.1, 50.0, 50.0], 2.1),
    "of one itself": ([7.0], 7.0),
}


@pytest.mark.parametrize(("costs", "fast"), REFERENCES.values(), ids=REFERENCES)
def test_what_the_fast_ones_cost(costs: Sequence[float], fast: float) -> None:
    """A third of them, less one, may be below it."""
    assert reference(costs) == fast


SHARES = {
    "as fast": (2.0, 2.0, 1.0),
    "within what chance makes of it": (4.5, 2.0, 1.0),
    "twice as slow as that: a quarter": (9.0, 2.0, 0.25),
    "much slower: the least": (500.0, 2.0, 1 / CAP),
    "a quarter slower, with long answers": (125.0, 100.0, 1.0),
    "twice as slow, with long answers": (200.0, 100.0, round((127 / 200) ** 2 * CAP) / CAP),
}


@pytest.mark.parametrize(("cost_ms", "fast", "part"), SHARES.values(), ids=SHARES)
def test_shares(cost_ms: float, fast: float, part: float) -> None:
    """The square of how much faster the fast ones are, in steps, and never nothing."""
    assert share(cost_ms, fast) == part


SETTLED = {
    "a little less is not worth a command": (0.5, 0.45, 0.5),
    "a good deal less is": (0.5, 0.25, 0.25),
    "all of it always": (0.9, 1.0, 1.0),
    "nothing always": (1 / CAP, 0.0, 0.0),
    "something after nothing always": (0.0, 1 / CAP, 1 / CAP),
    "the least always": (1.1 / CAP, 1 / CAP, 1 / CAP),
}


@pytest.mark.parametrize(("before", "wanted", "after"), SETTLED.values(), ids=SETTLED)
def test_small_changes_are_not_told(before: float, wanted: float, after: float) -> None:
    """HAProxy is told of what makes a difference, so that chance does not keep it busy."""
    assert settle(before, wanted) == after


def test_steps() -> None:
    """A share is a whole number of steps, at least one and at most all."""
    assert [in_steps(part) for part in (0.0, 0.5, 0.51, 7.0)] == [1 / CAP, 0.5, 33 / CAP, 1.0]
