"""How many slots a service gets, and what an instance's weight is to HAProxy."""

from collections.abc import Mapping, Sequence

import pytest

from smartstack.instance import Instance
from smartstack.traffic import Balance
from synapse.placement import Seen
from synapse.proxy import Admin, Observed, Slot, Target, algorithm, slot_count, spare_weight, targets
from tests.support.definitions import placed, proxy

SLOTS: Mapping[str, tuple[int | None, int, bool, int]] = {
    "a new service without instances": (None, 0, False, 4),
    "a new service with one": (None, 1, False, 4),
    "a new service with two: two to spare": (None, 2, False, 4),
    "a new service with three: the next step": (None, 3, False, 8),
    "a new service with six": (None, 6, False, 8),
    "a new service with ten: a quarter to spare": (None, 10, False, 16),
    "a new service with a hundred": (None, 100, False, 128),
    "all but one slot taken: stays": (4, 3, False, 4),
    "all but one slot taken, and a reload happens anyway: stays": (4, 3, True, 4),
    "all slots taken: grows": (4, 4, False, 8),
    "one more than there are slots: grows": (4, 5, False, 8),
    "far more than there are slots: grows in one step": (4, 100, False, 128),
    "nothing left and no reload due: stays": (128, 0, False, 128),
    "nothing left and a reload due: shrinks": (128, 0, True, 4),
    "three quarters of no use and a reload due: shrinks": (32, 6, True, 8),
    "not quite three quarters: stays": (32, 7, True, 32),
    "half in use: stays": (16, 8, True, 16),
    "an odd count, of a site's own template: stays": (5, 2, True, 5),
    "no slots at all: grows": (0, 0, False, 4),
}


@pytest.mark.parametrize(("current", "needed", "may_shrink", "count"), SLOTS.values(), ids=SLOTS)
def test_slot_count(current: int | None, needed: int, may_shrink: bool, count: int) -> None:
    """One slot is always free; growing goes in steps with a quarter to spare, shrinking only along with a reload."""
    assert slot_count(current, needed, may_shrink=may_shrink) == count


WEIGHTS: Mapping[str, tuple[Sequence[int | None], Balance, Sequence[int]]] = {
    "none given": ([None], "leastconn", [100]),
    "given": ([50, 0, None], "leastconn", [50, 0, 100]),
    "the largest": ([256], "roundrobin", [256]),
    "on a hash ring, an eighth": ([None, 256, 0, 1, 9], "random", [13, 32, 0, 1, 2]),
    "by latency, all the same: few units": ([None, 100, 0], "latency", [4, 4, 0]),
    "by latency, all the same and small": ([1, 1], "latency", [4, 4]),
    "by latency, different: enough units": ([None, 50, 1, 0], "latency", [64, 32, 1, 0]),
    "by latency, different and small": ([1, 2], "latency", [32, 64]),
    "by latency, all draining": ([0, 0], "latency", [0, 0]),
}


@pytest.mark.parametrize(("given", "balance", "weights"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights(given: Sequence[int | None], balance: Balance, weights: Sequence[int]) -> None:
    """As they are given, or fewer units where each costs memory, rounded up; 0 stays 0."""
    instances = [Instance(host=f"10.0.0.{number}", port=80, weight=weight) for number, weight in enumerate(given)]
    found = targets(placed(instances), proxy(balance=balance))
    assert [target.weight for target in found] == weights
    assert [target.weight_now for target in found] == weights


SHARES: Mapping[str, tuple[Sequence[int | None], Mapping[str, float], Balance, Sequence[int]]] = {
    "half of one": ([None, None], {"10.0.0.0:80": 0.5}, "latency", [32, 64]),
    "the least of one": ([None, None], {"10.0.0.0:80": 1 / 64}, "latency", [1, 64]),
    "nothing of one: the others keep what they have": ([None, None], {"10.0.0.0:80": 0.0}, "latency", [0, 4]),
    "of what is draining there is no part": ([0, None], {"10.0.0.0:80": 0.5}, "latency", [0, 4]),
    "of a weight that differs": ([50, None], {"10.0.0.0:80": 0.5}, "latency", [16, 64]),
    "of a small one there is always something": ([1, None], {"10.0.0.0:80": 1 / 64}, "latency", [1, 64]),
    "by what is under way": ([None, None], {"10.0.0.0:80": 0.03}, "leastconn", [3, 100]),
    "on a hash ring": ([None, None], {"10.0.0.0:80": 0.0}, "hash", [0, 13]),
    "of somebody who is not there": ([None, None], {"10.0.0.9:80": 0.5}, "latency", [4, 4]),
}


@pytest.mark.parametrize(("given", "shares", "balance", "weights"), SHARES.values(), ids=SHARES)
def test_shares_change_the_weight_of_the_moment_and_not_the_files(
    given: Sequence[int | None], shares: Mapping[str, float], balance: Balance, weights: Sequence[int]
) -> None:
    """The same targets for whoever compares them: no file is written for a share."""
    instances = placed(Instance(host=f"10.0.0.{number}", port=80, weight=weight) for number, weight in enumerate(given))
    shared = targets(instances, proxy(balance=balance), shares)
    assert [target.weight_now for target in shared] == weights
    assert shared == targets(instances, proxy(balance=balance))


def test_without_measurements_latency_is_leastconn() -> None:
    """Nobody tells how long requests take: the weights are those of leastconn, and so is the pick."""
    instances = placed([Instance(host="10.0.0.1", port=80)])
    assert [target.weight for target in targets(instances, proxy(), measured=False)] == [100]
    assert algorithm(proxy(), measured=False) == "leastconn"
    assert algorithm(proxy(), measured=True) == "latency"
    assert algorithm(proxy(balance="roundrobin"), measured=False) == "roundrobin"


def test_a_slot_that_nobody_is_behind_costs_little() -> None:
    """On the ring of `latency` one unit; elsewhere the weight of an instance that gave none."""
    assert [spare_weight(balance) for balance in ("latency", "random", "leastconn")] == [1, 13, 100]


def test_targets_are_the_instances_with_these_weights() -> None:
    """Address by address in the order given, weighed for the balance algorithm of the definition."""
    instances = [Instance(host="10.0.0.1", port=80, weight=0), Instance(host="::1", port=81)]
    assert targets(placed(instances), proxy(balance="random")) == (
        Target(host="10.0.0.1", port=80, weight=0),
        Target(host="::1", port=81, weight=13),
    )


@pytest.mark.parametrize(
    ("admin", "weight", "serves"),
    [(Admin.READY, 1, True), (Admin.READY, 0, False), (Admin.DRAIN, 1, False), (Admin.MAINT, 1, False)],
)
def test_a_slot_serves_when_it_is_ready_and_weighs_something(admin: Admin, weight: int, serves: bool) -> None:
    """Drained, disabled and weightless slots get no new requests; what HAProxy's own check says is another matter."""
    for up in (True, False):
        slot = Slot(name="s1", host="10.0.0.1", port=80, weight=weight, admin=admin, up=up)
        assert slot.serves is serves


def test_what_is_found_of_instances() -> None:
    """Who is up and who is not, on either side; who takes traffic as a primary; an empty place is nobody."""

    def slot(name: str, number: int, weight: int = 1, admin: Admin = Admin.READY, *, up: bool = True) -> Slot:
        return Slot(name=name, host=f"10.0.0.{number}", port=80, weight=weight, admin=admin, up=up)

    slots = [
        slot("s1", 1),
        slot("s2", 2, up=False),
        slot("s3", 3, weight=0),
        slot("s4", 4, admin=Admin.MAINT),
        slot("b1", 5),
        slot("b2", 6, up=False),
    ]
    observed = Observed(pid=1, description="d", backends={"web": slots})
    assert observed.seen("web", current=7, queued=2) == Seen(
        up=frozenset({"10.0.0.1:80", "10.0.0.3:80", "10.0.0.5:80"}),
        down=frozenset({"10.0.0.2:80", "10.0.0.6:80"}),
        primaries=frozenset({"10.0.0.1:80", "10.0.0.2:80"}),
        current=7,
        queued=2,
    )
    assert observed.seen("api") == Seen()
