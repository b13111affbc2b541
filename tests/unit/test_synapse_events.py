"""What changed from one turn of the loop to the next, in words."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from smartstack.errors import Problem
from smartstack.instance import MAINTENANCE_LABEL, Instance
from smartstack.maintenance import begin
from smartstack.registry.protocol import Listing, Refused
from synapse.drift import DriftRecord
from synapse.events import Event, Kind, Level, grouped, merged, news
from synapse.offers import Offer
from synapse.placement import Placed, Placement, Role
from synapse.proxy import Refusal
from synapse.rings import Ring, Standing
from synapse.selection import Choice, Confirmation, Memory, Origin
from synapse.staleness import Stale
from synapse.status import Snapshot
from tests.support.definitions import definition, proxy
from tests.unit.test_synapse_status import LINK, QUIET, observed, slot

A = Instance(host="10.0.0.1", port=80)
B = Instance(host="10.0.0.2", port=80)
DRAINED = replace(B, weight=0, labels=((MAINTENANCE_LABEL, "new disk"), (f"{MAINTENANCE_LABEL}_owner", "alice")))
DEFINITION = definition()


def offer(*placed: Placed | Instance, origin: Origin = Origin.LISTING, **fields: Any) -> Offer:
    members = tuple(one if isinstance(one, Placed) else Placed(instance=one, role=Role.PRIMARY) for one in placed)
    given = {"refused": (), "confirmed": None, "reason": "the reason", **fields}
    rings = given.pop("rings", ())
    standing = Standing(used=1) if rings else None
    of = given.pop("definition", DEFINITION)
    choice = Choice(instances=tuple(one.instance for one in members), origin=origin, memory=Memory(), **given)
    placement = Placement(members=members, rings=rings, reason="few are ready" if rings else "", standing=standing)
    return Offer(definition=of, known=Listing(), choice=choice, placement=placement)


def ring(name: str, used: bool) -> Ring:
    return Ring(name=name, registered=1, ready=1, used=used)


def web(*placed: Placed | Instance, **fields: Any) -> Snapshot:
    return replace(QUIET, offers={"web": offer(*placed, **fields)})


def lines(before: Snapshot | None, after: Snapshot, changed: tuple[str, ...] = ("web",)) -> list[str]:
    """Each event as `kind service: what (why)`."""
    return [
        f"{event.kind.value} {event.service or '-'}: {event.what}" + (f" ({event.why})" if event.why else "")
        for event in news(before, after, changed)
    ]


BEFORE = replace(QUIET, offers={"web": offer(A)}, worker=42, last_reload=("added web",))

OF_A_SERVICE: dict[str, tuple[Snapshot, Snapshot, list[str]]] = {
    "nothing": (BEFORE, BEFORE, []),
    "an instance joins": (web(A), web(A, B), ["runtime web: 10.0.0.2:80 joined (registered)"]),
    "an instance joins as a backup": (
        web(A),
        web(A, Placed(instance=B, role=Role.BACKUP, ring=1, reason="anywhere is not needed")),
        ["runtime web: 10.0.0.2:80 joined (registered; a backup: anywhere is not needed)"],
    ),
    "an instance joins that this host does not use": (
        web(A),
        web(A, Placed(instance=B, role=Role.OUT, reason="where: not env is prod")),
        ["runtime web: 10.0.0.2:80 is not used here (where: not env is prod)"],
    ),
    "an instance leaves": (web(A, B), web(A), ["runtime web: 10.0.0.2:80 left (not registered any more)"]),
    "an instance leaves after it drained": (
        web(A, DRAINED),
        web(A),
        ["runtime web: 10.0.0.2:80 left (drained, and not registered any more)"],
    ),
    "instances leave that were held back": (
        web(A, B, origin=Origin.HELD_BACK),
        web(A, confirmed=Confirmation.TIME, reason="1 in the registry, fewer than before for 30 s"),
        [
            "selection web: the registry's word is in use again (1 in the registry, fewer than before for 30 s)",
            "runtime web: 10.0.0.2:80 left (1 in the registry, fewer than before for 30 s)",
        ],
    ),
    "an instance drains": (web(A, B), web(A, DRAINED), ["drain web: 10.0.0.2:80 drains (new disk (alice))"]),
    "an instance drains for no reason that is known": (
        web(A, B),
        web(A, replace(B, weight=0)),
        ["drain web: 10.0.0.2:80 drains (registered with weight 0)"],
    ),
    "an instance comes draining": (
        web(A),
        web(A, DRAINED),
        ["drain web: 10.0.0.2:80 came draining (new disk (alice))"],
    ),
    "an instance takes requests again": (
        web(A, DRAINED),
        web(A, B),
        ["drain web: 10.0.0.2:80 takes requests again (registered so)"],
    ),
    "an instance weighs otherwise": (
        web(A, replace(B, weight=50)),
        web(A, B),
        ["runtime web: 10.0.0.2:80 went from weight 50 to the usual weight (registered so)"],
    ),
    "an instance is not for this host any more": (
        web(A, B),
        web(A, Placed(instance=B, role=Role.OUT, reason="where: not env is prod")),
        ["runtime web: 10.0.0.2:80 is not used here any more (where: not env is prod)"],
    ),
    "a listing is held back": (
        web(A, B),
        web(A, B, origin=Origin.HELD_BACK),
        ["selection web: in use: held back (the reason)"],
    ),
    "what was known last is in use": (
        web(A),
        web(A, origin=Origin.LAST_GOOD),
        ["selection web: in use: last good (the reason)"],
    ),
    "the first word on a service": (
        web(origin=Origin.NOTHING),
        web(A, B),
        [
            "selection web: the registry's word is in use again",
            "runtime web: instances: 2 (the reason)",
        ],
    ),
    "other rings serve": (
        web(A, rings=(ring("zone=a", True), ring("anywhere", False))),
        web(A, rings=(ring("zone=a", True), ring("anywhere", True))),
        ["placement web: other rings of instances serve: zone=a,anywhere (few are ready)"],
    ),
    "a node is refused": (
        web(A),
        web(A, refused=(Refused(node="bad", reason="payload is not JSON"),)),
        ["registry web: refused registry nodes: 1 (bad: payload is not JSON)"],
    ),
    "a definition is edited": (
        web(A),
        web(A, definition=definition(balance="roundrobin")),
        ["definition web: the definition was edited"],
    ),
    "a service comes": (replace(QUIET, offers={}), web(A), ["definition web: the service is new (the reason)"]),
    "a service goes": (
        web(A),
        replace(QUIET, offers={}),
        ["definition web: the service is gone (nobody defines or uses it here)"],
    ),
}


@pytest.mark.parametrize(("before", "after", "told"), OF_A_SERVICE.values(), ids=OF_A_SERVICE)
def test_what_changed_of_a_service(before: Snapshot, after: Snapshot, told: list[str]) -> None:
    """Each change is told once, with its reason, and nothing besides."""
    assert lines(before, after) == told


def test_only_what_changed_is_looked_at() -> None:
    """A turn costs nothing for the services that did not change."""
    assert lines(web(A), web(A, B), changed=()) == []


def test_many_instances_at_once_are_counted() -> None:
    """A deploy of hundreds does not drive out everything else."""
    many = [replace(A, port=1000 + number) for number in range(30)]
    drained = [replace(one, weight=0) for one in many[:10]]
    assert lines(web(*many), web(*drained, B)) == ["runtime web: 31 instances changed (10 drain, 20 left, 1 joined)"]


OF_THE_HOST: dict[str, tuple[dict[str, Any], list[str]]] = {
    "the registry goes": (
        {"registry": replace(LINK, connected=False, session=None, detail="no connection")},
        ["registry -: the registry is away (no connection)"],
    ),
    "another registry is there": (
        {"registries": {"old": LINK}},
        ["registry -: the registry old answers (connected to zk1, session 0x1)"],
    ),
    "HAProxy is reloaded": (
        {"worker": 43, "last_reload": ("added api", "web has 4 slots and gets 8")},
        ["reload -: reloaded HAProxy, pid 43 (added api; web has 4 slots and gets 8)"],
    ),
    "HAProxy dies and is started": (
        {"observed": None, "worker": 43, "last_reload": ("HAProxy is not running",)},
        [
            "haproxy -: HAProxy does not run, or does not answer",
            "reload -: started HAProxy, pid 43 (HAProxy is not running)",
        ],
    ),
    "somebody else reloads HAProxy": (
        {"observed": replace(observed(slot()), pid=50)},
        ["haproxy -: HAProxy answers, pid 50, not by synapse's doing"],
    ),
    "somebody else changes HAProxy": (
        {"drift": DriftRecord(counts={"weight": 1}, last=("the weight of web/s1 went from 100 to 1",), at=19.0)},
        ["haproxy -: somebody else changed HAProxy: it is put right (the weight of web/s1 went from 100 to 1)"],
    ),
    "HAProxy is wrong": (
        {"error": "web: HAProxy answered 'no'"},
        ["haproxy -: HAProxy is not as it should be (web: HAProxy answered 'no')"],
    ),
    "a definition is wrong": (
        {"problems": {"web": (Problem(path="web.yaml", message="is no YAML"),)}},
        ["definition web: configuration problem, what was in use stays in use (web.yaml: is no YAML)"],
    ),
    "a definition leads nowhere": (
        {"problems": {"web": (Problem(path="web.yaml", message="leads to nobody", in_use=True),)}},
        ["definition web: configuration problem (web.yaml: leads to nobody)"],
    ),
    "the host's file is wrong": (
        {"problems": {"": (Problem(path="synapse.yaml", message="is no YAML"),)}},
        ["definition -: configuration problem, what was in use stays in use (synapse.yaml: is no YAML)"],
    ),
    "HAProxy refuses a definition": (
        {"refusals": {"web": Refusal(proxy=proxy(), reason="its address is taken")}},
        ["definition web: the definition is not taken, the service stays as it was (its address is taken)"],
    ),
    "an instance is held": (
        {"holds": begin({}, "web 10.0.0.1:80", reason="it swaps", owner="bob", now=1.0, until=None)},
        ["hold web: 10.0.0.1:80 is held on this host (it swaps (bob))"],
    ),
    "a setting needs a restart": (
        {"needs_restart": ("admin",)},
        ["synapse -: edited settings that only a restart applies (admin)"],
    ),
    "what is in use is old": (
        {"stale": Stale(services=("web",), since=20.0 - 600, reason="the registry is away")},
        ["selection -: nobody has confirmed the instances in use for long (web: 10 minutes, the registry is away)"],
    ),
}


@pytest.mark.parametrize(("fields", "told"), OF_THE_HOST.values(), ids=OF_THE_HOST)
def test_what_changed_of_the_host(fields: dict[str, Any], told: list[str]) -> None:
    """Each change is told when it comes, and not again while it lasts."""
    after = replace(BEFORE, **fields)
    assert lines(BEFORE, after, ()) == told
    assert lines(after, after, ()) == []


MENDED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "HAProxy": ({"error": "down"}, ["haproxy -: HAProxy is as it should be"]),
    "the configuration": (
        {"problems": {"web": (Problem(path="web.yaml", message="is no YAML"),)}},
        ["definition -: the configuration has no problem any more"],
    ),
    "a refused definition": (
        {"refusals": {"web": Refusal(proxy=proxy(), reason="its address is taken")}},
        ["definition web: no definition of the service is refused any more"],
    ),
    "a hold": (
        {"holds": begin({}, "web 10.0.0.1:80", reason="it swaps", owner="", now=1.0, until=None)},
        ["hold web: 10.0.0.1:80 is not held any more"],
    ),
    "the registry": (
        {"registry": replace(LINK, connected=False)},
        ["registry -: the registry answers (connected to zk1, session 0x1)"],
    ),
    "an age": ({"stale": Stale(services=("web",), since=1.0, reason="away")}, []),
}


@pytest.mark.parametrize(("fields", "told"), MENDED.values(), ids=MENDED)
def test_what_is_right_again(fields: dict[str, Any], told: list[str]) -> None:
    """The end of a trouble is told too."""
    assert lines(replace(BEFORE, **fields), BEFORE, ()) == told


def test_a_haproxy_that_hung_answers_again() -> None:
    """Nobody is blamed: it may be the same process, which a synapse before this one started."""
    after = replace(BEFORE, worker=None)
    assert lines(replace(after, observed=None), after, ()) == ["haproxy -: HAProxy answers again, pid 42"]


def test_the_start() -> None:
    """A start says so, what it found, and of each service only what is not as usual: a fleet's hundreds of services do
    not fill the timeline."""
    first = replace(QUIET, offers={"api": offer(A), "web": offer(B, origin=Origin.LAST_GOOD)})
    assert lines(None, first, ("api", "web")) == [
        "synapse -: synapse started (HAProxy runs already, pid 42)",
        "registry -: the registry answers (connected to zk1, session 0x1)",
        "selection web: in use: last good (the reason)",
    ]


def event(service: str | None, what: str = "in use: last good", why: str = "away") -> Event:
    return Event(at=1.0, kind=Kind.SELECTION, what=what, why=why, service=service, level=Level.WARNING)


def test_what_many_services_have_in_common_is_one_event() -> None:
    """Five are told one by one, six as one of the host; a difference in the reason keeps them apart."""
    few, many = [event(f"s{n}") for n in range(5)], [event(f"s{n}", why="gone") for n in range(6)]
    found = list(merged([*few, *many]))
    assert found[:-1] == few
    assert found[-1] == event(None, "in use: last good (6 services: s0,s1,s2,s3,s4,+1)", "gone")


def test_what_is_grouped_keeps_its_names() -> None:
    """The log names the services in one line; what concerns the host has none."""
    groups = grouped([event("a"), event(None), event("b")])
    assert [names for _, names in groups] == [("a", "b"), ()]


LEVELS: dict[str, tuple[Callable[[], Snapshot], Level]] = {
    "a join": (lambda: web(A, B), Level.INFO),
    "last good": (lambda: web(A, origin=Origin.LAST_GOOD), Level.WARNING),
    "an error": (lambda: replace(web(A), error="down"), Level.ERROR),
}


@pytest.mark.parametrize(("after", "level"), LEVELS.values(), ids=LEVELS)
def test_how_much_it_matters(after: Callable[[], Snapshot], level: Level) -> None:
    """As the log has it, so that a reader sees first what somebody should look at."""
    assert [each.level for each in news(web(A), after(), ["web"])] == [level]
