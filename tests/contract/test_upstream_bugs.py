"""Bugs of Airbnb's nerve that this registry does not have; the numbers are those of docs and issues."""

import time
from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from smartstack.errors import RegistryUnavailable
from smartstack.forms import ZooKeeperUrl
from tests.support.eventually import eventually
from tests.support.session_thief import SessionThief
from tests.support.zookeeper import ZooKeeperServer
from tests.support.zookeeper_links import WEB, Links, mine, place, put


@pytest.fixture
def thief(zookeeper: ZooKeeperServer) -> Iterator[SessionThief]:
    """Between the writer and the server."""
    relay = SessionThief(zookeeper.host, zookeeper.port)
    yield relay
    relay.stop()


@pytest.fixture
def url(thief: SessionThief, zookeeper_url: ZooKeeperUrl) -> ZooKeeperUrl:
    """This test's root, by way of the relay."""
    return ZooKeeperUrl(hosts=thief.hosts, root=zookeeper_url.root)


def test_b2_after_a_session_expired_the_node_is_put_again_at_once(
    links: Links, thief: SessionThief, url: ZooKeeperUrl, zookeeper: ZooKeeperServer, zookeeper_client: KazooClient
) -> None:
    """Nobody has to poll: the bell rings when the new session is there, and one look and one put do it. (Ruby's nerve
    took 5 to 30 s: it only asked whether its node existed, ten times, before it began anew.)"""
    writer = links.writer(url, session_timeout_seconds=6)
    put(writer)
    assert writer.held([place()]) == mine()
    before = writer.status().session
    wake = links.wakes[writer]
    zookeeper.expire_session(*thief.sessions[-1])
    began = time.monotonic()
    looks = 0
    while writer.status().session == before or place() not in writer.held([place()]):
        assert wake.wait(5), "nothing rang"
        looks += 1
        try:
            if place() not in writer.held([place()]):
                put(writer)
        except RegistryUnavailable:
            continue
    assert time.monotonic() - began < 2
    assert looks < 10
    stat = zookeeper_client.exists(f"{url.root}/{WEB}/{place().node}")
    assert f"{stat.ephemeralOwner & (1 << 64) - 1:#x}" == writer.status().session


def test_b3_a_put_whose_answer_is_lost_makes_one_node_and_no_ghost(
    links: Links, thief: SessionThief, url: ZooKeeperUrl, zookeeper_client: KazooClient
) -> None:
    """The server did it, the connection broke before it could say so. The name is known beforehand, so the retry finds
    the node and its owner; and when the service goes, nothing stays. (Ruby's nerve made a second node, whose elder
    stayed as a ghost until the session ended.)"""
    writer = links.writer(url, session_timeout_seconds=20)
    put(writer, 1)
    assert writer.held([place(1), place(2)]) == mine(1)
    directory = f"{url.root}/{WEB}"
    thief.loses_answers = True
    with pytest.raises(RegistryUnavailable):
        put(writer, 2)
    made = eventually(lambda: zookeeper_client.exists(f"{directory}/{place(2).node}"))
    thief.loses_answers = False
    eventually(lambda: writer.status().connected, within=10)
    put(writer, 2)
    assert sorted(zookeeper_client.get_children(directory)) == sorted([place(1).node, place(2).node])
    assert zookeeper_client.exists(f"{directory}/{place(2).node}").czxid == made.czxid
    assert writer.held([]) == mine(1) | mine(2)
    writer.remove(place(2))
    assert zookeeper_client.get_children(directory) == [place(1).node]
    assert writer.held([]) == mine(1)
