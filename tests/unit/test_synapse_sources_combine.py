"""What several sources say together: unknown is not empty, here as anywhere."""

import pytest

from smartstack.instance import Instance
from smartstack.locality import Condition
from smartstack.registry.protocol import Listing, Record, Refused, Unknown
from synapse.sources.combine import NOTHING, Said, fallback, keep, leader, unclaimed, union, with_port

AWAY = Unknown(reason="zk1 is away", since=5.0)
GONE = Unknown(reason="the nameserver is silent", since=9.0)


def record(number: int, node: str = "", version: int = 0, **fields: object) -> Record:
    instance = Instance(host=f"10.0.0.{number}", port=80, **fields)  # type: ignore[arg-type]
    return Record(node=node or str(number), instance=instance, version=version)


def listing(*numbers: int) -> Listing:
    return Listing(records=tuple(record(number) for number in numbers))


def now(known: Listing) -> Said:
    return Said(now=known, last=known)


def away(*last: int, why: Unknown = AWAY) -> Said:
    """A source that is away, and said this before."""
    return Said(now=why, last=listing(*last))


NEVER = Said(now=AWAY, last=None)


def shown(known: Listing | Unknown) -> str:
    """`1 2`, with `?` where it is partial; the reason where nothing is known."""
    if isinstance(known, Unknown):
        return known.reason
    numbers = " ".join(each.instance.host.rpartition(".")[2] for each in known.records)
    return numbers + (" ?" if known.partial else "")


UNION = {
    "both are known": ([now(listing(1)), now(listing(2))], listing(9), False, "1 2"),
    "one address in both": ([now(listing(1, 2)), now(listing(2, 3))], listing(), False, "1 2 3"),
    "both are empty": ([now(listing()), now(listing())], listing(9), False, ""),
    "one is away: what it said stays": ([now(listing(1)), away(2, 3)], listing(9), False, "1 2 3 ?"),
    "what the other one removes goes all the same": ([now(listing()), away(2)], listing(9), False, "2 ?"),
    "one was never heard and is waited for": ([now(listing(1)), NEVER], listing(1, 9), True, "zk1 is away"),
    "one was never heard: what was good stays": ([now(listing(1)), NEVER], listing(9), False, "1 9 ?"),
    "one was never heard, and nothing was good": ([now(listing(1)), NEVER], listing(), False, "1 ?"),
    "all are away": ([away(1), away(2, why=GONE)], listing(), False, "zk1 is away; the nameserver is silent"),
    "all are away for one reason": ([away(1), NEVER], listing(), False, "zk1 is away"),
}


@pytest.mark.parametrize(("said", "kept", "waiting", "expected"), UNION.values(), ids=UNION)
def test_union(said: list[Said], kept: Listing, waiting: bool, expected: str) -> None:
    """The instances of all; what a source that is away said last stands in for it, and the answer says that it does."""
    assert shown(union(said, kept, waiting=waiting)) == expected


FALLBACK = {
    "the first has some": ([now(listing(1)), now(listing(2))], listing(), False, "1"),
    "the first is empty": ([now(listing()), now(listing(2))], listing(9), False, "2"),
    "none has any": ([now(listing()), now(listing())], listing(), False, ""),
    "the first is away and had some": ([away(1), now(listing(2))], listing(), False, "zk1 is away"),
    "the first is away and had none": ([away(), now(listing(2))], listing(), False, "2 ?"),
    "the first was never heard and is waited for": ([NEVER, now(listing(2))], listing(), True, "zk1 is away"),
    "the first was never heard, and something is good": ([NEVER, now(listing(2))], listing(9), False, "zk1 is away"),
    "the first was never heard, and nothing is good": ([NEVER, now(listing(2))], listing(), False, "2 ?"),
    "the second is away and is not needed": ([now(listing(1)), away(2)], listing(), False, "1"),
    "the second is away and is needed": ([now(listing()), away(2)], listing(), False, "zk1 is away"),
    "all that is left is not known": ([now(listing()), away()], listing(), False, "zk1 is away"),
}


@pytest.mark.parametrize(("said", "kept", "waiting", "expected"), FALLBACK.values(), ids=FALLBACK)
def test_fallback(said: list[Said], kept: Listing, waiting: bool, expected: str) -> None:
    """The first that has any. An outage is no reason to go on to the next while anything is known to be good."""
    assert shown(fallback(said, kept, waiting=waiting)) == expected


def test_the_first_listing_is_answered_as_it_is() -> None:
    """Nothing is made anew where one source alone is the answer."""
    first = listing(1)
    assert fallback([now(first), now(listing(2))]) is first
    assert union([away(1, why=GONE)]) is GONE


def test_nothing_is_known_since_the_last_source_was_lost() -> None:
    """Until then something was known."""
    known = union([away(1), away(2, why=GONE)])
    assert isinstance(known, Unknown)
    assert known.since == 9.0


def test_the_earlier_source_has_the_word_on_an_address() -> None:
    """All of its nodes are kept, so that of two nodes for one address the newer counts, as in one registry."""
    old = Listing(records=(record(1, "a", 3, weight=1), record(1, "b", 4, weight=2)))
    new = Listing(records=(record(1, "c", 9, weight=7),))
    known = union([now(old), now(new)])
    assert isinstance(known, Listing)
    assert [each.node for each in known.records] == ["a", "b"]


def test_refused_nodes_of_every_source_are_told() -> None:
    """Also those of the source that was passed over: they may be why."""
    bad = Listing(refused=(Refused(node="x", reason="payload is not JSON"),))
    for known in (union([now(bad), now(listing(1))]), fallback([now(bad), now(listing(1))])):
        assert isinstance(known, Listing)
        assert [each.node for each in known.refused] == ["x"]
        assert shown(known) == "1"


def test_what_was_good_is_kept_until_somebody_lists_it() -> None:
    """From then on that source decides on it; a source that is away decides nothing."""
    kept = keep([record(1).instance, record(2).instance])
    assert shown(unclaimed(kept, [now(listing(1)), away(2)])) == "2"
    assert unclaimed(kept, [now(listing(3))]) is kept


def test_a_port_in_place_of_the_registered_one() -> None:
    """Every instance gets it, and nothing else of it changes; what is not known stays so."""
    known = with_port(Listing(records=(record(1, version=7, weight=3),)), 9000)
    assert isinstance(known, Listing)
    (only,) = known.records
    assert (only.instance.address, only.instance.weight, only.version) == ("10.0.0.1:9000", 3, 7)
    assert with_port(AWAY, 9000) is AWAY


LEADERS = {
    "the oldest": ([record(1, version=9), record(2, version=3), record(3, version=5)], "2"),
    "without versions the lowest address": ([record(10), record(2), record(3)], "2"),
    "one with a version before those without": ([record(1), record(2, version=3)], "2"),
    "one that is draining comes last": ([record(1, version=1, weight=0), record(2, version=2)], "2"),
    "all are draining": ([record(1, version=2, weight=0), record(2, version=1, weight=0)], "2"),
    "a restart does not make it older": ([record(1, "a", 1), record(1, "b", 9), record(2, "c", 5)], "2"),
    "nobody": ([], ""),
}


@pytest.mark.parametrize(("records", "expected"), LEADERS.values(), ids=LEADERS)
def test_leader(records: list[Record], expected: str) -> None:
    """The instance that has been registered longest."""
    assert shown(leader(Listing(records=tuple(records)))) == expected


def test_without_a_leader_there_is_nobody_and_never_everybody() -> None:
    """B12: Airbnb's synapse used all instances for half a minute when it could not tell who leads."""
    prod = (Condition(label="env", values=("prod",)),)
    assert shown(leader(listing(1, 2), prod)) == ""
    assert leader(AWAY) is AWAY


def test_the_leader_is_one_of_those_that_are_wanted() -> None:
    """`where` comes before age."""
    prod = (Condition(label="env", values=("prod",)),)
    old, new = record(1, version=1), record(2, version=2, labels=(("env", "prod"),))
    assert shown(leader(Listing(records=(old, new)), prod)) == "2"


def test_nothing_is_empty() -> None:
    """The default of `kept`."""
    assert (NOTHING.records, NOTHING.partial) == ((), "")
