"""synapse may die, be restarted or find its files in ruins: HAProxy goes on, and what was good stays in use."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from synapse.proxy import FEW_UNITS
from tests.support.clients import LoadClient, ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import Host
from tests.support.zookeeper import ControlledServer


@contextmanager
def nobody_notices(host: Host, listen: int = 3210, at_least: int = 30) -> Iterator[LoadClient]:
    """Whatever is done in this block costs no request of either kind of client and leaves HAProxy's processes alone."""
    before = host.haproxy()
    clients = [host.client(listen, keep_alive=keep_alive) for keep_alive in (False, True)]
    with clients[0], clients[1]:
        eventually(lambda: clients[0].requests > 10)
        yield clients[0]
        last = clients[0].requests
        eventually(lambda: clients[0].requests > last + 10)
        assert_none_failed(clients, at_least)
    assert host.haproxy() == before


def reloads_and_starts(host: Host) -> float:
    """How often this synapse has reloaded or started HAProxy, or tried to."""
    return sum(
        host.synapse.metric(f"synapse_haproxy_{what}_total", result=result)
        for what in ("reloads", "starts")
        for result in ("done", "failed")
    )


def state(host: Host, service: str = "web") -> tuple[str, list[str]]:
    """Why the service has the instances that it has, and the state of each, as /status says."""
    told = host.told(service)
    return told["origin"], [each["state"] for each in told["instances"]]


def kept(host: Host) -> int:
    """How many instances synapse has on disk for the next start; it writes them once things are quiet."""
    path = host.state / "last_good.json"
    return path.read_text().count('"host"') if path.exists() else 0


def test_a_synapse_killed_and_started_again_is_not_noticed(any_host: Host) -> None:
    """The new synapse adopts the running HAProxy: no request fails, no process changes, nothing is reloaded; and what
    changed while it was dead is picked up."""
    any_host.serve("web", 3210)
    any_host.start()
    with nobody_notices(any_host) as client:
        any_host.synapse.kill()
        any_host.join("web", 4)
        dead = client.requests
        eventually(lambda: client.requests > dead + 10)
        any_host.synapse.start()
        new = any_host.instance(4).address
        eventually(lambda: any_host.members("web").get(new) == FEW_UNITS)
        eventually(lambda: client.answers[new])
    assert reloads_and_starts(any_host) == 0


def test_a_synapse_stopped_in_peace_leaves_haproxy_serving(host: Host) -> None:
    """SIGTERM ends synapse with exit code 0 and HAProxy with nothing; `on_stop: stop` ends both."""
    host.serve("web", 3210)
    host.start()
    with nobody_notices(host):
        assert host.synapse.stop() == 0
        host.settings["haproxy"]["on_stop"] = "stop"
        host.start()
    assert host.synapse.stop() == 0
    eventually(lambda: not host.haproxy_processes())


def test_a_synapse_restarted_without_zookeeper_serves_the_last_good_set(
    fragile_host: Host, own_zookeeper: ControlledServer
) -> None:
    """With the registry away, a restart changes nothing: the last good set serves, /status says so, and when the
    registry is back it is believed again."""
    host = fragile_host
    host.serve("web", 3210)
    host.start()
    members = host.members("web")
    assert len(members) == 3
    with nobody_notices(host):
        own_zookeeper.kill()
        host.synapse.kill()
        host.synapse.start(until="/healthz")
        eventually(lambda: state(host) == ("last good", ["serving"] * 3))
        assert not host.synapse.status()["registry"]["connected"]
        assert "the registry's word on web" in host.synapse.get("/readyz").json()["missing"]
        assert host.members("web") == members
        assert reloads_and_starts(host) == 0
        own_zookeeper.start()
        eventually(lambda: state(host)[0] == "listing", within=20)
    assert reloads_and_starts(host) == 0


def test_without_zookeeper_and_without_haproxy_the_last_good_set_is_started(
    fragile_host: Host, own_zookeeper: ControlledServer
) -> None:
    """A machine that boots while the registry is away serves what it served before, from disk; also when a synapse in
    between was stopped before its first turn, and so knew of nothing."""
    host = fragile_host
    host.serve("web", 3210)
    host.start()
    eventually(lambda: kept(host) == 3)
    own_zookeeper.kill()
    host.settings["haproxy"]["on_stop"] = "stop"
    host.synapse.kill()
    host.configure()
    host.synapse.start(until="/healthz")
    assert host.synapse.stop() == 0
    eventually(lambda: not host.haproxy_processes())
    host.synapse.start(until="/healthz")
    eventually(lambda: state(host) == ("last good", ["serving"] * 3))
    assert ask(host.address, 3210) in {host.instance(number).address for number in (1, 2, 3)}


def test_a_definition_broken_before_a_restart_is_served_as_it_was(host: Host) -> None:
    """The last good definition survives a restart, with the problem in /status; mended, it is in use again."""
    host.serve("web", 3210)
    host.serve("api", 3211)
    host.start()
    good = (host.services / "web.yaml").read_text()
    with nobody_notices(host):
        host.synapse.kill()
        host.write("services/web.yaml", "port: 8080\nproxy: {listen: nowhere, blance: random}\n")
        host.synapse.start()
        problems = host.synapse.status()["problems"]["web"]
        assert any("web.yaml:2:" in problem and "proxy.blance" in problem for problem in problems)
        assert host.synapse.metric("synapse_config_problems", service="web") == len(problems)
        assert state(host) == ("listing", ["serving"] * 3)
        host.write("services/web.yaml", good)
        eventually(lambda: not host.synapse.status()["problems"])
    assert reloads_and_starts(host) == 0


def test_a_definition_broken_while_synapse_runs_does_not_stop_the_others(host: Host) -> None:
    """One bad file leaves its own service as it was; an edit of another takes effect all the same."""
    host.serve("web", 3210)
    host.serve("api", 3211)
    host.start()
    structure = host.structure()
    clients = [host.client(port, keep_alive=each) for port in (3210, 3211) for each in (False, True)]
    for client in clients:
        client.__enter__()
    host.write("services/web.yaml", "port: [8080\n")
    eventually(lambda: "web" in host.synapse.status()["problems"])
    host.define("api", 3211, balance="roundrobin")
    eventually(lambda: host.structure() != structure)
    assert "balance roundrobin" in host.haproxy_file()
    assert_none_failed(clients, at_least=10)


def test_an_emptied_directory_of_services_removes_nothing(host: Host) -> None:
    """A directory that suddenly holds nothing is taken for an accident, across a restart too, until it is marked as
    meant."""
    host.serve("web", 3210)
    host.serve("api", 3211)
    host.start()
    with nobody_notices(host):
        for name in ("web", "api"):
            (host.services / f"{name}.yaml").unlink()
        eventually(lambda: "named EMPTY" in json.dumps(host.synapse.status()["problems"]))
        host.synapse.kill()
        host.synapse.start()
        assert "named EMPTY" in json.dumps(host.synapse.status()["problems"])
        assert state(host) == ("listing", ["serving"] * 3)
    assert reloads_and_starts(host) == 0
    (host.services / "EMPTY").touch()
    eventually(lambda: host.synapse.status()["services"] == {})


def test_a_state_directory_that_was_lost_costs_nothing_while_haproxy_runs(host: Host) -> None:
    """Without its memory, synapse takes what the running HAProxy serves for the last good set."""
    host.serve("web", 3210)
    host.start()
    with nobody_notices(host):
        host.synapse.kill()
        for name in ("last_good.json", "running.json"):
            (host.state / name).write_text("{half a fil")
        host.synapse.start()
        assert state(host) == ("listing", ["serving"] * 3)
    assert reloads_and_starts(host) == 0
    assert "left aside" in host.synapse.log() or "going on without it" in host.synapse.log()
