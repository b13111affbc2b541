"""Admission, for any row of states at any times and any limits."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nerve.admission import Admission, HeldBack, admit, penalty_now
from nerve.health import State
from nerve.settings import FlapDamping, PublishLimit

Seen = list[tuple[State, float]]

LIMITS = st.builds(PublishLimit, burst=st.integers(1, 4), every=st.integers(1, 16).map(float), shadow=st.booleans())
DAMPINGS = st.builds(
    FlapDamping, limit=st.integers(2, 5), half_life=st.integers(1, 64).map(float), shadow=st.booleans()
)
REAL_LIMITS = LIMITS.map(lambda limit: replace(limit, shadow=False))
REAL_DAMPINGS = DAMPINGS.map(lambda damping: replace(damping, shadow=False))


@st.composite
def a_life(draw: st.DrawFn) -> Seen:
    """States with the times they were seen at, in eighths of a second so that sums are exact."""
    at, seen = draw(st.integers(0, 800)), []
    for _ in range(draw(st.integers(0, 40))):
        at += draw(st.sampled_from((0, 1, 4, 8, 40, 200)))
        seen.append((draw(st.sampled_from((State.UP, State.UP, State.DOWN, State.DOWN, State.UNKNOWN))), at / 8))
    return seen


def live(seen: Seen, limit: PublishLimit, damping: FlapDamping, *, present: bool = False) -> list[Admission]:
    """The admission before the first sight and after each."""
    history = [Admission.initial(present=present)]
    for state, at in seen:
        history.append(admit(history[-1], state, at, limit, damping))
    return history


@given(a_life(), LIMITS, DAMPINGS, st.booleans())
def test_to_look_again_changes_nothing(seen: Seen, limit: PublishLimit, damping: FlapDamping, present: bool) -> None:
    """The same state at the same time, once more: the same admission."""
    for (state, at), admission in zip(seen, live(seen, limit, damping, present=present)[1:], strict=True):
        assert admit(admission, state, at, limit, damping) == admission


@given(a_life(), LIMITS, DAMPINGS, st.booleans())
def test_health_has_the_last_word(seen: Seen, limit: PublishLimit, damping: FlapDamping, present: bool) -> None:
    """DOWN is never admitted; UNKNOWN changes nothing; nobody is taken out while it is up."""
    history = live(seen, limit, damping, present=present)
    for number, (state, _) in enumerate(seen):
        before, after = history[number].admitted, history[number + 1].admitted
        if state is State.DOWN:
            assert not after
        elif state is State.UNKNOWN:
            assert after == before
        else:
            assert after or not before


@given(a_life(), REAL_LIMITS, DAMPINGS, st.booleans())
def test_joins_are_bounded(seen: Seen, limit: PublishLimit, damping: FlapDamping, present: bool) -> None:
    """In any window there are at most the burst, and one more for each `every`."""
    history = live(seen, limit, damping, present=present)
    joins = [at for n, (_, at) in enumerate(seen) if history[n + 1].admitted and not history[n].admitted]
    for first, begin in enumerate(joins):
        for last, end in enumerate(joins[first:], first):
            assert last - first + 1 <= limit.burst + (end - begin) / limit.every


@given(a_life(), REAL_LIMITS, st.booleans())
def test_tokens_are_never_lost(seen: Seen, limit: PublishLimit, present: bool) -> None:
    """Who is held back by the rate has used its whole burst: as many joins as a bucket that starts full allows, kept
    as a number, which is another way to count."""
    off = FlapDamping(shadow=True)
    history = live(seen, limit, off, present=present)
    tokens, filled_at = float(limit.burst), 0.0
    for number, (state, at) in enumerate(seen):
        tokens, filled_at = min(float(limit.burst), tokens + (at - filled_at) / limit.every), at
        before, after = history[number], history[number + 1]
        if state is State.UP and not before.admitted:
            assert after.admitted == (tokens > 1 - 1e-9)
            tokens -= after.admitted


@given(a_life(), LIMITS, DAMPINGS)
def test_shadow_mode_admits_what_health_says(seen: Seen, limit: PublishLimit, damping: FlapDamping) -> None:
    """With both gates in shadow mode, who is up is in, who is down is out, and nobody is held back."""
    history = live(seen, replace(limit, shadow=True), replace(damping, shadow=True))
    admitted = False
    for (state, _), admission in zip(seen, history[1:], strict=True):
        admitted = admitted if state is State.UNKNOWN else state is State.UP
        assert (admission.admitted, admission.held_back) == (admitted, None)


@given(a_life(), LIMITS, DAMPINGS)
def test_shadow_mode_counts_as_the_real_one(seen: Seen, limit: PublishLimit, damping: FlapDamping) -> None:
    """Each gate counts in shadow mode exactly what it would hold back if it were in force, all else being equal."""
    for one, other in zip(
        live(seen, replace(limit, shadow=True), damping), live(seen, replace(limit, shadow=False), damping), strict=True
    ):
        assert (one.throttled, one.suppressed, one.penalty) == (other.throttled, other.suppressed, other.penalty)
        assert (HeldBack.RATE is one.shadowed) <= (HeldBack.RATE in (other.held_back, other.shadowed))
    for one, other in zip(
        live(seen, limit, replace(damping, shadow=True)), live(seen, limit, replace(damping, shadow=False)), strict=True
    ):
        assert (one.suppressed, one.penalty) == (other.suppressed, other.penalty)
        assert (other.held_back is HeldBack.FLAPPING) <= (one.shadowed is HeldBack.FLAPPING)


@given(a_life(), LIMITS, DAMPINGS, st.booleans())
def test_the_time_to_look_again_is_right(seen: Seen, limit: PublishLimit, damping: FlapDamping, present: bool) -> None:
    """It lies in the future, so that no loop spins; before it nothing changes, at it something does; and who waits
    for something is in after at most two looks: one at each gate."""
    for (state, at), admission in zip(seen, live(seen, limit, damping, present=present)[1:], strict=True):
        if admission.held_back or admission.shadowed:
            assert admission.until is not None
        if admission.until is None:
            assert not admission.held_back
            continue
        assert admission.until > at
        assert admit(admission, state, (at + admission.until) / 2, limit, damping) == admission
        then = admit(admission, state, admission.until, limit, damping)
        assert then != admission
        if then.until is not None:
            assert then.until > admission.until
            then = admit(then, state, then.until, limit, damping)
        assert (then.admitted, then.until) == (True, None)


@given(a_life(), REAL_DAMPINGS, st.booleans())
def test_only_who_reached_the_limit_is_kept_out(seen: Seen, damping: FlapDamping, present: bool) -> None:
    """Who is held back for flapping went down as often as the limit says, and half of that is not forgotten yet; who
    is let in has less than the limit on its account."""
    history = live(seen, PublishLimit(burst=10_000), damping, present=present)
    falls = 0
    for number, (state, at) in enumerate(seen):
        falls += history[number].known is State.UP and state is State.DOWN
        admission = history[number + 1]
        account = penalty_now(admission, at, damping)
        assert account <= falls
        if admission.held_back is HeldBack.FLAPPING:
            assert falls >= damping.limit
            assert account > damping.limit / 2 - 1e-9
        elif state is State.UP and not history[number].admitted:
            assert account < damping.limit
