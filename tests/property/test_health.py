"""Health, for any row of results."""

from hypothesis import given
from hypothesis import strategies as st

from nerve.health import CheckHealth, Result, State, observe_check

RESULTS = st.lists(st.booleans(), max_size=40)
COUNT = st.integers(min_value=1, max_value=6)


def run(results: list[bool], rise: int, fall: int) -> list[CheckHealth]:
    """The health before the first result and after each one; the n-th result comes at second n."""
    health = CheckHealth(state=State.UNKNOWN, since=0.0)
    history = [health]
    for number, passed in enumerate(results, 1):
        seen = Result(passed=passed, reason="", duration_seconds=0.0, at=float(number))
        health = observe_check(health, seen, rise=rise, fall=fall)
        history.append(health)
    return history


@given(RESULTS, COUNT, COUNT)
def test_a_turn_needs_exactly_its_row(results: list[bool], rise: int, fall: int) -> None:
    """A state changes at a result if and only if that result completes the row the change needs."""
    history = run(results, rise, fall)
    for number in range(1, len(history)):
        before, after = history[number - 1].state, history[number].state
        fallen = number >= fall and not any(results[number - fall : number])
        risen = number >= rise and all(results[number - rise : number])
        if before is State.UP:
            expected = State.DOWN if fallen else State.UP
        elif before is State.DOWN:
            expected = State.UP if risen else State.DOWN
        elif results[number - 1]:
            expected = State.UP
        else:
            expected = State.DOWN if fallen else State.UNKNOWN
        assert after is expected


@given(RESULTS, COUNT, COUNT)
def test_the_books_agree(results: list[bool], rise: int, fall: int) -> None:
    """Counts add up, the streak is the row at the end, and `since` is the last change of state."""
    history = run(results, rise, fall)
    last = history[-1]
    assert (last.passes, last.failures) == (results.count(True), results.count(False))
    row = 0
    while row < len(results) and results[-1 - row] == results[-1]:
        row += 1
    assert last.streak == row
    changes = [n for n in range(1, len(history)) if history[n].state is not history[n - 1].state]
    assert last.since == (float(changes[-1]) if changes else 0.0)


@given(RESULTS, COUNT, COUNT)
def test_a_verdict_is_never_taken_back(results: list[bool], rise: int, fall: int) -> None:
    """Once a check is up or down it is never unknown again."""
    states = [health.state for health in run(results, rise, fall)]
    first = next((n for n, state in enumerate(states) if state is not State.UNKNOWN), len(states))
    assert State.UNKNOWN not in states[first:]
