"""The simulated hosts of the scale benchmark: they ask of ZooKeeper what real daemons ask, and a small run of it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smartstack.forms import ZooKeeperUrl
from smartstack.instance import Instance, encode, node_name
from tests.bench.scale_host import Announcer, Daemon, Follower
from tests.bench.scale_model import Plan
from tests.bench.scale_session import Registry
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host
from tests.support.zookeeper import ControlledServer
from tests.support.zookeeper_relay import Relay

ROOT = "/smartstack"
ELSEWHERE = [Instance(host=f"10.0.0.{number}", port=8080, name=f"host-{number}") for number in (1, 2, 3)]

Counts = dict[str, tuple[dict[int, int], int, int]]
"""After each step: requests by opcode, events, and the watches that the server keeps."""


def test_a_simulated_host_asks_what_the_daemons_ask(own_zookeeper: ControlledServer) -> None:
    """The same requests by opcode, the same events and the same watches, after a start, changes here and elsewhere,
    and a lost connection."""
    simulated = asyncio.run(_simulated(own_zookeeper))
    _clean(own_zookeeper)
    real = _real(own_zookeeper, simulated)
    assert real == simulated


def test_a_small_fleet_asks_what_the_formulas_say(tmp_path: Path) -> None:
    """Each phase ends with every host knowing the truth; watches and requests are those of docs/scale.md, and
    ZooKeeper has counted the same packets."""
    file = tmp_path / "scale.json"
    size = {"hosts": 20, "services": 6, "instances": 10, "uses": 3}
    rest = {"changes": 20, "seconds": 1, "heap": 128, "json": file}
    words = [str(word) for name, value in (size | rest).items() for word in (f"--{name}", value)]
    subprocess.run([sys.executable, "-m", "tests.bench.scale", *words], check=True, timeout=60)
    waves, idle, steady, leaves, returns, reload, start = json.loads(file.read_text())["phases"]
    plan = Plan(**size, changes_per_second=20)

    assert [phase["errors"] for phase in (waves, idle, steady, leaves, returns, start)] == [{}] * 6
    assert reload["errors"] == {"connection lost": plan.sessions}
    assert {phase["watches"] for phase in (waves, idle, returns, reload, start)} == {plan.watches}
    assert {phase["connections"] for phase in (waves, steady, reload, start)} == {plan.sessions}
    assert idle["requests"] == {}
    assert sum(reload["requests"].values()) == plan.reload_requests
    assert reload["bytes_to_server"] == pytest.approx(plan.reload_bytes_in, rel=0.1)
    assert reload["bytes_from_server"] == pytest.approx(plan.reload_bytes_out, rel=0.1)
    assert sum(start["requests"].values()) >= plan.start_requests_at_least
    assert start["events"] <= plan.start_events_at_most
    # A random service of six has more or less than the mean of its readers.
    assert sum(steady["requests"].values()) == pytest.approx(plan.requests_per_second, rel=0.4)
    for phase in (waves, idle, steady, leaves, returns, reload, start):
        asked = sum(phase["requests"].values()) + phase["pings"] + phase["connects"]
        # Less a ping that is still on its way when a phase ends, and more the command that asks for the count.
        assert phase["packets_received"] == pytest.approx(asked, abs=3)


def _real(server: ControlledServer, expected: Counts) -> Counts:
    """What nerve and synapse ask. Each step lasts until as much was asked as is expected, or a time is over."""
    relay = Relay(server.host, server.port)
    host = Host(ZooKeeperUrl(hosts=relay.hosts, root=ROOT))
    host.settings["session_timeout"] = "30s"
    counts: Counts = {}

    def step(name: str) -> None:
        def as_expected() -> bool:
            counts[name] = (*relay.seen(), server.watches())
            return counts[name] == expected[name]

        try:
            eventually(as_expected, within=5)
        except AssertionError:
            assert counts[name] == expected[name], name

    try:
        host.define("web", 20_001)
        host.define("api", 20_002)
        own = host.instance(1)
        with _Elsewhere(server) as elsewhere:
            host.nerve(1, {"web": {}}).start()
            step("nerve starts")
            host.start()
            step("synapse starts")
            elsewhere.join(3)
            step("an instance joins elsewhere")
            elsewhere.leave(3)
            step("an instance leaves elsewhere")
            host.backends.close(own.host, BACKEND_PORT)
            step("an instance leaves here")
            host.backends.open(own.host, BACKEND_PORT)
            step("an instance joins here")
            relay.cut()
            step("the connections are lost")
    finally:
        host.close()
        relay.stop()
    return counts


async def _simulated(server: ControlledServer) -> Counts:
    """What a simulated host asks."""
    relay = Relay(server.host, server.port)
    registry = Registry(servers=((relay.host, relay.port),), timeout_seconds=30)
    counts: Counts = {}
    started: list[Daemon] = []
    own = Instance(host="10.0.0.9", port=8080, name="host-9")
    services = [f"{ROOT}/services/{name}" for name in ("api", "web")]
    place = f"{services[1]}/{node_name(own)}"
    bits = {f"{services[0]}/{node_name(each)}": 1 << number for number, each in enumerate(ELSEWHERE)}
    bits[place] = 8

    async def step(name: str, condition: Callable[[], bool]) -> None:
        await _until(lambda: condition() and all(daemon.idle() for daemon in started))
        counts[name] = (*relay.seen(), server.watches())

    announcer = Announcer(registry, "127.0.0.1", {place: encode(own)})
    follower = Follower(registry, "127.0.0.1", services, bits)
    try:
        with _Elsewhere(server) as elsewhere:
            announcer.start()
            started.append(announcer)
            await step("nerve starts", lambda: announcer.holds(place))
            follower.start()
            started.append(follower)
            await step("synapse starts", lambda: follower.known == 0b1011)
            elsewhere.join(3)
            await step("an instance joins elsewhere", lambda: follower.known == 0b1111)
            elsewhere.leave(3)
            await step("an instance leaves elsewhere", lambda: follower.known == 0b1011)
            announcer.want(place, None)
            await step("an instance leaves here", lambda: follower.known == 0b0011 and not announcer.holds(place))
            announcer.want(place, encode(own))
            await step("an instance joins here", lambda: follower.known == 0b1011 and announcer.holds(place))
            relay.cut()
            await _until(lambda: follower.known is None)
            await step("the connections are lost", lambda: follower.known == 0b1011 and announcer.holds(place))
            assert dict(sorted(registry.traffic.requests.items())) == relay.seen()[0]
            assert registry.traffic.events == relay.seen()[1]
    finally:
        await announcer.stop()
        await follower.stop()
        relay.stop()
    return counts


class _Elsewhere:
    """Other hosts: two instances of api that are there from the beginning, and one that comes and goes."""

    def __init__(self, server: ControlledServer) -> None:
        self._client = server.client()

    def __enter__(self) -> "_Elsewhere":
        for name in ("web", "api"):
            self._client.ensure_path(f"{ROOT}/services/{name}")
        for number in (1, 2):
            self.join(number)
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.stop()
        self._client.close()

    def join(self, number: int) -> None:
        """An instance is there."""
        instance = ELSEWHERE[number - 1]
        self._client.create(f"{ROOT}/services/api/{node_name(instance)}", encode(instance), ephemeral=True)

    def leave(self, number: int) -> None:
        """It is gone."""
        self._client.delete(f"{ROOT}/services/api/{node_name(ELSEWHERE[number - 1])}")


def _clean(server: ControlledServer) -> None:
    """No session, node and watch is left of the hosts before."""
    client = server.client()
    client.delete(ROOT, recursive=True)
    client.stop()
    client.close()
    eventually(lambda: server.watches() == 0)


async def _until(condition: Callable[[], bool]) -> None:
    """Wait without holding up the simulated hosts, which live in this loop."""
    await asyncio.to_thread(eventually, condition, within=10)
