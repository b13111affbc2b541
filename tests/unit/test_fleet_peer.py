"""Who is announced, by what the registry says."""

import pytest

from smartstack.forms import TcpAddress
from smartstack.instance import Instance, decode, encode
from smartstack.registry.protocol import NodeId, Record
from synapse.fleet.peer import Peer, peers, place, registration


def record(address: str, port: int = 3201, **labels: str) -> Record:
    """A node of a synapse."""
    return Record(node=address, instance=Instance(host=address, port=port, labels=tuple(labels.items())))


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        pytest.param((), (), id="nobody"),
        pytest.param(
            (record("10.0.0.6", host="b"), record("10.0.0.5", host="a")),
            (
                Peer(name="a", address=TcpAddress("10.0.0.5", 3201)),
                Peer(name="b", address=TcpAddress("10.0.0.6", 3201)),
            ),
            id="by name",
        ),
        pytest.param(
            (record("10.0.0.5", host="box"), record("10.0.0.6", host="box")),
            (
                Peer(name="box (10.0.0.5:3201)", address=TcpAddress("10.0.0.5", 3201)),
                Peer(name="box (10.0.0.6:3201)", address=TcpAddress("10.0.0.6", 3201)),
            ),
            id="hosts that share a name are told apart",
        ),
        pytest.param(
            (record("10.0.0.5", host="box"), record("10.0.0.5", host="box")),
            (Peer(name="box", address=TcpAddress("10.0.0.5", 3201)),),
            id="two nodes of one address are one synapse",
        ),
        pytest.param(
            (record("2001:db8::1"),),
            (Peer(name="[2001:db8::1]:3201", address=TcpAddress("2001:db8::1", 3201)),),
            id="without a name it is its address",
        ),
    ],
)
def test_peers_are_told_apart_by_name(records: tuple[Record, ...], expected: tuple[Peer, ...]) -> None:
    """A name is what people see, and stands for one address."""
    assert peers(records) == expected


def test_a_synapse_is_registered_as_every_instance_is() -> None:
    """The one format of the registry, in a directory of its own beside the services'; any host's name passes."""
    instance = registration("büro\n1", TcpAddress("10.0.0.5", 3201))
    assert decode(encode(instance)) == instance
    assert place(instance) == NodeId(path="synapses", node="10.0.0.5_0000003201")
    assert dict(instance.labels) == {"host": "b\\xfcro\\n1"}
