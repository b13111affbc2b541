"""Why an instance gets traffic, or does not: each way to it, and what is said first when several stand in the way."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from smartstack.errors import Problem, SmartStackError
from smartstack.instance import Instance
from smartstack.maintenance import Maintenances, begin
from smartstack.registry.protocol import Listing, Record, Refused, Unknown
from smartstack.responses import json_response
from synapse.explain import Verdict, explain_lines, verdicts, why_not
from synapse.offers import Offer
from synapse.placement import Placed, Placement, Role
from synapse.proxy import Admin, Observed, Refusal, Slot
from synapse.rings import Ring
from synapse.selection import Choice, Memory, Origin
from synapse.status import Snapshot, describe
from tests.support.definitions import definition, proxy
from tests.unit.test_synapse_status import LINK, QUIET

A = Instance(host="10.0.0.1", port=80, name="host1")
B = replace(A, host="10.0.0.2", name="host2")
HELD: Maintenances = begin({}, "web 10.0.0.1:80", reason="new disk", owner="al", now=15.0, until=620.0)


def slot(instance: Instance, name: str = "s1", **fields: Any) -> Slot:
    return Slot(**{"name": name, "host": instance.host, "port": 80, "weight": 100, "admin": Admin.READY, **fields})


def site(
    *slots: Slot,
    instances: tuple[Instance, ...] = (A,),
    roles: Mapping[Instance, tuple[Role, str]] | None = None,
    listed: tuple[Instance, ...] | None = None,
    known: Listing | Unknown | None = None,
    origin: Origin = Origin.LISTING,
    discovery_only: bool = False,
    **fields: Any,
) -> Snapshot:
    """A host with the service `web`: who is chosen, what each is here, whom the sources name, and HAProxy's slots."""
    refused = tuple(known.refused) if isinstance(known, Listing) else ()
    choice = Choice(instances=instances, origin=origin, reason="why", memory=Memory(good=instances), refused=refused)
    named = instances if listed is None else listed
    offer = Offer(
        definition=replace(definition(), proxy=None) if discovery_only else definition(),
        known=known or Listing(records=tuple(Record(node=each.address, instance=each) for each in named)),
        choice=choice,
        placement=Placement(
            members=tuple(
                Placed(instance=each, role=role, reason=reason)
                for each in instances
                for role, reason in [(roles or {}).get(each, (Role.PRIMARY, ""))]
            )
        ),
    )
    observed = Observed(pid=42, description="smartstack-1", backends={"web": slots})
    shown = {"web": "127.0.0.1:3210"} if not discovery_only else {}
    return replace(QUIET, **{"offers": {"web": offer}, "observed": observed, "listens": shown, **fields})


def answer(snapshot: Snapshot | None) -> Any:
    """As a client reads it."""
    return json.loads(json_response(200, describe(snapshot)).body)


def verdict(snapshot: Snapshot, address: str = "10.0.0.1:80") -> Verdict:
    [found] = [each for each in verdicts(answer(snapshot), "web") if each.address == address]
    return found


def labelled(**labels: str) -> Instance:
    return replace(A, weight=0, labels=tuple(sorted(labels.items())))


BACKUP, OUT, HOLD = (Role.BACKUP, "zone=b is not needed"), (Role.OUT, "where: not env is prod"), (Role.HELD, "held")
DRAINED = labelled(maintenance="deploy 7", maintenance_owner="bob")

VERDICTS: Mapping[str, tuple[Snapshot, str]] = {
    "all is well": (site(slot(A)), "gets traffic"),
    "gone, and kept": (
        site(slot(A), listed=(), origin=Origin.HELD_BACK),
        "gets traffic, though no source names it any more",
    ),
    "last good": (site(slot(A), known=Unknown(reason="away", since=1.0), origin=Origin.LAST_GOOD), "gets traffic"),
    "not for this host": (
        site(slot(A), roles={A: OUT}),
        "gets no traffic: it is not for this host (where: not env is prod)",
    ),
    "held": (
        site(slot(A, weight=0), roles={A: HOLD}, holds=HELD),
        "gets no traffic: held on this host by al, for 10 min more: new disk",
    ),
    "held, and HAProxy not told yet": (
        site(slot(A), holds=HELD),
        "gets no traffic: held on this host by al, for 10 min more: new disk",
    ),
    "drained by its nerve": (
        site(slot(A, weight=0), instances=(DRAINED,)),
        "gets no traffic: it is drained everywhere by bob: deploy 7",
    ),
    "weight 0": (
        site(slot(A, weight=0), instances=(replace(A, weight=0),)),
        "gets no traffic: it is registered with weight 0",
    ),
    "found down": (site(slot(A, up=False)), "gets no traffic: HAProxy's own check finds it down"),
    "drained by hand": (site(slot(A, admin=Admin.DRAIN)), "gets no traffic: HAProxy has it draining"),
    "not put in yet": (site(), "gets no traffic: it is not in HAProxy yet"),
    "cannot be put in": (site(error="disk full"), "gets no traffic: it is not in HAProxy yet: disk full"),
    "a backup": (
        site(slot(A, "b1"), slot(B), instances=(A, B), roles={A: BACKUP}),
        "gets no traffic: it is a backup, for when no other is up (zone=b is not needed)",
    ),
    "a backup that is needed": (
        site(slot(A, "b1"), slot(B, up=False), instances=(A, B), roles={A: BACKUP}),
        "gets traffic, as a backup, because no other is up",
    ),
    "no HAProxy": (
        site(observed=None, error="cannot start HAProxy"),
        "gets no traffic: HAProxy does not run, or does not answer: cannot start HAProxy",
    ),
    "never offered": (
        site(listens={}, refusals={"web": Refusal(proxy=proxy(), reason="web.yaml: 'blance' is unknown")}),
        "gets no traffic: the service is not offered, web.yaml: 'blance' is unknown",
    ),
    "discovery only": (
        site(discovery_only=True, observed=None),
        "gets traffic, from those who ask /services: the service is not proxied",
    ),
    "discovery only, and held": (
        site(discovery_only=True, roles={A: HOLD}, holds=HELD),
        "gets no traffic: held on this host by al, for 10 min more: new disk",
    ),
}


@pytest.mark.parametrize(("snapshot", "words"), VERDICTS.values(), ids=VERDICTS)
def test_the_verdict_on_an_instance(snapshot: Snapshot, words: str) -> None:
    """One sentence: whether new requests of this host go there, and the first thing that stands in the way."""
    assert verdict(snapshot).words == words


def test_who_is_known_to_haproxy_alone_is_explained_too() -> None:
    """It gets traffic while HAProxy has it in use; one that is on its way out does not."""
    snapshot = site(slot(A), slot(B, "s2"))
    assert verdict(snapshot, B.address).words == "gets traffic, though it is no instance of the service any more"
    leaving = verdict(site(slot(A), slot(B, "s2", weight=0)), B.address)
    assert (leaving.slot, leaving.words) == ("s2", "gets no traffic: it is no instance of the service any more")


def test_a_registration_that_was_refused_is_explained_too() -> None:
    """By its node's name, with the reason."""
    known = Listing(records=(Record(node="a", instance=A),), refused=(Refused(node="b_1", reason="host is missing"),))
    words = verdict(site(slot(A), known=known), "node b_1").words
    assert words == "gets no traffic: its registration cannot be used (host is missing)"


def test_the_whole_way_of_a_service() -> None:
    """Sources, rings, definition, HAProxy, then each instance with its verdict; how many serve comes first."""
    snapshot = site(
        slot(A), slot(B, "s2", up=False), instances=(A, B), listed=(B,), origin=Origin.HELD_BACK, error="disk full"
    )
    offer = snapshot.offers["web"]
    rings = (Ring(name="zone=a", registered=2, ready=1, used=True),)
    offer = replace(
        offer,
        choice=replace(offer.choice, due=84.5),
        placement=replace(offer.placement, rings=rings, reason="1 ready where 1 is enough"),
    )
    assert explain_lines(answer(replace(snapshot, offers={"web": offer})), "web") == [
        "web  127.0.0.1:3210: 1 of 2 get traffic",
        "",
        "sources      held back: why (as it is for 8 s)",
        "HELD BACK    believed at 1970-01-01T00:01:39Z, in 1 min; `synapse accept web` believes it now",
        "rings        in use  zone=a: 1 of 2 ready",
        "             because 1 ready where 1 is enough",
        "definition   is in use as it stands in its file",
        "haproxy      running, pid 42, 2 slots",
        "error        disk full",
        "",
        "10.0.0.1:80  gone    primary  s1  serving  gets traffic, though no source names it any more",
        "10.0.0.2:80  listed  primary  s2  down     gets no traffic: HAProxy's own check finds it down",
    ]


def test_trouble_with_the_definition_and_the_sources_is_on_the_way() -> None:
    """A file that is wrong, one that HAProxy refuses, a source that is away, and a hold of nobody are told."""
    snapshot = site(
        slot(A),
        known=Unknown(reason="away", since=0.0),
        origin=Origin.LAST_GOOD,
        holds=begin({}, "web 10.0.0.9:80", reason="later", owner="", now=1.0, until=None),
        problems={"web": (Problem(path="web.yaml", line=2, column=1, key="port", message="is wrong"),)},
        refusals={"web": Refusal(proxy=proxy(), reason="its address is taken")},
    )
    lines = explain_lines(answer(snapshot), "web")
    assert "             nothing was heard for 20 s" in lines
    assert "definition   web.yaml:2:1: port: is wrong; what was in use stays in use" in lines
    assert "definition   NOT IN USE: its address is taken" in lines
    assert "held         10.0.0.9:80, which is no instance now, until it is let go: later" in lines


def test_a_service_that_is_not_there() -> None:
    """A misspelt name is asked back, a definition that was never good is told with what is wrong, and before the first
    turn nothing is known."""
    told = answer(site(problems={"db": (Problem(path="db.yaml", message="is empty"),)}))
    with pytest.raises(SmartStackError, match=r"^wbe is no service of this host; did you mean 'web'\?$"):
        verdicts({**told, "services": {}, "known_services": ["web", "api"]}, "wbe")
    with pytest.raises(
        SmartStackError, match=r"^db is not offered, because its definition is wrong: db\.yaml: is empty"
    ):
        verdicts(told, "db")
    with pytest.raises(SmartStackError, match=r"^nothing is known of web yet: the first turn of the loop is not done"):
        verdicts(answer(None), "web")


def test_why_there_are_not_more() -> None:
    """Who waits for instances is told what keeps them, those with the same reason together."""
    assert why_not(answer(site(slot(A))), "web") == "it has no more instances"
    assert why_not(answer(site(instances=(), origin=Origin.NOTHING)), "web") == "it has no instances (why)"
    down = site(slot(A, up=False), slot(B, "s2", up=False), instances=(A, B))
    assert why_not(answer(down), "web") == "10.0.0.1:80, 10.0.0.2:80: HAProxy's own check finds it down"


def test_the_link_is_not_what_decides() -> None:
    """A registry that is away takes no traffic from anybody: HAProxy goes on."""
    away = site(slot(A), registry=replace(LINK, connected=False), known=Unknown(reason="away", since=1.0))
    assert verdict(away).traffic
