"""Plans as a table: the slots that HAProxy has, what is wanted, and the exact runtime commands or reload reasons."""

from collections.abc import Mapping, Sequence

import pytest

from synapse.haproxy.commands import command
from synapse.plan import Plan, Structure, change_members, plan, structure_changes
from synapse.proxy import SPARE_HOST, SPARE_PORT, Admin, Observed, Service, Slot, Target
from tests.support.definitions import proxy


def slots(*texts: str) -> list[Slot]:
    """Slots `s1`, `s2`, … from texts such as `10.0.0.1:80 w100 ready`, or `spare`."""
    return [_slot(f"s{number}", text) for number, text in enumerate(texts, 1)]


def _slot(name: str, text: str) -> Slot:
    if text == "spare":
        return Slot(name=name, host=SPARE_HOST, port=SPARE_PORT, weight=100, admin=Admin.MAINT, up=False)
    address, weight, admin, *more = text.split()
    host, _, port = address.rpartition(":")
    return Slot(name=name, host=host, port=int(port), weight=int(weight[1:]), admin=Admin(admin), up="down" not in more)


def targets(*texts: str) -> tuple[Target, ...]:
    """Targets from texts such as `10.0.0.1:80 w100`."""
    found = []
    for text in texts:
        address, weight = text.split()
        host, _, port = address.rpartition(":")
        found.append(Target(host=host, port=int(port), weight=int(weight[1:])))
    return tuple(found)


ONE, TWO, THREE = "10.0.0.1:80 w100", "10.0.0.2:80 w100", "10.0.0.3:80 w100"

RUNTIME: Mapping[str, tuple[Sequence[str], Sequence[str], Sequence[str]]] = {
    "nothing to do": ([f"{ONE} ready", "spare"], [ONE], []),
    "nothing there and nothing wanted": ([], [], []),
    "all slots spare and nothing wanted": (["spare", "spare"], [], []),
    "the first instance": (
        ["spare", "spare", "spare", "spare"],
        [ONE],
        ["web/s1 addr 10.0.0.1 port 80", "web/s1 state ready"],
    ),
    "one more": (
        [f"{ONE} ready", "spare", "spare"],
        [ONE, TWO],
        ["web/s2 addr 10.0.0.2 port 80", "web/s2 state ready"],
    ),
    "one more with a weight of its own": (
        [f"{ONE} ready", "spare", "spare"],
        [ONE, "10.0.0.2:80 w7"],
        ["web/s2 addr 10.0.0.2 port 80", "web/s2 weight 7", "web/s2 state ready"],
    ),
    "one less": ([f"{ONE} ready", f"{TWO} ready", "spare"], [ONE], ["web/s2 state maint"]),
    "the last one goes": ([f"{ONE} ready", "spare"], [], ["web/s1 state maint"]),
    "one for another: in before out": (
        [f"{ONE} ready", "spare"],
        [TWO],
        ["web/s2 addr 10.0.0.2 port 80", "web/s2 state ready", "web/s1 state maint"],
    ),
    "two for two with one free slot: in, out, in, out": (
        ["10.0.0.1:80 w1 ready", "10.0.0.2:80 w1 ready", "spare"],
        ["10.0.0.3:80 w1", "10.0.0.4:80 w1"],
        [
            "web/s3 addr 10.0.0.3 port 80",
            "web/s3 weight 1",
            "web/s3 state ready",
            "web/s1 state maint",
            "web/s1 addr 10.0.0.4 port 80",
            "web/s1 state ready",
            "web/s2 state maint",
        ],
    ),
    "no free slot at all: room is made first": (
        [f"{ONE} ready", f"{TWO} ready"],
        [THREE],
        ["web/s1 state maint", "web/s1 addr 10.0.0.3 port 80", "web/s1 state ready", "web/s2 state maint"],
    ),
    "one that HAProxy finds down goes before one that serves": (
        [f"{ONE} ready", f"{TWO} ready down", "spare"],
        [],
        ["web/s2 state maint", "web/s1 state maint"],
    ),
    "a slot in maintenance that points right is only enabled": (
        [f"{ONE} ready", f"{TWO} maint", "spare"],
        [ONE, TWO],
        ["web/s2 state ready"],
    ),
    "a spare slot is taken before one that somebody left": (
        [f"{ONE} ready", f"{THREE} maint", "spare", "spare"],
        [ONE, TWO],
        ["web/s3 addr 10.0.0.2 port 80", "web/s3 state ready"],
    ),
    "who comes back finds the own slot": (
        [f"{ONE} ready", f"{THREE} maint", "spare", "spare"],
        [ONE, THREE],
        ["web/s2 state ready"],
    ),
    "another weight": ([f"{ONE} ready", "spare"], ["10.0.0.1:80 w50"], ["web/s1 weight 50"]),
    "draining: weight 0 and the slot stays": (
        [f"{ONE} ready", f"{TWO} ready", "spare"],
        [ONE, "10.0.0.2:80 w0"],
        ["web/s2 weight 0"],
    ),
    "drained is left alone": ([f"{ONE} ready", "10.0.0.2:80 w0 ready", "spare"], [ONE, "10.0.0.2:80 w0"], []),
    "back from draining": ([f"{ONE} ready", "10.0.0.2:80 w0 ready"], [ONE, TWO], ["web/s2 weight 100"]),
    "one drains as another arrives: in before down": (
        [f"{ONE} ready", "spare", "spare"],
        ["10.0.0.1:80 w0", TWO],
        ["web/s2 addr 10.0.0.2 port 80", "web/s2 state ready", "web/s1 weight 0"],
    ),
    "one arrives that is draining already": (
        [f"{ONE} ready", "spare", "spare"],
        [ONE, "10.0.0.2:80 w0"],
        ["web/s2 addr 10.0.0.2 port 80", "web/s2 weight 0", "web/s2 state ready"],
    ),
    "drained by hand: the registry's word counts": (
        ["10.0.0.1:80 w100 drain", f"{TWO} ready", "spare"],
        [ONE, TWO],
        ["web/s1 state ready"],
    ),
    "drained by hand and draining: never a moment with its old weight": (
        ["10.0.0.1:80 w100 drain", f"{TWO} ready", "spare"],
        ["10.0.0.1:80 w0", TWO],
        ["web/s1 weight 0", "web/s1 state ready"],
    ),
    "drained by hand and gone": (["10.0.0.1:80 w100 drain", f"{TWO} ready"], [TWO], ["web/s1 state maint"]),
    "disabled by hand": ([f"{ONE} maint", f"{TWO} ready", "spare"], [ONE, TWO], ["web/s1 state ready"]),
    "weighed by hand": (["10.0.0.1:80 w1 ready", f"{TWO} ready"], [ONE, TWO], ["web/s1 weight 100"]),
    "two slots for one address: one of them goes": (
        [f"{ONE} ready", f"{ONE} ready", "spare"],
        [ONE],
        ["web/s2 state maint"],
    ),
    "of two slots for one address the one that serves stays": (
        ["10.0.0.1:80 w100 drain", f"{ONE} ready", "spare"],
        [ONE],
        ["web/s1 state maint"],
    ),
    "two slots for one address, one of them disabled": ([f"{ONE} maint", f"{ONE} ready", "spare"], [ONE], []),
    "two ports of one host are two instances": (
        ["10.0.0.1:80 w100 ready", "spare", "spare"],
        [ONE, "10.0.0.1:81 w100"],
        ["web/s2 addr 10.0.0.1 port 81", "web/s2 state ready"],
    ),
    "a port that moves is another instance": (
        ["10.0.0.1:80 w100 ready", "spare"],
        ["10.0.0.1:81 w100"],
        ["web/s2 addr 10.0.0.1 port 81", "web/s2 state ready", "web/s1 state maint"],
    ),
    "IPv6": (
        ["2001:db8::1:80 w100 ready", "spare"],
        ["2001:db8::2:80 w100"],
        ["web/s2 addr 2001:db8::2 port 80", "web/s2 state ready", "web/s1 state maint"],
    ),
    "more than there is room for: all slots but one": (
        ["spare", "spare", "spare"],
        [ONE, TWO, THREE],
        [
            "web/s1 addr 10.0.0.1 port 80",
            "web/s1 state ready",
            "web/s2 addr 10.0.0.2 port 80",
            "web/s2 state ready",
        ],
    ),
    "more than there is room for, and somebody goes: the removal does not wait for the reload": (
        [f"{ONE} ready", f"{TWO} ready", "spare"],
        [TWO, THREE, "10.0.0.4:80 w100", "10.0.0.5:80 w100"],
        ["web/s3 addr 10.0.0.3 port 80", "web/s3 state ready", "web/s1 state maint"],
    ),
    "all slots taken and one more wanted: nothing to do at run time": (
        [f"{ONE} ready", f"{TWO} ready"],
        [ONE, TWO, THREE],
        [],
    ),
    "weights are put right before anybody drains": (
        ["10.0.0.1:80 w1 ready", f"{TWO} ready", "spare"],
        [ONE, "10.0.0.2:80 w0"],
        ["web/s1 weight 100", "web/s2 weight 0"],
    ),
}


@pytest.mark.parametrize(("has", "wanted", "commands"), RUNTIME.values(), ids=RUNTIME)
def test_the_runtime_commands(has: Sequence[str], wanted: Sequence[str], commands: Sequence[str]) -> None:
    """From these slots to these targets it takes exactly these commands, in this order."""
    actions = change_members("web", slots(*has), targets(*wanted))
    assert [command(action) for action in actions] == [f"set server {text}" for text in commands]


def structure(description: str, **digests: str) -> Structure:
    """A structure; `host` is the global part."""
    return Structure(description=description, digests={"" if key == "host" else key: digests[key] for key in digests})


BEFORE = structure("gen-1", host="h", web="w", api="a")
RELOADS: Mapping[str, tuple[str, Structure, Structure | None, Mapping[str, str], tuple[str, ...]]] = {
    "the structure that runs": ("gen-1", BEFORE, BEFORE, {}, ()),
    "the structure that runs, though nobody remembers it": ("gen-1", BEFORE, None, {}, ()),
    "a new service": (
        "gen-1",
        structure("gen-2", host="h", web="w", api="a", db="d"),
        BEFORE,
        {},
        ("added db",),
    ),
    "a service less": ("gen-1", structure("gen-2", host="h", web="w"), BEFORE, {}, ("removed api",)),
    "a changed service and changed settings": (
        "gen-1",
        structure("gen-2", host="h2", web="w2", api="a"),
        BEFORE,
        {},
        ("changed global settings", "changed web"),
    ),
    "somebody else's HAProxy, or one of a synapse that forgot": (
        "by hand",
        structure("gen-2", host="h", web="w"),
        None,
        {},
        ("the structure differs from the running one",),
    ),
    "answers that did not fit": (
        "gen-1",
        BEFORE,
        BEFORE,
        {"web": "HAProxy answered 'No such server.'", "api": "odd"},
        ("api: odd", "web: HAProxy answered 'No such server.'"),
    ),
}


@pytest.mark.parametrize(("runs", "wanted", "running", "distrusted", "reasons"), RELOADS.values(), ids=RELOADS)
def test_the_reasons_to_reload(
    runs: str,
    wanted: Structure,
    running: Structure | None,
    distrusted: Mapping[str, str],
    reasons: tuple[str, ...],
) -> None:
    """A reload is for the structure, and for answers that did not fit; the reasons say which, in order."""
    observed = Observed(pid=1, description=runs, backends={"web": slots("spare"), "api": slots("spare")})
    assert plan(observed, {}, wanted, running, distrusted) == Plan(reload_reasons=reasons)


def service(name: str, count: int, *texts: str) -> Service:
    return Service(name=name, proxy=proxy(), targets=targets(*texts), slots=count)


def test_growth_is_a_reason_and_does_what_it_can_before() -> None:
    """A backend that outgrows its slots takes in what fits at run time, then the reload gives it more."""
    observed = Observed(pid=1, description="gen-1", backends={"web": slots(f"{ONE} ready", "spare", "spare")})
    wanted = {"web": service("web", 8, ONE, TWO, THREE)}
    made = plan(observed, wanted, structure("gen-2", host="h", web="w2"), structure("gen-1", host="h", web="w"), {})
    assert [command(action) for action in made.actions] == [
        "set server web/s2 addr 10.0.0.2 port 80",
        "set server web/s2 state ready",
    ]
    assert made.reload_reasons == ("changed web", "web has 3 slots and gets 8")


def test_the_reload_does_not_hold_up_the_members() -> None:
    """Services of the running HAProxy are kept in step although another one makes a reload necessary."""
    observed = Observed(pid=1, description="gen-1", backends={"web": slots(f"{ONE} ready", "spare")})
    wanted = {"web": service("web", 2), "db": service("db", 4, ONE)}
    made = plan(observed, wanted, structure("gen-2", host="h", web="w", db="d"), None, {})
    assert [command(action) for action in made.actions] == ["set server web/s1 state maint"]
    assert made.reload_reasons == ("the structure differs from the running one",)


def test_services_are_planned_in_the_order_of_their_names() -> None:
    """The same input gives the same plan, in whatever order it came."""
    backends = {name: slots(f"{ONE} ready", "spare") for name in ("web", "api", "db")}
    observed = Observed(pid=1, description="gen-1", backends=backends)
    for order in (("web", "api", "db"), ("db", "web", "api")):
        wanted = {name: service(name, 2) for name in order}
        made = plan(observed, wanted, BEFORE, None, {})
        assert [action.backend for action in made.actions] == ["api", "db", "web"]


def test_an_empty_plan_says_so() -> None:
    """Nothing to do is neither an action nor a reason."""
    assert Plan().empty
    assert not Plan(reload_reasons=("a reason",)).empty
    assert not Plan(actions=tuple(change_members("web", slots(f"{ONE} ready"), ()))).empty


def test_structure_changes_say_nothing_of_the_unknown() -> None:
    """Without a memory of what runs there is nothing to compare with; equal structures have no difference."""
    assert structure_changes(None, BEFORE) == []
    assert structure_changes(BEFORE, BEFORE) == []
