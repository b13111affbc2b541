"""Which instances are offered: the registry's word against what was good before, look after look."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from smartstack.instance import Instance
from smartstack.registry.protocol import Listing, Record, Refused, Unknown
from synapse.placement import NOTHING_SEEN, Seen
from synapse.selection import Choice, Confirmation, FloorPolicy, Memory, Origin, choose, one_per_address

HALF = FloorPolicy(floor=0.5, confirm_seconds=30.0)
AWAY = Unknown(reason="the registry is away", since=0.0)


def instance(text: str) -> Instance:
    """An instance from `a`, or `a=0` with a weight."""
    name, _, weight = text.partition("=")
    return Instance(host="10.0.0.1", port=ord(name), weight=int(weight) if weight else None)


def at(text: str) -> str:
    return instance(text).address


def instances(text: str) -> tuple[Instance, ...]:
    return tuple(map(instance, text.split()))


def listing(text: str) -> Listing:
    return Listing(records=tuple(Record(node=each.partition("=")[0], instance=instance(each)) for each in text.split()))


def look(steps: Sequence[tuple[float, str | None]], policy: FloorPolicy = HALF, good: str | None = None) -> Choice:
    """Choose again and again: at a time, with a listing or (None) with a registry that is away. The last choice."""
    memory = Memory(good=None if good is None else instances(good))
    choice = None
    for now, text in steps:
        choice = choose(AWAY if text is None else listing(text), memory, policy, now)
        memory = choice.memory
    assert choice is not None
    return choice


Row = tuple[str | None, Sequence[tuple[float, str | None]], str, Origin]

TABLE: Mapping[str, Row] = {
    "nothing known": (None, [(0, None)], "", Origin.NOTHING),
    "the first listing": (None, [(0, "a b")], "a b", Origin.LISTING),
    "the first listing is empty": (None, [(0, "")], "", Origin.LISTING),
    "one goes of two": ("a b", [(0, "a")], "a", Origin.LISTING),
    "one goes of one": ("a", [(0, "")], "a", Origin.HELD_BACK),
    "two go of three": ("a b c", [(0, "a")], "a b c", Origin.HELD_BACK),
    "all go": ("a b c d", [(0, "")], "a b c d", Origin.HELD_BACK),
    "all are replaced": ("a b c", [(0, "d e f")], "d e f", Origin.LISTING),
    "all go, and it lasts": ("a b", [(0, ""), (29.9, "")], "a b", Origin.HELD_BACK),
    "all go, and it has lasted": ("a b", [(0, ""), (30.0, "")], "", Origin.LISTING),
    "it lasts while it varies": ("a b c d", [(0, ""), (10, "a"), (20, ""), (30, "b")], "b", Origin.LISTING),
    "all go and come back": ("a b", [(0, ""), (10, "a b")], "a b", Origin.LISTING),
    "some come back: what is gone is believed gone": ("a b", [(0, ""), (10, "a")], "a", Origin.LISTING),
    "all go, come back, go: the time begins anew": (
        "a b",
        [(0, ""), (10, "a b"), (20, ""), (40, "")],
        "a b",
        Origin.HELD_BACK,
    ),
    "the registry goes away": ("a b", [(0, None)], "a b", Origin.LAST_GOOD),
    "the registry goes away for ever": ("a b", [(0, None), (1e6, None)], "a b", Origin.LAST_GOOD),
    "what was held back stays while the registry is away": (
        "a b c",
        [(0, "a"), (10, None), (1e6, None)],
        "a b c",
        Origin.LAST_GOOD,
    ),
    "time without the registry does not confirm": (
        "a b",
        [(0, ""), (10, None), (40, "")],
        "a b",
        Origin.HELD_BACK,
    ),
    "after the registry was away the time begins anew": (
        "a b",
        [(0, ""), (10, None), (20, ""), (49.9, "")],
        "a b",
        Origin.HELD_BACK,
    ),
    "and then it confirms": ("a b", [(0, ""), (10, None), (20, ""), (50, "")], "", Origin.LISTING),
    "the registry comes back with less": ("a b c", [(0, None), (10, "a")], "a b c", Origin.HELD_BACK),
    "additions are taken while others are held back": ("a b c", [(0, "d")], "a b c d", Origin.HELD_BACK),
    "additions that were taken are held back too": (
        "a b c d",
        [(0, "e"), (1, "")],
        "a b c d e",
        Origin.HELD_BACK,
    ),
    "weights are taken while others are held back": ("a b c", [(0, "a=7")], "a=7 b c", Origin.HELD_BACK),
    "who drained and goes is no loss": ("a b=0 c=0 d=0", [(0, "a")], "a", Origin.LISTING),
    "all that drained may go": ("a=0 b=0", [(0, "")], "", Origin.LISTING),
    "all drain: that is the operator's word": ("a b", [(0, "a=0 b=0")], "a=0 b=0", Origin.LISTING),
    "an empty set cannot shrink": ("", [(0, "")], "", Origin.LISTING),
}


@pytest.mark.parametrize(("good", "steps", "expected", "origin"), TABLE.values(), ids=TABLE)
def test_choose(good: str | None, steps: Sequence[tuple[float, str | None]], expected: str, origin: Origin) -> None:
    """Half of those that serve may go at once; more are held back until the listing has lasted 30 seconds."""
    choice = look(steps, good=good)
    assert (choice.instances, choice.origin) == (instances(expected), origin)


def test_a_floor_of_nothing_believes_everything() -> None:
    """shrink_floor 0 % holds nothing back, not even an empty listing."""
    assert look([(0, "")], FloorPolicy(floor=0.0), good="a b c").origin is Origin.LISTING


def test_a_floor_of_all_holds_back_each_loss() -> None:
    """shrink_floor 100 % holds back the loss of a single instance."""
    whole = FloorPolicy(floor=1.0, confirm_seconds=5.0)
    assert look([(0, "a b")], whole, good="a b c").instances == instances("a b c")
    assert look([(0, "a b"), (5, "a b")], whole, good="a b c").instances == instances("a b")


UP, DOWN, PART = (
    Seen(up=frozenset({at("a")})),
    Seen(down=frozenset(map(at, "abd"))),
    Seen(down=frozenset({at("a")})),
)
ALIVE = replace(HALF, keep_alive=True)

EVIDENCE: Mapping[
    str, tuple[FloorPolicy, Sequence[tuple[float, str | None, Seen, str | None]], Confirmation | None]
] = {
    # policy, (time, listing, what HAProxy finds, session) of each look, what confirmed the last
    "time": (HALF, [(0, "", UP, "1"), (30, "", UP, "1")], Confirmation.TIME),
    "nobody would be left: time is not enough": (ALIVE, [(0, "", UP, "1"), (1e6, "", UP, "1")], None),
    "nobody would be left, nobody knows": (ALIVE, [(0, "", NOTHING_SEEN, "1"), (1e6, "", NOTHING_SEEN, "1")], None),
    "one is left to serve: time is enough": (ALIVE, [(0, "c", UP, "1"), (30, "c", UP, "1")], Confirmation.TIME),
    "one is left, and it drains": (ALIVE, [(0, "c=0", UP, "1"), (1e6, "c=0", UP, "1")], None),
    "dead, this moment": (ALIVE, [(0, "", DOWN, "1"), (4.9, "", DOWN, "1")], None),
    "dead for long": (ALIVE, [(0, "", DOWN, "1"), (5, "", DOWN, "1")], Confirmation.CHECKS),
    "dead, alive, dead": (ALIVE, [(0, "", DOWN, "1"), (4, "", UP, "1"), (6, "", DOWN, "1")], None),
    "as many as HAProxy knows are dead": (ALIVE, [(0, "", PART, "1"), (5, "", PART, "1")], Confirmation.CHECKS),
    "dead, while the registry is away": (ALIVE, [(0, "", DOWN, "1"), (3, None, DOWN, None), (6, "", DOWN, "1")], None),
    "a new session says so too": (
        HALF,
        [(0, "", UP, "1"), (1, None, UP, None), (2, "", UP, "2")],
        Confirmation.SESSION,
    ),
    "the same session again": (HALF, [(0, "", UP, "1"), (1, None, UP, None), (2, "", UP, "1")], None),
    "a new session, and nobody would be left": (ALIVE, [(0, "", UP, "1"), (2, "", UP, "2")], None),
    "the first session to say so": (HALF, [(0, "a b d", UP, "1"), (1, None, UP, None), (2, "", UP, "2")], None),
    "no sessions (file:)": (HALF, [(0, "", UP, None), (2, "", UP, None)], None),
}


@pytest.mark.parametrize(("policy", "looks", "how"), EVIDENCE.values(), ids=EVIDENCE)
def test_what_confirms_a_shrunken_listing(
    policy: FloorPolicy, looks: Sequence[tuple[float, str | None, Seen, str | None]], how: Confirmation | None
) -> None:
    """Time; a second session; HAProxy, when it finds dead what is missing. Where nobody would be left to serve, only
    HAProxy's word counts."""
    memory = Memory(good=instances("a b d"))
    for now, text, seen, session in looks:
        choice = choose(AWAY if text is None else listing(text), memory, policy, now, seen=seen, session=session)
        memory = choice.memory
    assert choice.confirmed is how
    assert choice.origin is (Origin.HELD_BACK if how is None else Origin.LISTING)
    assert how is not None or set(instances("a b d")) <= set(choice.instances)


def test_an_operator_confirms_any_listing() -> None:
    """`synapse accept`: taken at once, also where nobody is left and all are alive; without need it changes nothing."""
    held = choose(listing(""), Memory(good=instances("a b")), ALIVE, 0.0, seen=UP)
    taken = choose(listing(""), held.memory, ALIVE, 1.0, seen=UP, accepted=True)
    assert (taken.instances, taken.confirmed) == ((), Confirmation.OPERATOR)
    assert taken.reason == "no instance in the registry, as an operator accepted"
    assert choose(listing("a"), Memory(good=instances("a b")), ALIVE, 0.0, accepted=True).confirmed is None


def test_who_is_alive_is_told() -> None:
    """The reason says what the listing waits for."""
    assert choose(listing(""), Memory(good=instances("a b")), ALIVE, 0.0, seen=UP).reason == (
        "the registry has 0 of 2 instances, below the floor of 50%: the 2 missing stay in use "
        "while HAProxy does not find them all dead (1 are up), or until somebody accepts the listing"
    )


def test_a_choice_that_changes_by_itself_says_when() -> None:
    """A held-back listing is due when it is to be believed; nothing else is due."""
    assert look([(100, ""), (110, "")], good="a b").due == 130.0
    assert look([(100, ""), (130, "")], good="a b").due is None
    assert look([(100, "a b")], good="a b").due is None
    assert look([(100, None)], good="a b").due is None


def test_a_choice_says_why() -> None:
    """The reason is for people: how many there are, what is held back until when, or why nothing is known."""
    assert look([(0, "a b")]).reason == "2 instances in the registry"
    assert look([(0, "a")]).reason == "1 instance in the registry"
    assert look([(0, "")]).reason == "no instance in the registry"
    assert look([(0, None)]).reason == "the registry is away"
    assert look([(0, "a")], good="a b c").reason == (
        "the registry has 1 of 3 instances, below the floor of 50%: "
        "the 2 missing stay in use until this has lasted 30 s"
    )
    assert look([(0, ""), (30, "")], good="a b").reason == "no instance in the registry, fewer than before for 30 s"


def test_refused_nodes_are_told_whatever_is_chosen() -> None:
    """Nodes whose data was refused are part of the choice, held back or not."""
    refused = (Refused(node="x", reason="payload is not JSON"),)
    held = choose(Listing(refused=refused), Memory(good=instances("a b")), HALF, 0.0)
    taken = choose(Listing(refused=refused), Memory(), HALF, 0.0)
    assert (held.refused, taken.refused) == (refused, refused)


def test_of_two_nodes_for_one_address_the_newer_counts() -> None:
    """A restart within the session time-out leaves two nodes: the larger version is the truth, in any order."""
    old = Record(node="z", instance=Instance(host="10.0.0.1", port=80, weight=1), version=7)
    new = Record(node="a", instance=Instance(host="10.0.0.1", port=80, weight=2), version=8)
    for records in ((old, new), (new, old)):
        assert one_per_address(records) == (new.instance,)


def test_of_two_nodes_of_one_version_the_larger_name_counts() -> None:
    """Where the registry cannot say which is newer, the answer is at least always the same."""
    first = Record(node="a", instance=Instance(host="10.0.0.1", port=80, weight=1))
    second = Record(node="b", instance=Instance(host="10.0.0.1", port=80, weight=2))
    assert one_per_address((first, second)) == one_per_address((second, first)) == (second.instance,)


def test_instances_are_sorted_by_address() -> None:
    """The order of the nodes' names is of no consequence; ports are ordered as numbers."""
    ports = (8080, 80, 9)
    records = [Record(node=str(port), instance=Instance(host="10.0.0.1", port=port)) for port in ports]
    assert [each.port for each in one_per_address(records)] == [9, 80, 8080]
