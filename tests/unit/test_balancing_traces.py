"""What balancing makes of a service in virtual time: slow, failing, hanging, all of them, and none."""

import random

import pytest

from synapse.balancing.breaker import State
from synapse.balancing.gauge import Gauge
from synapse.balancing.weights import CAP
from tests.support.virtual import Server, Service

A, B = "10.0.0.1:80", "10.0.0.2:80"
RATES = pytest.mark.parametrize("rate", [200.0, 20.0], ids=["often", "seldom"])


def servers(count: int = 5) -> list[Server]:
    return [Server(address=f"10.0.0.{number}:80") for number in range(1, count + 1)]


@RATES
def test_a_slow_instance_gets_next_to_nothing_and_comes_back(rate: float) -> None:
    """50 ms against 2: too few requests to show in the 99th percentile, and all of its weight soon after it
    recovered."""
    five = servers()
    five[0].seconds = lambda now: 0.05 if now < 20 else 0.002
    service = Service(five, rate)
    service.run(20)
    assert service.part(A, 2, 20) < 0.02
    assert all(service.share(one.address) == 1.0 for one in five[1:])
    service.run(21)
    assert service.share(A) < 0.5, "it does not get everything back for its first answer"
    service.run(28)
    assert service.share(A) == 1.0


def test_at_a_high_rate_the_slow_one_is_out_of_the_99th_percentile() -> None:
    """The least share of five is 0.4 %."""
    five = servers()
    five[0].seconds = lambda now: 0.05
    service = Service(five, 400)
    service.run(15)
    assert service.part(A, 0, 15) < 0.0095


def test_who_degrades_loses_its_share_step_by_step() -> None:
    """20 ms more each second: it is noticed long before it is as slow as it will be."""
    five = servers()
    five[0].seconds = lambda now: 0.002 + max(0.0, now - 5) * 0.02
    service = Service(five, 400)
    shares = []
    for until in (5, 5.5, 6, 8):
        service.run(until)
        shares.append(service.share(A))
    assert shares[0] == 1.0 and shares[-1] == 1 / CAP
    assert shares == sorted(shares, reverse=True)


@RATES
def test_a_black_hole_costs_a_few_requests(rate: float) -> None:
    """Seven failures in a row or less, and one each time that it is tried; then it answers, and comes back."""
    five = servers()
    five[0].fails = lambda now: now < 20
    five[0].seconds = lambda now: 0.0005
    service = Service(five, rate)
    service.run(16)
    assert service.share(A) <= 1 / CAP
    assert service.failed() <= 12
    service.run(45)
    assert service.failed() <= 13
    assert service.share(A) == 1.0


def test_a_failure_that_is_tried_elsewhere_is_found_all_the_same() -> None:
    """The feed names only who answered in the end; HAProxy, asked, says at whom requests failed."""
    five = servers()
    five[0].fails = lambda now: now < 20
    five[0].hides = True
    service = Service(five, 400)
    service.run(2)
    assert service.share(A) == 0.0
    before = five[0].retried
    service.run(16)
    assert five[0].retried - before < 15, "only what tries it fails there"
    service.run(45)
    assert service.share(A) == 1.0
    assert service.failed() == 0


def test_a_hidden_failure_is_unknown_where_haproxy_cannot_be_asked() -> None:
    """Nobody is blamed for what is not known."""
    five = servers()
    five[0].fails, five[0].hides = (lambda now: True), True
    service = Service(five, 400, asks=False)
    service.run(2)
    assert service.share(A) == 1.0


@RATES
def test_who_hangs_is_out_before_its_first_request_has_timed_out(rate: float) -> None:
    """Requests under way and none that ends, while the others end theirs: a few requests are lost, not one in five."""
    five = servers()
    five[0].seconds = lambda now: None if now >= 3 else 0.002
    service = Service(five, rate)
    service.run(16)
    assert sum(at >= 3 for at in five[0].taken) <= 5
    standing = service.governor.standings(service.now)["web"][A]
    assert standing.state is not State.CLOSED
    assert "under way" in standing.why


def test_one_long_request_is_no_hang_where_others_take_as_long() -> None:
    """A report of 2 s among pages of 2 ms: nobody is taken out for it."""
    chance = random.Random(3)
    five = servers()
    for one in five:
        one.seconds = lambda now: 2.0 if chance.random() < 0.01 else 0.002
    service = Service(five, 400)
    opened = 0
    for second in range(1, 20):
        service.run(second)
        opened += sum(service.governor.openings().values())
    assert opened == 0


def test_a_quiet_instance_is_not_silent() -> None:
    """Where hardly anybody calls, who has not been called for long is left alone, and so is a service that nobody
    calls any more."""
    five = servers()
    service = Service(five, 0.5)
    service.run(300)
    service.at_rate(0)
    service.run(500)
    assert service.governor.shares == {}
    assert not service.governor.asks()


@RATES
def test_when_all_are_slow_all_stay(rate: float) -> None:
    """Nobody is slower than the others."""
    five = servers()
    for one in five:
        one.seconds = lambda now: 0.002 if now < 3 else 0.05
    service = Service(five, rate)
    service.run(10)
    assert service.governor.shares == {}


@pytest.mark.parametrize("count", [1, 2, 5])
@RATES
def test_when_all_fail_all_stay(rate: float, count: int) -> None:
    """Requests that fail everywhere say nothing of an instance; at most one is out, by the order in which it began, and
    back when its pause is over."""
    some = servers(count)
    for one in some:
        one.fails = lambda now: 3 < now < 30
    service = Service(some, rate)
    for until in range(4, 30):
        service.run(until)
        assert sum(service.share(one.address) == 0 for one in some) <= (count > 1)
    service.run(65)
    assert service.governor.shares == {}


@pytest.mark.parametrize("seed", range(1, 9))
def test_what_failed_everywhere_is_held_against_nobody(seed: int) -> None:
    """One of two is out while all fail, so that only the other one is seen to fail. When both are well again, that says
    nothing against it."""
    two = servers(2)
    for one in two:
        one.fails = lambda now: 3 < now < 30
    service = Service(two, 20.0, seed=seed)
    for tenths in range(300, 700):
        service.run(tenths / 10)
        assert max(service.share(one.address) for one in two) == 1.0, service.now
    assert service.governor.shares == {}


def test_a_pattern_of_bad_requests_takes_nobody_out_for_good() -> None:
    """Three of ten requests fail wherever they go: the others fail as much, so nobody is to blame."""
    chance = random.Random(7)
    five = servers()
    for one in five:
        one.fails = lambda now: chance.random() < 0.3
    service = Service(five, 400)
    out = 0
    for half_seconds in range(4, 40):
        service.run(half_seconds / 2)
        out += sum(service.share(one.address) == 0 for one in five)
    assert out <= 4, "of 180 looks at an instance"


def test_of_two_the_one_that_fails_is_out_and_the_other_stays() -> None:
    """The last one is never out, even when it begins to fail too."""
    two = servers(2)
    two[0].fails = lambda now: True
    two[1].fails = lambda now: now > 10
    service = Service(two, 100)
    service.run(5)
    assert (service.share(A), service.share(B)) == (0.0, 1.0)
    service.run(30)
    assert service.share(B) > 0.0


def test_more_than_half_are_never_out() -> None:
    """Four of five fail: two are out, the others keep what they have."""
    five = servers()
    for one in five[:4]:
        one.fails = lambda now: True
    service = Service(five, 200)
    for until in range(1, 15):
        service.run(until)
        standings = service.governor.standings(service.now).get("web", {})
        assert sum(each.state is not State.CLOSED for each in standings.values()) <= 2


def test_who_stays_alone_is_let_in_again() -> None:
    """The healthy ones leave: an instance that fails is better than none."""
    three = servers(3)
    three[0].fails = lambda now: True
    service = Service(three, 200)
    service.run(0.7)
    assert service.share(A) == 0.0
    service.only(A)
    assert service.share(A) == 1.0


def test_when_haproxy_has_nobody_left_the_open_one_is_let_in() -> None:
    """The other one is down by HAProxy's own check, which balancing does not see: it sees requests that nobody could
    have."""
    two = servers(2)
    two[0].fails = lambda now: now < 5
    service = Service(two, 200)
    service.run(0.7)
    assert service.share(A) == 0.0
    service.serves_nobody = True
    service.run(0.8)
    assert service.share(A) == 1.0


def test_only_one_instance_at_a_time_is_tried() -> None:
    """Two are out: the second waits for the first one's verdict."""
    five = servers()
    for one in five[:2]:
        one.fails = lambda now: True
    service = Service(five, 200)
    for tenths in range(1, 200):
        service.run(tenths / 10)
        standings = service.governor.standings(service.now).get("web", {})
        assert sum(each.state is State.HALF_OPEN for each in standings.values()) <= 1


def test_without_a_breaker_nobody_is_out_but_failures_cost() -> None:
    """`breaker: off`: an instance that fails gets the least, as a slow one."""
    five = servers()
    five[0].fails = lambda now: True
    service = Service(five, 400, breaker=None)
    service.run(3)
    assert service.share(A) == 1 / CAP


def test_where_the_balance_is_not_by_latency_only_the_breaker_speaks() -> None:
    """A slow instance keeps its share, one that fails is out."""
    five = servers()
    five[0].seconds = lambda now: 0.5
    five[1].fails = lambda now: True
    service = Service(five, 200, balance="leastconn")
    service.run(5)
    assert service.share(A) == 1.0
    assert service.share(B) == 0.0


def test_equal_instances_are_left_in_peace() -> None:
    """Chance makes one slower than another for a moment: hardly a command comes of it."""
    chance = random.Random(5)
    five = servers()
    for one in five:
        one.seconds = lambda now: chance.expovariate(1 / 0.02)
    service = Service(five, 400)
    service.run(15)
    assert service.rings <= 5


@pytest.mark.parametrize("told", [1.0, 1 / 4, 1 / 64])
def test_failures_that_all_have_take_nobody_out_however_little_is_told_of_the_rest(told: float) -> None:
    """One of ten fails everywhere. All failures are told of, and of the rest a part: no row of failures runs over good
    ones of which nobody told."""
    five, chance = servers(), random.Random(3)
    for one in five:
        one.fails = lambda now: chance.random() < 0.1
    service = Service(five, 2000)
    service.told = told
    service.run(8)
    assert service.governor.openings().total() == 0
    assert all(service.share(one.address) > 0.5 for one in five)


@pytest.mark.parametrize("told", [1.0, 1 / 4, 1 / 16])
def test_a_black_hole_is_found_at_once_however_little_is_told_of_the_rest(told: float) -> None:
    """Within half a second; and it comes back soon after it answers, though few of the answers are told of."""
    five = servers()
    five[0].fails = lambda now: 3 <= now < 4
    service = Service(five, 2000)
    service.told = told
    service.run(3.5)
    assert service.share(A) == 0.0
    service.run(11)
    assert service.share(A) == 1.0


def test_who_is_tried_gets_enough_for_one_answer_to_be_told_of() -> None:
    """Where one of 64 is told of, two requests a second would be half a minute without a word."""
    five = servers()
    five[0].fails = lambda now: now >= 3
    service = Service(five, 2000)
    service.told = 1 / 64
    for out in (True, False):
        while (service.share(A) == 0.0) is not out:
            assert service.now < 20
            service.run(service.now + 0.05)
    assert service.share(A) > 0.2


def test_who_is_tried_does_not_fail_by_one_failure_among_good_ones_that_nobody_told_of() -> None:
    """Failures count as the part of the good ones that is told: a whole one, or a good request, decides."""
    gauge = Gauge(0.0)
    verdicts = []
    for _ in range(3):
        gauge.result(False, 1 / 4)
    verdicts.append(gauge.first)
    gauge.result(True, 1)
    verdicts.append(gauge.first)
    gauge.clear()
    for _ in range(4):
        gauge.result(False, 1 / 4)
    assert [*verdicts, gauge.first] == [None, True, False]
