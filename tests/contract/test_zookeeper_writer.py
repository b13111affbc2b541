"""The writer on a real ZooKeeper: ownership, takeover in one step, and what it costs."""

import threading
from contextlib import suppress

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from smartstack.errors import RegistryRefused, RegistryUnavailable
from smartstack.forms import ZooKeeperUrl
from smartstack.instance import PAYLOAD_LIMIT, encode, encoded_node_name
from smartstack.registry.protocol import HeldNode, NodeId
from smartstack.registry.zookeeper import ZooKeeperWriter
from tests.support.eventually import eventually
from tests.support.zookeeper import ControlledServer, ZooKeeperServer
from tests.support.zookeeper_links import WEB, Links, instance, mine, place, put


@pytest.fixture
def writer(links: Links, zookeeper_url: ZooKeeperUrl) -> ZooKeeperWriter:
    return links.writer(zookeeper_url, session_timeout_seconds=30)


@pytest.fixture
def other(links: Links, zookeeper_url: ZooKeeperUrl) -> ZooKeeperWriter:
    """Another nerve, or the one before the restart."""
    return links.writer(zookeeper_url, session_timeout_seconds=30)


def requests(writer: ZooKeeperWriter) -> int:
    return writer.status().counters["requests"]


def transactions(server: ZooKeeperServer) -> int:
    """The number of the last transaction that the server has made."""
    line = next(line for line in server.command("srvr").splitlines() if line.startswith("Zxid:"))
    return int(line.split()[1], 16)


def full(url: ZooKeeperUrl, node: NodeId) -> str:
    return f"{url.root}/{node.path}/{node.node}"


def test_a_node_is_ephemeral_with_this_payload_and_its_directory_is_made(
    writer: ZooKeeperWriter, zookeeper_url: ZooKeeperUrl, zookeeper_client: KazooClient
) -> None:
    """It lives and dies with the session; the directories above it stay."""
    put(writer)
    payload, stat = zookeeper_client.get(full(zookeeper_url, place()))
    assert payload == encode(instance())
    assert f"{stat.ephemeralOwner:#x}" == writer.status().session
    assert zookeeper_client.exists(f"{zookeeper_url.root}/{WEB}").ephemeralOwner == 0
    assert writer.held([place()]) == mine()


def test_an_absolute_path_is_outside_the_root(
    writer: ZooKeeperWriter, zookeeper_url: ZooKeeperUrl, zookeeper_client: KazooClient
) -> None:
    """A definition may name the place where an existing fleet looks."""
    node = NodeId(path=f"{zookeeper_url.root}/elsewhere", node="x")
    writer.put(node, b"{}")
    assert zookeeper_client.exists(f"{zookeeper_url.root}/elsewhere/x")


def test_to_put_the_same_again_writes_nothing(writer: ZooKeeperWriter, zookeeper: ZooKeeperServer) -> None:
    """Repeating is free: no transaction, and with the watch standing not even a request."""
    put(writer)
    assert writer.held([place()]) == mine()
    before, sent = transactions(zookeeper), requests(writer)
    put(writer)
    assert (transactions(zookeeper), requests(writer)) == (before, sent)


def test_a_cycle_without_changes_costs_no_request(writer: ZooKeeperWriter) -> None:
    """What is held is asked for in every cycle, so the answer is kept while a watch stands on each place."""
    for number in range(1, 6):
        put(writer, number)
    candidates = [place(number) for number in range(1, 9)]
    held = writer.held(candidates)
    assert sorted(held, key=str) == [place(number) for number in range(1, 6)]
    sent = requests(writer)
    for _ in range(5):
        assert writer.held(candidates) == held
    assert requests(writer) == sent


@pytest.mark.parametrize("change", ["deleted", "changed", "made by another"])
def test_a_change_under_us_rings_and_is_seen(
    links: Links,
    writer: ZooKeeperWriter,
    zookeeper_url: ZooKeeperUrl,
    zookeeper_client: KazooClient,
    change: str,
) -> None:
    """Whatever somebody does to one of our places, the next look shows what is there now."""
    put(writer)
    writer.held([place(), place(2)])
    wake = links.wakes[writer]
    while wake.wait(0.05):
        writer.held([place(), place(2)])
    if change == "deleted":
        zookeeper_client.delete(full(zookeeper_url, place()))
        expected: dict[NodeId, HeldNode] = {}
    elif change == "changed":
        zookeeper_client.set(full(zookeeper_url, place()), b"x")
        expected = {place(): HeldNode(payload=b"x", mine=True)}
    else:
        zookeeper_client.create(full(zookeeper_url, place(2)), b"x", ephemeral=True)
        expected = mine() | {place(2): HeldNode(payload=b"x", mine=False)}
    assert wake.wait(5)
    eventually(lambda: writer.held([place(), place(2)]) == expected)


def test_a_changed_payload_is_a_new_node_in_one_transaction(
    writer: ZooKeeperWriter, zookeeper: ZooKeeperServer, zookeeper_url: ZooKeeperUrl, zookeeper_client: KazooClient
) -> None:
    """Readers that watch only the list of names (Airbnb's) see it, and nobody sees the place empty."""
    put(writer)
    before, created = transactions(zookeeper), zookeeper_client.exists(full(zookeeper_url, place())).czxid
    put(writer, weight=9)
    assert transactions(zookeeper) == before + 1
    assert zookeeper_client.exists(full(zookeeper_url, place())).czxid > created
    assert writer.held([]) == mine(weight=9)


def test_another_sessions_node_is_taken_over_in_one_transaction(
    writer: ZooKeeperWriter, other: ZooKeeperWriter, zookeeper: ZooKeeperServer
) -> None:
    """After a crash the old node is still there under the old session: it becomes ours without a gap, same payload
    or not, because it would vanish with that session."""
    put(other)
    assert writer.held([place()]) == {place(): HeldNode(payload=encode(instance()), mine=False)}
    before = transactions(zookeeper)
    put(writer)
    assert transactions(zookeeper) == before + 1
    assert writer.held([place()]) == mine()


def test_the_former_owner_learns_it_and_keeps_its_hands_off(writer: ZooKeeperWriter, other: ZooKeeperWriter) -> None:
    """A foreign node is shown where it was asked for, not otherwise, and is never removed."""
    put(other)
    assert other.held([place()]) == mine()
    put(writer)
    eventually(lambda: other.held([place()]) == {place(): HeldNode(payload=encode(instance()), mine=False)})
    assert other.held([]) == {}
    other.remove(place())
    assert writer.held([place()]) == mine()


@pytest.mark.parametrize("same_payload", [True, False])
def test_a_node_goes_in_the_step_that_makes_its_successor(
    writer: ZooKeeperWriter, zookeeper: ZooKeeperServer, same_payload: bool
) -> None:
    """Make before break: one transaction; safe to repeat."""
    old = put(writer)
    payload = encode(instance(weight=None if same_payload else 3))
    new = NodeId(path=WEB, node=str(encoded_node_name(instance())))
    before = transactions(zookeeper)
    writer.put(new, payload, instead_of=old)
    assert transactions(zookeeper) == before + 1
    writer.put(new, payload, instead_of=old)
    assert transactions(zookeeper) == before + 1
    assert writer.held([old, new]) == {new: HeldNode(payload=payload, mine=True)}


def test_only_the_old_node_goes_when_the_new_one_is_there(writer: ZooKeeperWriter, zookeeper: ZooKeeperServer) -> None:
    """A step that was done by half is finished without a new node."""
    put(writer, 1)
    put(writer, 2)
    before = transactions(zookeeper)
    writer.put(place(2), encode(instance(2)), instead_of=place(1))
    assert transactions(zookeeper) == before + 1
    assert writer.held([place(1), place(2)]) == mine(2)


def test_a_foreign_node_is_not_taken_for_the_old_one(writer: ZooKeeperWriter, other: ZooKeeperWriter) -> None:
    """`instead_of` is for a node of ours; another's stays."""
    put(other, 1)
    writer.put(place(2), encode(instance(2)), instead_of=place(1))
    assert other.held([place(1)]) == mine(1)


def test_a_removed_node_is_gone_and_to_remove_it_again_does_no_harm(writer: ZooKeeperWriter) -> None:
    """The place is forgotten once it was seen to be empty: its watch goes, and it costs nothing any more."""
    put(writer)
    for _ in range(2):
        writer.remove(place())
        assert writer.held([place()]) == {}
    sent = requests(writer)
    for _ in range(2):
        assert writer.held([]) == {}
        assert requests(writer) == sent + 1


def test_what_was_put_is_held_whether_asked_for_or_not(writer: ZooKeeperWriter) -> None:
    """A place that the configuration no longer names must not be forgotten while our node stands there."""
    put(writer)
    assert writer.held([]) == mine()
    assert writer.held([place(2)]) == mine()


def test_a_stop_removes_what_is_ours_at_once(
    writer: ZooKeeperWriter, other: ZooKeeperWriter, zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl
) -> None:
    """The end of the session is the end of its nodes, before `stop` returns; another's stay."""
    put(writer, 1)
    put(other, 2)
    threads = threading.active_count()
    writer.stop()
    writer.stop()
    assert zookeeper_client.get_children(f"{zookeeper_url.root}/{WEB}") == [place(2).node]
    assert threading.active_count() < threads
    with pytest.raises(RegistryUnavailable):
        writer.held([place(1)])
    assert writer.status().detail == "stopped"


def test_a_missing_permission_is_refused_with_what_to_do(
    writer: ZooKeeperWriter, zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl
) -> None:
    """Somebody has to act: the error says on what. What may not be read or written is not ours."""
    zookeeper_client.ensure_path(f"{zookeeper_url.root}/services")
    zookeeper_client.create(f"{zookeeper_url.root}/{WEB}", b"", acl=[make_digest_acl("a", "b", all=True)])
    with pytest.raises(RegistryRefused, match=f"put {zookeeper_url.root}/{WEB}/.* no permission; give"):
        put(writer)
    writer.held([place()])
    zookeeper_client.delete(f"{zookeeper_url.root}/{WEB}")


def test_a_node_that_may_not_be_read_is_there_and_not_ours(
    writer: ZooKeeperWriter, zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl
) -> None:
    """It is seen, and can be replaced by who may write the directory."""
    zookeeper_client.ensure_path(f"{zookeeper_url.root}/{WEB}")
    zookeeper_client.create(full(zookeeper_url, place()), b"secret", acl=[make_digest_acl("a", "b", all=True)])
    assert writer.held([place()]) == {place(): HeldNode(payload=b"", mine=False)}
    put(writer)
    assert writer.held([place()]) == mine()


def test_a_place_in_a_directory_that_may_not_be_made_is_refused(
    writer: ZooKeeperWriter, zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl
) -> None:
    """The directory above is locked, so the service's cannot come to be."""
    zookeeper_client.create(zookeeper_url.root, b"", acl=[make_digest_acl("a", "b", all=True)])
    with pytest.raises(RegistryRefused, match=r"make the directory of .* no permission"):
        put(writer)
    zookeeper_client.delete(zookeeper_url.root)


def test_a_node_with_children_and_a_node_below_an_instance_are_refused(
    writer: ZooKeeperWriter, zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl
) -> None:
    """What cannot heal by itself is refused, not tried for ever."""
    zookeeper_client.create(full(zookeeper_url, place()) + "/child", b"", makepath=True)
    with pytest.raises(RegistryRefused, match="NotEmpty"):
        put(writer)
    put(writer, 2)
    with pytest.raises(RegistryRefused, match="NoChildrenForEphemerals"):
        writer.put(NodeId(path=f"{WEB}/{place(2).node}", node="x"), b"")


def test_too_large_a_payload_is_refused_before_it_is_sent(writer: ZooKeeperWriter) -> None:
    """ZooKeeper would end the connection, and with it everybody's patience."""
    with pytest.raises(RegistryRefused, match="over 65536"):
        writer.put(place(), b"x" * (PAYLOAD_LIMIT + 1))


def test_an_impossible_place_is_refused_and_hides_nothing(writer: ZooKeeperWriter) -> None:
    """A path that ZooKeeper does not allow holds nothing; to put something there is an error of its own."""
    impossible = NodeId(path=f"{WEB}/../..", node="x")
    put(writer)
    assert writer.held([place(), impossible]) == mine()
    with pytest.raises(RegistryRefused, match="BadArguments"):
        writer.put(impossible, b"")


def test_two_that_fight_for_one_place_never_leave_it_empty(
    writer: ZooKeeperWriter, other: ZooKeeperWriter, zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl
) -> None:
    """Between a look and the step that follows it anything may happen; the step is then looked at again. (Any other
    error in a thread fails the test.)"""
    put(writer)

    def fight(fighter: ZooKeeperWriter, first_weight: int) -> None:
        for weight in range(first_weight, first_weight + 60):
            with suppress(RegistryUnavailable):
                fighter.put(place(), encode(instance(weight=weight)))

    threads = [threading.Thread(target=fight, args=(fighter, 70 * at)) for at, fighter in enumerate((writer, other))]
    for thread in threads:
        thread.start()
    looks = [zookeeper_client.exists(full(zookeeper_url, place())) for _ in range(100)]
    for thread in threads:
        thread.join()
    assert None not in looks
    eventually(lambda: {each.held([place()])[place()].mine for each in (writer, other)} == {True, False})


def test_an_answer_that_was_lost_is_not_an_orphan(links: Links, own_zookeeper: ControlledServer) -> None:
    """A put that is not answered may still come to pass: the node is then found as ours, though nobody asks for it."""
    writer = links.writer(ZooKeeperUrl(hosts=own_zookeeper.hosts, root=""), session_timeout_seconds=6)
    put(writer, 1)
    writer.held([place(1), place(2)])
    own_zookeeper.suspend()
    with pytest.raises(RegistryUnavailable, match="did not answer within 2 s"):
        put(writer, 2)
    with pytest.raises(RegistryUnavailable, match="did not answer within 2 s"):
        writer.held([place(1)])
    own_zookeeper.resume()
    eventually(lambda: writer.status().connected, within=10)
    assert eventually(lambda: writer.held([])) == mine(1) | mine(2)


def test_a_place_that_is_not_wanted_any_more_is_not_watched(links: Links, own_zookeeper: ControlledServer) -> None:
    """Services that come and go leave no watch behind, and the one that stays keeps its own; then all costs nothing."""
    writer = links.writer(ZooKeeperUrl(hosts=own_zookeeper.hosts, root=""), session_timeout_seconds=30)
    put(writer, 1)
    writer.held([place(1)])
    assert own_zookeeper.watches() == 1
    for number in range(2, 5):
        put(writer, number)
        assert writer.held([place(1), place(number)]).keys() == {place(1), place(number)}
        writer.remove(place(number))
        for _turn in range(2):
            assert writer.held([place(1)]) == mine(1)
    assert own_zookeeper.watches() == 1
    before = requests(writer)
    assert writer.held([place(1)]) == mine(1)
    assert requests(writer) == before
