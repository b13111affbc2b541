"""What balancing makes of recorded traces of real servers, replayed in virtual time. The traces are what came of an
even spread: nothing here acts on them, so that each shows what is decided, and when, from what was heard alone."""

import pytest

from synapse.balancing.breaker import State
from synapse.balancing.governor import TICK_SECONDS, Governor
from synapse.balancing.pool import Standing
from synapse.balancing.weights import CAP
from tests.support.traces import INSTANCES, SECONDS, TRACES, WELL_SECONDS, address, read
from tests.support.virtual import offer_of

ILL, WELL = address(1), tuple(address(number) for number in range(2, INSTANCES + 1))


def replay(name: str) -> list[tuple[float, dict[str, Standing]]]:
    """How the instances stood at each tick."""
    governor = Governor(lambda: None, lambda: 0.0)
    governor.know("web", offer_of((ILL, *WELL)), 0.0)
    found, due = [], TICK_SECONDS
    for at, request in read(name):
        while at >= due:
            governor.tick(due)
            found.append((due, dict(governor.standings(due).get("web", {}))))
            due += TICK_SECONDS
        governor.take([request], at)
    return found


@pytest.mark.parametrize("name", TRACES)
def test_a_recorded_ill_instance_is_found_and_nobody_else(name: str) -> None:
    """All keep their whole weight while all are well, which is longer than it takes to know them; then the ill one
    loses nearly all of its weight, and only it."""
    found = replay(name)
    assert found[-1][0] > SECONDS - 2 * TICK_SECONDS
    assert not any(standings for at, standings in found if at <= WELL_SECONDS)
    assert all(standings.keys() <= {ILL} for _, standings in found)
    assert found[-1][1][ILL].share <= 4 / CAP


@pytest.mark.parametrize(("name", "within"), [("slow", 1.0), ("failing", 1.0), ("degrading", 2.0)])
def test_it_is_found_soon(name: str, within: float) -> None:
    """12 requests a second at each: one that is slow or fails has lost half within a second; 25 ms more each second, a
    little later."""
    least = min(at for at, standings in replay(name) if ILL in standings and standings[ILL].share <= 0.5)
    assert WELL_SECONDS < least <= WELL_SECONDS + within


def test_one_that_fails_at_once_is_out_and_not_merely_slow() -> None:
    """It answers sooner than the others: without the breaker and the cost of failures it would look like the best."""
    out = [at for at, standings in replay("failing") if ILL in standings and standings[ILL].state is State.OPEN]
    assert out
    assert min(out) <= WELL_SECONDS + 1.0
