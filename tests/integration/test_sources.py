"""Instances from several sources at once, through a real synapse and HAProxy: registries, names, files, lists."""

import json
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from kazoo.client import KazooClient

from smartstack.forms import DirectoryUrl
from smartstack.instance import Instance, encode, node_name
from smartstack.registry import open_writer
from smartstack.registry.protocol import NodeId, RegistryWriter
from tests.support.clients import LoadClient, ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.nameserver import Nameserver
from tests.support.pair import BACKEND_PORT, Host
from tests.support.zookeeper import ControlledServer

OLD = {"type": "registry", "registry": "old", "path": "/nerve/services/web/services"}
MAIN = {"type": "registry"}


class OldRegistry:
    """A `file:` registry in the host's directory, which synapse.yaml names `old`."""

    def __init__(self, host: Host) -> None:
        url = DirectoryUrl(str(host.directory / "old"))
        host.settings["registries"] = {"old": {"url": str(url)}}
        self._host = host
        self.writer: RegistryWriter = open_writer(url, session_timeout_seconds=4)
        self.writer.start(lambda: None)

    def join(self, number: int) -> Instance:
        instance = self._host.instance(number)
        self.writer.put(NodeId(path=OLD["path"], node=node_name(instance)), encode(instance))
        return instance

    def leave(self, number: int) -> None:
        self.writer.remove(NodeId(path=OLD["path"], node=node_name(self._host.instance(number))))


def old_registry(host: Host) -> Iterator[OldRegistry]:
    made = OldRegistry(host)
    yield made
    made.writer.stop()


@pytest.fixture
def old(fragile_host: Host) -> Iterator[OldRegistry]:
    """Another registry of the host whose main one is a ZooKeeper of its own."""
    yield from old_registry(fragile_host)


def define(host: Host, *sources: dict[str, Any], name: str = "web", listen: int = 3210, **keys: Any) -> None:
    """Write a definition with these sources, offered at this port."""
    proxy = {"listen": f"{host.address}:{listen}", **keys.pop("proxy", {})}
    definition = {"port": BACKEND_PORT, "proxy": proxy, **keys}
    if sources:
        definition["sources"] = sources
    host.write(f"services/{name}.yaml", json.dumps(definition))


def serves(host: Host, *numbers: int) -> bool:
    """HAProxy has exactly these instances of web."""
    members = set(host.members("web"))
    assert members == {host.instance(number).address for number in numbers}, members
    return True


def threads(host: Host) -> int:
    """How many threads synapse has."""
    return len(os.listdir(f"/proc/{host.synapse.pid}/task"))


def answered(clients: list[LoadClient], instance: Instance) -> bool:
    """Every client had an answer of this instance."""
    return all(client.answers[instance.address] for client in clients)


def no_reload(host: Host) -> None:
    reloads = host.synapse.metric("synapse_haproxy_reloads_total", result="done")
    assert reloads == 0, host.synapse.status()["haproxy"]["last_reload"]


def test_a_service_moves_from_one_registry_to_another(fragile_host: Host, old: OldRegistry) -> None:
    """From an old registry to ZooKeeper, under load: a union of both while instances move one by one, then the new one
    with the old one to fall back to, then the new one alone. No request fails, HAProxy is never reloaded, and of the
    old registry nothing is left."""
    host = fragile_host
    define(host, OLD)
    for number in (1, 2, 3):
        old.join(number)
    host.start()
    eventually(lambda: serves(host, 1, 2, 3))
    clients = [host.client(3210, keep_alive=keep_alive, rate=60) for keep_alive in (False, True)]
    with clients[0], clients[1]:
        define(host, OLD, MAIN)
        for number in (1, 2, 3):
            host.join("web", number)
            host.join("web", 3 + number)
            old.leave(number)
            eventually(partial(answered, clients, host.instance(3 + number)))
        eventually(lambda: serves(host, 1, 2, 3, 4, 5, 6))
        status = host.synapse.status()
        assert status["registries"]["old"]["connected"]
        define(host, MAIN, OLD, combine="fallback")
        eventually(lambda: not host.synapse.status()["problems"] and host.told("web")["origin"] == "listing")
        old.join(7)
        host.leave("web", 1)
        host.join("web", 8)
        eventually(lambda: serves(host, 2, 3, 4, 5, 6, 8))
        eventually(partial(answered, clients, host.instance(8)))
        before = threads(host)
        define(host)
        eventually(lambda: host.synapse.status()["registries"] == {})
        eventually(lambda: threads(host) < before)
        host.leave("web", 2)
        eventually(lambda: serves(host, 3, 4, 5, 6, 8))
        assert_none_failed(clients, at_least=100)
    no_reload(host)


def test_one_session_however_many_services(host: Host, zookeeper_client: KazooClient, zookeeper_url: Any) -> None:
    """A registry that twenty services name is connected to once."""
    host.settings["registries"] = {"new": {"url": str(zookeeper_url)}}
    for number in range(20):
        define(host, MAIN, {"type": "registry", "registry": "new"}, name=f"s{number}", listen=3300 + number)
    host.join("s1", 1)
    connections = len(zookeeper_client.command(b"cons").splitlines())
    host.start()
    eventually(lambda: host.synapse.status()["registries"]["new"]["connected"])
    assert len(zookeeper_client.command(b"cons").splitlines()) == connections + 1


def test_zookeeper_is_away_and_the_other_registry_is_not(
    fragile_host: Host, own_zookeeper: ControlledServer, old: OldRegistry
) -> None:
    """What ZooKeeper said last stays, through a restart of synapse too; the other registry's instances come and go."""
    host = fragile_host
    define(host, OLD, MAIN)
    old.join(1)
    old.join(2)
    host.join("web", 3)
    host.start()
    eventually(lambda: serves(host, 1, 2, 3))
    with host.client(3210, keep_alive=False, rate=60) as client:
        own_zookeeper.kill()
        eventually(lambda: "what was known of that stays" in host.told("web")["reason"], within=10)
        old.leave(1)
        old.join(4)
        eventually(lambda: serves(host, 2, 3, 4))
        host.synapse.stop()
        host.synapse.start(until="/healthz")
        old.join(5)
        eventually(lambda: serves(host, 2, 3, 4, 5))
        answer = host.synapse.get("/readyz")
        assert (answer.status_code, answer.json()["missing"]) == (503, ["the registry's word on web"])
        own_zookeeper.start()
        eventually(lambda: host.synapse.get("/readyz").status_code == 200, within=15)
        eventually(lambda: serves(host, 2, 3, 4, 5), within=15)
        eventually(lambda: host.writer.status().connected, within=10)
        host.leave("web", 3)
        eventually(lambda: serves(host, 2, 4, 5))
        assert_none_failed([client], at_least=50)
    no_reload(host)


def test_default_servers(fragile_host: Host, own_zookeeper: ControlledServer) -> None:
    """Static servers as the last source: they serve while nobody is registered, and not because ZooKeeper is away."""
    host = fragile_host
    static = {"type": "static", "servers": [{"host": host.instance(9).host}]}
    define(host, MAIN, static, combine="fallback", proxy={"shrink_confirm": "1s", "shrink_to_nothing": "confirm"})
    assert host.writer.status().connected
    host.start()
    eventually(lambda: serves(host, 9))
    assert ask(host.address, 3210) == host.instance(9).address
    host.join("web", 1)
    eventually(lambda: serves(host, 1))
    own_zookeeper.kill()
    eventually(lambda: host.told("web")["origin"] == "last good", within=10)
    host.synapse.stop()
    host.synapse.start(until="/healthz")
    eventually(lambda: host.told("web")["origin"] == "last good")
    assert serves(host, 1)
    own_zookeeper.start()
    eventually(lambda: host.told("web")["origin"] == "listing", within=15)
    eventually(lambda: host.writer.status().connected, within=10)
    host.leave("web", 1)
    eventually(lambda: serves(host, 9), within=10)


def test_default_servers_of_a_host_that_never_saw_the_registry(
    fragile_host: Host, own_zookeeper: ControlledServer
) -> None:
    """A new host, and ZooKeeper is away: nothing is known, so the static servers are used; and left when it is back."""
    host = fragile_host
    static = {"type": "static", "servers": [{"host": host.instance(9).host}]}
    define(host, MAIN, static, combine="fallback")
    host.join("web", 1)
    own_zookeeper.kill()
    host.configure()
    host.synapse.start(until="/healthz")
    eventually(lambda: serves(host, 9), within=10)
    assert ask(host.address, 3210) == host.instance(9).address
    own_zookeeper.start()
    eventually(lambda: host.instance(1).address in host.members("web"), within=15)


def test_names_in_dns(host: Host, nameserver: Nameserver) -> None:
    """Instances follow the name's addresses; a nameserver that hangs changes nothing, one that says that the name is
    gone is held back by the floor first."""
    name, address = "web__test", {number: host.instance(number).host for number in (1, 2, 3)}
    nameserver.say(**{name: {"A": [0, [address[1], address[2]]]}})
    source = {"type": "dns", "name": "web.test", "nameservers": [nameserver.address], "min_ttl": "100ms"}
    define(host, source, proxy={"shrink_confirm": "1s", "shrink_to_nothing": "confirm"})
    host.start()
    eventually(lambda: serves(host, 1, 2))
    with host.client(3210, keep_alive=False, rate=60) as client:
        nameserver.say(**{name: {"A": [0, [address[2], address[3]]]}})
        eventually(lambda: serves(host, 2, 3))
        nameserver.suspend()
        eventually(lambda: "no answer in time" in host.told("web")["reason"], within=15)
        assert host.told("web")["origin"] == "last good"
        assert serves(host, 2, 3)
        assert host.synapse.get("/readyz").status_code == 200
        nameserver.resume()
        eventually(lambda: host.told("web")["origin"] == "listing", within=15)
        assert_none_failed([client], at_least=50)
    nameserver.say(**{name: None})
    eventually(lambda: host.told("web")["origin"] == "held back")
    assert serves(host, 2, 3)
    eventually(lambda: serves(host), within=10)
    no_reload(host)
    before = threads(host)
    define(host)
    eventually(lambda: threads(host) == before - 1, message="the thread that asks has ended")


def test_a_list_in_a_file(host: Host) -> None:
    """Another program writes the list; a broken one changes nothing and says what is wrong."""
    path = host.directory / "lists" / "web.json"
    define(host, {"type": "file", "path": "../lists/web.json"})

    def write(*numbers: int) -> None:
        instances = [{"host": host.instance(number).host, "port": BACKEND_PORT} for number in numbers]
        host.write("lists/web.json", json.dumps(instances))

    write(1, 2)
    host.start()
    eventually(lambda: serves(host, 1, 2))
    write(1, 2, 3)
    eventually(lambda: serves(host, 1, 2, 3))
    path.write_text('[{"host": ')
    eventually(lambda: host.told("web")["origin"] == "last good")
    assert "web.json is wrong: it is not JSON" in host.told("web")["reason"]
    assert serves(host, 1, 2, 3)
    write(2, 3)
    eventually(lambda: serves(host, 2, 3))
    no_reload(host)


def test_one_leader(fragile_host: Host, own_zookeeper: ControlledServer) -> None:
    """B12: one instance serves, the one that registered first; without ZooKeeper it is still that one, never all."""
    host = fragile_host
    define(host, leader_only=True)
    for number in (2, 1, 3):
        host.join("web", number)
    host.start()
    eventually(lambda: serves(host, 2))
    host.leave("web", 2)
    eventually(lambda: serves(host, 1))
    own_zookeeper.kill()
    eventually(lambda: host.told("web")["origin"] == "last good", within=10)
    assert serves(host, 1)
    define(host, leader_only=False)
    define(host, leader_only=True, proxy={"balance": "roundrobin"})
    eventually(lambda: "balance roundrobin" in host.haproxy_file())
    assert serves(host, 1)


def test_what_is_wrong_with_sources_is_told(host: Host) -> None:
    """A source that cannot be is a problem with its place, and the service stays as it was; a registry that this host
    does not know is a problem of synapse.yaml."""
    host.serve("web", 3210)
    host.start()
    define(host, {"type": "regsitry"})

    def told(words: str) -> bool:
        problems = json.dumps(host.synapse.status()["problems"])
        assert words in problems, problems
        return True

    eventually(lambda: told("sources[0].type: must be one of dns, file, registry or static; did you mean 'registry'?"))
    assert serves(host, 1, 2, 3)
    define(host, MAIN, {"type": "registry", "registry": "older"})
    eventually(lambda: told("registries: has no 'older', which is a source of web"))
    eventually(lambda: "synapse.yaml names no registry 'older'" in host.told("web")["reason"])
    host.join("web", 4)
    eventually(lambda: serves(host, 1, 2, 3, 4))
