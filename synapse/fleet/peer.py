"""Who is announced: synapses of other hosts, as the registry names them. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from smartstack.forms import TcpAddress
from smartstack.instance import Instance, node_name, printable
from smartstack.registry.protocol import NodeId, Record

PATH: Final = "synapses"
"""Where they stand in the registry: beside `services`, so that nobody who reads services meets them."""

HOST_LABEL: Final = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One synapse: where it is asked, and the name of its host, which is told apart from all others."""

    name: str
    address: TcpAddress


def registration(host: str, address: TcpAddress) -> Instance:
    """What a synapse says of itself. `host` is its host's name, for people."""
    return Instance(host=address.host, port=address.port, labels=((HOST_LABEL, printable(host)),))


def place(instance: Instance) -> NodeId:
    """Its node: one address, one node, so that one that starts again finds its own."""
    return NodeId(path=PATH, node=node_name(instance))


def peers(records: Iterable[Record]) -> tuple[Peer, ...]:
    """Whom these nodes announce, each address once, by name. Where hosts share a name it is said with the address."""
    names = {
        TcpAddress(record.instance.host, record.instance.port): dict(record.instance.labels).get(HOST_LABEL)
        for record in records
    }
    shared = Counter(names.values())
    found = [
        Peer(name=str(address) if not name else name if shared[name] == 1 else f"{name} ({address})", address=address)
        for address, name in names.items()
    ]
    return tuple(sorted(found, key=lambda peer: (peer.name, str(peer.address))))
