"""Balancing and the breaker on a real HAProxy, with real instances that are slow, fail or hang."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartstack.instance import Instance, encode, node_name
from smartstack.registry.protocol import NodeId
from tests.support.clients import LoadClient, assert_none_failed
from tests.support.eventually import eventually
from tests.support.moody import Moody
from tests.support.pair import Host

LISTEN, PORT = 3210, 8090
WITHIN = 40.0
"""Each change takes a second or a few; a busy machine may take longer."""


@pytest.fixture
def moody() -> Iterator[Moody]:
    made = Moody()
    yield made
    made.stop()


def serve(host: Host, moody: Moody, count: int = 4, **proxy: object) -> list[str]:
    """The service `web` with so many instances; their hosts."""
    host.define("web", LISTEN, **proxy)
    hosts = [host.instance(number).host for number in range(1, count + 1)]
    for each in hosts:
        moody.open(each, PORT)
        instance = Instance(host=each, port=PORT, name=each)
        host.writer.put(NodeId(path="services/web", node=node_name(instance)), encode(instance))
    host.start()
    eventually(lambda: len(host.members("web")) == count, within=10)
    return hosts


def client(host: Host) -> LoadClient:
    return LoadClient(host.address, LISTEN, keep_alive=True, rate=200, threads=4)


def synapse(host: Host, *arguments: str) -> str:
    """What the command says."""
    program = Path(sys.executable).parent / "synapse"
    command = [str(program), *arguments, "-c", str(host.synapse.configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


def weights(host: Host, hosts: list[str]) -> list[int]:
    """The weights that HAProxy has, in the order of the hosts."""
    found = host.members("web")
    return [found[f"{each}:{PORT}"] for each in hosts]


def test_a_slow_instance_loses_its_share_over_a_reload_and_gets_it_back(host: Host, moody: Moody) -> None:
    """300 ms against 1: it gets the least while it is slow, and everything when it recovers. No file is written for
    that, nobody takes it for somebody else's doing, and a reload begins where it was."""
    hosts = serve(host, moody)
    assert weights(host, hosts) == [4, 4, 4, 4]
    moody.answer(hosts[0], PORT, after=0.3)
    with client(host) as load:
        eventually(lambda: weights(host, hosts)[0] <= 4 and max(weights(host, hosts)) == 64, within=WITHIN)
        file = (host.state / "haproxy.cfg").stat()
        assert "weight 4" in host.haproxy_file()
        eventually(lambda: "of 100: slow, " in synapse(host, "explain", "web"), within=WITHIN)
        eventually(lambda: "of 100: slow, " in synapse(host, "status"), within=WITHIN)
        balance = host.told("web")["instances"][0]["balance"]
        assert (balance["breaker"], balance["until"]) == ("closed", None)
        assert balance["typical_ms"] > 40
        assert host.synapse.metric("synapse_instances_slowed", service="web") >= 1
        eventually(lambda: "nothing to do" in synapse(host, "plan"), within=WITHIN)
        assert (host.state / "haproxy.cfg").stat().st_mtime_ns == file.st_mtime_ns
        assert host.synapse.metric("synapse_drift_repairs_total") == 0

        worker = host.haproxy()[1]
        host.define("web", LISTEN, timeouts={"server": "7s"})
        eventually(lambda: host.haproxy()[1] != worker, within=WITHIN)
        eventually(lambda: weights(host, hosts)[0] <= 4, within=5.0)
        assert "timeout server 7000ms" in host.haproxy_file()
        assert "weight 4" in host.haproxy_file()

        moody.answer(hosts[0], PORT)
        eventually(lambda: weights(host, hosts) == [4, 4, 4, 4], within=WITHIN)
        assert_none_failed([load], at_least=300)
    assert host.synapse.metric("synapse_drift_repairs_total") == 0
    assert "of its weight" in host.synapse.get("/events").text


def test_who_answers_500_is_out_and_comes_back_when_it_is_well(host: Host, moody: Moody) -> None:
    """Its health check passes all the time. A few requests fail, and one each time that it is tried."""
    hosts = serve(host, moody, health={"observe": "off"})
    with client(host) as load:
        eventually(lambda: load.requests > 50, within=WITHIN)
        moody.answer(hosts[0], PORT, after=0.0, status=500)
        eventually(lambda: weights(host, hosts) == [0, 4, 4, 4], within=WITHIN)
        eventually(
            lambda: "gets no traffic: the breaker is open, for " in synapse(host, "explain", "web"), within=WITHIN
        )
        eventually(lambda: host.synapse.metric("synapse_breaker_openings_total", service="web") >= 2, within=WITHIN)
        failed = len(load.failures)
        assert failed < 40
        moody.answer(hosts[0], PORT)
        eventually(lambda: weights(host, hosts) == [4, 4, 4, 4], within=WITHIN)
        assert len(load.failures) - failed <= 5
    log = host.synapse.log()
    assert "failures in a row" in log or "of its requests failed" in log
    assert "gets requests again" in log
    assert "gets no requests for" in host.synapse.get("/events?service=web").text


def test_a_failure_that_is_tried_elsewhere_opens_the_breaker_too(host: Host, moody: Moody) -> None:
    """No client sees a failure, and no line of the log names the instance: HAProxy is asked for it."""
    hosts = serve(host, moody, health={"observe": "off"})
    with client(host) as load:
        eventually(lambda: load.requests > 50, within=WITHIN)
        moody.answer(hosts[0], PORT, after=0.0, status=503)
        eventually(lambda: weights(host, hosts) == [0, 4, 4, 4], within=WITHIN)
        assert_none_failed([load], at_least=200)


def test_who_hangs_is_out_before_a_request_has_timed_out(host: Host, moody: Moody) -> None:
    """The time-out is a minute. Then synapse dies: HAProxy goes on with what it was told last, so that at most who was
    just trying it waits; and the next synapse begins with what the file says."""
    hosts = serve(host, moody)
    with client(host) as load:
        eventually(lambda: load.requests > 50, within=WITHIN)
        moody.hang(hosts[0], PORT)
        eventually(lambda: "under way" in synapse(host, "explain", "web"), within=WITHIN)
        eventually(lambda: weights(host, hosts)[0] == 0, within=WITHIN)
        host.synapse.kill()
    with client(host) as load:
        eventually(lambda: load.requests >= 200, within=WITHIN)
        load.stop()
        assert len(load.failures) <= 2
    host.synapse.start()
    eventually(lambda: weights(host, hosts) == [4, 4, 4, 4], within=WITHIN)


def test_without_a_feed_latency_is_leastconn(host: Host, moody: Moody) -> None:
    """Nobody tells how long requests take, so HAProxy picks by what is under way."""
    host.settings["telemetry"] = {"listen": None}
    hosts = serve(host, moody)
    assert "balance leastconn" in host.haproxy_file()
    assert weights(host, hosts) == [100] * 4
