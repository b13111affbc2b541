"""Properties of balancing: whatever the instances do, somebody serves, and slower never gets more."""

from hypothesis import given
from hypothesis import strategies as st

from smartstack.traffic import Breaker
from synapse.balancing.breaker import Results, State, room, worse
from synapse.balancing.governor import Governor
from synapse.balancing.weights import CAP, HYSTERESIS, reference, settle, share
from synapse.proxy import Load
from tests.support.virtual import offer_of, request

COSTS = st.lists(st.floats(min_value=0.5, max_value=100_000), min_size=1, max_size=20)


@given(COSTS)
def test_slower_never_gets_more(costs: list[float]) -> None:
    """Sorted by what they cost, the shares fall; each is within its bounds, and the fast third gets everything."""
    fast = reference(costs)
    shares = [share(cost, fast) for cost in sorted(costs)]
    assert shares == sorted(shares, reverse=True)
    assert all(1 / CAP <= each <= 1.0 for each in shares)
    assert shares[0] == 1.0


@given(st.floats(0, 1), st.floats(0, 1))
def test_what_is_settled_is_near_what_is_wanted(before: float, wanted: float) -> None:
    """Hysteresis holds back small changes only."""
    settled = settle(before, wanted)
    assert settled == wanted or abs(settled - wanted) <= HYSTERESIS * before


@given(st.integers(0, 50), st.floats(0, 1))
def test_somebody_always_stays(members: int, share_out: float) -> None:
    """However large the share that may be out."""
    out = room(members, Breaker(max_ejected=share_out))
    assert 0 <= out < max(1, members)


@given(*[st.integers(0, 1000)] * 4)
def test_who_does_better_than_the_others_is_never_worse(
    good: int, failed: int, others: int, others_failed: int
) -> None:
    """By a share of good requests that is at least as large."""
    own, rest = Results(good=good, failed=failed), Results(good=others, failed=others_failed)
    if rest.total and own.total and good / own.total >= others / rest.total:
        assert not worse(own, rest)


ADDRESSES = [f"10.0.0.{number}:80" for number in range(1, 5)]
EVENT = st.one_of(
    st.tuples(
        st.just("ended"),
        st.sampled_from([*ADDRESSES, ""]),
        st.sampled_from([200, 404, 500, 503, 0]),
        st.sampled_from(["--", "sH", "SC", "CH", "LR", "PH"]),
        st.integers(0, 5000),
        st.integers(0, 2),
    ),
    st.tuples(st.just("time"), st.floats(0.05, 20.0)),
    st.tuples(st.just("told"), st.sampled_from(ADDRESSES), st.integers(0, 5), st.integers(0, 100)),
    st.tuples(st.just("members"), st.sets(st.sampled_from(ADDRESSES), min_size=1)),
)


@given(st.lists(EVENT, max_size=150))
def test_whatever_happens_somebody_serves(events: list[tuple[object, ...]]) -> None:
    """No more than the breaker's share is out, at most one instance is tried at a time, shares are within their bounds,
    and only those that are there have one."""
    governor = Governor(lambda: None, lambda: 0.5)
    members, now = set(ADDRESSES), 0.0
    governor.know("web", offer_of(ADDRESSES), now)
    for event in events:
        match event:
            case ("ended", str(address), int(status), str(ending), int(took), int(retries)):
                answered = took if ending == "--" else None
                ended = request(address, status=status, termination=ending, response_ms=answered, retries=retries)
                governor.take([ended] * 3, now)
            case ("time", float(seconds)):
                now += seconds
                governor.tick(now)
            case ("told", str(address), int(current), int(retried)):
                governor.told("web", {address: Load(current=current, retried=retried)}, now)
            case ("members", set(some)):
                members = {str(each) for each in some}
                governor.know("web", offer_of(sorted(members)), now)
        shares = governor.shares.get("web", {})
        standings = governor.standings(now).get("web", {})
        assert set(shares) <= members
        assert all(each == 0 or 1 / CAP <= each < 1 for each in shares.values())
        assert sum(each == 0 for each in shares.values()) <= room(len(members), Breaker())
        assert sum(each.state is State.HALF_OPEN for each in standings.values()) <= 1
