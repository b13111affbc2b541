"""The roster: what is remembered of a service from turn to turn, and what that makes of its registration."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from nerve.checks.tcp import TcpCheck
from nerve.health import Result, State
from nerve.registrations import MAIN, Host, Registration
from nerve.roster import Roster
from nerve.services import announced
from nerve.settings import Announcement, FlapDamping, OtherRegistry, PublishLimit, Settings
from smartstack.definition import Endpoint, OtherPlace, ServiceDefinition, expand
from smartstack.forms import DirectoryUrl
from smartstack.instance import Instance, decode
from smartstack.maintenance import Maintenance, Maintenances
from smartstack.registry.protocol import HeldNode, NodeId

HOST = Host(address="10.0.0.5", instance_id="host5", labels={}, node_names="address")
CHECK = TcpCheck(rise=2, fall=2)
FREE = PublishLimit(burst=1000)
CALM = FlapDamping(shadow=True)


class Fixture:
    """A roster with a clock, and a registry that does what is wanted at once."""

    def __init__(self, limit: PublishLimit = FREE, damping: FlapDamping = CALM) -> None:
        self.now = 1000.0
        self.limit, self.damping = limit, damping
        self.roster = Roster(limit, damping)
        self.held: dict[NodeId, HeldNode] = {}

    def announce(self, announce: Mapping[str, Announcement] | None = None, **definitions: ServiceDefinition) -> None:
        """Announce these, each with the announcement of its name or an empty one."""
        everything = {name: one for key, value in definitions.items() for name, one in expand(key, value).items()}
        settings = Settings(
            registry=DirectoryUrl("/r"),
            announce={name: (announce or {}).get(name, Announcement()) for name in definitions},
            registries={"old": OtherRegistry(url=DirectoryUrl("/old"))},
        )
        found = announced(settings, everything, HOST, registries=(MAIN, "old"))
        assert not found.problems
        self.roster.configure(found.services, self.limit, self.damping, self.now)

    def turn(self, seconds: float = 1.0, **passed: bool) -> dict[str, Registration]:
        """Time goes on, these services' checks give these results, and the registry follows; what should be there."""
        self.now += seconds
        for name, well in passed.items():
            result = Result(passed=well, reason="", duration_seconds=0.0, at=self.now)
            for check in self.roster.services[name.replace("_", ".")].probe.checks:
                self.roster.result(name.replace("_", "."), check, result)
        self.roster.turn(self.now)
        self.roster.seen(self.held, self.now)
        self.roster.turn(self.now)
        for one in self.roster.wanted[MAIN]:
            if one.state is State.UP or (one.state is State.UNKNOWN and one.node in self.held):
                self.held[one.node] = HeldNode(payload=one.payload, mine=True)
            else:
                self.held.pop(one.node, None)
        self.roster.seen(self.held, self.now)
        return {one.service: one for one in self.roster.wanted[MAIN]}

    def weight(self, service: str = "web") -> int | None:
        """The weight that the registry has, -1 when the service is not there."""
        node = next(one.node for one in self.roster.wanted[MAIN] if one.service == service)
        if node not in self.held:
            return -1
        instance = decode(self.held[node].payload)
        assert isinstance(instance, Instance)
        return instance.weight


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


WEB = ServiceDefinition(port=8080, check=CHECK)


def drained(scope: str, reason: str) -> Maintenances:
    """This scope is in maintenance."""
    return {scope: Maintenance(scope=scope, reason=reason, owner="alice", since=1000.0, until=None)}


def test_a_service_is_wanted_as_its_checks_say(fixture: Fixture) -> None:
    """Unknown at first, up with the first pass, down after `fall` failures, up after `rise` passes."""
    fixture.announce(web=WEB)
    assert fixture.turn()["web"].state is State.UNKNOWN
    assert fixture.turn(web=True)["web"].state is State.UP
    assert fixture.turn(web=False)["web"].state is State.UP
    assert fixture.turn(web=False)["web"].state is State.DOWN
    assert fixture.turn(web=True)["web"].state is State.DOWN
    assert fixture.turn(web=True)["web"].state is State.UP


def test_a_port_without_checks_is_as_well_as_its_service(fixture: Fixture) -> None:
    """`web.admin` follows `web` in everything that its checks say; a port with checks of its own does not."""
    ports = {"admin": Endpoint(port=9090), "rpc": Endpoint(port=9091, check=CHECK)}
    fixture.announce(web=replace(WEB, ports=ports))
    wanted = fixture.turn(web=True)
    assert {name: one.state for name, one in wanted.items()} == {
        "web": State.UP,
        "web.admin": State.UP,
        "web.rpc": State.UNKNOWN,
    }
    assert wanted["web.admin"].node.path == "services/web.admin"
    fixture.turn(web=False)
    assert fixture.turn(web=False)["web.admin"].state is State.DOWN
    fixture.roster.refused("web", "nobody listens", fixture.now)
    assert [one.service for one in fixture.roster.refused("web", "nobody listens", fixture.now)] == []


def test_a_refusal_is_conclusive_for_the_service_and_its_ports(fixture: Fixture) -> None:
    """Nobody listens at the address: down at once, whatever `fall` is, and `rise` passes bring it back."""
    fixture.announce(web=replace(WEB, ports={"admin": Endpoint(port=9090)}))
    fixture.turn(web=True)
    turned = fixture.roster.refused("web", "connection refused", fixture.now)
    assert [(one.service, one.after.state) for one in turned] == [("web", State.DOWN), ("web.admin", State.DOWN)]
    assert {one.state for one in fixture.turn().values()} == {State.DOWN}
    assert fixture.turn(web=True)["web"].state is State.DOWN
    assert fixture.turn(web=True)["web"].state is State.UP


def test_a_drained_service_stays_with_weight_0_and_says_why(fixture: Fixture) -> None:
    """Consumers see "draining", not a hole; the end of the maintenance gives the weight back."""
    fixture.announce({"web": Announcement(weight=50)}, web=WEB)
    fixture.turn(web=True)
    assert fixture.weight() == 50
    fixture.roster.maintain(drained("web", "deploy 123"))
    found = fixture.turn()["web"]
    assert (found.state, fixture.weight()) == (State.UP, 0)
    assert dict(found.instance.labels)["maintenance"] == "deploy 123"
    fixture.roster.maintain({})
    assert fixture.turn()["web"].instance.labels == ()
    assert fixture.weight() == 50


def test_a_drained_service_that_is_down_is_not_registered(fixture: Fixture) -> None:
    """It was stopped, which is what the drain was for; when it comes back it is drained still."""
    fixture.announce(web=WEB)
    fixture.turn(web=True)
    fixture.roster.maintain(drained("*", "reboot"))
    fixture.turn(web=False)
    assert fixture.turn(web=False)["web"].state is State.DOWN
    fixture.turn(web=True)
    assert fixture.turn(web=True)["web"].state is State.UP
    assert fixture.weight() == 0


def test_the_weight_of_a_newcomer_grows(fixture: Fixture) -> None:
    """From a tenth when it joins to all of it, in ten steps; the loop is told when the next one is due."""
    fixture.announce({"web": Announcement(weight=50)}, web=replace(WEB, warmup=90.0))
    fixture.turn(web=True)
    weights = [fixture.weight()]
    while (due := fixture.roster.next_turn(fixture.now)) < 1000:
        fixture.turn(due)
        if fixture.weight() != weights[-1]:
            weights.append(fixture.weight())
    assert weights == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]


def test_a_warm_up_begins_when_the_registry_has_it(fixture: Fixture) -> None:
    """While the registry is away nobody sends anything: that warms nobody up."""
    fixture.announce(web=replace(WEB, warmup=90.0))
    fixture.now += 1000.0
    result = Result(passed=True, reason="", duration_seconds=0.0, at=fixture.now)
    fixture.roster.result("web", "tcp", result)
    fixture.roster.turn(fixture.now)
    fixture.now += 1000.0
    fixture.turn()
    assert fixture.weight() == 10
    fixture.turn()
    assert fixture.weight() == 10


def test_a_restart_of_nerve_goes_on_with_a_warm_up() -> None:
    """A new nerve finds a node with half of the weight, and neither begins anew nor jumps to the end."""
    first = Fixture()
    first.announce(web=replace(WEB, warmup=90.0))
    first.turn(web=True)
    for _ in range(45):
        first.turn()
    assert first.weight() == 50
    second = Fixture()
    second.held = first.held
    second.announce(web=replace(WEB, warmup=90.0))
    second.turn()
    assert second.weight() == 50, "while nothing is known of it yet"
    second.turn(web=True)
    assert second.weight() == 50
    for _ in range(51):
        second.turn()
    assert second.weight() is None


def test_who_is_drained_is_not_warmed_up_again(fixture: Fixture) -> None:
    """The end of a maintenance is no join: an instance that was warm is warm, also over a restart of nerve."""
    fixture.announce(web=replace(WEB, warmup=90.0))
    fixture.turn(web=True)
    fixture.turn(100.0)
    fixture.roster.maintain(drained("web", "deploy"))
    fixture.turn()
    again = Fixture()
    again.held = fixture.held
    again.announce(web=replace(WEB, warmup=90.0))
    again.turn()
    again.turn(web=True)
    assert again.weight() is None


def test_joins_are_limited_and_leaving_is_not() -> None:
    """A bucket of two: the third join in a row waits for a token, and the loop is told for how long."""
    fixture = Fixture(PublishLimit(burst=2, every=60.0))
    fixture.announce(web=replace(WEB, check=TcpCheck(rise=1, fall=1)))
    for _ in range(2):
        assert fixture.turn(web=True)["web"].state is State.UP
        assert fixture.turn(web=False)["web"].state is State.DOWN
    assert fixture.turn(web=True)["web"].state is State.DOWN
    assert fixture.weight() == -1
    wait = fixture.roster.next_turn(fixture.now)
    assert 50 < wait < 60
    assert fixture.turn(wait)["web"].state is State.UP


def test_what_is_registered_already_costs_no_token() -> None:
    """A nerve that starts beside its nodes finds them; that is no join, and no limit takes them out."""
    fixture = Fixture(PublishLimit(burst=1, every=3600.0))
    fixture.announce(web=WEB, api=replace(WEB, port=9000))
    fixture.turn(web=True, api=True)
    again = Fixture(PublishLimit(burst=1, every=3600.0))
    again.held = fixture.held
    again.announce(web=replace(WEB, check=TcpCheck(rise=1, fall=1)), api=replace(WEB, port=9000))
    again.turn()
    again.turn(web=True, api=True)
    assert (again.weight("web"), again.weight("api")) == (None, None)
    again.turn(web=False)
    again.turn(web=True)
    assert again.weight("web") is None, "and its token is still there"


def test_every_place_says_the_same() -> None:
    """A service that stands in two registries is drained in both."""
    fixture = Fixture()
    fixture.announce(web=replace(WEB, also_register=(OtherPlace(registry="old", path="/nerve/web"),)))
    fixture.turn(web=True)
    fixture.roster.maintain(drained("web", "deploy"))
    fixture.turn()
    [main], [old] = fixture.roster.wanted[MAIN], fixture.roster.wanted["old"]
    assert (main.payload, main.state) == (old.payload, old.state)
    assert old.node.path == "/nerve/web"


def test_nothing_new_is_the_same_object(fixture: Fixture) -> None:
    """Who compares by identity has nothing to do as long as nothing changed, also over an edit of another service."""
    fixture.announce(web=WEB)
    fixture.turn(web=True)
    fixture.turn()
    before = fixture.roster.wanted[MAIN]
    fixture.turn(web=True)
    fixture.announce(web=WEB)
    fixture.turn()
    assert fixture.roster.wanted[MAIN] is before


def test_another_address_is_another_instance(fixture: Fixture) -> None:
    """What was seen of the old one says nothing of the new one; one that is edited otherwise keeps its state."""
    fixture.announce(web=WEB)
    fixture.turn(web=True)
    fixture.announce({"web": Announcement(weight=7)}, web=WEB)
    assert (fixture.turn()["web"].state, fixture.weight()) == (State.UP, 7)
    fixture.announce(web=replace(WEB, port=9999))
    assert fixture.turn()["web"].state is State.UNKNOWN


def test_what_is_not_announced_any_more_is_forgotten(fixture: Fixture) -> None:
    """And begins anew when it comes back."""
    fixture.announce(web=WEB, api=replace(WEB, port=9000))
    fixture.turn(web=True, api=True)
    fixture.announce(api=replace(WEB, port=9000))
    assert set(fixture.turn()) == {"api"}
    fixture.announce(web=WEB, api=replace(WEB, port=9000))
    assert {name: one.state for name, one in fixture.turn().items()} == {"api": State.UP, "web": State.UNKNOWN}
