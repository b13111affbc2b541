"""When an instance is out, for how long, and within which rails."""

import pytest

from smartstack.traffic import Breaker
from synapse.balancing.breaker import (
    CLOSED,
    NONE,
    Circuit,
    Record,
    Results,
    State,
    close_circuit,
    fault,
    open_circuit,
    ramp,
    room,
    try_again,
    worse,
)

PLAIN = Breaker()
WELL = Results(good=100.0)


def record(
    streak: int = 0,
    others_since: Results = WELL,
    window: Results = NONE,
    others: Results = WELL,
    hung_seconds: float | None = None,
) -> Record:
    return Record(streak=streak, others_since=others_since, window=window, others=others, hung_seconds=hung_seconds)


FAULTS = {
    "nothing": (record(), None),
    "one failure less than it takes": (record(streak=6, window=Results(good=100, failed=6)), None),
    "enough in a row": (record(streak=7, window=Results(good=800, failed=7)), "7 failures in a row"),
    "enough in a row, and nobody else was called": (record(streak=7, others_since=NONE), "7 failures in a row"),
    "enough in a row, as everywhere": (record(streak=7, others_since=Results(failed=28)), None),
    "enough in a row, as nearly everywhere": (record(streak=7, others_since=Results(good=3, failed=28)), None),
    "a third of many": (record(window=Results(good=60, failed=30)), "33% of its requests failed"),
    "a tenth of many is for the weights": (record(window=Results(good=900, failed=100)), None),
    "half of too few": (record(window=Results(good=2, failed=2)), None),
    "half of few, as far as chance goes": (
        record(window=Results(good=3, failed=3), others=Results(good=80, failed=20)),
        None,
    ),
    "a third of many, as everywhere": (
        record(window=Results(good=600, failed=300), others=Results(good=2400, failed=1200)),
        None,
    ),
    "all, while one of four others fails too": (
        record(window=Results(failed=50), others=Results(good=150, failed=50)),
        "100% of its requests failed",
    ),
    "it hangs": (record(hung_seconds=1.25), "requests are under way and none has ended for 1.2 s"),
}


@pytest.mark.parametrize(("found", "why"), FAULTS.values(), ids=FAULTS)
def test_an_instance_is_out_for_what_others_do_not_do(found: Record, why: str | None) -> None:
    """Failures in a row, or too many in the window, and clearly more than the others have at the same time."""
    assert fault(found, PLAIN) == why


def test_who_has_nobody_beside_it_fails_by_itself() -> None:
    """Without others there is nothing to compare with; without failures nobody is worse than anybody."""
    assert worse(Results(failed=3), NONE)
    assert not worse(Results(good=3), NONE)
    assert not worse(NONE, WELL)


ROOM = {
    "one alone": (1, 0.5, 0),
    "one of two": (2, 0.5, 1),
    "one of three": (3, 0.5, 1),
    "half of ten": (10, 0.5, 5),
    "all but the last": (4, 1.0, 3),
    "none by wish": (10, 0.0, 0),
    "one where the share is less than one": (5, 0.1, 1),
    "nobody there": (0, 0.5, 0),
}


@pytest.mark.parametrize(("members", "share", "out"), ROOM.values(), ids=ROOM)
def test_the_rails(members: int, share: float, out: int) -> None:
    """Never the last one, never more than the share, but one where that rounds to none."""
    assert room(members, Breaker(max_ejected=share)) == out


def test_each_pause_is_twice_as_long_up_to_a_maximum() -> None:
    """1 s, 2 s, 4 s ... while it fails whenever it is tried."""
    circuit, pauses = CLOSED, []
    for turn in range(8):
        circuit = open_circuit(circuit, "ill", PLAIN, float(turn), 0.0)
        pauses.append(circuit.until - turn)
        circuit = try_again(circuit, float(turn))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_part_of_the_pause_is_chance() -> None:
    """So that a fleet does not try the same instance in one moment: up to a quarter less."""
    assert open_circuit(CLOSED, "ill", PLAIN, 0.0, 1.0).until == 0.75


@pytest.mark.parametrize(("well_seconds", "pause"), [(1.0, 8.0), (60.0, 1.0)], ids=["soon", "late"])
def test_who_falls_back_soon_goes_on_where_it_was(well_seconds: float, pause: float) -> None:
    """An instance that was well for longer than it had been out begins anew."""
    circuit = close_circuit(Circuit(state=State.HALF_OPEN, openings=3, why="ill"), 100.0)
    again = open_circuit(circuit, "ill", PLAIN, 100.0 + well_seconds, 0.0)
    assert again.until - 100.0 - well_seconds == pause


def test_an_endless_row_of_openings_is_a_maximum_not_an_overflow() -> None:
    """An instance may be registered for years after it died."""
    assert open_circuit(Circuit(state=State.HALF_OPEN, openings=10**6), "ill", PLAIN, 0.0, 0.0).until == 60.0


def test_who_comes_back_gets_its_share_step_by_step() -> None:
    """In an even ramp from the first answer on; one that was never out has all of it."""
    circuit = close_circuit(Circuit(state=State.HALF_OPEN), 10.0)
    assert [ramp(circuit, now, 4.0) for now in (10.0, 11.0, 14.0, 20.0)] == [0.0, 0.25, 1.0, 1.0]
    assert ramp(CLOSED, 0.0, 4.0) == 1.0
    assert ramp(circuit, 10.0, 0.0) == 1.0
