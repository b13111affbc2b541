"""The reader on a real ZooKeeper, with recursive watches and without."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from smartstack.forms import ZooKeeperUrl
from smartstack.instance import encode, encoded_node_name, node_name
from smartstack.registry.protocol import Listing, Unknown
from smartstack.registry.zookeeper import ZooKeeperReader
from tests.support.eventually import eventually
from tests.support.zookeeper import ControlledServer, ZooKeeperServer
from tests.support.zookeeper_links import WEB, Links, addresses, instance, listing

BOTH_MODES = pytest.mark.parametrize("recursive", [True, False], ids=["recursive", "once"])


@dataclass
class Tree:
    """One service's directory as somebody else writes it."""

    client: KazooClient
    path: str

    def create(self, name: str, payload: bytes) -> None:
        self.client.create(f"{self.path}/{name}", payload, makepath=True)

    def create_instance(self, number: int) -> str:
        name = node_name(instance(number))
        self.create(name, encode(instance(number)))
        return name

    def set(self, name: str, payload: bytes) -> None:
        self.client.set(f"{self.path}/{name}", payload)

    def delete(self, name: str) -> None:
        self.client.delete(f"{self.path}/{name}")


@pytest.fixture
def web(zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl) -> Tree:
    return Tree(zookeeper_client, f"{zookeeper_url.root}/{WEB}")


@pytest.fixture
def reader(links: Links, zookeeper_url: ZooKeeperUrl, recursive: bool) -> ZooKeeperReader:
    return links.reader(zookeeper_url, recursive=recursive, session_timeout_seconds=30)


def requests(reader: ZooKeeperReader) -> int:
    return reader.status().counters["requests"]


def events(reader: ZooKeeperReader) -> int:
    return reader.status().counters["events"]


@BOTH_MODES
def test_a_path_that_does_not_exist_is_an_empty_listing_and_is_watched(reader: ZooKeeperReader, web: Tree) -> None:
    """To be absent is knowledge, and the first instance of a new service is seen without a second look."""
    assert listing(reader) == Listing()
    web.create_instance(1)
    eventually(lambda: addresses(reader) == ["10.0.0.1:8080"])


@BOTH_MODES
def test_nodes_come_change_and_go(reader: ZooKeeperReader, web: Tree) -> None:
    """The listing follows every kind of change, sorted by node."""
    second, first = web.create_instance(2), web.create_instance(1)
    assert addresses(reader) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    web.set(first, encode(instance(1, weight=7)))
    eventually(lambda: listing(reader).records[0].instance.weight == 7)
    web.delete(second)
    eventually(lambda: addresses(reader) == ["10.0.0.1:8080"])


@BOTH_MODES
def test_a_service_directory_that_is_removed_and_made_again_is_followed(reader: ZooKeeperReader, web: Tree) -> None:
    """A watch must not die with the directory that it watches."""
    web.create_instance(1)
    assert addresses(reader) == ["10.0.0.1:8080"]
    web.client.delete(web.path, recursive=True)
    eventually(lambda: listing(reader) == Listing())
    web.create_instance(2)
    eventually(lambda: addresses(reader) == ["10.0.0.2:8080"])
    web.create_instance(3)
    eventually(lambda: addresses(reader) == ["10.0.0.2:8080", "10.0.0.3:8080"])


@BOTH_MODES
def test_an_unchanged_service_is_the_same_object_and_costs_nothing(reader: ZooKeeperReader, web: Tree) -> None:
    """A caller compares by identity; a cycle without change sends no request."""
    web.create_instance(1)
    before = listing(reader)
    sent = requests(reader)
    for _ in range(5):
        assert listing(reader) is before
    assert requests(reader) == sent


@BOTH_MODES
def test_an_event_that_changes_nothing_keeps_the_object(reader: ZooKeeperReader, web: Tree) -> None:
    """To write the same data again is an event but no change."""
    name = web.create_instance(1)
    before, seen = listing(reader), events(reader)
    web.set(name, encode(instance(1)))
    eventually(lambda: events(reader) > seen)
    assert listing(reader) is before


@BOTH_MODES
def test_an_event_rings(links: Links, reader: ZooKeeperReader, web: Tree) -> None:
    """Whoever sleeps on the bell is woken by a change."""
    listing(reader)
    wake = links.wakes[reader]
    while wake.wait(0):
        pass
    web.create_instance(1)
    assert wake.wait(5)


@dataclass(frozen=True)
class Cost:
    """What happens, and how many requests it may cost in each mode."""

    name: str
    change: Callable[[Tree], object]
    recursive: int
    once: int


COSTS = [
    Cost("a node comes", lambda web: web.create_instance(2), recursive=1, once=2),
    Cost(
        "a node changes",
        lambda web: web.set(node_name(instance(1)), encode(instance(1, weight=3))),
        recursive=1,
        once=1,
    ),
    Cost("a node goes", lambda web: web.delete(node_name(instance(1))), recursive=1, once=2),
    Cost(
        "a node comes with its payload in its name",
        lambda web: web.create(str(encoded_node_name(instance(3))), b""),
        recursive=0,
        once=1,
    ),
]


@BOTH_MODES
@pytest.mark.parametrize("cost", COSTS, ids=[cost.name for cost in COSTS])
def test_what_a_change_costs(links: Links, zookeeper_url: ZooKeeperUrl, web: Tree, recursive: bool, cost: Cost) -> None:
    """One change costs a read of that node at most, never a look at the others (once: and the list of names)."""
    for number in (1, 10, 11, 12):
        web.create_instance(number)
    reader = links.reader(zookeeper_url, recursive=recursive, session_timeout_seconds=30)
    before, sent = listing(reader), requests(reader)
    cost.change(web)
    eventually(lambda: listing(reader) != before)
    assert requests(reader) - sent <= (cost.recursive if recursive else cost.once)


def test_the_server_counts_the_same_requests(
    links: Links, zookeeper: ZooKeeperServer, zookeeper_url: ZooKeeperUrl, web: Tree
) -> None:
    """Our counter is honest: a change costs the server one request of ours, besides the one that made the change."""
    name = web.create_instance(1)
    reader = links.reader(zookeeper_url, session_timeout_seconds=60)
    listing(reader)
    wake, before = links.wakes[reader], zookeeper.requests()
    for weight in range(10):
        known = listing(reader)
        web.set(name, encode(instance(1, weight=weight)))
        while listing(reader) is known:
            assert wake.wait(5)
    assert 20 <= zookeeper.requests() - before <= 22  # a ping of either client may fall into it


@BOTH_MODES
def test_a_payload_in_the_name_needs_no_read(reader: ZooKeeperReader, web: Tree) -> None:
    """Both of Airbnb's forms are read: the payload in the data, and in the name."""
    plain, encoded = instance(1), instance(2)
    web.create("i-1_0000000007", encode(plain))
    web.create(str(encoded_node_name(encoded)), b"")
    sent = requests(reader)
    assert [record.instance for record in listing(reader).records] == [encoded, plain]
    assert requests(reader) - sent <= 3  # the watch, the list of names, and the one node


HOSTILE = {
    "nothing": b"",
    "no JSON": b"{",
    "invalid UTF-8": b'{"host":"10.0.0.9","port":1,"name":"\xff"}',
    "a list": b"[]",
    "port out of range": b'{"host":"10.0.0.9","port":99999}',
    "a unix socket": b'{"host":"unix@/x","port":80}',
    "a newline in the host": b'{"host":"10.0.0.9\\nserver x","port":80}',
    "a name with spaces": b'{"host":"10.0.0.9","port":80,"name":"a b"}',
    "a comment": b'{"host":"10.0.0.9;#","port":80}',
    "deep nesting": b"[" * 30_000,
    "nearly a megabyte": b'{"host":"10.0.0.9","port":80,"x":"' + b"x" * 900_000 + b'"}',
}


@BOTH_MODES
def test_hostile_data_is_refused_beside_good_data(reader: ZooKeeperReader, web: Tree) -> None:
    """A bad node is a value with a reason; it neither hides the good ones nor breaks the reading."""
    web.create_instance(1)
    for name, payload in HOSTILE.items():
        web.create(name, payload)
    seen = listing(reader)
    assert [record.instance for record in seen.records] == [instance(1)]
    assert {refused.node: bool(refused.reason) for refused in seen.refused} == dict.fromkeys(HOSTILE, True)
    web.set("a list", encode(instance(2)))
    eventually(lambda: addresses(reader) == ["10.0.0.1:8080", "10.0.0.2:8080"])


NAMES = [
    "a name with spaces",
    ".hidden",
    "äöü-\u2028-日本",
    "x" * 2000,
    "base64_5_abcde_0000000001",
    "base64_4___79_0000000001",
    "-0000000001",
    "#;${HOME}",
    "%2e%2e",
]


@BOTH_MODES
def test_any_name_is_taken(reader: ZooKeeperReader, web: Tree) -> None:
    """A name says nothing of the instance; only a whole payload in it does, and that one is judged as any other."""
    for number, name in enumerate(NAMES):
        web.create(name, encode(instance(number + 1)))
    web.client.create(f"{web.path}/{NAMES[0]}/child", encode(instance(99)))
    seen = listing(reader)
    assert len(seen.records) == len(NAMES) - 1
    assert [refused.reason for refused in seen.refused] == ["payload is not UTF-8"]
    for name in NAMES[1:]:
        web.delete(name)
    eventually(lambda: addresses(reader) == ["10.0.0.1:8080"])


@BOTH_MODES
def test_two_nodes_of_one_address_are_both_kept_in_order_of_age(reader: ZooKeeperReader, web: Tree) -> None:
    """Which of them counts is for the reader's user to say: the newer has the larger version."""
    web.create("older", encode(instance(1)))
    web.create("newer", encode(instance(1, weight=5)))
    newer, older = listing(reader).records
    assert (newer.node, older.node) == ("newer", "older")
    assert newer.version > older.version > 0


@BOTH_MODES
def test_a_path_may_stand_anywhere_and_inside_another(reader: ZooKeeperReader, web: Tree) -> None:
    """An absolute path is outside the root; one service's directory may be a node of another's."""
    web.create_instance(1)
    web.create("inner", b"")
    web.client.create(f"{web.path}/inner/x", encode(instance(2)))
    inner = f"{web.path}/inner"
    seen = reader.read([WEB, inner, web.path])
    assert seen[WEB] == seen[web.path]
    assert addresses(reader, inner) == ["10.0.0.2:8080"]
    reader.read([WEB, inner])
    web.client.create(f"{inner}/y", encode(instance(3)))
    eventually(lambda: len(_both(reader, inner)) == 2)
    assert addresses(reader) == ["10.0.0.1:8080"]


def _both(reader: ZooKeeperReader, inner: str) -> tuple[object, ...]:
    seen = reader.read([WEB, inner])[inner]
    assert isinstance(seen, Listing)
    return seen.records


def test_what_is_not_wanted_any_more_is_not_watched(links: Links, own_zookeeper: ControlledServer) -> None:
    """A definition that goes takes its watch with it, and its changes cost nothing."""
    reader = links.reader(ZooKeeperUrl(hosts=own_zookeeper.hosts, root=""))
    reader.read(["services/a", "services/b"])
    assert own_zookeeper.watches() == 4  # the server counts a recursive one twice
    reader.read(["services/a"])
    assert own_zookeeper.watches() == 2
    reader.read([])
    assert own_zookeeper.watches() == 0


def test_a_server_without_recursive_watches_is_noticed(links: Links, own_zookeeper: ControlledServer) -> None:
    """Watches that tell once take over by themselves, and nothing is missed for it."""
    own_zookeeper.stop()
    own_zookeeper.extra_configuration = "watchManagerName=org.apache.zookeeper.server.watch.WatchManagerOptimized\n"
    own_zookeeper.start()
    client = own_zookeeper.client()
    web = Tree(client, f"/{WEB}")
    reader = links.reader(ZooKeeperUrl(hosts=own_zookeeper.hosts, root=""))
    web.create_instance(1)
    assert addresses(reader) == ["10.0.0.1:8080"]
    web.create_instance(2)
    eventually(lambda: addresses(reader) == ["10.0.0.1:8080", "10.0.0.2:8080"])
    client.stop()
    client.close()


@BOTH_MODES
def test_one_service_that_may_not_be_read_does_not_hide_the_others(reader: ZooKeeperReader, web: Tree) -> None:
    """Its answer is Unknown with the reason, the same object each time; the others are known."""
    web.create_instance(1)
    locked = web.path + "-locked"
    web.client.create(locked, b"", acl=[make_digest_acl("somebody", "else", all=True)])
    seen = reader.read([WEB, locked])
    assert isinstance(seen[WEB], Listing)
    unknown = seen[locked]
    assert isinstance(unknown, Unknown)
    assert "no permission" in unknown.reason
    assert reader.read([WEB, locked])[locked] is unknown
    web.client.delete(locked)


@BOTH_MODES
def test_a_replacement_in_one_transaction_shows_no_gap(
    links: Links, zookeeper_url: ZooKeeperUrl, reader: ZooKeeperReader, web: Tree
) -> None:
    """A takeover is two events; a reader that reads at every ring sees the instance at every moment."""
    name = web.create_instance(1)
    wake, stopping = links.wakes[reader], threading.Event()
    assert addresses(reader) == ["10.0.0.1:8080"]

    def replace() -> None:
        for weight in range(150):
            transaction = web.client.transaction()
            transaction.delete(f"{web.path}/{name}")
            transaction.create(f"{web.path}/{name}", encode(instance(1, weight=weight)))
            transaction.commit()
        stopping.set()

    replacer = threading.Thread(target=replace)
    replacer.start()
    seen: list[list[str]] = []
    while not stopping.is_set():
        wake.wait(0.1)
        seen.append(addresses(reader))
    replacer.join()
    assert len(seen) > 5
    assert [gap for gap in seen if gap != ["10.0.0.1:8080"]] == []
    eventually(lambda: listing(reader).records[0].instance.weight == 149)


@pytest.mark.parametrize(("recursive", "services"), [(True, 1000), (False, 200)], ids=["recursive", "once"])
def test_thousands_of_instances_cost_one_read_each_and_no_thread(
    links: Links, own_zookeeper: ControlledServer, recursive: bool, services: int
) -> None:
    """A large load is pipelined from the one thread, at the first connect as after another; a fifth of it where an old
    server has every node asked for by itself."""
    client = own_zookeeper.client()
    client.ensure_path("/services")
    paths = [f"services/s{number}" for number in range(services)]
    for path in paths:
        transaction = client.transaction()
        transaction.create(f"/{path}", b"")
        for number in range(1, 11):
            transaction.create(f"/{path}/{node_name(instance(number))}", encode(instance(number)))
        transaction.commit_async()
    client.sync("/")
    client.stop()
    client.close()
    reader = links.reader(
        ZooKeeperUrl(hosts=own_zookeeper.hosts, root=""), recursive=recursive, session_timeout_seconds=30
    )
    threads = threading.active_count()
    before = reader.read(paths)
    assert sum(len(seen.records) for seen in before.values() if isinstance(seen, Listing)) == 10 * services
    # Recursive: a watch for each service, and fifty questions in a request. Else each list and each node by itself.
    assert requests(reader) == (services + services // 50 + services // 5 if recursive else services + 10 * services)
    own_zookeeper.restart()
    eventually(lambda: reader.status().counters["reconnects"] == 1, within=10)
    after = reader.read(paths)
    assert all(after[path] is before[path] for path in paths)
    assert threading.active_count() == threads
