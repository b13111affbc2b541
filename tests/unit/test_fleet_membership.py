"""A synapse's own part in the fleet: it is served before it is announced, and gone with its end."""

import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest

from smartstack.admin import AdminServer
from smartstack.errors import RegistryUnavailable
from smartstack.forms import DirectoryUrl, TcpAddress
from smartstack.instance import Instance
from smartstack.registry import open_reader, open_writer
from smartstack.registry.protocol import HeldNode, LinkStatus, Listing, NodeId, RegistryWriter, Ring
from smartstack.responses import text_response
from smartstack.wake import Wake
from synapse.fleet.membership import Membership
from synapse.fleet.peer import PATH
from synapse.fleet.peers import Peers
from tests.support.eventually import eventually
from tests.support.registries import MemoryRegistry

TRUCE_SECONDS = 4.0


def free_address() -> TcpAddress:
    """An address of this machine that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return TcpAddress("127.0.0.1", listener.getsockname()[1])


def serve(address: TcpAddress) -> AdminServer:
    """The server of a member, not started."""
    return AdminServer(address, {"/healthz": lambda: text_response(200, "ok")}, name="fleet")


class Fleet:
    """A registry directory, and what is made in it."""

    def __init__(self, directory: Path) -> None:
        self.url = DirectoryUrl(str(directory / "registry"))
        self.made: list[Membership] = []
        self._reader = open_reader(self.url, session_timeout_seconds=4)
        self._reader.start(Wake().ring)

    def member(
        self,
        listen: TcpAddress,
        writer: RegistryWriter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Membership:
        """A synapse that is to be announced, started."""
        made = Membership(
            listen,
            self.url,
            host="box",
            serve=serve,
            open_writer=lambda: writer or open_writer(self.url, session_timeout_seconds=4),
            truce_seconds=TRUCE_SECONDS,
            clock=clock,
        )
        self.made.append(made)
        made.start()
        return made

    def announced(self) -> list[Instance]:
        """Who stands in the registry."""
        found = self._reader.read([PATH])[PATH]
        return [record.instance for record in found.records] if isinstance(found, Listing) else []

    def close(self) -> None:
        """End everything."""
        for made in self.made:
            made.stop()
        self._reader.stop()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of which nobody is yet."""
    made = Fleet(tmp_path)
    yield made
    made.close()


def answers(address: TcpAddress) -> bool:
    """Whether somebody serves there."""
    with socket.socket() as connection:
        return connection.connect_ex((address.host, address.port)) == 0


def test_who_is_announced_is_served_and_goes_with_its_end(fleet: Fleet) -> None:
    """The node names the address and the host; after a stop neither is there, at once."""
    address = free_address()
    member = fleet.member(address)
    [instance] = eventually(fleet.announced)
    assert (instance.host, instance.port, instance.labels) == (address.host, address.port, (("host", "box"),))
    assert answers(address)
    eventually(lambda: member.status()["problem"] is None)
    assert member.status() == {"listen": str(address), "announced": str(address), "problem": None}
    member.stop()
    assert not answers(address)
    eventually(lambda: not fleet.announced())


def test_all_addresses_are_announced_as_the_one_that_reaches_the_registry(fleet: Fleet) -> None:
    """0.0.0.0 is nobody's address: of a directory everybody is on this machine."""
    member = fleet.member(TcpAddress("0.0.0.0", free_address().port))
    [instance] = eventually(fleet.announced)
    assert instance.host == "127.0.0.1"
    eventually(lambda: member.status()["announced"] == f"127.0.0.1:{instance.port}")


def test_a_node_that_is_lost_is_announced_again(fleet: Fleet) -> None:
    """Whoever removed it: what stands there is compared with what should, not with what was done."""
    fleet.member(free_address())
    eventually(fleet.announced)
    [file] = (Path(fleet.url.path) / PATH).glob("*.json")
    file.unlink()
    eventually(fleet.announced)


def test_after_a_lost_session_it_is_announced_again(fleet: Fleet) -> None:
    """With the new session; nobody has to start anything."""
    registry = MemoryRegistry()
    writer = registry.writer()
    member = fleet.member(free_address(), writer)
    [node] = eventually(lambda: registry.nodes)
    eventually(lambda: member.status()["announced"])
    registry.expire(writer)
    eventually(lambda: node in registry.nodes)
    assert registry.journal == [("put", node)] * 2


def test_an_address_that_is_taken_is_not_announced_until_it_is_free(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The problem says which key to change, the process goes on, and it is tried again."""
    monkeypatch.setattr("synapse.fleet.membership.RETRY_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress("127.0.0.1", taken.getsockname()[1])
        member = fleet.member(address)
        problem = eventually(lambda: "in use" in str(member.status()["problem"]) and member.status()["problem"])
        assert problem == (
            f"cannot serve the fleet address {address}: address already in use; "
            "stop what listens there, or set `fleet` to another address or to null"
        )
        assert not fleet.announced()
    eventually(fleet.announced)


class Contested:
    """A registry in which somebody else has the same place, and takes it back at once."""

    def __init__(self) -> None:
        self.puts = 0

    def start(self, ring: Ring) -> None:
        """Nothing to connect to."""

    def held(self, candidates: Collection[NodeId]) -> Mapping[NodeId, HeldNode]:
        """The other's."""
        return {node: HeldNode(payload=b"{}", mine=False) for node in candidates}

    def put(self, node: NodeId, payload: bytes, *, instead_of: NodeId | None = None) -> None:
        """Taken, for a moment."""
        self.puts += 1

    def remove(self, node: NodeId) -> None:
        """Never asked for."""

    def status(self) -> LinkStatus:
        """As if all were well."""
        return LinkStatus(connected=True, detail="", since=0.0, session=None, counters={})

    def stop(self, *, leave: bool = False) -> None:
        """Nothing is held."""


def test_two_synapses_do_not_fight_for_one_place(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dead one left is taken over; who takes it back lives, and is left alone for the session time-out."""
    monkeypatch.setattr("synapse.fleet.membership.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("synapse.fleet.membership.RESYNC_SECONDS", 0.01)
    now = [1000.0]
    contested = Contested()
    address = free_address()
    member = fleet.member(address, contested, lambda: now[0])
    eventually(lambda: member.status()["problem"] and contested.puts)
    problem = eventually(lambda: contested.puts and member.status()["problem"])
    assert problem == f"another synapse announces {address} too: give each host an address of its own"
    assert member.status()["announced"] is None
    assert contested.puts == 1
    now[0] += TRUCE_SECONDS
    eventually(lambda: contested.puts == 2)


class Away(Contested):
    """A registry that is away."""

    def held(self, candidates: Collection[NodeId]) -> Mapping[NodeId, HeldNode]:
        """Nothing is known."""
        raise RegistryUnavailable("no connection to ZooKeeper at zk1:2181")


def test_a_registry_that_is_away_is_a_problem_and_no_more(fleet: Fleet) -> None:
    """It is said, the address is served meanwhile, and a stop does not wait for it."""
    address = free_address()
    member = fleet.member(address, Away())
    eventually(lambda: member.status()["problem"] == "no connection to ZooKeeper at zk1:2181")
    assert answers(address)
    began = time.monotonic()
    member.stop()
    assert time.monotonic() - began < 2.5


def test_a_stop_before_the_start_does_nothing(fleet: Fleet) -> None:
    """A process that ends while it starts ends in peace."""
    Membership(
        free_address(),
        fleet.url,
        host="box",
        serve=serve,
        open_writer=lambda: open_writer(fleet.url, session_timeout_seconds=4),
        truce_seconds=TRUCE_SECONDS,
    ).stop()


def test_peers_are_read_while_somebody_asks(fleet: Fleet) -> None:
    """The first question waits for the registry's word, later ones have it; a minute after the last it is closed, and
    opened again for the next."""
    peers = Peers(lambda: open_reader(fleet.url, session_timeout_seconds=4), idle_seconds=0.0)
    address = free_address()
    fleet.member(address)
    eventually(fleet.announced)
    for _ in range(2):
        known = peers.known(5.0)
        assert (known.problem, [peer.address for peer in known.peers]) == (None, [address])
        eventually(lambda: peers._reading is None)
    peers.stop()
    assert peers.known(5.0).problem is None, "what was known last stays"


def test_peers_of_a_registry_that_is_away_are_those_that_were_known(tmp_path: Path) -> None:
    """Nothing known is said with the reason, within the time that was given."""
    peers = Peers(lambda: open_reader(DirectoryUrl(str(tmp_path / "none")), session_timeout_seconds=4))
    known = peers.known(0.2)
    assert known.peers == ()
    assert known.problem == f"registry directory {tmp_path}/none does not exist"
    peers.stop()
