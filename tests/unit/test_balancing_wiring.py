"""The way of a share: from the governor by the offers to HAProxy's weights, and to whoever asks why."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from smartstack.instance import Instance
from smartstack.registry.protocol import Listing, Record
from synapse.balancing.breaker import State
from synapse.balancing.governor import QUIET_SECONDS, Governor
from synapse.balancing.pool import Standing
from synapse.balancing.tidings import Tidings
from synapse.events import Kind
from synapse.explain import explain_lines, share_text
from synapse.haproxy.answers import parse_server_loads
from synapse.haproxy.commands import command
from synapse.offers import Offers, Surroundings
from synapse.outlook import why
from synapse.plan import Disable, Plan, SetWeight, change_members
from synapse.proxy import Admin, Load, Slot, Target
from tests.support.definitions import definition
from tests.support.virtual import offer_of, request
from tests.unit.test_synapse_explain import A, answer, site, slot, verdict

WEB = definition()


def listing(*hosts: str) -> Listing:
    return Listing(records=tuple(Record(node=host, instance=Instance(host=host, port=80)) for host in hosts))


def test_a_share_alone_makes_no_other_offer() -> None:
    """Only the services whose shares are others are looked at, and they do not count as changed: nothing is saved or
    told for it."""
    offers, known = Offers({}), {"web": listing("10.0.0.1"), "api": listing("10.0.0.2")}
    definitions = {"web": WEB, "api": WEB}
    offers.update(definitions, known, 0.0)
    api = offers.by_name["api"]
    shared = Surroundings(shares={"web": {"10.0.0.1:80": 0.5}})
    assert offers.update(definitions, known, 1.0, shared) == set()
    assert offers.reweighed == {"web"}
    assert offers.by_name["web"].shares == {"10.0.0.1:80": 0.5}
    assert offers.by_name["api"] is api
    assert offers.update(definitions, known, 2.0, shared) == set() == offers.reweighed
    offers.update(definitions, known, 3.0, Surroundings())
    assert offers.reweighed == {"web"}
    assert offers.by_name["web"].shares == {}


def test_a_service_that_changes_otherwise_keeps_its_shares() -> None:
    """One that was looked at for another reason is told of once."""
    offers, shares = Offers({}), {"web": {"10.0.0.1:80": 0.5}, "gone": {"10.0.0.9:80": 0.0}}
    offers.update({"web": WEB}, {"web": listing("10.0.0.1")}, 0.0)
    changed = offers.update({"web": WEB}, {"web": listing("10.0.0.1", "10.0.0.2")}, 1.0, Surroundings(shares=shares))
    assert changed == {"web"}
    assert offers.reweighed == set()
    assert offers.by_name["web"].shares == {"10.0.0.1:80": 0.5}


def slots(*weights: int) -> list[Slot]:
    return [
        Slot(name=f"s{number}", host=f"10.0.0.{number}", port=80, weight=weight, admin=Admin.READY)
        for number, weight in enumerate(weights, 1)
    ]


LIVE: Mapping[str, tuple[list[Slot], list[tuple[int, int | None]], list[str]]] = {
    "one gets less": (slots(4, 4), [(4, 2), (4, 64)], ["s1 weight 2", "s2 weight 64"]),
    "as it is already": (slots(2, 64), [(4, 2), (4, 64)], []),
    "one gets nothing: after the others have theirs": (
        slots(4, 64),
        [(4, 0), (4, None)],
        ["s2 weight 4", "s1 weight 0"],
    ),
    "one comes back from nothing, first": (slots(0, 4), [(4, 1), (4, 64)], ["s1 weight 1", "s2 weight 64"]),
    "all as in the file again": (slots(2, 64), [(4, None), (4, None)], ["s1 weight 4", "s2 weight 4"]),
    "an instance whose weight is 0 stays at 0": (slots(0, 4), [(0, None), (4, None)], []),
}


@pytest.mark.parametrize(("has", "weights", "commands"), LIVE.values(), ids=LIVE)
def test_the_plan_sends_the_weight_of_the_moment(
    has: list[Slot], weights: list[tuple[int, int | None]], commands: list[str]
) -> None:
    """It owns HAProxy's weights: static weight, drain and share come together in a target."""
    targets = [
        Target(host=f"10.0.0.{number}", port=80, weight=weight, live=live)
        for number, (weight, live) in enumerate(weights, 1)
    ]
    actions = change_members("web", has, targets)
    assert [command(action).removeprefix("set server web/") for action in actions] == commands


def test_a_plan_without_some_backends() -> None:
    """What is only a share is left out of what people are told."""
    one = SetWeight(backend="web", slot="s1", host="10.0.0.1", port=80, weight=2)
    two = Disable(backend="api", slot="s1", host="10.0.0.2", port=80)
    assert Plan(actions=(one, two)).without({"web"}) == Plan(actions=(two,))


def standing(share: float, state: State = State.CLOSED, **fields: Any) -> Standing:
    values = {"why": "slow, 51 ms against 2 ms", "typical_ms": 51.0, **fields}
    return Standing(share=share, state=state, **values)


def balanced(one: Standing) -> Mapping[str, Mapping[str, Standing]]:
    return {"web": {A.address: one}}


OUT = standing(0.0, State.OPEN, until=9.0, why="7 failures in a row")
WORDS = {
    "slow": (standing(0.12), slot(A, weight=8), "gets traffic, weight 12 of 100: slow, 51 ms against 2 ms"),
    "next to nothing": (standing(1 / 64), slot(A, weight=1), "gets traffic, weight 2 of 100: slow, 51 ms against 2 ms"),
    "tried": (
        standing(0.03, State.HALF_OPEN, why="7 failures in a row"),
        slot(A, weight=2),
        "gets traffic, weight 3 of 100: a few requests try it after 7 failures in a row",
    ),
    "out": (OUT, slot(A, weight=0), "gets no traffic: the breaker is open, for 4.0 s more: 7 failures in a row"),
    "out and down": (
        OUT,
        slot(A, weight=0, up=False),
        "gets no traffic: the breaker is open, for 4.0 s more: 7 failures in a row",
    ),
}


@pytest.mark.parametrize(("one", "seat", "words"), WORDS.values(), ids=WORDS)
def test_explain_says_how_much_and_why(one: Standing, seat: Slot, words: str) -> None:
    """The weight of 100 that it gets, or for how long it gets nothing."""
    assert verdict(site(seat, balance=balanced(one))).words == words


def test_status_says_the_share_and_when_it_is_tried() -> None:
    """In seconds since the epoch, with the state `out` for one whose breaker is open."""
    told = answer(site(slot(A, weight=0), balance=balanced(OUT)))["services"]["web"]["instances"][0]
    assert told["state"] == "out"
    assert told["balance"] == {
        "share": 0.0,
        "breaker": "open",
        "why": "7 failures in a row",
        "until": 24.0,
        "typical_ms": 51.0,
    }
    assert answer(site(slot(A)))["services"]["web"]["instances"][0]["balance"] is None


def test_a_weight_of_its_own_is_told_in_its_own_terms() -> None:
    """Of 30, not of 100."""
    told = answer(site(slot(A, weight=8), instances=(replace(A, weight=30),), balance=balanced(standing(0.5))))
    assert share_text(told["services"]["web"]["instances"][0]).startswith("weight 15 of 30")
    assert any("weight 15 of 30" in line for line in explain_lines(told, "web"))


def test_the_plans_words_for_a_share() -> None:
    """`synapse plan` says that it is for now, and that a breaker is open."""
    weight = SetWeight(backend="web", slot="s1", host="10.0.0.1", port=80, weight=8)
    offer = replace(offer_of(["10.0.0.1:80"]), shares={"10.0.0.1:80": 0.12})
    assert why(weight, offer) == "its weight here is 8, 12% of its own for now"
    assert why(replace(weight, weight=0), replace(offer, shares={"10.0.0.1:80": 0.0})) == "its breaker is open"


STAT = """\
# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,
web,s1,0,0,3,4,,90,0,0,,0,,0,0,7,5,UP,1,
web,s2,0,0,0,4,,90,0,0,,0,,0,0,0,9,UP,1,
web,s3,0,0,,4,,90,0,0,,0,,0,0,x,,UP,1,

"""


def test_what_haproxy_counts_of_each_slot() -> None:
    """A request that is tried elsewhere counts as a retry, as a redispatch, or as both; nonsense counts nothing."""
    assert parse_server_loads(STAT) == {
        "s1": Load(current=3, retried=7),
        "s2": Load(current=0, retried=9),
        "s3": Load(current=0, retried=0),
    }
    assert parse_server_loads("") == parse_server_loads("No such proxy.\n\n") == {}


def told(*looks: Standing | None, has: bool = True) -> list[tuple[Kind, str, str]]:
    """What the last of these looks tells."""
    heard = Tidings()
    for look in looks[:-1]:
        heard.look({} if look is None else balanced(look), lambda *_: True, at=100.0, clock=5.0)
    last = {} if looks[-1] is None else balanced(looks[-1])
    events = heard.look(last, lambda service, address: has and (service, address) == ("web", A.address), 100.0, 5.0)
    return [(event.kind, event.what, event.why) for event in events]


TIDINGS = {
    "nothing": (None, None, None),
    "a little slower": (None, standing(0.6), None),
    "much slower": (
        None,
        standing(0.02),
        (Kind.WEIGHTS, "10.0.0.1:80 gets 2% of its weight", "slow, 51 ms against 2 ms"),
    ),
    "still much slower": (standing(0.1), standing(0.02), None),
    "as fast as the others again": (
        standing(0.1),
        None,
        (Kind.WEIGHTS, "10.0.0.1:80 gets all of its weight again", ""),
    ),
    "as fast as the others again, and nobody heard that it was not": (standing(0.6), None, None),
    "out": (None, OUT, (Kind.BREAKER, "10.0.0.1:80 gets no requests for 4.0 s", "7 failures in a row")),
    "still out": (OUT, OUT, None),
    "tried": (OUT, standing(0.02, State.HALF_OPEN), None),
    "out for longer": (
        standing(0.02, State.HALF_OPEN),
        replace(OUT, until=15.0),
        (Kind.BREAKER, "10.0.0.1:80 gets no requests for 10.0 s", "7 failures in a row"),
    ),
    "back": (standing(0.02, State.HALF_OPEN), standing(0.1), (Kind.BREAKER, "10.0.0.1:80 gets requests again", "")),
    "back, and nobody looked while it was tried": (
        replace(OUT, until=4.9),
        None,
        (Kind.BREAKER, "10.0.0.1:80 gets requests again", ""),
    ),
    "back because others went": (
        OUT,
        None,
        (Kind.BREAKER, "10.0.0.1:80 gets requests again, before its time", ""),
    ),
}


@pytest.mark.parametrize(("before", "after", "event"), TIDINGS.values(), ids=TIDINGS)
def test_what_is_worth_an_event(
    before: Standing | None, after: Standing | None, event: tuple[Kind, str, str] | None
) -> None:
    """Who gets nothing, hardly anything, or all again; not each step on the way."""
    assert told(before, after) == ([] if event is None else [event])


def test_what_was_told_has_an_end_however_it_comes() -> None:
    """Step by step, or by way of a pause; and only once."""
    again = (Kind.WEIGHTS, "10.0.0.1:80 gets all of its weight again", "")
    assert told(None, standing(0.1), standing(0.6), None) == [again]
    assert told(None, standing(0.1), standing(0.6), None, None) == []
    back = (Kind.BREAKER, "10.0.0.1:80 gets requests again", "")
    assert told(standing(0.1), OUT, standing(0.02, State.HALF_OPEN), standing(0.6)) == [back]
    assert told(standing(0.1), OUT, standing(0.6), None) == []


def test_who_fails_soon_after_it_came_back_fails_again() -> None:
    """So that what was told a moment before is not contradicted; later it is news of its own."""
    heard = Tidings()
    said = []
    for clock, look in (
        (0.0, OUT),
        (5.0, standing(0.02, State.HALF_OPEN)),
        (5.5, None),
        (6.0, replace(OUT, until=8.0)),
    ):
        found = heard.look({} if look is None else balanced(look), lambda *_: True, at=100.0, clock=clock)
        said += [event.what for event in found]
    assert said == [
        "10.0.0.1:80 gets no requests for 9.0 s",
        "10.0.0.1:80 gets requests again",
        "10.0.0.1:80 fails again and gets no requests for 2.0 s",
    ]
    heard.look({}, lambda *_: True, at=100.0, clock=8.5)
    [event] = heard.look(balanced(replace(OUT, until=60.0)), lambda *_: True, at=100.0, clock=50.0)
    assert event.what == "10.0.0.1:80 gets no requests for 10.0 s"


def test_who_left_has_not_come_back() -> None:
    """That it left is told by others."""
    assert told(standing(0.1), None, has=False) == []
    assert told(OUT, None, has=False) == []


def governor(addresses: list[str], **proxy: Any) -> Governor:
    made = Governor(lambda: None, lambda: 0.0)
    made.know("web", offer_of(addresses, **proxy), 0.0)
    return made


ADDRESSES = [f"10.0.0.{number}:80" for number in range(1, 4)]


def test_who_is_not_known_costs_nothing() -> None:
    """Requests of a service that this host does not offer, or of an instance that left, are passed over."""
    made = governor(ADDRESSES)
    made.take([request("10.0.0.1:80", service="other", status=500)] * 20, 1.0)
    made.take([request("10.9.9.9:80", status=500)] * 20, 1.0)
    made.tick(2.0)
    assert made.shares == {}


def test_what_nobody_calls_is_forgotten() -> None:
    """A minute after its last request a service costs no memory and no time."""
    made = governor(ADDRESSES)
    made.take([request(address) for address in ADDRESSES], 1.0)
    made.tick(2.0)
    assert made._pools
    made.tick(2.0 + QUIET_SECONDS)
    assert not made._pools


def test_a_service_that_goes_takes_its_shares_along() -> None:
    """And one whose definition has a breaker no more lets everybody in."""
    made = governor(ADDRESSES)
    made.take([request("10.0.0.1:80", status=500)] * 7, 1.0)
    assert made.shares == {"web": {"10.0.0.1:80": 0.0}}
    assert made.openings() == {"web": 1}
    assert made.openings() == {}
    made.know("web", offer_of(ADDRESSES, breaker=None, balance="roundrobin"), 1.5)
    assert made.shares == {}
    made.know("web", offer_of(ADDRESSES), 2.0)
    made.take([request("10.0.0.1:80", status=500)] * 7, 2.0)
    made.know("web", None, 3.0)
    assert made.shares == {}


def test_shares_are_replaced_as_a_whole() -> None:
    """Whoever reads them has one state, not half of the next."""
    made = governor(ADDRESSES)
    before = made.shares
    made.take([request("10.0.0.1:80", status=500)] * 7, 1.0)
    assert before == {}
    with pytest.raises(TypeError):
        made.shares["web"] = {}  # type: ignore[index]
