"""Registrations and plans as a table: what is held, what is wanted, the exact actions."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from nerve.health import State
from nerve.plan import Action, Put, Remove, plan
from nerve.registrations import Host, Registration, adjusted, registrations, rivals
from nerve.settings import Announcement, NodeNames
from smartstack.definition import OtherPlace, ServiceDefinition
from smartstack.instance import decode, encode, encoded_node_name
from smartstack.registry.protocol import HeldNode, NodeId
from tests.support.registrations import registration

WEB = ServiceDefinition(port=8080)


def wanted(
    state: State = State.UP,
    *,
    service: str = "web",
    port: int | None = None,
    weight: int | None = None,
    names: NodeNames = "address",
    definition: ServiceDefinition = WEB,
) -> Registration:
    """A registration on host 10.0.0.5."""
    host = Host(address="10.0.0.5", instance_id="host5", labels={"zone": "a"}, node_names=names)
    return registration(host, service, definition, Announcement(port=port, weight=weight), state)


def mine(*registrations: Registration) -> dict[NodeId, HeldNode]:
    return {one.node: HeldNode(payload=one.payload, mine=True) for one in registrations}


def foreign(*registrations: Registration) -> dict[NodeId, HeldNode]:
    return {one.node: HeldNode(payload=one.payload, mine=False) for one in registrations}


def put(new: Registration, instead_of: Registration | None = None) -> Put:
    return Put(node=new.node, payload=new.payload, instead_of=instead_of.node if instead_of else None)


def test_a_registration_is_what_the_registry_format_says() -> None:
    """Path, node name and payload of an announced service; the announcement's labels win over the host's."""
    host = Host(address="10.0.0.5", instance_id="host5", labels={"zone": "a", "region": "eu"}, node_names="address")
    found = registration(host, "web", WEB, Announcement(port=9001, weight=50, labels={"zone": "b"}), State.UP)
    assert found.node == NodeId(path="services/web", node="10.0.0.5_0000009001")
    assert found.payload == (
        b'{"host":"10.0.0.5","port":9001,"name":"host5","weight":50,"labels":{"region":"eu","zone":"b"}}'
    )


def test_a_definition_may_name_its_place() -> None:
    """`registry_path` takes the place of services/<name>."""
    definition = ServiceDefinition(port=8080, registry_path="/nerve/services/web/services")
    assert wanted(definition=definition).node.path == "/nerve/services/web/services"


def test_payload_names_carry_the_payload() -> None:
    """With node_names: payload the name says everything, so no reader has to read the node."""
    found = wanted(names="payload", weight=7)
    assert found.node.node == encoded_node_name(found.instance)
    assert found.payload == encode(found.instance)


def test_two_services_at_one_place_are_rivals() -> None:
    """One path and one address is one node: the first service by name has it, the other one is told."""
    shared = ServiceDefinition(port=8080, registry_path="/shared")
    second = wanted(service="b", definition=shared)
    places = {
        "b": [wanted(service="b"), second],
        "a": [wanted(service="a", definition=shared)],
        "c": [wanted(service="c", definition=shared, port=9000)],
        "d": [wanted(service="d"), replace(second, registry="old")],
    }
    assert rivals(places) == {"b": ("a", second)}


def test_a_service_may_stand_in_more_places() -> None:
    """`also_register`: another path, another registry, or both; the main place comes first, and no place twice."""
    definition = ServiceDefinition(
        port=8080,
        also_register=(
            OtherPlace(path="/nerve/web"),
            OtherPlace(registry="old"),
            OtherPlace(registry="old", path="/nerve/web"),
            OtherPlace(registry="old"),
        ),
    )
    host = Host(address="10.0.0.5", instance_id="host5", labels={}, node_names="address")
    found = registrations(host, "web", definition, Announcement())
    assert [(one.registry, one.node.path) for one in found] == [
        ("", "services/web"),
        ("", "/nerve/web"),
        ("old", "services/web"),
        ("old", "/nerve/web"),
    ]
    assert len({one.payload for one in found}) == 1


@pytest.mark.parametrize("names", ["address", "payload"])
def test_a_registration_is_adjusted_in_its_payload_and_in_its_name(names: NodeNames) -> None:
    """Another weight and further labels make another payload, and where the name carries it, another name."""
    before = wanted(names=names)
    after = adjusted(before, State.UP, weight=0, labels={"maintenance": "deploy"})
    assert decode(after.payload) == after.instance
    assert (after.instance.weight, dict(after.instance.labels)) == (0, {"zone": "a", "maintenance": "deploy"})
    assert (after.node == before.node) is (names == "address")
    assert adjusted(before, State.UP, weight=None, labels={}).payload == before.payload


A, B = wanted(), wanted(service="api", port=9001)
HEAVY = wanted(weight=200)
ENCODED, ENCODED_HEAVY = wanted(names="payload"), wanted(names="payload", weight=200)
MOVED = wanted(port=8081)
ELSEWHERE = wanted(definition=ServiceDefinition(port=8080, registry_path="/elsewhere"))


@pytest.mark.parametrize(
    ("held", "registrations", "actions"),
    [
        pytest.param({}, [], [], id="nothing is nothing"),
        pytest.param({}, [A], [put(A)], id="up and absent: put"),
        pytest.param(mine(A), [A], [], id="up and held: nothing to do"),
        pytest.param(mine(A), [HEAVY], [put(HEAVY)], id="another payload under the same name: put in place"),
        pytest.param(foreign(A), [A], [put(A)], id="somebody else's node at our place, even the same: take it over"),
        pytest.param(mine(A), [wanted(State.DOWN)], [Remove(node=A.node)], id="down and held: remove"),
        pytest.param({}, [wanted(State.DOWN)], [], id="down and absent: nothing to do"),
        pytest.param(foreign(A), [wanted(State.DOWN)], [], id="down and somebody else's: not ours to remove"),
        pytest.param(mine(A), [wanted(State.UNKNOWN)], [], id="unknown and held: it stays"),
        pytest.param({}, [wanted(State.UNKNOWN)], [], id="unknown and absent: it is not put"),
        pytest.param(
            foreign(A),
            [wanted(State.UNKNOWN)],
            [put(A)],
            id="unknown and of a nerve that was killed: it stays, so it becomes ours",
        ),
        pytest.param(
            mine(A), [wanted(State.UNKNOWN, weight=200)], [put(HEAVY)], id="unknown and edited: it stays, as edited"
        ),
        pytest.param(mine(A), [], [Remove(node=A.node)], id="not announced any more: remove"),
        pytest.param(foreign(A), [], [], id="never announced and somebody else's: not ours"),
        pytest.param(mine(A), [B], [Remove(node=A.node), put(B)], id="removals stand before additions"),
        pytest.param(
            mine(A), [ELSEWHERE], [put(ELSEWHERE), Remove(node=A.node)], id="another path: first there, then not here"
        ),
        pytest.param(mine(A), [MOVED], [Remove(node=A.node), put(MOVED)], id="another port is another instance"),
        pytest.param(
            mine(ENCODED),
            [ENCODED_HEAVY],
            [put(ENCODED_HEAVY, ENCODED)],
            id="payload names: the new one for the old one",
        ),
        pytest.param(mine(A), [ENCODED], [put(ENCODED, A)], id="node_names was changed to payload: in one step"),
        pytest.param(mine(ENCODED), [A], [put(A, ENCODED)], id="node_names was changed to address: in one step"),
        pytest.param(
            mine(ENCODED, ENCODED_HEAVY),
            [ENCODED_HEAVY],
            [Remove(node=ENCODED.node)],
            id="the new one is there: the old one goes",
        ),
        pytest.param(
            mine(ENCODED),
            [wanted(State.UNKNOWN, names="payload", weight=200)],
            [put(ENCODED_HEAVY, ENCODED)],
            id="unknown under another name: it stays, under the new one",
        ),
        pytest.param(
            mine(ENCODED),
            [wanted(State.DOWN, names="payload", weight=200)],
            [Remove(node=ENCODED.node)],
            id="down under another name: the old one goes",
        ),
        pytest.param(
            {NodeId(path="services/web", node="junk"): HeldNode(payload=b"junk", mine=True)},
            [A],
            [Remove(node=NodeId(path="services/web", node="junk")), put(A)],
            id="a node of ours that says nothing goes",
        ),
    ],
)
def test_the_plan(held: Mapping[NodeId, HeldNode], registrations: list[Registration], actions: list[Action]) -> None:
    """These nodes, these registrations: exactly these actions, in this order."""
    assert list(plan(held, registrations).actions) == actions


def test_a_contested_place_is_left_alone() -> None:
    """A place taken over a moment ago and lost again is left to the other one, and said so; the rest goes on."""
    made = plan(foreign(A), [A, B], contested=[A.node])
    assert list(made.actions) == [put(B)]
    assert made.left_to_others == (A.node,)


def test_a_contested_place_costs_nothing_that_we_have() -> None:
    """While the new name is contested the node that we hold for the same instance stays."""
    held = {**mine(ENCODED), **foreign(ENCODED_HEAVY)}
    assert plan(held, [ENCODED_HEAVY], contested=[ENCODED_HEAVY.node]).actions == ()


def test_a_place_that_is_free_is_taken_even_when_it_was_contested() -> None:
    """Contested means that somebody else has it now, not that we once quarrelled about it."""
    assert list(plan({}, [A], contested=[A.node]).actions) == [put(A)]
