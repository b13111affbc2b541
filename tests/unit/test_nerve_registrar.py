"""The registrar on a registry in memory that can be told to misbehave."""

from collections.abc import Mapping, Sequence

import pytest

from nerve.health import State
from nerve.plan import Put, Remove
from nerve.registrar import Registrar, Report
from nerve.registrations import Host, Registration
from nerve.settings import Announcement
from smartstack.definition import ServiceDefinition
from smartstack.errors import RegistryRefused, RegistryUnavailable
from smartstack.registry.protocol import HeldNode, NodeId
from tests.support.registrations import registration
from tests.support.registries import MemoryRegistry, MemoryWriter

HOST = Host(address="10.0.0.5", instance_id="host5", labels={}, node_names="address")
TRUCE = 10.0
PORTS = {"api": 8081, "db": 5432, "web": 8080}


def wanted(service: str, state: State = State.UP) -> Registration:
    return registration(HOST, service, ServiceDefinition(port=PORTS[service]), Announcement(), state)


WEB, API, DB = wanted("web"), wanted("api"), wanted("db")


class Moody(MemoryWriter):
    """A writer that fails at some nodes."""

    def __init__(self, registry: MemoryRegistry) -> None:
        super().__init__(registry)
        self.moods: Mapping[NodeId, Exception] = {}

    def put(self, node: NodeId, payload: bytes, *, instead_of: NodeId | None = None) -> None:
        if node in self.moods:
            raise self.moods[node]
        super().put(node, payload, instead_of=instead_of)

    def remove(self, node: NodeId) -> None:
        if node in self.moods:
            raise self.moods[node]
        super().remove(node)


class Fixture:
    """A registrar with a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0
        self.memory = MemoryRegistry()
        self.writer = Moody(self.memory)
        self.writer.start(lambda: None)
        self.registrar = Registrar(self.writer, TRUCE, lambda: self.now)

    def reconcile(self, wanted: Sequence[Registration]) -> Report:
        """Look and act, as the loop does."""
        return self.registrar.act(wanted, self.registrar.look(wanted))


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def test_it_does_what_the_plan_says_and_reports_what_is_there(fixture: Fixture) -> None:
    """What is done is in the report, and `held` is the state after it."""
    report = fixture.reconcile([WEB])
    assert report.done == (Put(node=WEB.node, payload=WEB.payload),)
    assert report.held == {WEB.node: HeldNode(payload=WEB.payload, mine=True)}
    assert report.complete
    assert fixture.reconcile([WEB]).done == ()
    assert fixture.reconcile([wanted("web", State.DOWN)]).done == (Remove(node=WEB.node),)
    assert fixture.memory.nodes == {}


@pytest.mark.parametrize(
    "mood",
    [
        pytest.param(RegistryRefused("no permission"), id="refused"),
        pytest.param(RegistryUnavailable("no answer in time"), id="no answer, but the link is up"),
    ],
)
def test_a_failed_action_does_not_stop_the_others(fixture: Fixture, mood: Exception) -> None:
    """The first of three removals and additions fails; the others are done, and the next turn tries it again."""
    fixture.reconcile([DB])
    fixture.writer.moods = {API.node: mood}
    report = fixture.reconcile([API, WEB])
    assert report.done == (Remove(node=DB.node), Put(node=WEB.node, payload=WEB.payload))
    assert report.failed == {Put(node=API.node, payload=API.payload): str(mood)}
    assert not report.complete
    fixture.writer.moods = {}
    assert fixture.reconcile([API, WEB]).done == (Put(node=API.node, payload=API.payload),)


def test_a_removal_that_fails_does_not_stop_the_additions(fixture: Fixture) -> None:
    """The other way round too."""
    fixture.reconcile([DB])
    fixture.writer.moods = {DB.node: RegistryRefused("no permission")}
    report = fixture.reconcile([WEB])
    assert report.done == (Put(node=WEB.node, payload=WEB.payload),)
    assert DB.node in report.held


def test_a_registry_that_is_away_is_no_empty_registry(fixture: Fixture) -> None:
    """Nothing is known and nothing is tried; when it is back everything is as it was."""
    fixture.reconcile([WEB])
    fixture.memory.unavailable = "gone for lunch"
    report = fixture.reconcile([WEB, API])
    assert (report.unavailable, report.held, report.done) == ("gone for lunch", {}, ())
    assert not report.complete
    fixture.memory.unavailable = None
    assert fixture.reconcile([WEB, API]).done == (Put(node=API.node, payload=API.payload),)


def test_a_link_that_breaks_in_the_middle_ends_the_turn(fixture: Fixture) -> None:
    """With the link gone the other actions would each wait for their time-out: they fail with the same reason."""

    tried = []

    class Breaking(Moody):
        def put(self, node: NodeId, payload: bytes, *, instead_of: NodeId | None = None) -> None:
            tried.append(node)
            self._registry.unavailable = "cut"
            super().put(node, payload, instead_of=instead_of)

    writer = Breaking(fixture.memory)
    registrar = Registrar(writer, TRUCE, lambda: 0.0)
    report = registrar.act([API, WEB], registrar.look([API, WEB]))
    assert [type(action) for action in report.failed] == [Put, Put]
    assert set(report.failed.values()) == {"cut"}
    assert tried == [API.node]
    assert fixture.memory.journal == []


def test_a_dead_nerves_place_is_taken_over(fixture: Fixture) -> None:
    """A node that is not ours at our place is replaced by ours."""
    fixture.memory.inject(WEB.node.path, WEB.node.node, WEB.payload)
    assert fixture.reconcile([WEB]).done == (Put(node=WEB.node, payload=WEB.payload),)
    assert fixture.reconcile([WEB]).complete


def test_two_nerves_with_one_address_do_not_fight(fixture: Fixture) -> None:
    """A place that is lost again within the truce is left to the other one, and said so; later it is tried again."""
    fixture.memory.inject(WEB.node.path, WEB.node.node, b"theirs")
    fixture.reconcile([WEB])
    fixture.memory.inject(WEB.node.path, WEB.node.node, b"theirs again")
    fixture.now += TRUCE / 2
    report = fixture.reconcile([WEB, API])
    assert report.contested == (WEB.node,)
    assert report.done == (Put(node=API.node, payload=API.payload),)
    assert not report.complete
    fixture.now += TRUCE
    assert fixture.reconcile([WEB, API]).done == (Put(node=WEB.node, payload=WEB.payload),)


def test_an_expired_session_is_registered_anew(fixture: Fixture) -> None:
    """Nodes that went with the session are put again: held says that they are gone, whatever was done before."""
    both = (WEB, API)
    for _ in range(3):
        fixture.reconcile(both)
    fixture.memory.expire(fixture.writer)
    assert fixture.memory.nodes == {}
    assert {action.node for action in fixture.reconcile(both).done} == {WEB.node, API.node}
    assert fixture.reconcile(both).done == ()
