"""How long something may be otherwise, and what may grow."""

import pytest

from tests.soak.growth import WARM_UP_SECONDS, Growth, Sample, Series, growth, too_much
from tests.soak.promises import Promises


def test_what_is_right_again_in_time_is_no_violation() -> None:
    """The longest that it was wrong is kept, with what it was."""
    promises = Promises({"routed": 2.0})
    for now, wrong in ((0.0, ""), (1.0, "away"), (2.5, "away"), (3.0, ""), (4.0, "away"), (5.0, "away")):
        promises.look("routed", "web", now, wrong=wrong)
    assert promises.violations == []
    assert promises.worst == {"routed": (1.5, "web")}


def test_what_stays_wrong_is_told_once() -> None:
    """A violation says since when; the next time of the same thing is another one."""
    promises = Promises({"routed": 2.0})
    for now, wrong in ((1.0, "away"), (3.5, "away"), (4.0, "away"), (5.0, ""), (6.0, "gone"), (8.5, "gone")):
        promises.look("routed", "web", now, wrong=wrong)
    assert [(each.at, each.words) for each in promises.violations] == [
        (3.5, "away, for 2.5 s so far"),
        (8.5, "gone, for 2.5 s so far"),
    ]


def test_each_thing_has_its_own_time() -> None:
    """Two instances that are away one after the other are not one that is away for long."""
    promises = Promises({"routed": 2.0})
    promises.look("routed", "web", 0.0, wrong="away")
    promises.look("routed", "web", 1.5)
    promises.look("routed", "api", 1.5, wrong="away")
    promises.look("routed", "api", 3.0, wrong="away")
    assert promises.violations == []


def line(per_second: float, seconds: int, level: float = 40.0) -> list[Sample]:
    return [(float(at), level + per_second * at) for at in range(seconds)]


def found(samples: list[Sample]) -> Growth:
    one = growth(samples)
    assert one is not None
    return one


def test_a_level_line_does_not_grow() -> None:
    """What happens while a process warms up does not count, nor does one sample that is large."""
    samples = line(0.0, 1000)
    samples[: int(WARM_UP_SECONDS)] = [(float(at), 10.0) for at in range(int(WARM_UP_SECONDS))]
    samples[500] = (500.0, 400.0)
    assert found(samples).grown == 0.0
    assert found(samples).most == 400.0


def test_a_leak_is_seen() -> None:
    """A MB each hundred seconds: 36 MB an hour, and too much in a quarter of one."""
    leak = found(line(0.01, 1000))
    assert leak.per_hour == pytest.approx(36.0)
    assert leak.grown == pytest.approx(7.3, abs=0.1)
    assert too_much({("MB", "nerve"): leak}, {"MB": 5.0}) == [
        "MB of nerve grew by 7.3, from 41.5 to 48.8; 5 is the bound"
    ]
    assert too_much({("MB", "nerve"): leak}, {"MB": 8.0}) == []


def test_a_short_life_says_nothing() -> None:
    """Neither how it grows nor what that would be in an hour."""
    assert growth([]) is None
    assert growth(line(1.0, int(WARM_UP_SECONDS) + 5)) is None
    assert found(line(1.0, 100)).per_hour is None


def test_lives_are_told_apart() -> None:
    """A process that is started again begins anew; the life that grew most is the one that is shown."""
    series = Series()
    for life, per_second in ((11, 0.001), (12, 0.02), (13, 0.0)):
        for at, value in line(per_second, 300):
            series.add("MB", "nerve", life, life * 1000 + at, value)
    assert series.growths()["MB", "nerve"].grown == pytest.approx(4.1, abs=0.1)
    assert series.most() == {"MB": pytest.approx(46.0, abs=0.1)}
