"""Which instances clients on this host use: labels, rings, holds, and what HAProxy finds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from smartstack.instance import Instance
from smartstack.locality import WHERE, Condition, Locality, Where
from synapse.placement import Here, Placement, Role, Seen, holds, in_words, place, ring_lines
from synapse.rings import LEAVE_SECONDS, Load, Standing, choose_rings, ring_names, ring_of

LABELS = {"zone": "a1", "region": "a"}
NEAR = Locality(prefer=("zone", "region"))


def instance(text: str) -> Instance:
    """`5 zone=a1 region=a` is 10.0.0.5 with these labels; `5=0` has weight 0."""
    first, *labels = text.split()
    number, _, weight = first.partition("=")
    pairs = tuple(sorted((label.partition("=")[0], label.partition("=")[2]) for label in labels))
    return Instance(host=f"10.0.0.{number}", port=80, weight=int(weight) if weight else None, labels=pairs)


FLEET = tuple(
    map(
        instance,
        ["1 zone=a1 region=a", "2 zone=a1 region=a", "3 zone=a2 region=a", "4 zone=b1 region=b", "5 zone=b1 region=b"],
    )
)


def at(*numbers: int) -> frozenset[str]:
    return frozenset(f"10.0.0.{number}:80" for number in numbers)


def roles(placement: Placement) -> dict[Role, frozenset[str]]:
    found: dict[Role, frozenset[str]] = {}
    for placed in placement.members:
        found[placed.role] = found.get(placed.role, frozenset()) | {placed.instance.address}
    return found


CONDITIONS: Mapping[str, tuple[object, Mapping[str, str], bool]] = {
    "equal": ({"env": "prod"}, {"env": "prod"}, True),
    "another value": ({"env": "prod"}, {"env": "test"}, False),
    "not there": ({"env": "prod"}, {}, False),
    "one of several": ({"env": ["prod", "test"]}, {"env": "test"}, True),
    "not equal": ({"env": "!prod"}, {"env": "test"}, True),
    "not equal, and it is": ({"env": "!prod"}, {"env": "prod"}, False),
    "not equal, and not there": ({"env": "!prod"}, {}, True),
    "none of several": ({"env": ["!a", "!b"]}, {"env": "b"}, False),
    "there": ({"canary": "*"}, {"canary": ""}, True),
    "there, and it is not": ({"canary": "*"}, {}, False),
    "not there, as wanted": ({"canary": "!*"}, {}, True),
    "there, though not wanted": ({"canary": "!*"}, {"canary": "x"}, False),
}


@pytest.mark.parametrize(("written", "labels", "holding"), CONDITIONS.values(), ids=CONDITIONS)
def test_a_condition(written: object, labels: Mapping[str, str], holding: bool) -> None:
    """Equal, not equal, one or none of several, there, not there; an absent label has no value that it could equal."""
    [condition] = WHERE.parse(written)
    assert holds(condition, labels) is holding
    assert WHERE.parse(WHERE.write((condition,))) == (condition,)


def test_a_condition_in_words() -> None:
    """For /status and explain."""
    assert in_words(Condition(label="env", values=("prod", "test"))) == "env is prod or test"
    assert in_words(Condition(label="canary", negate=True)) == "canary is not there"


def test_who_does_not_meet_the_conditions_is_out() -> None:
    """With the condition that is not met; without locality all others are primaries."""
    where: Where = WHERE.parse({"region": "a", "zone": "!a2"})
    placement = place(FLEET, where=where, locality=None, here=Here(held=at(2)))
    assert roles(placement) == {Role.PRIMARY: at(1), Role.HELD: at(2), Role.OUT: at(3, 4, 5)}
    assert placement.members[3].reason == "where: not region is a"
    assert {placed.instance.address for placed in placement.used} == at(1, 2)


def test_the_rings_around_a_host() -> None:
    """By the labels that the host has; what shares none of them is in the last ring."""
    assert ring_names(NEAR, LABELS) == ["zone=a1", "region=a", "anywhere"]
    assert [ring_of(one, NEAR, LABELS) for one in FLEET] == [0, 0, 1, 2, 2]
    assert ring_names(NEAR, {"region": "a"}) == ["region=a", "anywhere"]
    assert [ring_of(one, NEAR, {"region": "a"}) for one in FLEET] == [0, 0, 0, 1, 1]
    assert ring_names(NEAR, {}) == ["anywhere"]
    assert ring_of(instance("9"), NEAR, LABELS) == 2


PLACED: Mapping[str, tuple[Locality, Here, frozenset[str]]] = {
    # the locality, what is so here, and who are primaries; all others are backups
    "the nearest ring": (NEAR, Here(labels=LABELS), at(1, 2)),
    "one is down: one is enough": (NEAR, Here(labels=LABELS, seen=Seen(down=at(1))), at(1, 2)),
    "the zone is down": (NEAR, Here(labels=LABELS, seen=Seen(down=at(1, 2))), at(1, 2, 3)),
    "the region is down": (NEAR, Here(labels=LABELS, seen=Seen(down=at(1, 2, 3))), at(1, 2, 3, 4, 5)),
    "all are down": (NEAR, Here(labels=LABELS, seen=Seen(down=at(1, 2, 3, 4, 5))), at(1, 2, 3, 4, 5)),
    "two are wanted": (replace(NEAR, min_servers=2), Here(labels=LABELS), at(1, 2)),
    "two are wanted, one is down": (
        replace(NEAR, min_servers=2),
        Here(labels=LABELS, seen=Seen(down=at(1))),
        at(1, 2, 3),
    ),
    "more are wanted than there are": (replace(NEAR, min_servers=9), Here(labels=LABELS), at(1, 2, 3, 4, 5)),
    "half are wanted, one is down": (
        replace(NEAR, min_percent=0.5),
        Here(labels=LABELS, seen=Seen(down=at(1))),
        at(1, 2),
    ),
    "60 % are wanted, one is down": (
        replace(NEAR, min_percent=0.6),
        Here(labels=LABELS, seen=Seen(down=at(1))),
        at(1, 2, 3),
    ),
    "nobody is in the zone": (NEAR, Here(labels={"zone": "a9", "region": "a"}), at(1, 2, 3)),
    "the host has no labels": (NEAR, Here(), at(1, 2, 3, 4, 5)),
    "the host has a zone of its own": (NEAR, Here(labels={"zone": "z"}), at(1, 2, 3, 4, 5)),
}


@pytest.mark.parametrize(("locality", "here", "primaries"), PLACED.values(), ids=PLACED)
def test_who_serves(locality: Locality, here: Here, primaries: frozenset[str]) -> None:
    """The nearest ring, and as many more as it takes; an instance that is down stays with its ring."""
    found = roles(place(FLEET, where=(), locality=locality, here=here))
    assert found.get(Role.PRIMARY) == primaries
    assert found.get(Role.BACKUP, frozenset()) == at(1, 2, 3, 4, 5) - primaries


def test_who_drains_or_is_held_does_not_count_as_ready() -> None:
    """A zone whose last one is drained or held has nobody left for new requests."""
    drained = (instance("1=0 zone=a1"), *FLEET[1:])
    placement = place(drained, where=(), locality=NEAR, here=Here(labels=LABELS, held=at(2)))
    assert roles(placement) == {Role.PRIMARY: at(1, 3), Role.HELD: at(2), Role.BACKUP: at(4, 5)}
    assert ring_lines(placement) == [
        "in use  zone=a1: 0 of 2 ready",
        "in use  region=a: 1 of 1 ready",
        "backup  anywhere: 2 of 2 ready",
        "because 1 ready where 1 are enough",
    ]


@pytest.mark.parametrize(("share", "used"), [(0.5, [True, False, False]), (0.6, [True, True, False])])
def test_a_share_is_of_everybody_who_is_registered(share: float, used: list[bool]) -> None:
    """One of two that drains, is held or is down leaves half of the ring, whichever of these it is."""
    drained = (instance("1=0 zone=a1"), *FLEET[1:])
    locality = replace(NEAR, min_percent=share)
    for fleet, here in (
        (drained, Here(labels=LABELS)),
        (FLEET, Here(labels=LABELS, held=at(1))),
        (FLEET, Here(labels=LABELS, seen=Seen(down=at(1)))),
    ):
        placement = place(fleet, where=(), locality=locality, here=here)
        assert [ring.used for ring in placement.rings] == used
        assert (placement.rings[0].registered, placement.rings[0].ready) == (2, 1)


def test_a_synapse_that_starts_goes_on_with_the_rings_that_serve() -> None:
    """Nothing is remembered, and HAProxy has the next ring in use: that leaves as any ring does, not at once."""
    here = Here(labels=LABELS, seen=Seen(primaries=at(1, 3)))
    first = place(FLEET, where=(), locality=NEAR, here=here, now=100.0)
    assert [ring.used for ring in first.rings] == [True, True, False]
    assert first.due == 100.0 + LEAVE_SECONDS
    last = place(FLEET, where=(), locality=NEAR, here=here, before=first, now=first.due)
    assert [ring.used for ring in last.rings] == [True, False, False]


@pytest.mark.parametrize("seen", [Seen(), Seen(primaries=at(1, 3))], ids=["HAProxy starts", "HAProxy runs"])
def test_the_first_instances_find_no_ring_in_use(seen: Seen) -> None:
    """While nobody was known, no ring helped: what follows begins with the nearest, or with what HAProxy has in use."""
    here = Here(labels=LABELS, seen=seen)
    nobody = place((), where=(), locality=NEAR, here=here, now=0.0)
    placement = place(FLEET, where=(), locality=NEAR, here=here, before=nobody, now=1.0)
    assert [ring.used for ring in placement.rings] == [True, bool(seen.primaries), False]


@pytest.mark.parametrize("primaries", [at(), at(1, 2), at(9), at(4)], ids=["none", "near", "strangers", "left out"])
def test_only_who_may_serve_says_which_rings_do(primaries: frozenset[str]) -> None:
    """A stranger in HAProxy is in no ring, and one that is left out brings none in."""
    where = WHERE.parse({"region": "a"})
    here = Here(labels=LABELS, seen=Seen(primaries=primaries))
    placement = place(FLEET, where=where, locality=NEAR, here=here)
    assert [ring.used for ring in placement.rings] == [True, False, False]


Look = tuple[float, Sequence[tuple[int, int]], Load]

FULL, BUSY, CALM = (Load(current=current, queued=queued, limit=2) for current, queued in ((4, 3), (4, 0), (1, 0)))

STORIES: Mapping[str, tuple[Sequence[Look], int, float | None]] = {
    # looks (time, counts, load), how many rings are in use at the last, when that changes by itself
    "it joins at once": ([(0, [(2, 2), (1, 1)], Load()), (1, [(2, 0), (1, 1)], Load())], 2, None),
    "it stays for a while": ([(0, [(2, 0), (1, 1)], Load()), (1, [(2, 2), (1, 1)], Load())], 2, 1 + LEAVE_SECONDS),
    "it leaves": (
        [(0, [(2, 0), (1, 1)], Load()), (1, [(2, 2), (1, 1)], Load()), (11, [(2, 2), (1, 1)], Load())],
        1,
        None,
    ),
    "needed meanwhile, the time begins anew": (
        [
            (0, [(2, 0), (1, 1)], Load()),
            (1, [(2, 2), (1, 1)], Load()),
            (5, [(2, 0), (1, 1)], Load()),
            (6, [(2, 2), (1, 1)], Load()),
            (12, [(2, 2), (1, 1)], Load()),
        ],
        2,
        6 + LEAVE_SECONDS,
    ),
    "full": ([(0, [(2, 2), (1, 1)], CALM), (1, [(2, 2), (1, 1)], FULL)], 2, None),
    "full, and the next ring is empty": (
        [(0, [(2, 2), (0, 0), (1, 1)], CALM), (1, [(2, 2), (0, 0), (1, 1)], FULL)],
        3,
        None,
    ),
    "full, and the next ring is dead": (
        [(0, [(2, 2), (1, 0), (1, 1)], CALM), (1, [(2, 2), (1, 0), (1, 1)], FULL)],
        3,
        None,
    ),
    "full, and all others are dead": ([(0, [(2, 2), (3, 0)], CALM), (1, [(2, 2), (3, 0)], FULL)], 1, None),
    "full, and all others are empty": ([(0, [(2, 2), (0, 0)], CALM), (1, [(2, 2), (0, 0)], FULL)], 1, None),
    "full, and no other ring": ([(0, [(2, 2)], CALM), (1, [(2, 2)], FULL)], 1, None),
    "still busy: it does not leave": (
        [(0, [(2, 2), (1, 1)], CALM), (1, [(2, 2), (1, 1)], FULL), (60, [(2, 2), (1, 1)], BUSY)],
        2,
        None,
    ),
    "quiet again": (
        [
            (0, [(2, 2), (1, 1)], CALM),
            (1, [(2, 2), (1, 1)], FULL),
            (60, [(2, 2), (1, 1)], CALM),
            (70, [(2, 2), (1, 1)], CALM),
        ],
        1,
        None,
    ),
    "requests wait, and nothing limits them": (
        [(0, [(2, 2), (1, 1)], Load()), (1, [(2, 2), (1, 1)], Load(queued=5))],
        1,
        None,
    ),
    "a ring less": ([(0, [(1, 0), (1, 0), (1, 1)], Load()), (1, [(1, 0), (1, 1)], Load())], 2, None),
}


@pytest.mark.parametrize(("looks", "used", "due"), STORIES.values(), ids=STORIES)
def test_rings_join_at_once_and_leave_slowly(looks: Sequence[Look], used: int, due: float | None) -> None:
    """For too few ready instances, or for requests that wait."""
    standing: Standing | None = None
    at_last: float | None = None
    for now, counts, load in looks:
        standing, at_last, _ = choose_rings(counts, NEAR, load, standing, now)
    assert standing is not None
    assert (standing.used, at_last) == (used, due)
