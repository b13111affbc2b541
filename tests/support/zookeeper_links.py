"""Readers and writers on ZooKeeper for tests: connected when they are handed out, stopped when the test ends."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from smartstack.forms import ZooKeeperUrl
from smartstack.instance import Instance, encode, node_name
from smartstack.registry.protocol import HeldNode, Listing, NodeId, Unknown
from smartstack.registry.zookeeper import ZooKeeperReader, ZooKeeperWriter
from smartstack.wake import Wake
from tests.support.eventually import eventually

WEB = "services/web"


class Links:
    """Opens links and remembers them. `wakes` holds the bell of each."""

    def __init__(self) -> None:
        self.wakes: dict[object, Wake] = {}
        self._open: list[ZooKeeperReader | ZooKeeperWriter] = []

    def reader(
        self, url: ZooKeeperUrl, *, session_timeout_seconds: float = 4, recursive: bool = True
    ) -> ZooKeeperReader:
        """A connected reader."""
        reader = ZooKeeperReader(url, session_timeout_seconds=session_timeout_seconds, recursive=recursive)
        self._start(reader)
        return reader

    def writer(self, url: ZooKeeperUrl, *, session_timeout_seconds: float = 4) -> ZooKeeperWriter:
        """A connected writer."""
        writer = ZooKeeperWriter(url, session_timeout_seconds=session_timeout_seconds)
        self._start(writer)
        return writer

    def _start(self, link: ZooKeeperReader | ZooKeeperWriter) -> None:
        wake = self.wakes[link] = Wake()
        self._open.append(link)
        link.start(wake.ring)
        eventually(lambda: link.status().connected, within=10)

    def stop(self) -> None:
        """Stop all; to stop one twice does no harm."""
        for link in self._open:
            link.stop()


@pytest.fixture
def links() -> Iterator[Links]:
    """Opens readers and writers for one test."""
    opened = Links()
    yield opened
    opened.stop()


def instance(number: int = 1, *, weight: int | None = None) -> Instance:
    """The instance with this last number in its address."""
    return Instance(host=f"10.0.0.{number}", port=8080, name=f"host-{number}", weight=weight)


def place(number: int = 1) -> NodeId:
    """Where it stands."""
    return NodeId(path=WEB, node=node_name(instance(number)))


def put(writer: ZooKeeperWriter, number: int = 1, *, weight: int | None = None) -> NodeId:
    """Put it, and say where."""
    writer.put(place(number), encode(instance(number, weight=weight)))
    return place(number)


def mine(number: int = 1, *, weight: int | None = None) -> dict[NodeId, HeldNode]:
    """What a writer holds that has put just this one."""
    return {place(number): HeldNode(payload=encode(instance(number, weight=weight)), mine=True)}


def listing(reader: ZooKeeperReader, path: str = WEB) -> Listing:
    """The listing, which the test expects to be known."""
    answer = reader.read([path])[path]
    assert not isinstance(answer, Unknown), answer.reason
    return answer


def addresses(reader: ZooKeeperReader, path: str = WEB) -> list[str]:
    """The addresses in the listing, which the test expects to be known."""
    return [record.instance.address for record in listing(reader, path).records]


def abandon(link: ZooKeeperReader | ZooKeeperWriter) -> None:
    """End its connection as the kernel does for a killed process: nobody tells the server that the session is over."""
    client = link._link._client
    assert client is not None
    client._kazoo._stopped.set()
    with suppress(OSError, AttributeError):
        client._connection._socket.shutdown(socket.SHUT_RDWR)
    eventually(lambda: client.dead)
    client._kazoo.handler.stop()
