"""What /status and /readyz tell of a snapshot."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from smartstack.errors import Problem
from smartstack.instance import Instance
from smartstack.maintenance import Maintenances, begin
from smartstack.registry.protocol import LinkStatus, Listing, Record, Refused, Unknown
from smartstack.responses import json_response
from synapse.offers import Offer
from synapse.plan import Disable, Plan
from synapse.proxy import Admin, Observed, Refusal, Slot
from synapse.selection import Choice, Memory, Origin
from synapse.status import Snapshot, degraded, describe, missing
from tests.support.definitions import definition, placed, proxy

WEB = Instance(host="10.0.0.1", port=80, name="host1", weight=7, labels=(("zone", "a"),))
LINK = LinkStatus(connected=True, detail="connected to zk1", since=5.0, session="0x1", counters={"requests": 3})


def choice(*instances: Instance, origin: Origin = Origin.LISTING, due: float | None = None) -> Choice:
    refused = (Refused(node="bad", reason="payload is not JSON"),) if origin is Origin.HELD_BACK else ()
    return Choice(
        instances=instances, origin=origin, reason="why", memory=Memory(good=instances), refused=refused, due=due
    )


def offer(of: Choice, known: Listing | Unknown | None = None) -> Offer:
    listing = Listing(records=tuple(Record(node=each.address, instance=each) for each in of.instances))
    return Offer(definition=definition(), known=known or listing, choice=of, placement=placed(of.instances))


def slot(name: str = "s1", port: int = 80, weight: int = 100, admin: Admin = Admin.READY, up: bool = True) -> Slot:
    return Slot(name=name, host="10.0.0.1", port=port, weight=weight, admin=admin, up=up)


def observed(*slots: Slot) -> Observed:
    return Observed(pid=42, description="smartstack-1", backends={"web": slots})


QUIET = Snapshot(
    at=20.0,
    clock=5.0,
    started=10.0,
    since={"web": 12.0},
    registry=LINK,
    offers={"web": offer(choice(WEB))},
    observed=observed(slot(), slot("s2", port=9, admin=Admin.MAINT)),
    plan=Plan(),
    planned_at=None,
    last_reload=("added web",),
    refusals={},
    listens={"web": "127.0.0.1:3210"},
    problems={},
    needs_restart=(),
    error=None,
    missing=(),
)


def as_json(snapshot: Snapshot | None) -> Any:
    """As a client reads it."""
    return json.loads(json_response(200, describe(snapshot)).body)


def test_the_other_registries_are_told() -> None:
    """By their names in synapse.yaml, while some source is in them."""
    away = replace(LINK, connected=False, detail="no connection to old1")
    told = as_json(replace(QUIET, registries={"old": away}))["registries"]
    assert (told["old"]["connected"], told["old"]["detail"]) == (False, "no connection to old1")


def test_a_quiet_host() -> None:
    """The whole answer when all is well: the registry, HAProxy, each service with each instance and its slot."""
    assert as_json(QUIET) == {
        "daemon": "synapse",
        "at": 20.0,
        "started": 10.0,
        "error": None,
        "registry": {
            "connected": True,
            "detail": "connected to zk1",
            "since": 5.0,
            "session": "0x1",
            "counters": {"requests": 3},
        },
        "registries": {},
        "haproxy": {
            "running": True,
            "pid": 42,
            "structure": "smartstack-1",
            "last_reload": ["added web"],
            "version": "",
            "old_workers": None,
            "drift": {"at": None, "last": [], "repairs": {}},
        },
        "plan": {"actions": [], "more_actions": 0, "reload": [], "at": None},
        "problems": {},
        "needs_restart": [],
        "stale": None,
        "certificates": [],
        "holds": [],
        "splits": {},
        "faults": [],
        "services": {
            "web": {
                "listen": "127.0.0.1:3210",
                "origin": "listing",
                "reason": "why",
                "since": 12.0,
                "known": True,
                "unknown_since": None,
                "held_back_until": None,
                "refused_definition": None,
                "definition_in_use": True,
                "refused_nodes": [],
                "discovery_only": False,
                "rings": [],
                "placement": "",
                "sampled": 1.0,
                "slots": 2,
                "instances": [
                    {
                        "address": "10.0.0.1:80",
                        "name": "host1",
                        "weight": 7,
                        "labels": {"zone": "a"},
                        "listed": True,
                        "role": "primary",
                        "ring": 0,
                        "why": "",
                        "held": None,
                        "balance": None,
                        "slot": "s1",
                        "state": "serving",
                    }
                ],
                "strangers": [],
                "held": {},
            }
        },
    }


def test_a_host_in_trouble() -> None:
    """Whatever is not as it should be is there, with its reason."""
    trouble = replace(
        QUIET,
        offers={
            "web": offer(choice(WEB, origin=Origin.HELD_BACK, due=84.5)),
            "api": offer(choice(origin=Origin.NOTHING), Unknown(reason="away", since=1.0)),
        },
        observed=None,
        plan=Plan(
            actions=(Disable(backend="web", slot="s1", host="10.0.0.1", port=80),),
            reload_reasons=("HAProxy is not running",),
        ),
        refusals={"web": Refusal(proxy=proxy(), reason="its address is taken")},
        problems={"db": (Problem(path="db.yaml", line=2, column=3, key="port", message="is wrong", got="x"),)},
        needs_restart=("registry",),
        error="cannot start HAProxy",
    )
    told = as_json(trouble)
    assert told["error"] == "cannot start HAProxy"
    haproxy = told["haproxy"]
    assert (haproxy["running"], haproxy["pid"], haproxy["structure"]) == (False, None, None)
    assert haproxy["last_reload"] == ["added web"]
    assert told["plan"] == {
        "actions": ["set server web/s1 state maint"],
        "more_actions": 0,
        "reload": ["HAProxy is not running"],
        "at": None,
    }
    assert told["problems"] == {"db": ["db.yaml:2:3: port: is wrong, got x"]}
    assert told["needs_restart"] == ["registry"]
    web, api = told["services"]["web"], told["services"]["api"]
    assert (web["origin"], web["held_back_until"], web["slots"]) == ("held back", 99.5, 0)
    assert web["refused_definition"] == "its address is taken"
    assert web["refused_nodes"] == [{"node": "bad", "reason": "payload is not JSON"}]
    assert (web["instances"][0]["slot"], web["instances"][0]["state"]) == (None, "not in HAProxy")
    assert (api["origin"], api["known"], api["listen"], api["instances"]) == ("nothing known", False, None, [])


STATES: Mapping[str, tuple[list[Slot], str | None, str]] = {
    "serving": ([slot()], "s1", "serving"),
    "found down by HAProxy": ([slot(up=False)], "s1", "down"),
    "draining": ([slot(weight=0)], "s1", "draining"),
    "draining, and down": ([slot(weight=0, up=False)], "s1", "draining"),
    "drained by hand": ([slot(admin=Admin.DRAIN)], "s1", "draining"),
    "in maintenance": ([slot(admin=Admin.MAINT)], None, "not in HAProxy"),
    "at another port": ([slot(port=81)], None, "not in HAProxy"),
    "left in one slot, serving in another": ([slot(admin=Admin.MAINT), slot("s2")], "s2", "serving"),
    "no slots": ([], None, "not in HAProxy"),
}


@pytest.mark.parametrize(("slots", "name", "state"), STATES.values(), ids=STATES)
def test_the_state_of_an_instance(slots: list[Slot], name: str | None, state: str) -> None:
    """What HAProxy does with an instance, and in which slot it is."""
    told = as_json(replace(QUIET, observed=observed(*slots)))["services"]["web"]["instances"][0]
    assert (told["slot"], told["state"]) == (name, state)


def test_services_are_told_in_the_order_of_their_names() -> None:
    """The same host is told in the same way each time."""
    offers = {name: offer(choice()) for name in ("web", "api", "db")}
    assert list(describe(replace(QUIET, offers=offers))["services"]) == ["api", "db", "web"]


def test_before_the_first_turn() -> None:
    """Whoever asks too early is told that it is too early."""
    assert as_json(None) == {
        "daemon": "synapse",
        "services": {},
        "error": "the first turn of the loop is not done yet",
    }
    assert missing(None) == ["the first turn of the loop"]


def test_one_service_alone() -> None:
    """Who asks for one is told of it in the same words, and of no other."""
    offers = {name: offer(choice()) for name in ("web", "api", "db")}
    whole = describe(replace(QUIET, offers=offers))
    one = describe(replace(QUIET, offers=offers), {"api"})
    assert one == {**whole, "services": {"api": whole["services"]["api"]}}


def test_what_is_held_is_told_with_the_instance_and_alone() -> None:
    """By whom, why, since and until when; also of an address where nobody is now."""
    held = {"reason": "new disk", "owner": "al", "since": 15.0, "until": None}
    holds: Maintenances = {}
    for address in ("10.0.0.1:80", "10.0.0.9:80"):
        holds = begin(holds, f"web {address}", reason="new disk", owner="al", now=15.0, until=None)
    told = as_json(replace(QUIET, holds=holds))
    assert told["holds"] == [
        {"service": "web", "address": "10.0.0.1:80", **held},
        {"service": "web", "address": "10.0.0.9:80", **held},
    ]
    assert told["services"]["web"]["held"] == {"10.0.0.1:80": held, "10.0.0.9:80": held}
    assert told["services"]["web"]["instances"][0]["held"] == held


def test_who_is_in_haproxy_and_no_instance_is_a_stranger() -> None:
    """It is told with its slot and its state; a slot in maintenance is nobody's."""
    told = as_json(replace(QUIET, observed=observed(slot(), slot("s2", port=9), slot("s3", port=8, admin=Admin.MAINT))))
    assert told["services"]["web"]["strangers"] == [{"address": "10.0.0.1:9", "slot": "s2", "state": "serving"}]


def test_whether_the_sources_name_an_instance() -> None:
    """One that is only kept is not named any more; while they do not answer nobody knows."""
    shrunken = offer(choice(WEB, origin=Origin.HELD_BACK), Listing())
    unknown = offer(choice(WEB, origin=Origin.LAST_GOOD), Unknown(reason="away", since=1.0))
    told = as_json(replace(QUIET, offers={"web": shrunken, "api": unknown}))["services"]
    assert (told["web"]["instances"][0]["listed"], told["web"]["unknown_since"]) == (False, None)
    assert (told["api"]["instances"][0]["listed"], told["api"]["unknown_since"]) == (None, 1.0)


def test_what_is_missing_and_what_is_degraded() -> None:
    """Missing is what a first start waits for; degraded is whatever is not as it should be."""
    assert (missing(QUIET), degraded(QUIET)) == ([], [])
    trouble = replace(
        QUIET,
        missing=("api", "db"),
        observed=None,
        registry=replace(LINK, connected=False),
        registries={"old": replace(LINK, connected=False), "new": LINK},
        error="cannot start HAProxy",
    )
    waited = ["the registry's word on api", "the registry's word on db", "a running HAProxy"]
    assert missing(trouble) == waited
    assert degraded(trouble) == ["the registry is away", "the registry old is away", *waited, "cannot start HAProxy"]
