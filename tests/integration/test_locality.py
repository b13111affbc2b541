"""Near instances first: a zone that is lost, one that is full, and labels that leave instances out, under load."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from smartstack.instance import Instance, encode, node_name
from smartstack.registry.protocol import NodeId
from tests.support.backends import Backends
from tests.support.clients import LoadClient, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import Host
from tests.support.scripted import Reply, Request, Scripted

HERE, THERE = (1, 2, 3), (4, 5, 6)
NEAR_WEIGHT, FAR_WEIGHT = 60, 40


def join(host: Host, number: int, weight: int | None = None, **labels: str) -> Instance:
    """Register an instance with these labels; a real server stands there."""
    instance = replace(host.instance(number, weight), labels=tuple(sorted(labels.items())))
    host.writer.put(NodeId(path="services/web", node=node_name(instance)), encode(instance))
    return instance


def leave(host: Host, numbers: Iterable[int]) -> None:
    for number in numbers:
        host.writer.remove(NodeId(path="services/web", node=node_name(host.instance(number))))


def two_zones(host: Host, **proxy: object) -> None:
    """Three instances in this host's zone, three in another of the region."""
    host.settings["labels"] = {"zone": "a1", "region": "a"}
    host.define("web", 3210, **{"balance": "leastconn", **proxy})
    definition = (host.services / "web.yaml").read_text()
    host.write("services/web.yaml", definition[:-1] + ', "locality": {"prefer": ["zone", "region"]}}')
    for number in HERE:
        join(host, number, NEAR_WEIGHT, zone="a1", region="a")
    for number in THERE:
        join(host, number, FAR_WEIGHT, zone="a2", region="a")
    host.start()


class Zone:
    """The near instances, each a process of its own."""

    def __init__(self, host: Host) -> None:
        self._addresses = [host.instance(number) for number in HERE]
        for each in self._addresses:
            host.backends.close(each.host, each.port)
        self._processes: list[Backends] = []
        self.begin()

    def begin(self) -> None:
        """They are there, again."""
        for each in self._addresses:
            self._processes.append(Backends())
            self._processes[-1].open(each.host, each.port)

    def kill(self) -> None:
        """All of them, by SIGKILL, one right after the other."""
        for process in self._processes:
            process.stop()
        self._processes.clear()


@contextmanager
def killable(host: Host) -> Iterator[Zone]:
    zone = Zone(host)
    try:
        yield zone
    finally:
        zone.kill()


def used(host: Host) -> list[bool]:
    """Which of the rings take traffic, the nearest first."""
    return [ring["used"] for ring in host.told("web")["rings"]]


def weights(host: Host) -> dict[int, int]:
    """The weights that HAProxy has of the instances, by number."""
    return {
        int(address.partition(":")[0].rpartition(".")[2]): weight for address, weight in host.members("web").items()
    }


WEIGHTS = {**dict.fromkeys(HERE, NEAR_WEIGHT), **dict.fromkeys(THERE, FAR_WEIGHT)}


def answering(host: Host, client: LoadClient, numbers: Iterable[int]) -> bool:
    """Whether from now on only these answer, each of them."""
    wanted = {host.instance(number).address for number in numbers}
    before = dict(client.answers)
    eventually(lambda: sum(client.answers.values()) >= sum(before.values()) + 30)
    fresh = {text.strip() for text, count in client.answers.items() if count > before.get(text, 0)}
    return fresh == wanted


def lose_and_regain(host: Host, *, registry_knows: bool) -> None:
    """The near zone dies under load and comes back."""
    two_zones(host, health={"fast_interval": "200ms"})
    before = host.haproxy()
    assert used(host) == [True, False, False]
    assert weights(host) == WEIGHTS
    fresh, kept = (host.client(3210, keep_alive=keep_alive) for keep_alive in (False, True))
    with killable(host) as zone, fresh, kept:
        eventually(lambda: answering(host, fresh, HERE) and answering(host, kept, HERE))
        zone.kill()
        if registry_knows:
            leave(host, HERE)
        eventually(lambda: answering(host, fresh, THERE), within=10)
        eventually(lambda: used(host) == [True, True, False], within=10)
        assert weights(host).items() >= dict.fromkeys(THERE, FAR_WEIGHT).items()
        zone.begin()
        if registry_knows:
            for number in HERE:
                join(host, number, NEAR_WEIGHT, zone="a1", region="a")
        eventually(lambda: answering(host, fresh, HERE) and answering(host, kept, HERE), within=30)
        eventually(lambda: weights(host) == WEIGHTS)
        assert_none_failed([fresh, kept], at_least=200)
    assert host.haproxy() == before
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0
    told = [line for line in host.synapse.log().splitlines() if "other rings of instances serve" in line]
    assert ["zone=a1,region=a" in line for line in told] == [True, False]
    assert host.synapse.metric("synapse_rings_used", service="web") == 1


def test_a_zone_is_lost_and_comes_back(host: Host) -> None:
    """All instances of the local zone are killed at once, under load, and nobody tells the registry: HAProxy finds it.
    Not one request fails, the next zone serves with its weights, and the near one again when it is back; HAProxy is
    never reloaded, and the log says twice which rings serve."""
    lose_and_regain(host, registry_knows=False)


def test_a_zone_that_the_registry_knows_to_be_lost(host: Host) -> None:
    """The same when the registry drops the instances."""
    lose_and_regain(host, registry_knows=True)


def posting(host: Host) -> LoadClient:
    """A client whose requests may not be sent twice."""
    return LoadClient(host.address, 3210, keep_alive=False, rate=600, threads=4, method="POST")


def test_what_may_not_be_sent_twice_is_lost_only_on_the_killed(host: Host) -> None:
    """A POST that a killed process had is not sent again: each client loses at most one for each process that ends."""
    two_zones(host)
    with killable(host) as zone, posting(host) as client:
        eventually(lambda: answering(host, client, HERE))
        zone.kill()
        eventually(lambda: answering(host, client, THERE))
        assert len(client.failures) <= 4 * len(HERE)


def test_what_may_not_be_sent_twice_is_sent_on_from_who_refuses_it(host: Host) -> None:
    """The first requests after the deaths, of which HAProxy does not know either, are not lost: a refused connection
    has had no effect."""
    two_zones(host)
    with killable(host) as zone:
        zone.kill()
        with posting(host) as client:
            assert_none_failed([client], at_least=200)
        assert {text.strip() for text in client.answers} == {host.instance(number).address for number in THERE}


def test_a_synapse_that_starts_while_a_zone_is_lost_changes_nothing(host: Host) -> None:
    """Neither does a new process know what the old one decided, nor does `synapse plan`: both go on from what HAProxy
    does and finds."""
    two_zones(host, health={"fast_interval": "200ms"})
    with killable(host) as zone, host.client(3210, keep_alive=False) as client:
        eventually(lambda: answering(host, client, HERE))
        zone.kill()
        eventually(lambda: used(host) == [True, True, False], within=20)
        command = [str(Path(sys.executable).parent / "synapse"), "plan", "-c", str(host.directory / "synapse.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, cwd="/")
        assert done.stdout.splitlines()[-1] == "nothing to do", done.stdout
        assert "  in use  region=a: 3 of 3 ready" in done.stdout.splitlines()
        host.synapse.kill()
        host.synapse.start()
        eventually(lambda: host.synapse.metric("synapse_cycles_total") >= 4)
        assert used(host) == [True, True, False]
        assert host.synapse.metric("synapse_runtime_commands_total") == 0
        assert_none_failed([client], at_least=100)


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
    assert used(host) == [True, False, False]
    # Nine at a time where one fits: there is always somebody in the queue.
    with LoadClient(host.address, 3210, keep_alive=False, rate=3000, threads=9) as crowd:
        eventually(lambda: used(host) == [True, True, False], within=20)
        far = {host.instance(number).address for number in THERE}
        eventually(lambda: far <= {text.strip() for text in crowd.answers})
        eventually(lambda: crowd.requests >= 300, within=20)
        assert used(host) == [True, True, False]
        assert_none_failed([crowd], at_least=300)
    eventually(lambda: used(host) == [True, False, False], within=30)
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
    assert used(host) == [True, True]
    assert time.monotonic() - began < 20
