"""Registrations: from what this host announces and how well it is to the nodes that should be there. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from nerve.health import State
from nerve.settings import Announcement, NodeNames
from smartstack.definition import ServiceDefinition
from smartstack.instance import Instance, encode, encoded_node_name, node_name
from smartstack.registry.protocol import NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What all registrations of this host share. `address` is a canonical IP address."""

    address: str
    instance_id: str
    labels: Mapping[str, str]
    node_names: NodeNames


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One service of this host and its place in the registry.

    `state` UP: the node should be there with this payload. DOWN: it should not. UNKNOWN: whatever is there stays.
    """

    service: str
    node: NodeId
    payload: bytes
    instance: Instance
    state: State


def registration(
    host: Host, service: str, definition: ServiceDefinition, announcement: Announcement, state: State
) -> Registration:
    """The place and the content of one announced service."""
    instance = Instance(
        host=host.address,
        port=announcement.port or definition.port,
        name=host.instance_id,
        weight=announcement.weight,
        labels=tuple(sorted({**host.labels, **announcement.labels}.items())),
    )
    encoded = encoded_node_name(instance) if host.node_names == "payload" else None
    return Registration(
        service=service,
        node=NodeId(path=definition.registry_path or f"services/{service}", node=encoded or node_name(instance)),
        payload=encode(instance),
        instance=instance,
        state=state,
    )


def rivals(registrations: Mapping[str, Registration]) -> Mapping[str, str]:
    """The services that would take a place that another one has: each with the service that keeps it.

    One address is one node of a path, so two services with one `registry_path` and one port cannot both stand there:
    the one that is up would be removed for the one that is down. The first by name keeps the place.
    """
    holders: dict[tuple[str, str], str] = {}
    losers = {}
    for service in sorted(registrations):
        candidate = registrations[service]
        holder = holders.setdefault((candidate.node.path, candidate.instance.address), service)
        if holder != service:
            losers[service] = holder
    return losers
