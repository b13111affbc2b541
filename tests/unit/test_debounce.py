"""The quiet period, on a clock that the test turns."""

import pytest

from smartstack.debounce import Debounce


class Clock:
    """A clock that stands until it is turned."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("touches", "asked_at", "due_in"),
    [
        pytest.param([], 0.0, None, id="nothing happened"),
        pytest.param([0.0], 0.0, 0.1, id="one event is due after the quiet period"),
        pytest.param([0.0], 0.06, 0.04, id="and nearer as time goes by"),
        pytest.param([0.0], 5.0, 0.0, id="it stays due"),
        pytest.param([0.0, 0.08], 0.1, 0.08, id="another event begins the quiet period anew"),
        pytest.param([n * 0.05 for n in range(20)], 0.95, 0.05, id="but not beyond the limit"),
        pytest.param([n * 0.05 for n in range(40)], 1.95, 0.0, id="a burst without an end is answered at the limit"),
    ],
)
def test_a_burst_is_answered_when_it_is_over(touches: list[float], asked_at: float, due_in: float | None) -> None:
    """0.1 s after the last event, 1 s after the first one at the latest."""
    clock = Clock()
    debounce = Debounce(clock=clock)
    for touch in touches:
        clock.now = 100.0 + touch
        debounce.touch()
    clock.now = 100.0 + asked_at
    assert debounce.due_in() == (None if due_in is None else pytest.approx(due_in))


def test_what_happens_during_the_answer_is_a_new_burst() -> None:
    """`take` comes before the answer, so nothing that happens during it is lost."""
    clock = Clock()
    debounce = Debounce(clock=clock)
    debounce.touch()
    clock.now += 1.0
    debounce.take()
    assert debounce.due_in() is None
    debounce.touch()
    assert debounce.due_in() == pytest.approx(0.1)
