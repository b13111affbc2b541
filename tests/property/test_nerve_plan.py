"""Plans, for any registry and any wish: cut at every point, failing at every point, never a gap."""

from collections.abc import Collection, Iterable, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from nerve.health import State
from nerve.plan import Action, Put, Remove, plan
from nerve.registrations import Host, Registration
from nerve.settings import Announcement
from smartstack.definition import ServiceDefinition
from smartstack.instance import decode, payload_in_name
from smartstack.registry.protocol import HeldNode, NodeId
from tests.support.registrations import registration

Held = Mapping[NodeId, HeldNode]

SERVICES = ("api", "web")
PORTS = (8080, 8080, 8080, 8081)
WEIGHTS = (None, 50, 60)

ENOUGH = settings(max_examples=200)
"""With fewer examples one of the planner's rules, broken on purpose, was now and then not noticed."""


@st.composite
def a_registration(draw: st.DrawFn, service: str) -> Registration:
    """A registration of a service, with few enough variants that old and new often meet."""
    host = Host(
        address="10.0.0.5",
        instance_id="host5",
        labels={},
        node_names=draw(st.sampled_from(("address", "payload"))),
    )
    return registration(
        host,
        service,
        ServiceDefinition(port=draw(st.sampled_from(PORTS))),
        Announcement(weight=draw(st.sampled_from(WEIGHTS))),
        draw(st.sampled_from(State)),
    )


@st.composite
def a_wish(draw: st.DrawFn) -> list[Registration]:
    """At most one registration for each service."""
    return [draw(a_registration(service)) for service in SERVICES if draw(st.integers(0, 3))]


@st.composite
def a_registry(draw: st.DrawFn) -> Held:
    """Up to four nodes for each service, of any age and of any owner, and sometimes one that says nothing."""
    held = {}
    for service in SERVICES:
        for old in draw(st.lists(a_registration(service), max_size=4)):
            held[old.node] = HeldNode(payload=old.payload, mine=draw(st.integers(0, 3)) > 0)
    if draw(st.booleans()):
        held[NodeId(path="services/web", node="junk")] = HeldNode(payload=b"junk", mine=draw(st.booleans()))
    return held


def visible(held: Held, candidates: Collection[Registration]) -> Held:
    """What a registry reports: our own nodes, and foreign ones at the places that were asked about."""
    asked = {one.node for one in candidates}
    return {node: there for node, there in held.items() if there.mine or node in asked}


def after(held: Held, actions: Iterable[Action]) -> Held:
    """What a registry does with these actions."""
    nodes = dict(held)
    for action in actions:
        if isinstance(action, Remove):
            if action.node in nodes and nodes[action.node].mine:
                del nodes[action.node]
        else:
            if action.instead_of is not None and action.instead_of in nodes and nodes[action.instead_of].mine:
                del nodes[action.instead_of]
            nodes[action.node] = HeldNode(payload=action.payload, mine=True)
    return nodes


def was_there(seen: Held, one: Registration) -> bool:
    """Whether something stands at the registration's place, or a node of ours says its address elsewhere."""
    ours = {node: there for node, there in seen.items() if there.mine}
    return one.node in seen or one.instance.address in shown(ours, one.node.path)


def address(held: Held, node: NodeId) -> str | None:
    """The address that a node says."""
    instance = decode(payload_in_name(node.node) or held[node].payload)
    return None if isinstance(instance, str) else instance.address


def shown(held: Held, path: str) -> set[str]:
    """The addresses that a reader of this path sees."""
    nodes = [(node.node, there.payload) for node, there in held.items() if node.path == path]
    instances = [decode(payload_in_name(name) or payload) for name, payload in nodes]
    return {instance.address for instance in instances if not isinstance(instance, str)}


@ENOUGH
@given(a_registry(), a_wish())
def test_a_plan_reaches_the_wish_and_then_rests(held: Held, wish: list[Registration]) -> None:
    """After the plan: what is up is there and ours with its payload, and so is what is not known and was there;
    nothing else is ours; and the next plan is empty."""
    seen = visible(held, wish)
    done = after(held, plan(seen, wish).actions)
    stays = [one for one in wish if one.state is State.UP or (one.state is State.UNKNOWN and was_there(seen, one))]
    ours = {node: there for node, there in done.items() if there.mine}
    assert ours == {one.node: HeldNode(payload=one.payload, mine=True) for one in stays}
    assert plan(visible(done, wish), wish).actions == ()


@ENOUGH
@given(a_registry(), a_wish())
def test_every_prefix_can_be_resumed(held: Held, wish: list[Registration]) -> None:
    """Cut anywhere, planned anew from what is there then: the same end."""
    actions = plan(visible(held, wish), wish).actions
    end = after(held, actions)
    for cut in range(len(actions)):
        there = after(held, actions[:cut])
        assert after(there, plan(visible(there, wish), wish).actions) == end


@ENOUGH
@given(a_registry(), a_wish())
def test_an_instance_that_is_wanted_and_there_is_never_absent(held: Held, wish: list[Registration]) -> None:
    """At no point of a plan does a reader miss an instance that it saw before and that is not down."""
    actions = plan(visible(held, wish), wish).actions
    for one in wish:
        if one.state is not State.DOWN and one.instance.address in shown(held, one.node.path):
            for cut in range(len(actions) + 1):
                assert one.instance.address in shown(after(held, actions[:cut]), one.node.path)


@ENOUGH
@given(a_registry(), a_wish(), st.data())
def test_a_removal_never_waits_for_an_addition(held: Held, wish: list[Registration], data: st.DataObject) -> None:
    """Whatever additions fail, and wherever the first one stops everything behind it, all removals were done."""
    actions = plan(visible(held, wish), wish).actions
    first_put = next((n for n, action in enumerate(actions) if isinstance(action, Put)), len(actions))
    arriving = {one.instance.address for one in wish if one.node in {a.node for a in actions if isinstance(a, Put)}}
    for late in (action for action in actions[first_put:] if isinstance(action, Remove)):
        assert address(held, late.node) in arriving, "an instance that only moves, and nothing that is gone"
    done = after(held, actions[:first_put])
    for one in wish:
        if one.state is State.DOWN:
            assert one.node not in done or not done[one.node].mine
    failing = data.draw(st.sets(st.sampled_from(range(len(actions))))) if actions else set()
    survivors = [a for n, a in enumerate(actions) if isinstance(a, Remove) or n not in failing]
    assert not {a.node for a in actions if isinstance(a, Remove)} & {
        node for node, there in after(held, survivors).items() if there.mine
    }


@ENOUGH
@given(a_registry(), a_wish())
def test_an_instance_that_moves_is_never_nowhere(held: Held, wish: list[Registration]) -> None:
    """An edited path: at no point of the plan is an instance that is up gone from every path that it was seen in."""
    actions = plan(visible(held, wish), wish).actions
    for one in wish:
        paths = {
            node.path for node, there in held.items() if there.mine and address(held, node) == one.instance.address
        }
        if one.state is State.UP and paths and not paths & {other.node.path for other in wish if other is not one}:
            for cut in range(len(actions) + 1):
                there = after(held, actions[:cut])
                assert any(one.instance.address in shown(there, path) for path in {*paths, one.node.path})


@ENOUGH
@given(a_registry(), a_wish())
def test_the_same_question_has_the_same_answer(held: Held, wish: list[Registration]) -> None:
    """The order in which a registry or a file lists things does not show in the plan."""
    seen = visible(held, wish)
    assert plan(dict(reversed(list(seen.items()))), wish[::-1]) == plan(seen, wish)
