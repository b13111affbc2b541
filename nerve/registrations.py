"""Registrations: from what this host announces and how well it is to the nodes that should be there. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from nerve.health import State
from nerve.settings import Announcement, NodeNames
from smartstack.definition import Endpoint
from smartstack.instance import Instance, encode, encoded_node_name, node_name
from smartstack.registry.protocol import NodeId

MAIN: Final = ""
"""The name of the registry that nerve.yaml's `registry` is; the others are called as in its `registries`."""

DEFAULT_WEIGHT: Final = 100
"""What a reader takes an instance for that gives no weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What all registrations of this host share. `address` is a canonical IP address."""

    address: str
    instance_id: str
    labels: Mapping[str, str]
    node_names: NodeNames


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One service of this host and one of its places: a node of a registry (`MAIN`, or another by its name).

    `state` UP: the node should be there with this payload. DOWN: it should not. UNKNOWN: what is there stays there.
    """

    service: str
    registry: str = MAIN
    node: NodeId
    payload: bytes
    instance: Instance
    state: State


def registrations(
    host: Host, service: str, definition: Endpoint, announcement: Announcement
) -> tuple[Registration, ...]:
    """The places of one announced service, the main one first; nobody knows yet how it is."""
    instance = Instance(
        host=host.address,
        port=announcement.port or definition.port,
        name=host.instance_id,
        weight=announcement.weight,
        haproxy_server_options=announcement.haproxy_server_options,
        labels=tuple(sorted({**host.labels, **announcement.labels}.items())),
    )
    main = definition.registry_path or f"services/{service}"
    name, payload = _node(instance, host.node_names == "payload"), encode(instance)
    places = dict.fromkeys(
        [(MAIN, main), *((one.registry or MAIN, one.path or main) for one in definition.also_register)]
    )
    return tuple(
        Registration(
            service=service,
            registry=registry,
            node=NodeId(path=path, node=name),
            payload=payload,
            instance=instance,
            state=State.UNKNOWN,
        )
        for registry, path in places
    )


def adjusted(
    registration: Registration, state: State, *, weight: int | None, labels: Mapping[str, str]
) -> Registration:
    """The same place with another state and weight, and with these labels added."""
    instance = replace(
        registration.instance,
        weight=weight,
        labels=tuple(sorted({**dict(registration.instance.labels), **labels}.items())),
    )
    if instance == registration.instance:
        return replace(registration, state=state)
    # A node that is named after its payload has another name with another payload.
    name = _node(instance, registration.node.node.startswith("base64_"))
    node = replace(registration.node, node=name)
    return replace(registration, node=node, payload=encode(instance), instance=instance, state=state)


def weight_of(instance: Instance) -> int:
    """The weight that readers take an instance to have."""
    return DEFAULT_WEIGHT if instance.weight is None else instance.weight


def rivals(places: Mapping[str, Sequence[Registration]]) -> Mapping[str, tuple[str, Registration]]:
    """The services that would take a place that another one has: each with the service that keeps it, and the place.

    One address is one node of a path, so two services with one `registry_path` and one port cannot both stand there:
    the one that is up would be removed for the one that is down. The first by name keeps the place.
    """
    holders: dict[tuple[str, str, str], str] = {}
    losers: dict[str, tuple[str, Registration]] = {}
    for service in sorted(places):
        for place in places[service]:
            holder = holders.setdefault((place.registry, place.node.path, place.instance.address), service)
            if holder != service:
                losers.setdefault(service, (holder, place))
    return losers


def _node(instance: Instance, with_payload: bool) -> str:
    return (encoded_node_name(instance) if with_payload else None) or node_name(instance)
