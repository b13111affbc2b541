"""What a seed draws: always the same, and never so much at once that nobody is left."""

from itertools import combinations

import pytest

from tests.soak.bounds import UNROUTED_SECONDS
from tests.soak.deeds import WAYS
from tests.soak.faults import (
    EVERYWHERE,
    KINDS,
    QUIET_SECONDS,
    REST_SECONDS,
    STORM_SECONDS,
    WITNESS,
    Effect,
    Fault,
    Place,
    draw,
)

ALL = list(KINDS.values())
HOUR = draw(7, 3600.0, ALL)


def test_the_same_seed_draws_the_same() -> None:
    """A violation is repeated with its seed; another seed is another soak."""
    assert draw(7, 3600.0, ALL) == HOUR
    assert draw(8, 3600.0, ALL) != HOUR


def test_an_hour_has_every_kind() -> None:
    """Each is drawn often enough to mean something, on every host and service that it can happen to."""
    assert {fault.kind.name for fault in HOUR} == set(KINDS)
    assert {fault.service for fault in HOUR if fault.kind.place is Place.INSTANCE} == {"web", "api", "db"}
    assert {fault.by for fault in HOUR if fault.kind.place is Place.HOLD} == {"h1", "h2", "h3"}


def test_every_kind_can_be_done() -> None:
    """The table of faults and the ways of doing them have the same names."""
    assert set(WAYS) == set(KINDS)


def test_two_faults_never_have_the_same_at_a_time() -> None:
    """One fault under way for a service, for a host's daemons and for the registry, with a rest between."""
    for first, second in combinations(HOUR, 2):
        if first.locks & second.locks:
            assert second.at >= first.at + first.seconds + REST_SECONDS - 0.05, (first.words, second.words)


def test_somebody_of_each_service_is_always_left() -> None:
    """At most one instance by a fault of its own, and all of one host with that host's nerve: of three, one is left."""
    for fault in HOUR:
        middle = fault.at + fault.seconds / 2
        under_way = [each for each in HOUR if each.at <= middle <= each.at + each.seconds]
        nerves = [each for each in under_way if each.kind.effect is Effect.UNSURE]
        assert len(nerves) <= 1, [each.words for each in under_way]
        for service in ("web", "api", "db"):
            assert sum(each.service == service for each in under_way) <= 1


def test_the_witness_lives_through_it() -> None:
    """What grows in an hour is seen in a process that is an hour old."""
    assert [fault.words for fault in HOUR if fault.kind.ends and fault.host == WITNESS] == []


def test_all_is_quiet_now_and_then() -> None:
    """Nothing begins in the last third of a minute, so that what heals slowly is seen; nothing outlasts the plan."""
    assert not [fault.words for fault in HOUR if fault.at % (STORM_SECONDS + QUIET_SECONDS) > STORM_SECONDS + 0.05]
    assert all(fault.at + fault.seconds <= 3600.0 for fault in HOUR)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.effect in (Effect.OUT, Effect.HELD)])
def test_what_must_leave_may_stay_away_longer_than_its_bound(name: str) -> None:
    """An instance that was never out for longer than the bound could not break it."""
    assert KINDS[name].seconds[1] > UNROUTED_SECONDS


def test_who_may_tell() -> None:
    """A fault of a host touches that host, one of the fleet everybody, a hold the host that holds as well."""
    held = Fault(number=1, at=0.0, seconds=1.0, kind=KINDS["held"], service="web", host="h1", by="h2")
    everybody = Fault(number=2, at=0.0, seconds=1.0, kind=KINDS["zookeeper-hung"])
    assert [host for host in ("h1", "h2", "h3") if held.touches(host)] == ["h1", "h2"]
    assert [host for host in ("h1", "h2", "h3") if everybody.touches(host)] == ["h1", "h2", "h3"]
    assert everybody.service == EVERYWHERE
    assert held.words == "1 held web h1 by h2 1.0 s"
