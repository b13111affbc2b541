"""Health as a table: a row of results, and the state after each of them."""

import pytest

from nerve.health import CheckHealth, Result, ServiceHealth, State, observe, observe_check, reshape, service_state, why

STATES = {"?": State.UNKNOWN, "U": State.UP, "D": State.DOWN}


def result(passed: bool, at: float = 0.0, reason: str = "") -> Result:
    return Result(passed=passed, reason=reason or ("HTTP 200" if passed else "HTTP 500"), duration_seconds=0.01, at=at)


@pytest.mark.parametrize(
    ("rise", "fall", "results", "states"),
    [
        pytest.param(2, 3, "+", "U", id="the first pass is enough at the start"),
        pytest.param(5, 3, "+", "U", id="however long the rise is"),
        pytest.param(2, 3, "-", "?", id="one failure at the start says nothing yet"),
        pytest.param(2, 3, "---", "??D", id="fall failures at the start bring it down"),
        pytest.param(2, 3, "--+", "??U", id="a pass among the first failures brings it up"),
        pytest.param(2, 1, "-", "D", id="fall 1 believes the first failure"),
        pytest.param(2, 3, "+--+--+", "UUUUUUU", id="fewer failures in a row than fall leave it up"),
        pytest.param(2, 3, "+---", "UUUD", id="fall failures in a row bring it down"),
        pytest.param(2, 3, "---+-++", "??DDDDU", id="a failure begins the rise anew"),
        pytest.param(1, 1, "+-+-", "UDUD", id="rise 1 and fall 1 follow every result"),
        pytest.param(3, 2, "+--+++--", "UUDDDUUD", id="and round again"),
    ],
)
def test_a_check_rises_and_falls(rise: int, fall: int, results: str, states: str) -> None:
    """A row of results (+ passed, - failed) takes a check through exactly these states."""
    health = CheckHealth(state=State.UNKNOWN, since=0.0)
    seen = []
    for number, letter in enumerate(results, 1):
        health = observe_check(health, result(letter == "+", at=float(number)), rise=rise, fall=fall)
        seen.append(health.state)
    assert seen == [STATES[letter] for letter in states]


def test_since_is_when_the_state_began_and_not_when_it_was_last_confirmed() -> None:
    """`since` moves with the state only; the counts and the last result move with every result."""
    health = CheckHealth(state=State.UNKNOWN, since=0.0)
    for at, passed in [(1.0, True), (2.0, True), (3.0, False)]:
        health = observe_check(health, result(passed, at=at), rise=2, fall=3)
    assert (health.state, health.since) == (State.UP, 1.0)
    assert (health.passes, health.failures, health.streak) == (2, 1, 1)
    assert health.last is not None
    assert health.last.reason == "HTTP 500"


@pytest.mark.parametrize(
    ("checks", "state"),
    [
        pytest.param("", "U", id="no checks are passed checks"),
        pytest.param("U", "U", id="one up"),
        pytest.param("UU", "U", id="all up"),
        pytest.param("UD", "D", id="one down"),
        pytest.param("?D", "D", id="one down, one not known: down"),
        pytest.param("U?", "?", id="one not known yet"),
    ],
)
def test_a_service_is_as_well_as_its_worst_check(checks: str, state: str) -> None:
    """UP when all checks are, DOWN when any is, else UNKNOWN."""
    assert service_state(STATES[letter] for letter in checks) is STATES[state]


def test_an_edited_check_keeps_the_health_that_is_known() -> None:
    """A new definition keeps the state of the checks that it still has; a new one starts unknown."""
    health = reshape(None, ["http", "tcp"], 0.0)
    health = observe(health, "http", result(True, at=1.0), rise=2, fall=3)
    health = observe(health, "tcp", result(True, at=2.0), rise=2, fall=3)
    assert (health.state, health.since) == (State.UP, 2.0)

    edited = reshape(health, ["http", "exec"], 5.0)
    assert edited.checks["http"] == health.checks["http"]
    assert edited.checks["exec"].state is State.UNKNOWN
    assert set(edited.checks) == {"http", "exec"}
    assert (edited.state, edited.since) == (State.UNKNOWN, 5.0)

    assert reshape(health, ["http", "tcp"], 9.0) == health


def test_a_service_without_checks_is_up_from_the_start() -> None:
    """Nobody asked for a check, so there is nothing to wait for."""
    assert reshape(None, [], 3.0) == ServiceHealth(state=State.UP, since=3.0)


def test_the_reason_names_what_decided() -> None:
    """A log line says how many results decided, of which check where there are several, and what the last one said."""
    one = reshape(None, ["tcp"], 0.0)
    for at in (1.0, 2.0, 3.0):
        one = observe(one, "tcp", result(False, at=at, reason="connection refused"), rise=2, fall=3)
    assert why(one) == "3 checks failed, last: connection refused"

    two = reshape(None, ["http", "tcp"], 0.0)
    two = observe(two, "http", result(True, at=1.0), rise=2, fall=1)
    assert why(two) == "no verdict yet of tcp"
    two = observe(two, "tcp", result(False, at=2.0, reason="connection refused"), rise=2, fall=1)
    assert why(two) == "1 check failed (tcp), last: connection refused"
    two = observe(two, "tcp", result(True, at=3.0, reason="connected"), rise=1, fall=1)
    assert why(two) == "1 check passed (http), last: HTTP 200"
    assert why(reshape(None, [], 0.0)) == "no checks are configured"
