"""Readers and writers on ZooKeeper for tests: connected when they are handed out, stopped when the test ends."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from smartstack.forms import ZooKeeperUrl
from smartstack.instance import Instance, encode, node_name
from smartstack.registry.options import NOBODY, ZooKeeperOptions
from smartstack.registry.protocol import HeldNode, Listing, NodeId, Unknown
from smartstack.registry.zookeeper import ZooKeeperReader, ZooKeeperWriter, wire
from smartstack.registry.zookeeper.link import Link
from smartstack.wake import Wake
from tests.support.eventually import eventually

WEB = "services/web"


class Links:
    """Opens links and remembers them. `wakes` holds the bell of each."""

    def __init__(self) -> None:
        self.wakes: dict[object, Wake] = {}
        self._open: list[ZooKeeperReader | ZooKeeperWriter] = []

    def reader(
        self,
        url: ZooKeeperUrl,
        *,
        session_timeout_seconds: float = 4,
        options: ZooKeeperOptions = NOBODY,
        recursive: bool = True,
    ) -> ZooKeeperReader:
        """A connected reader."""
        reader = ZooKeeperReader(
            url, session_timeout_seconds=session_timeout_seconds, options=options, recursive=recursive
        )
        self._start(reader)
        return reader

    def writer(
        self,
        url: ZooKeeperUrl,
        *,
        session_timeout_seconds: float = 4,
        options: ZooKeeperOptions = NOBODY,
        session_file: str | None = None,
        connected: bool = True,
    ) -> ZooKeeperWriter:
        """A writer that is connected, or that was only started."""
        writer = ZooKeeperWriter(
            url, session_timeout_seconds=session_timeout_seconds, options=options, session_file=session_file
        )
        self._start(writer, connected=connected)
        return writer

    def _start(self, link: ZooKeeperReader | ZooKeeperWriter, *, connected: bool = True) -> None:
        wake = self.wakes[link] = Wake()
        self._open.append(link)
        link.start(wake.ring)
        if connected:
            eventually(lambda: link.status().connected, within=10)

    def stop(self) -> None:
        """Stop all; to stop one twice does no harm."""
        for link in self._open:
            link.stop()


class Recorder:
    """A second watcher: hears every change below a root, one by one, from the moment it was made."""

    def __init__(self, url: ZooKeeperUrl) -> None:
        self._root = url.root
        self._events: list[tuple[str, str]] = []
        self._link = Link(url.hosts, 30, self._keep)
        self._link.start(lambda: None)
        eventually(lambda: self._link.state.connected, within=10)
        self._ask(wire.add_watch(self._root))

    def heard(self) -> list[tuple[str, str]]:
        """What happened so far, in order: the kind of the change and the node's path below the root."""
        self._ask(wire.exists(self._root, watch=False))
        return list(self._events)

    def stop(self) -> None:
        """End it."""
        self._link.stop()

    def _ask(self, request: wire.Request) -> None:
        [(_request, answer)] = self._link.ask([request])
        assert not isinstance(answer, Exception), answer

    def _keep(self, _generation: int, event: wire.Event) -> None:
        self._events.append((event.kind.name, event.path.removeprefix(self._root + "/")))


def changes(recorder: Recorder, service: str = "") -> list[tuple[str, str]]:
    """What happened to the nodes of instances, of one service or of all."""
    return [
        event for event in recorder.heard() if event[1].startswith(f"services/{service}") and event[1].count("/") == 2
    ]


def gaps(recorder: Recorder) -> list[tuple[str, str]]:
    """The deletions that are not the first half of a replacement in one transaction: then the watcher is told of both,
    one directly after the other, and no reader ever sees the place between."""
    events = changes(recorder)
    return [
        (kind, path)
        for number, (kind, path) in enumerate(events)
        if kind == "DELETED" and events[number + 1 : number + 2] != [("CREATED", path)]
    ]


def deletions(recorder: Recorder, service: str = "") -> int:
    """How many nodes of instances went, replaced or not."""
    return sum(kind == "DELETED" for kind, _ in changes(recorder, service))


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
