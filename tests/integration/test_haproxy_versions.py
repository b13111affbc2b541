"""The core of HAProxy's life with synapse, on every HAProxy that `SMARTSTACK_TEST_HAPROXY` names (paths with colons
between them); without it, on the distribution's."""

import os
import signal
from pathlib import Path

import pytest

from synapse.haproxy import program
from synapse.haproxy.capabilities import Capability
from tests.support.clients import ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.init_system import OPERATORS_WORDS, Unit
from tests.support.pair import Host

BINARIES = os.environ.get("SMARTSTACK_TEST_HAPROXY", "haproxy").split(":")


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest, host: Host) -> str:
    """Each HAProxy in turn; the host's synapse uses it."""
    path = program.find(request.param)
    host.settings["haproxy"]["binary"] = path
    host.settings["resync_interval"] = "1s"
    return path


def reloads(host: Host) -> float:
    """How often this synapse has had HAProxy reload."""
    return host.synapse.metric("synapse_haproxy_reloads_total", result="done")


def test_members_structure_and_restarts(host: Host, binary: str) -> None:
    """Instances come and go without a reload and without a failed request, a service comes with one reload and without
    a failed request, a synapse that restarts adopts what runs, and what was changed by hand is put right."""
    host.serve("web", 3210, balance="leastconn")
    host.start()
    assert host.synapse.status()["haproxy"]["version"] == program.probe(binary).release
    clients = [host.client(3210, keep_alive=keep_alive) for keep_alive in (False, True)]
    with clients[0], clients[1]:
        for number in (4, 5, 6):
            new = host.join("web", number, weight=number).address
            eventually(lambda new=new, number=number: host.members("web").get(new) == number)  # type: ignore[misc]
        for number in (1, 2, 3):
            gone = host.leave("web", number).address
            eventually(lambda gone=gone: gone not in host.members("web"))  # type: ignore[misc]
        assert reloads(host) == 0
        host.serve("api", 3211)
        eventually(lambda: ask(host.address, 3211))
        eventually(lambda: reloads(host) == 1)
        before = host.haproxy()
        host.synapse.kill()
        host.synapse.start()
        assert host.haproxy() == before
        host.runtime.ask("set server api/s1 state maint")
        eventually(lambda: host.synapse.metric("synapse_drift_repairs_total", kind="state") == 1)
        eventually(lambda: len(host.members("api")) == 3)
        assert_none_failed(clients, at_least=50)
    assert reloads(host) == 0
    assert host.synapse.status()["error"] is None


@pytest.mark.parametrize("victim", ["master", "worker"])
def test_a_killed_haproxy_is_back(host: Host, binary: str, victim: str) -> None:
    """Whichever of its processes is killed."""
    host.serve("web", 3210)
    host.start()
    master, worker = host.haproxy()
    os.kill(master if victim == "master" else worker, signal.SIGKILL)
    eventually(lambda: host.synapse.metric("synapse_haproxy_starts_total", result="done") == 2)
    eventually(lambda: ask(host.address, 3210))
    assert len(host.members("web")) == 3
    eventually(lambda: set(host.haproxy_processes()) == set(host.haproxy()))


def test_a_definition_that_haproxy_refuses_leaves_the_others(host: Host, binary: str) -> None:
    """The words of `haproxy -c` are understood, whatever the version: the culprit is found, and it is said why."""
    host.serve("web", 3210)
    host.start()
    host.define("bad", 3211, raw={"backend": "blance roundrobin"})
    host.serve("api", 3212)
    eventually(lambda: ask(host.address, 3212))
    eventually(lambda: "blance" in (host.told("bad")["refused_definition"] or ""))


@pytest.mark.parametrize("way", ["command", "master socket"])
def test_a_haproxy_of_somebody_elses(host: Host, binary: str, way: str) -> None:
    """Reloads are asked for by its owner's command or by its master's socket, and confirmed; a refusal says why."""
    unit = Unit(host, binary)
    host.settings["haproxy"] |= {"owner": "external", "files": [str(unit.operators_file)]}
    if way == "command":
        host.settings["haproxy"]["reload"] = [str(unit.reload_script)]
    else:
        host.settings["haproxy"]["master_socket"] = str(Path(host.directory) / "run" / "master.sock")
    host.serve("web", 3210)
    host.configure()
    host.synapse.start(until="/healthz")
    eventually(unit.synapses_file.exists)
    unit.start()
    eventually(lambda: len(host.members("web")) == 3 and host.synapse.status()["error"] is None)
    client = host.client(3210, keep_alive=False)
    with client:
        host.serve("api", 3211)
        eventually(lambda: ask(host.address, 3211))
        assert_none_failed([client], at_least=5)
    assert unit.own_words() == OPERATORS_WORDS
    host.synapse.end()
    unit.kill()


def test_what_it_can_is_known(binary: str) -> None:
    """Probed from the program itself: all that are tested here have TLS, and those from 2.7 on answer to a reload."""
    found = program.probe(binary)
    assert found.has(Capability.TLS)
    assert found.has(Capability.RELOAD_WITH_ANSWER) is (found.version >= (2, 7))
