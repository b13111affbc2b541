"""Admission: services that come up and go down, and when they may join the registry."""

import pytest

from nerve.admission import PENALTY_CEILING, Admission, HeldBack, admit, penalty_now
from nerve.health import State
from nerve.settings import FlapDamping, PublishLimit

UP, DOWN, UNKNOWN = State.UP, State.DOWN, State.UNKNOWN

FREE = PublishLimit(burst=10_000, every=0.001)
"""A limit that nobody meets."""

CALM = FlapDamping(limit=1000, half_life=1.0, shadow=False)
"""A damping that nobody meets."""


class Door:
    """One service at the door, with the limits that a test is about."""

    def __init__(self, limit: PublishLimit = FREE, damping: FlapDamping = CALM, *, present: bool = False) -> None:
        self.limit = limit
        self.damping = damping
        self.now = Admission.initial(present=present)

    def sees(self, state: State, at: float) -> Admission:
        self.now = admit(self.now, state, at, self.limit, self.damping)
        return self.now

    def flap(self, times: int, at: float = 0.0) -> None:
        """So many times up and down, all at this time."""
        for _ in range(times):
            self.sees(UP, at)
            self.sees(DOWN, at)


def test_b19_the_first_join_waits_for_nothing() -> None:
    """B19: upstream's bucket started with `average_rate` tokens, so with less than one join a second the very first
    registration waited. Here the bucket starts full, at any rate."""
    for burst, every in [(1, 10.0), (1, 86_400.0), (5, 10.0)]:
        admission = Door(PublishLimit(burst=burst, every=every)).sees(UP, 100.0)
        assert (admission.admitted, admission.held_back, admission.throttled) == (True, None, 0)


@pytest.mark.parametrize(
    ("states", "admitted"),
    [
        pytest.param("?", ".", id="not known yet"),
        pytest.param("U", "x", id="up"),
        pytest.param("D", ".", id="down"),
        pytest.param("UUU", "xxx", id="and up again"),
        pytest.param("UD", "x.", id="down is out at once"),
        pytest.param("UDU", "x.x", id="and up is in again"),
        pytest.param("U?", "xx", id="in, and not known any more: in"),
        pytest.param("D?", "..", id="out, and not known any more: out"),
        pytest.param("U?D", "xx.", id="and then down"),
    ],
)
def test_without_a_limit_admission_follows_health(states: str, admitted: str) -> None:
    """A row of states takes a service in (x) and out (.)."""
    door = Door()
    seen = [door.sees({"U": UP, "D": DOWN, "?": UNKNOWN}[letter], float(at)) for at, letter in enumerate(states)]
    assert ["x" if admission.admitted else "." for admission in seen] == list(admitted)


def test_a_join_needs_a_token() -> None:
    """The burst is free, then there is one more each `every`; who waits is told until when, and joins just then."""
    door = Door(PublishLimit(burst=2, every=10.0))
    for at in (100.0, 101.0):
        assert door.sees(UP, at).admitted
        door.sees(DOWN, at)
    waiting = door.sees(UP, 102.0)
    assert (waiting.admitted, waiting.held_back, waiting.until, waiting.throttled) == (False, HeldBack.RATE, 110.0, 1)
    assert door.sees(UP, 109.9) == waiting
    joined = door.sees(UP, 110.0)
    assert (joined.admitted, joined.held_back, joined.until, joined.throttled) == (True, None, None, 1)


def test_a_token_that_was_not_needed_is_kept_for_later() -> None:
    """A service that went down while it waited took no token: the next one finds it at once."""
    door = Door(PublishLimit(burst=1, every=10.0))
    door.flap(1, at=0.0)
    door.sees(UP, 5.0)
    door.sees(DOWN, 6.0)
    assert door.sees(UP, 10.0).admitted


def test_a_quiet_service_has_its_burst_again_and_no_more() -> None:
    """A bucket fills up to the burst, however long nothing happens."""
    door = Door(PublishLimit(burst=3, every=10.0))
    door.flap(3, at=0.0)
    assert not door.sees(UP, 0.0).admitted
    door.sees(DOWN, 0.0)
    door.flap(3, at=1_000_000.0)
    assert door.sees(UP, 1_000_000.0).until == 1_000_010.0


def test_who_is_there_already_pays_nothing() -> None:
    """nerve was restarted and finds its node: the service stays in, and has its whole burst yet."""
    door = Door(PublishLimit(burst=1, every=10.0), present=True)
    assert door.now.admitted
    assert door.sees(UNKNOWN, 0.0).admitted
    assert door.sees(UP, 1.0).admitted
    door.sees(DOWN, 2.0)
    assert door.sees(UP, 2.0).admitted


def test_who_is_there_already_and_is_down_leaves() -> None:
    """What an earlier nerve put there does not stay for that; and it counts as once down."""
    door = Door(present=True)
    assert not door.sees(DOWN, 1.0).admitted
    assert penalty_now(door.now, 1.0, CALM) == 1.0


def test_flapping_keeps_out_until_it_has_been_quiet() -> None:
    """Five times down with none forgotten: out, though it is up, until half of that is forgotten, one half-life later;
    then it joins at once."""
    door = Door(damping=FlapDamping(limit=5, half_life=60.0, shadow=False))
    door.flap(4)
    assert door.sees(UP, 0.0).admitted
    door.sees(DOWN, 0.0)
    out = door.sees(UP, 1.0)
    assert (out.admitted, out.held_back, out.until, out.suppressed) == (False, HeldBack.FLAPPING, 60.0, 1)
    assert door.sees(UP, 59.9) == out
    back = door.sees(UP, 60.0)
    assert (back.admitted, back.held_back, back.until, back.suppressed) == (True, None, None, 1)


def test_what_is_forgotten_in_time_does_not_count() -> None:
    """A service that goes down once each half-life never comes near the limit."""
    door = Door(damping=FlapDamping(limit=3, half_life=60.0, shadow=False))
    for minute in range(100):
        assert door.sees(UP, 60.0 * minute).admitted
        door.sees(DOWN, 60.0 * minute + 1.0)
    assert penalty_now(door.now, 6000.0, door.damping) < 2.01


def test_flapping_while_it_is_kept_out_keeps_it_out() -> None:
    """It must be quiet, not only absent; each time that it comes up is one more join that was held back."""
    door = Door(damping=FlapDamping(limit=2, half_life=60.0, shadow=False))
    door.flap(2)
    for at in (30.0, 60.0, 90.0, 120.0):
        assert door.sees(UP, at).held_back is HeldBack.FLAPPING
        door.sees(DOWN, at)
    assert door.now.suppressed == 4


def test_one_fall_while_it_is_kept_out_is_no_way_in() -> None:
    """Half of the limit is not forgotten yet when it goes down once more: it stays out although its account is below
    the limit, until half of the limit is left of that."""
    door = Door(damping=FlapDamping(limit=4, half_life=60.0, shadow=False))
    door.flap(4)
    door.sees(UP, 50.0)
    door.sees(DOWN, 50.0)
    assert 2 < penalty_now(door.now, 50.0, door.damping) < 4
    out = door.sees(UP, 60.0)
    assert out.held_back is HeldBack.FLAPPING
    assert out.until is not None
    assert penalty_now(out, out.until, door.damping) == pytest.approx(2.0)


def test_a_service_that_flapped_for_hours_comes_back_within_three_half_lives() -> None:
    """What is remembered has an upper bound."""
    door = Door(damping=FlapDamping(limit=5, half_life=60.0, shadow=False))
    for tenth in range(36_000):
        door.sees(UP if tenth % 2 else DOWN, tenth / 10)
    door.sees(DOWN, 3600.0)
    assert penalty_now(door.now, 3600.0, door.damping) == pytest.approx(PENALTY_CEILING * 5)
    assert door.sees(UP, 3600.1).until == pytest.approx(3600.0 + 3 * 60.0)


def test_a_service_is_not_taken_out_for_having_flapped() -> None:
    """Who is in stays in until it is down: damping keeps out, it never takes out."""
    door = Door(damping=FlapDamping(limit=5, half_life=60.0, shadow=False))
    door.flap(4)
    door.sees(UP, 0.0)
    door.damping = FlapDamping(limit=2, half_life=60.0, shadow=False)
    door.limit = PublishLimit(burst=1, every=86_400.0)
    assert door.sees(UP, 1.0).admitted


def test_after_flapping_a_join_needs_a_token_all_the_same() -> None:
    """The gates stand in a row: who waits at the first takes nothing at the second."""
    door = Door(PublishLimit(burst=2, every=1000.0), FlapDamping(limit=2, half_life=60.0, shadow=False))
    door.flap(2)
    assert door.sees(UP, 0.0).held_back is HeldBack.FLAPPING
    waiting = door.sees(UP, 60.0)
    assert (waiting.held_back, waiting.until) == (HeldBack.RATE, 1000.0)
    assert (waiting.suppressed, waiting.throttled) == (1, 1)
    assert door.sees(UP, 1000.0).admitted


def test_a_limit_in_shadow_mode_only_counts() -> None:
    """The join goes through, what would have held it back is told, and it is counted as if it had."""
    door = Door(PublishLimit(burst=1, every=10.0, shadow=True))
    door.flap(1)
    shadowed = door.sees(UP, 1.0)
    assert (shadowed.admitted, shadowed.held_back, shadowed.shadowed) == (True, None, HeldBack.RATE)
    assert (shadowed.throttled, shadowed.until) == (1, 10.0)
    after = door.sees(UP, 10.0)
    assert (after.admitted, after.shadowed, after.until, after.throttled) == (True, None, None, 1)


def test_damping_in_shadow_mode_only_counts() -> None:
    """The same of flapping; the limit behind it stays in force."""
    door = Door(PublishLimit(burst=3, every=1000.0), FlapDamping(limit=2, half_life=60.0, shadow=True))
    door.flap(2)
    shadowed = door.sees(UP, 1.0)
    assert (shadowed.admitted, shadowed.shadowed, shadowed.suppressed) == (True, HeldBack.FLAPPING, 1)
    door.sees(DOWN, 2.0)
    both = door.sees(UP, 3.0)
    assert (both.admitted, both.held_back, both.shadowed) == (False, HeldBack.RATE, HeldBack.FLAPPING)
    assert both.until is not None
    assert penalty_now(both, both.until, door.damping) == pytest.approx(1.0)  # the first of two times


def test_to_switch_shadow_mode_off_takes_nobody_out() -> None:
    """What came in by shadow mode stays until it is down; then the limit is in force."""
    door = Door(PublishLimit(burst=1, every=10.0, shadow=True))
    door.flap(1)
    door.sees(UP, 1.0)
    door.limit = PublishLimit(burst=1, every=10.0)
    assert door.sees(UP, 2.0).admitted
    door.sees(DOWN, 3.0)
    assert door.sees(UP, 3.0).held_back is HeldBack.RATE


def test_to_switch_shadow_mode_on_lets_in_at_once() -> None:
    """Nobody waits for what is not in force any more."""
    door = Door(PublishLimit(burst=1, every=1000.0))
    door.flap(1)
    assert not door.sees(UP, 1.0).admitted
    door.limit = PublishLimit(burst=1, every=1000.0, shadow=True)
    assert door.sees(UP, 2.0).admitted


def test_a_wider_limit_holds_from_now_on() -> None:
    """Whoever waits for a token of a strict limit waits no longer than a looser one asks for."""
    door = Door(PublishLimit(burst=1, every=86_400.0))
    door.flap(1)
    assert door.sees(UP, 1.0).until == 86_400.0
    door.limit = PublishLimit(burst=1, every=5.0)
    assert door.sees(UP, 2.0).until == 7.0
    assert door.sees(UP, 4.0).until == 7.0
    assert door.sees(UP, 7.0).admitted


def test_who_waits_and_is_not_known_any_more_waits_for_nothing() -> None:
    """While nobody knows how it is, no time changes anything; when it is up after all, it still waits for the same."""
    door = Door(PublishLimit(burst=1, every=10.0))
    door.flap(1)
    door.sees(UP, 1.0)
    lost = door.sees(UNKNOWN, 2.0)
    assert (lost.admitted, lost.held_back, lost.until) == (False, None, None)
    again = door.sees(UP, 3.0)
    assert (again.held_back, again.until, again.throttled) == (HeldBack.RATE, 10.0, 1)


def test_damping_that_is_switched_on_leaves_no_old_time_to_wait_for() -> None:
    """Somebody waits for a token, then damping is in force and keeps it out for longer: there is one time to look
    again, and it is in the future."""
    door = Door(PublishLimit(burst=2, every=10.0), FlapDamping(limit=2, half_life=60.0, shadow=True))
    door.flap(2)
    assert door.sees(UP, 0.0).held_back is HeldBack.RATE
    door.damping = FlapDamping(limit=2, half_life=60.0, shadow=False)
    assert door.sees(UP, 15.0).until == 60.0
