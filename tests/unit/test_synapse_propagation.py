"""How long a change takes: from the source's ring to a HAProxy that shows it."""

import pytest

from synapse.plan import Disable, Plan
from synapse.propagation import Propagation

MEMBERS = Plan(actions=(Disable(backend="web", slot="s1", host="10.0.0.1", port=80),))
RELOAD = Plan(reload_reasons=("added web",))
NOTHING = Plan()


class Stopwatch:
    """A clock that a test turns, and what was measured."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rung = 0
        self.seen: list[float] = []
        self.propagation = Propagation(self.bell, self.seen.append, lambda: self.now)

    def bell(self) -> None:
        self.rung += 1

    def ring(self, at: float) -> None:
        self.now = at
        self.propagation.ring()

    def turn(self, at: float, until: float, plan: Plan, *, running: bool = True, error: str | None = None) -> None:
        """A turn that reads at one time and is done at another."""
        self.now = at
        self.propagation.reading()
        self.now = until
        self.propagation.turned(plan, running=running, error=error)


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


def test_from_the_first_ring_to_the_end_of_the_turn(watch: Stopwatch) -> None:
    """Rings that one turn answers are one change, as old as the first; every ring is passed on."""
    watch.ring(100.0)
    watch.ring(100.5)
    watch.turn(101.0, 101.25, MEMBERS)
    assert (watch.seen, watch.rung) == ([1.25], 2)
    watch.turn(102.0, 102.0, MEMBERS)
    assert watch.seen == [1.25], "what nobody rang for is not the sources' doing"


def test_a_ring_while_a_turn_acts_is_for_the_next(watch: Stopwatch) -> None:
    """It is not lost, and not taken for older than it is."""
    watch.ring(100.0)
    watch.now = 101.0
    watch.propagation.reading()
    watch.ring(101.5)
    watch.propagation.turned(MEMBERS, running=True, error=None)
    watch.turn(102.0, 102.0, MEMBERS)
    assert watch.seen == [1.5, 0.5]


def test_news_that_change_nothing_are_not_measured(watch: Stopwatch) -> None:
    """Nor do they make the next change older."""
    watch.ring(100.0)
    watch.turn(100.0, 100.0, NOTHING)
    watch.ring(150.0)
    watch.turn(150.0, 151.0, MEMBERS)
    assert watch.seen == [1.0]


def test_a_reload_counts_until_it_is_done(watch: Stopwatch) -> None:
    """The clock runs while a reload is due, and stops in the turn that finds nothing left to do."""
    watch.ring(100.0)
    watch.turn(100.0, 100.0, RELOAD)
    watch.turn(103.0, 104.0, RELOAD)
    assert watch.seen == []
    watch.turn(104.0, 104.5, NOTHING)
    assert watch.seen == [4.5]


def test_a_turn_that_fails_is_not_the_end(watch: Stopwatch) -> None:
    """A change that HAProxy did not take is measured when it has; an error that was there before is not its own."""
    watch.ring(100.0)
    watch.turn(100.0, 100.0, MEMBERS, error="HAProxy answered no")
    assert watch.seen == []
    watch.turn(102.0, 102.0, MEMBERS, error="HAProxy answered no")
    assert watch.seen == [2.0]


def test_a_start_of_haproxy_is_not_measured(watch: Stopwatch) -> None:
    """What a first start waits for is not the change."""
    watch.ring(100.0)
    watch.turn(103.0, 103.5, RELOAD, running=False)
    watch.turn(103.5, 103.5, NOTHING)
    assert watch.seen == []
