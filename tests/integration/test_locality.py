"""Near instances first: a zone that is lost, one that is full, and labels that leave instances out, under load."""

import threading
import time
from collections.abc import Iterable

import pytest

from smartstack.instance import Instance, encode, node_name
from smartstack.registry.protocol import NodeId
from tests.support.clients import LoadClient, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import Host
from tests.support.scripted import Reply, Request, Scripted

HERE, THERE = (1, 2, 3), (4, 5, 6)


def join(host: Host, number: int, **labels: str) -> Instance:
    """Register an instance with these labels; a real server stands there."""
    plain = host.instance(number)
    instance = Instance(host=plain.host, port=plain.port, name=plain.name, labels=tuple(sorted(labels.items())))
    host.writer.put(NodeId(path="services/web", node=node_name(instance)), encode(instance))
    return instance


def leave(host: Host, numbers: Iterable[int]) -> None:
    for number in numbers:
        host.writer.remove(NodeId(path="services/web", node=node_name(host.instance(number))))


def two_zones(host: Host, **proxy: object) -> None:
    """Three instances in this host's zone, three in another of the region."""
    host.settings["labels"] = {"zone": "a1", "region": "a"}
    host.define("web", 3210, **proxy)
    definition = (host.services / "web.yaml").read_text()
    host.write("services/web.yaml", definition[:-1] + ', "locality": {"prefer": ["zone", "region"]}}')
    for number in (*HERE, *THERE):
        join(host, number, zone="a1" if number in HERE else "a2", region="a")
    host.start()


def answering(host: Host, client: LoadClient, numbers: Iterable[int]) -> bool:
    """Whether from now on only these answer, each of them."""
    wanted = {host.instance(number).address for number in numbers}
    before = dict(client.answers)
    eventually(lambda: sum(client.answers.values()) >= sum(before.values()) + 30)
    fresh = {text.strip() for text, count in client.answers.items() if count > before.get(text, 0)}
    return fresh == wanted


@pytest.mark.parametrize("registry_knows", [True, False], ids=["told by the registry", "found by HAProxy alone"])
def test_a_zone_is_lost_and_comes_back(host: Host, registry_knows: bool) -> None:
    """All instances of the local zone die at once, under load: not one request fails, the next zone serves, and the
    near one again when it is back; HAProxy is never reloaded."""
    two_zones(host, health={"fast_interval": "200ms"})
    before = host.haproxy()
    fresh, kept = (host.client(3210, keep_alive=keep_alive) for keep_alive in (False, True))
    with fresh, kept:
        eventually(lambda: answering(host, fresh, HERE) and answering(host, kept, HERE))
        for number in HERE:
            host.backends.close(host.instance(number).host, host.instance(number).port)
        if registry_knows:
            leave(host, HERE)
        eventually(lambda: answering(host, fresh, THERE), within=10)
        eventually(lambda: [ring["used"] for ring in host.told("web")["rings"]] == [True, True, False], within=10)
        for number in HERE:
            host.backends.open(host.instance(number).host, host.instance(number).port)
            if registry_knows:
                join(host, number, zone="a1", region="a")
        eventually(lambda: answering(host, fresh, HERE) and answering(host, kept, HERE), within=30)
    assert_none_failed([fresh, kept], at_least=200)
    assert host.haproxy() == before
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


def test_a_zone_that_is_full_gets_help(host: Host) -> None:
    """Requests that wait for a free place bring the next ring in, before their time in the queue is over; when it is
    quiet again, the near ones are enough."""
    two_zones(host, limits={"instance": 1}, timeouts={"queue": "5s"})
    before = host.haproxy()
    near, never = host.instance(1), threading.Event()
    host.backends.close(near.host, near.port)

    def slowly(_: Request) -> Reply:
        never.wait(0.05)
        return Reply(text=near.address)

    slow = Scripted(near.host, near.port, slowly)
    leave(host, (2, 3))
    eventually(lambda: [ring["registered"] for ring in host.told("web")["rings"]] == [1, 3, 0])
    # Nine at a time where one fits: there is always somebody in the queue.
    with LoadClient(host.address, 3210, keep_alive=False, rate=3000, threads=9) as crowd:
        eventually(lambda: [ring["used"] for ring in host.told("web")["rings"]] == [True, True, False], within=20)
        far = {host.instance(number).address for number in THERE}
        eventually(lambda: far <= {text.strip() for text in crowd.answers})
    assert_none_failed([crowd], at_least=50)
    eventually(lambda: [ring["used"] for ring in host.told("web")["rings"]] == [True, False, False], within=30)
    assert host.haproxy() == before
    slow.close()


def test_labels_leave_instances_out(any_host: Host) -> None:
    """`where` follows edits of the definition and of the labels, without a reload; who is left out is still told."""
    host = any_host
    host.define("web", 3210)
    plain = (host.services / "web.yaml").read_text()
    join(host, 1, env="prod")
    join(host, 2, env="test")
    join(host, 3)
    host.start()
    before = host.haproxy()
    eventually(lambda: len(host.members("web")) == 3)
    host.write("services/web.yaml", plain[:-1] + ', "where": {"env": "prod"}}')
    eventually(lambda: set(host.members("web")) == {host.instance(1).address}, within=10)
    told = {each["address"]: each for each in host.told("web")["instances"]}
    assert "where: not env is prod" in str(told[host.instance(2).address])
    join(host, 2, env="prod")
    eventually(lambda: set(host.members("web")) == {host.instance(n).address for n in (1, 2)})
    host.write("services/web.yaml", plain[:-1] + ', "where": {"env": "!prod"}}')
    eventually(lambda: set(host.members("web")) == {host.instance(3).address}, within=10)
    assert host.haproxy() == before


def test_a_host_far_from_everybody(host: Host) -> None:
    """No instance shares a label with this host: all of them serve, at once."""
    host.settings["labels"] = {"zone": "z", "region": "z"}
    host.define("web", 3210)
    plain = (host.services / "web.yaml").read_text()
    host.write("services/web.yaml", plain[:-1] + ', "locality": {"prefer": "zone"}}')
    for number in HERE:
        join(host, number, zone="a1")
    began = time.monotonic()
    host.start()
    eventually(lambda: len(host.members("web")) == 3)
    assert [ring["used"] for ring in host.told("web")["rings"]] == [True, True]
    assert time.monotonic() - began < 20
