"""Both sides on a ZooKeeper that fails: killed, hung, come back empty, gone from the start; sessions that expire."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from smartstack.errors import RegistryUnavailable
from smartstack.forms import ZooKeeperUrl
from smartstack.registry.protocol import Unknown
from smartstack.registry.zookeeper import ZooKeeperReader, ZooKeeperWriter
from tests.support.eventually import eventually
from tests.support.zookeeper import ControlledServer
from tests.support.zookeeper_links import WEB, Links, addresses, instance, listing, mine, place, put

BOTH_MODES = pytest.mark.parametrize("recursive", [True, False], ids=["recursive", "once"])


@pytest.fixture
def url(own_zookeeper: ControlledServer) -> ZooKeeperUrl:
    return ZooKeeperUrl(hosts=own_zookeeper.hosts, root="/smartstack")


def unknown(reader: ZooKeeperReader) -> Unknown:
    """The answer, which the test expects to be that nothing is known."""
    answer = reader.read([WEB])[WEB]
    assert isinstance(answer, Unknown)
    return answer


def expire(server: ControlledServer, link: ZooKeeperReader | ZooKeeperWriter) -> None:
    """End its session from outside."""
    client = link._link._client
    assert client is not None
    server.expire_session(*client._kazoo.client_id)


def register(writer: ZooKeeperWriter, number: int = 1) -> bool:
    """One cycle of a writer's user: put it if it is not held. Whether it was held already."""
    try:
        held = writer.held([place(number)]).get(place(number))
        if held is not None and held.mine:
            return True
        put(writer, number)
    except RegistryUnavailable:
        pass
    return False


@BOTH_MODES
def test_a_killed_server_makes_all_unknown_until_it_was_read_again(
    links: Links, own_zookeeper: ControlledServer, url: ZooKeeperUrl, recursive: bool
) -> None:
    """Away is unknown, never empty; afterwards the session, its nodes and the listing are the same."""
    reader = links.reader(url, recursive=recursive, session_timeout_seconds=10)
    writer = links.writer(url, session_timeout_seconds=10)
    put(writer)
    before = listing(reader)
    session = writer.status().session
    own_zookeeper.kill()
    first = eventually(lambda: unknown(reader))
    assert abs(first.since - time.time()) < 5
    assert unknown(reader) is first
    with pytest.raises(RegistryUnavailable, match="no connection to ZooKeeper at 127"):
        writer.held([place()])
    status = reader.status()
    assert not status.connected
    assert status.detail.startswith(f"lost the connection to ZooKeeper at {url.hosts}")
    own_zookeeper.start()
    assert eventually(lambda: register(writer), within=10)
    assert eventually(lambda: listing(reader), within=10) is before
    assert (writer.status().session, writer.status().counters["sessions"]) == (session, 1)
    assert writer.status().counters["reconnects"] == 1
    put(writer, 2)
    eventually(lambda: addresses(reader) == ["10.0.0.1:8080", "10.0.0.2:8080"])


@BOTH_MODES
def test_what_changed_while_the_connection_was_away_is_picked_up(
    links: Links, own_zookeeper: ControlledServer, url: ZooKeeperUrl, recursive: bool
) -> None:
    """A watch that is lost takes no change with it: after every connect all is read again."""
    # Suspending a container takes a busy machine a while, and a writer with a short session would lose its own
    # connection meanwhile.
    writer = links.writer(url, session_timeout_seconds=60)
    put(writer, 1)
    put(writer, 2)
    reader = links.reader(url, recursive=recursive)
    listing(reader)
    own_zookeeper.suspend()
    _cut(reader)
    own_zookeeper.resume()
    writer.remove(place(1))
    put(writer, 2, weight=5)
    put(writer, 3)
    expected = [instance(2, weight=5), instance(3)]
    eventually(lambda: [record.instance for record in listing(reader).records] == expected, within=10)


def _cut(reader: ZooKeeperReader) -> None:
    """Cut its connection from below, if there is one just now."""
    client = reader._link._client
    assert client is not None
    with suppress(OSError):
        client._connection._socket.shutdown(socket.SHUT_RDWR)


def test_a_server_that_comes_back_empty_is_joined_and_filled(
    links: Links, own_zookeeper: ControlledServer, url: ZooKeeperUrl
) -> None:
    """It refuses everybody who has seen a later transaction; who was away for a session time-out claims none."""
    reader = links.reader(url, session_timeout_seconds=2)
    writer = links.writer(url, session_timeout_seconds=2)
    for number in range(1, 20):
        put(writer, number)
    session = writer.status().session
    listing(reader)
    own_zookeeper.kill()
    own_zookeeper.wipe()
    own_zookeeper.start()
    assert eventually(lambda: register(writer), within=10)
    assert eventually(lambda: addresses(reader), within=10) == ["10.0.0.1:8080"]
    assert writer.status().session != session
    assert writer.status().counters["sessions"] == 2


def test_a_hung_server_holds_nobody_up(links: Links, own_zookeeper: ControlledServer, url: ZooKeeperUrl) -> None:
    """What needs no answer is answered; what needs one gives up in time and says so; afterwards all goes on."""
    reader = links.reader(url, session_timeout_seconds=30)
    writer = links.writer(url, session_timeout_seconds=60)  # a hung server lets sessions age
    put(writer)
    before = listing(reader)
    own_zookeeper.suspend()
    started = time.monotonic()
    assert listing(reader) is before
    assert time.monotonic() - started < 0.5
    answer = reader.read([WEB, "services/api"])
    assert time.monotonic() - started < 7
    assert all(isinstance(each, Unknown) and "did not answer within 5 s" in each.reason for each in answer.values())
    started = time.monotonic()
    assert unknown(reader)
    assert time.monotonic() - started < 0.5
    assert not reader.status().connected
    wake = links.wakes[reader]
    while wake.wait(0):
        pass
    own_zookeeper.resume()
    assert wake.wait(10)
    assert eventually(lambda: reader.read([WEB, "services/api"]))[WEB] is before


def test_a_stop_is_bounded_when_the_server_hangs(
    links: Links, own_zookeeper: ControlledServer, url: ZooKeeperUrl
) -> None:
    """A daemon that is told to end does not wait for ZooKeeper, and leaves no thread."""
    before = threading.active_count()
    writer, reader = links.writer(url, session_timeout_seconds=30), links.reader(url, session_timeout_seconds=30)
    put(writer)
    own_zookeeper.suspend()
    for link in (writer, reader):
        started = time.monotonic()
        link.stop()
        assert time.monotonic() - started < 2.2
    eventually(lambda: threading.active_count() <= before)
    own_zookeeper.resume()


def test_a_stop_is_bounded_when_the_server_is_gone(
    links: Links, own_zookeeper: ControlledServer, url: ZooKeeperUrl
) -> None:
    """The same while it tries to connect."""
    before = threading.active_count()
    writer = links.writer(url)
    own_zookeeper.kill()
    eventually(lambda: not writer.status().connected)
    started = time.monotonic()
    writer.stop()
    assert time.monotonic() - started < 2.2
    eventually(lambda: threading.active_count() <= before)


@pytest.mark.parametrize("round_number", range(3))
def test_an_expired_session_is_noticed_and_its_nodes_are_put_again(
    links: Links, own_zookeeper: ControlledServer, url: ZooKeeperUrl, round_number: int
) -> None:
    """The nodes went with the session: they are seen to be gone and put again under the new one in under 2 s."""
    writer = links.writer(url, session_timeout_seconds=6)
    reader = links.reader(url, session_timeout_seconds=6)
    put(writer)
    assert writer.held([place()]) == mine()
    assert addresses(reader) == ["10.0.0.1:8080"]
    session = writer.status().session
    expire(own_zookeeper, writer)
    started = time.monotonic()
    assert eventually(lambda: register(writer) and writer.status().session != session)
    eventually(lambda: addresses(reader) == ["10.0.0.1:8080"])
    assert time.monotonic() - started < 2
    assert writer.status().counters["sessions"] == 2


def test_the_reader_outlives_its_own_session(links: Links, own_zookeeper: ControlledServer, url: ZooKeeperUrl) -> None:
    """A new session begins with reading all again."""
    writer, reader = links.writer(url), links.reader(url)
    put(writer)
    before = listing(reader)
    expire(own_zookeeper, reader)
    eventually(lambda: reader.status().counters["sessions"] == 2)
    assert listing(reader) is before
    put(writer, 2)
    eventually(lambda: len(addresses(reader)) == 2)


def test_no_server_at_all_is_unknown_at_once() -> None:
    """A daemon starts without ZooKeeper: nothing waits, everything says what is missing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        hosts = f"127.0.0.1:{taken.getsockname()[1]}"
        started = time.monotonic()
        reader = ZooKeeperReader(ZooKeeperUrl(hosts=hosts, root=""), session_timeout_seconds=10)
        writer = ZooKeeperWriter(ZooKeeperUrl(hosts=hosts, root=""), session_timeout_seconds=10)
        reader.start(lambda: None)
        writer.start(lambda: None)
        answer = reader.read([WEB])[WEB]
        assert isinstance(answer, Unknown)
        assert hosts in answer.reason
        with pytest.raises(RegistryUnavailable, match=hosts):
            writer.held([])
        assert time.monotonic() - started < 1
        eventually(lambda: reader.status().detail.endswith("Connection refused)"))
        assert reader.status().session is None
        writer.stop()
        reader.stop()
        assert time.monotonic() - started < 5


def test_a_host_without_an_address_is_told() -> None:
    """A misspelt name is the commonest mistake; the status says it."""
    reader = ZooKeeperReader(ZooKeeperUrl(hosts="zookeeper.invalid:2181", root=""))
    reader.start(lambda: None)
    eventually(lambda: "no address" in reader.status().detail, within=15)
    reader.stop()


@pytest.fixture
def mad_server() -> Iterator[str]:
    """Speaks just enough of the protocol to open a session, and answers the first request with an unknown error."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(struct.pack("!iiiqi16sB", 37, 0, 4000, 77, 16, b"p" * 16, 0))
                request = connection.recv(4096)
                if len(request) >= 8:
                    connection.sendall(struct.pack("!iiqi", 16, *struct.unpack_from("!i", request, 4), 1, -9999))
                connection.recv(4096)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    host, port = listener.getsockname()
    yield f"{host}:{port}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_client_that_died_of_nonsense_is_replaced(mad_server: str) -> None:
    """kazoo's thread ends on an error number that it does not know; a new client takes its place."""
    reader = ZooKeeperReader(ZooKeeperUrl(hosts=mad_server, root=""), session_timeout_seconds=1)
    reader.start(lambda: None)
    eventually(lambda: reader.status().connected)
    first = reader._link._client
    eventually(lambda: isinstance(reader.read([WEB])[WEB], Unknown) and reader._link._client is not first)
    eventually(lambda: reader.status().counters["reconnects"] >= 1)
    reader.stop()


def test_two_hundred_changes_and_many_cuts_lose_nothing(
    links: Links, own_zookeeper: ControlledServer, url: ZooKeeperUrl
) -> None:
    """However often the connections break, both sides end in the same state, with the threads they began with."""
    writer = links.writer(url)
    reader = links.reader(url)
    threads = threading.active_count()
    for number in range(1, 201):
        if number % 20 == 0:
            _cut(reader)
        put(writer, number)
        reader.read([WEB])
    expected = sorted(f"10.0.0.{number}:8080" for number in range(1, 201))
    eventually(lambda: sorted(addresses(reader)) == expected, within=15)
    assert threading.active_count() == threads
