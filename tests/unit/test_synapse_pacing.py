"""When HAProxy may be started or reloaded, on a clock that is a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synapse.pacing import QUICK_STARTS, Pace, share

ONE, TWO = "smartstack-1", "smartstack-2"


def settled(splay: float = 10.0, host: str = "host-1") -> Pace:
    """The pace of a host whose HAProxy was in step once."""
    pace = Pace(interval_seconds=1.0, splay_seconds=splay, host=host)
    pace.in_step()
    return pace


def test_the_first_reload_waits_for_nobody() -> None:
    """A synapse that starts brings its host in step at once, whatever the splay."""
    assert Pace(interval_seconds=1.0, splay_seconds=3600.0, host="host-1").reload_wait(0.0, ONE) == 0


def test_a_change_of_structure_waits_for_this_hosts_turn() -> None:
    """The same part of the splay however often it is asked, counted from the first time; then it may be done."""
    pace, turn = settled(), share("host-1", ONE) * 10
    assert 0 < turn < 10
    assert pace.reload_wait(100.0, ONE) == pytest.approx(turn)
    assert pace.reload_wait(100.0 + turn / 2, ONE) == pytest.approx(turn / 2)
    assert pace.reload_wait(100.0 + turn, ONE) == 0


def test_what_is_urgent_has_no_turn() -> None:
    """A reload that puts HAProxy right, and a start, are due at once."""
    pace = settled(splay=3600.0)
    assert pace.reload_wait(100.0) == 0
    assert pace.reload_wait(100.0, ONE) > 0
    assert pace.reload_wait(100.0) == 0
    assert pace.start_wait(100.0) == 0


def test_more_edits_do_not_put_the_turn_off() -> None:
    """A burst of edits is one reload, and it comes when the first of them would have come."""
    pace = settled()
    turn = pace.reload_wait(100.0, ONE)
    assert pace.reload_wait(100.0 + turn / 2, TWO) == pytest.approx(turn / 2)
    assert pace.reload_wait(100.0 + turn, TWO) == 0


def test_each_change_has_a_turn_of_its_own() -> None:
    """After a reload, and after an edit that was taken back, the next change waits anew."""
    pace = settled()
    done_at = 100.0 + pace.reload_wait(100.0, ONE)
    pace.reloaded(done_at)
    assert pace.reload_wait(done_at + 50, TWO) == pytest.approx(share("host-1", TWO) * 10)
    pace.in_step()
    assert pace.reload_wait(done_at + 500, ONE) == pytest.approx(share("host-1", ONE) * 10)


def test_without_a_splay_only_the_interval_counts() -> None:
    """The default: an edit takes effect at once, and the next one an interval later."""
    pace = settled(splay=0.0)
    assert pace.reload_wait(100.0, ONE) == 0
    pace.reloaded(100.0)
    assert pace.reload_wait(100.25, TWO) == 0.75
    assert pace.start_wait(100.25) == 0


def test_the_splay_does_not_shorten_the_wait_after_failures() -> None:
    """Whichever is longer."""
    pace = settled(splay=0.001)
    assert [pace.failed(100.0, starting=False) for _ in range(3)] == [1, 2, 4]
    assert pace.reload_wait(100.0, ONE) == 4
    assert pace.start_wait(100.0) == 0


def test_a_haproxy_that_keeps_ending_is_not_started_for_ever_at_once() -> None:
    """A start, and so many more at once; then each waits twice as long as the one before. One that ran for a while is
    started at once again."""
    pace, now, waits = settled(), 100.0, []
    for _ in range(QUICK_STARTS + 3):
        pace.started(now)
        waits.append(pace.start_wait(now))
        now += waits[-1] + 0.5
    assert waits == [0.0] * QUICK_STARTS + [1.0, 2.0, 4.0]
    pace.started(now + 60)
    assert pace.start_wait(now + 60) == 0


def test_a_fleet_is_spread_over_the_splay() -> None:
    """Of a thousand hosts, about a tenth reloads in each tenth of the time."""
    turns = [share(f"host-{number}.example", ONE) for number in range(1000)]
    tenths = [sum(tenth <= turn * 10 < tenth + 1 for turn in turns) for tenth in range(10)]
    assert sum(tenths) == 1000
    assert all(60 < count < 140 for count in tenths), tenths


def test_no_host_is_always_the_last() -> None:
    """The order of a fleet is another for the next structure."""
    hosts = [f"host-{number}" for number in range(20)]
    orders = {tuple(sorted(hosts, key=lambda host: share(host, structure))) for structure in (ONE, TWO)}
    assert len(orders) == 2


@given(host=st.text(), structure=st.text(), splay=st.floats(0, 3600), now=st.floats(0, 1e9))
def test_a_turn_is_within_the_splay(host: str, structure: str, splay: float, now: float) -> None:
    """Whatever a host and a structure are called, and the same when asked again."""
    wait = settled(splay, host).reload_wait(now, structure)
    assert 0 <= wait <= splay + 1e-3
    assert settled(splay, host).reload_wait(now, structure) == wait
