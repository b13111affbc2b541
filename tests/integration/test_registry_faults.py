"""The registry is away, hangs, is wiped: unknown is not empty, and whoever was served is served on."""

import time
from functools import partial
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from smartstack.forms import DirectoryUrl
from smartstack.instance import node_name
from tests.support.clients import LoadClient, ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host
from tests.support.zookeeper import ControlledServer

OUTAGE_SECONDS = 20.0
"""Several times the session time-out of 4 s: who waits longer and longer between two attempts comes back too late."""


def owner(client: KazooClient, host: Host, number: int) -> str | None:
    """The session that owns the node of this instance in ZooKeeper, as nerve writes it; None when there is none."""
    state = client.exists(f"/smartstack/services/web/{node_name(host.instance(number))}")
    return None if state is None else f"0x{state.ephemeralOwner:x}"


def owned_by_its_nerve(client: KazooClient, host: Host, number: int) -> bool:
    """Whether the node of this instance belongs to the session that its nerve says it has."""
    session = host.nerves[number].status()["registry"]["session"]
    assert owner(client, host, number) == session
    return True


@pytest.mark.timeout(180)
def test_a_long_time_without_zookeeper(fragile_host: Host, own_zookeeper: ControlledServer) -> None:
    """ZooKeeper is gone for much longer than a session lasts. No instance leaves HAProxy meanwhile or when it comes
    back, no request fails, the registrations that are there afterwards belong to sessions that live, and what changed
    meanwhile is picked up: an instance that came, one that died, a weight."""
    host = fragile_host
    host.define("web", 3210)
    for number in (1, 2, 3):
        host.nerve(number, {"web": {}}).start()
    host.start()
    address = {number: host.instance(number).address for number in (1, 2, 3, 4)}
    eventually(lambda: host.members("web").keys() == {address[1], address[2], address[3]})
    before = host.haproxy()
    clients = [host.client(3210, keep_alive=keep_alive, rate=40) for keep_alive in (False, True)]
    with clients[0], clients[1]:
        own_zookeeper.kill()
        began = time.monotonic()
        eventually(lambda: host.told("web")["origin"] == "last good", within=10)
        host.nerve(4, {"web": {}}).start(until="/healthz")
        host.nerve(1, {"web": {"weight": 50}})
        host.backends.close(host.instance(3).host, BACKEND_PORT)

        def nothing_is_lost() -> bool:
            if host.members("web").keys() != {address[1], address[2], address[3]}:
                pytest.fail(f"after {time.monotonic() - began:.1f} s HAProxy has {host.members('web')}")
            return time.monotonic() - began >= OUTAGE_SECONDS

        eventually(nothing_is_lost, within=OUTAGE_SECONDS + 30)
        own_zookeeper.start()

        def caught_up() -> bool:
            members = host.members("web")
            if not {address[1], address[2]} <= members.keys():
                pytest.fail(f"an instance that lives disappeared when ZooKeeper came back: {members}")
            return members == {address[1]: 32, address[2]: 64, address[4]: 64}

        eventually(caught_up, within=30)
        client = own_zookeeper.client()
        try:
            for number in (1, 2, 4):
                eventually(partial(owned_by_its_nerve, client, host, number))
            assert owner(client, host, 3) is None
        finally:
            client.stop()
            client.close()
        eventually(lambda: host.told("web")["origin"] == "listing")
        eventually(lambda: clients[0].answers[address[4]])
        assert_none_failed(clients, at_least=400)
    assert host.haproxy() == before
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


def test_a_zookeeper_that_comes_back_empty_empties_nothing(fragile_host: Host, own_zookeeper: ControlledServer) -> None:
    """Its data is lost: every nerve registers again by itself, and what was known stays in use as far as the floor
    says; here that is all of it, because the nerves come back one after another."""
    host = fragile_host
    host.settings["session_timeout"] = "1s"
    host.define("web", 3210, balance="leastconn", shrink_floor="100 %")
    for number in (1, 2):
        host.nerve(number, {"web": {}}).start()
    host.start()
    eventually(lambda: len(host.members("web")) == 2)
    members = host.members("web")
    with host.client(3210, keep_alive=False) as client:
        own_zookeeper.kill()
        own_zookeeper.wipe()
        own_zookeeper.start()

        def registered_again() -> bool:
            if host.members("web") != members:
                pytest.fail(f"HAProxy has {host.members('web')}")
            told = host.synapse.status()
            return bool(told["registry"]["connected"] and told["services"]["web"]["origin"] == "listing")

        eventually(registered_again, within=30)
        host.nerve(1, {"web": {"weight": 7}})
        eventually(lambda: 7 in host.members("web").values())
        assert_none_failed([client], at_least=20)


def test_a_zookeeper_that_hangs_does_not_hang_synapse(fragile_host: Host, own_zookeeper: ControlledServer) -> None:
    """While ZooKeeper is stopped in its tracks, synapse answers at once, its loop turns, and an edit takes effect."""
    host = fragile_host
    host.serve("web", 3210)
    host.start()
    structure = host.structure()
    own_zookeeper.suspend()
    try:
        host.define("web", 3210, balance="roundrobin")
        host.define("api", 3211)
        slowest = 0.0

        def edited() -> bool:
            nonlocal slowest
            for path in ("/healthz", "/status", "/metrics"):
                began = time.monotonic()
                assert host.synapse.get(path).status_code == 200
                slowest = max(slowest, time.monotonic() - began)
            assert host.structure() != structure
            return "api" in host.synapse.status()["services"]

        eventually(edited, within=10)
        eventually(lambda: "balance roundrobin" in host.haproxy_file())
        assert slowest < 2, f"an answer took {slowest:.1f} s"
        eventually(lambda: not host.synapse.status()["registry"]["connected"], within=10)
        assert ask(host.address, 3210)
        assert len(host.members("web")) == 3
    finally:
        own_zookeeper.resume()
    eventually(lambda: host.told("web")["origin"] == "listing", within=15)


def wipe(host: Host, client: KazooClient) -> None:
    """Take everything out of the registry in one step, behind everybody's back."""
    if isinstance(host.registry, DirectoryUrl):
        Path(f"{host.registry.path}/services").rename(f"{host.registry.path}/gone")
        return
    transaction = client.transaction()
    for service in ("web", "api"):
        for node in client.get_children(f"{host.registry.root}/services/{service}"):
            transaction.delete(f"{host.registry.root}/services/{service}/{node}")
    results = transaction.commit()
    assert results
    assert not any(isinstance(result, Exception) for result in results)


def serving(host: Host, listen: int) -> LoadClient:
    """A client of this service, begun."""
    return host.client(listen, keep_alive=False).__enter__()


def test_a_wiped_registry_is_held_back_and_then_believed(any_host: Host, zookeeper_client: KazooClient) -> None:
    """All nodes gone at once is not believed at once: at least the floor's share of what served serves on, visibly held
    back, until it has lasted `shrink_confirm`. Then the service is empty, and says so to its clients.

    Not all of it has to: a registry may tell of one removal after another, and those above the floor are believed.
    """
    host = any_host
    host.serve("web", 3210, shrink_confirm="2s", shrink_to_nothing="confirm")
    host.serve("api", 3211, shrink_confirm="1h")
    host.start()
    members = host.members("web")
    clients = [serving(host, port) for port in (3210, 3211)]
    eventually(lambda: all(client.requests >= 5 for client in clients))
    wipe(host, zookeeper_client)
    eventually(lambda: "0 of 3 instances" in host.told("web")["reason"])
    assert host.synapse.metric("synapse_held_back", service="web") == 1
    told = host.told("web")
    assert told["origin"] == "held back"
    assert told["held_back_until"] > time.time()
    assert host.members("web").keys() <= members.keys()
    assert len(host.members("web")) >= len(members) / 2
    clients[0].stop()
    eventually(lambda: host.members("web") == {}, within=10)
    eventually(lambda: host.told("web")["origin"] == "listing", message="what HAProxy does is told a moment later")
    with pytest.raises(AssertionError, match=r"503 .*no live instance of web"):
        ask(host.address, 3210)
    assert host.told("api")["origin"] == "held back"
    assert_none_failed(clients, at_least=5)
    host.join("web", 5)
    eventually(lambda: ask(host.address, 3210) == host.instance(5).address)
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


def test_a_wiped_registry_takes_nobody_who_is_alive(any_host: Host, zookeeper_client: KazooClient) -> None:
    """The whole tree is lost under load, and stays lost for longer than any time of confirmation: whoever answers
    HAProxy's checks serves on, and the operator sees why. When the tree is back, all is as it was."""
    host = any_host
    host.serve("web", 3210, shrink_confirm="1s")
    host.serve("api", 3211)
    host.start()
    before = host.haproxy()
    with host.client(3210, keep_alive=True) as kept, host.client(3210, keep_alive=False) as fresh:
        eventually(lambda: min(kept.requests, fresh.requests) >= 5)
        wipe(host, zookeeper_client)
        eventually(lambda: "while HAProxy does not find them all dead" in host.told("web")["reason"])
        held = time.monotonic()
        eventually(lambda: time.monotonic() > held + 3, within=5)
        assert host.told("web")["origin"] == "held back"
        assert len(host.members("web")) >= 2
        assert "in use: held back" in host.synapse.log()
        for number in (1, 2, 3):
            host.join("web", number)
        eventually(lambda: host.told("web")["origin"] == "listing")
        eventually(lambda: len(host.members("web")) == 3)
        assert_none_failed([kept, fresh], at_least=100)
    assert host.haproxy() == before
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


def test_who_is_gone_from_the_registry_and_dead_is_believed_gone(host: Host) -> None:
    """HAProxy's own checks confirm a listing without any instance: nobody has to wait, nor to say so."""
    host.serve("web", 3210, shrink_confirm="1h", health={"interval": "200ms", "fast_interval": "200ms"})
    host.start()
    for number in (1, 2, 3):
        host.leave("web", number)
    eventually(lambda: host.told("web")["origin"] == "held back")
    assert ask(host.address, 3210)
    for number in (1, 2, 3):
        host.backends.close(host.instance(number).host, host.instance(number).port)
    eventually(lambda: host.members("web") == {}, within=20)
    assert "HAProxy finds those that are missing dead" in host.told("web")["reason"]


def test_a_registry_that_is_back_before_it_is_believed_changes_nothing(host: Host) -> None:
    """Instances that come back while their absence is held back were never away: HAProxy is told nothing at all."""
    # Below the usual floor of a half two of three are believed, on their way out and on their way back.
    host.serve("web", 3210, shrink_confirm="1h", shrink_floor="100 %")
    host.start()
    members = host.members("web")
    commands = host.synapse.metric("synapse_runtime_commands_total", result="done")
    for number in (1, 2, 3):
        host.leave("web", number)
    eventually(lambda: "the registry has 0 of 3 instances" in host.told("web")["reason"])
    assert host.told("web")["origin"] == "held back"
    for number in (1, 2, 3):
        host.join("web", number)
    eventually(lambda: host.told("web")["origin"] == "listing")
    assert host.members("web") == members
    assert host.synapse.metric("synapse_runtime_commands_total", result="done") == commands
