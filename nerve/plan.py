"""The plan: from the nodes that are held to the nodes that should be, as a value. Pure.

Any prefix of a plan is safe, and after any prefix the next plan finishes the work:

- removals stand first, so that a dead instance never waits for an addition that fails; only a node whose instance is
  to be registered elsewhere (its path was edited) goes after that;
- a node is replaced in one step (`instead_of`), so that an instance that is wanted and held is never absent;
- what is there of a service of which nothing is known yet stays there. If it is not ours (a nerve that was killed left
  it, and it would go with that one's session) it is taken over.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from nerve.health import State
from nerve.registrations import Registration
from smartstack.instance import decode, payload_in_name
from smartstack.registry.protocol import HeldNode, NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Take a node of ours away."""

    node: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Make a node be there, ours, with this payload; `instead_of` is the node of ours that goes in the same step."""

    node: NodeId
    payload: bytes
    instead_of: NodeId | None = None


Action: TypeAlias = Remove | Put


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order, and which places are left to somebody else for now."""

    actions: tuple[Action, ...] = ()
    left_to_others: tuple[NodeId, ...] = ()


def plan(
    held: Mapping[NodeId, HeldNode], wanted: Collection[Registration], *, contested: Collection[NodeId] = ()
) -> Plan:
    """The actions that turn what is held into what is wanted.

    A place that a foreign node has is taken over, unless it is `contested`: taken over a moment ago and lost again,
    which is what two nerves that announce one address would do to each other for ever.
    """
    mine = {node for node, there in held.items() if there.mine}
    by_address = _by_address(held, mine)
    puts: list[Put] = []
    left: list[NodeId] = []
    keep: set[NodeId] = set()
    for registration in sorted(wanted, key=lambda one: (one.node.path, one.node.node)):
        others = [node for node in by_address.get(_place(registration), ()) if node != registration.node]
        there = held.get(registration.node)
        if registration.state is State.DOWN:
            continue
        if registration.state is State.UNKNOWN and there is None and not others:
            continue
        keep.add(registration.node)
        if there is not None and there.mine and there.payload == registration.payload:
            continue
        if there is not None and not there.mine and registration.node in contested:
            left.append(registration.node)
            keep.update(others)
            continue
        instead_of = others[0] if others else None
        if instead_of is not None:
            keep.add(instead_of)
        puts.append(Put(node=registration.node, payload=registration.payload, instead_of=instead_of))
    leaving = sorted(mine - keep, key=lambda node: (node.path, node.node))
    put = {action.node for action in puts}
    arriving = {registration.instance.address for registration in wanted if registration.node in put}
    announced = {registration.node.path for registration in wanted}
    moving = [node for node in leaving if node.path not in announced and _address(node, held) in arriving]
    gone = [Remove(node=node) for node in leaving if node not in moving]
    return Plan(actions=(*gone, *puts, *(Remove(node=node) for node in moving)), left_to_others=tuple(left))


def _place(registration: Registration) -> tuple[str, str]:
    return registration.node.path, registration.instance.address


def _by_address(held: Mapping[NodeId, HeldNode], mine: Collection[NodeId]) -> Mapping[tuple[str, str], list[NodeId]]:
    """Our nodes by path and by the address in them: the older names of one instance."""
    found: dict[tuple[str, str], list[NodeId]] = {}
    for node in sorted(mine, key=lambda one: (one.path, one.node)):
        address = _address(node, held)
        if address is not None:
            found.setdefault((node.path, address), []).append(node)
    return found


def _address(node: NodeId, held: Mapping[NodeId, HeldNode]) -> str | None:
    """The address that a node says, None for one that says nothing."""
    instance = decode(payload_in_name(node.node) or held[node].payload)
    return None if isinstance(instance, str) else instance.address
