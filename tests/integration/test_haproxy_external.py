"""HAProxy belongs to somebody else: synapse writes its file, asks for reloads, and never starts or ends what is not its
own."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from synapse.proxy import FEW_UNITS
from tests.support.clients import ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.init_system import OPERATORS_WORDS, Unit
from tests.support.pair import Host


@pytest.fixture
def unit(host: Host) -> Iterator[Unit]:
    """A HAProxy that an init system owns, not started; synapse is told of the command that reloads it."""
    made = Unit(host)
    external(host, reload=[str(made.reload_script)])
    host.settings["resync_interval"] = "1s"
    host.serve("web", 3210)
    yield made
    host.synapse.end()
    made.kill()


def external(host: Host, **more: object) -> None:
    """The settings of a host whose HAProxy is not synapse's."""
    files = [str(host.directory / "operator.cfg")]
    host.settings["haproxy"] = {"owner": "external", "reload_interval": "100ms", "files": files, **more}


def by_master_socket(host: Host) -> None:
    """Reloads go by the master's socket."""
    external(host, master_socket=str(host.directory / "run" / "master.sock"))


def begin(host: Host, unit: Unit) -> int:
    """synapse, then HAProxy, as on a host that gets synapse today; the master's process id."""
    host.configure()
    host.synapse.start(until="/healthz")
    eventually(unit.synapses_file.exists)
    unit.start()
    eventually(lambda: host.synapse.get("/readyz").status_code == 200)
    eventually(lambda: len(host.members("web")) == 3)
    eventually(lambda: host.synapse.status()["error"] is None)
    return host.haproxy()[0]


@pytest.mark.parametrize("way", ["command", "master socket"])
def test_an_existing_haproxy_serves_what_it_did_and_synapses_services(host: Host, unit: Unit, way: str) -> None:
    """Members change at run time and structure by a reload, under load and without a failure; the operator's file is
    served beside synapse's; the master is the one that its owner started, and goes on when synapse stops."""
    if way == "master socket":
        by_master_socket(host)
    master = begin(host, unit)
    clients = [host.client(3210, keep_alive=keep_alive) for keep_alive in (False, True)]
    with clients[0], clients[1]:
        new = host.join("web", 4).address
        eventually(lambda: new in host.members("web"))
        host.serve("api", 3211)
        eventually(lambda: ask(host.address, 3211))
        eventually(
            lambda: host.synapse.status()["haproxy"]["last_reload"] == ["added api"], message="what ran is known"
        )
        assert unit.own_words() == OPERATORS_WORDS
        assert host.synapse.stop() == 0
        assert_none_failed(clients, at_least=10)
    assert host.haproxy()[0] == master
    assert ask(host.address, 3210) and unit.own_words() == OPERATORS_WORDS
    host.synapse.start()
    assert host.haproxy()[0] == master
    assert host.synapse.metric("synapse_haproxy_starts_total", result="done") == 0
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0, "nothing differed"


def test_what_the_operator_set_for_the_process_stays(host: Host, unit: Unit) -> None:
    """His file has the process's limits: synapse's says nothing of them."""
    begin(host, unit)
    text = host.haproxy_file()
    assert "maxconn 2000" not in text
    assert "hard-stop-after" not in text
    assert oct(unit.synapses_file.stat().st_mode & 0o777) == "0o640"


def test_a_haproxy_that_is_not_running_is_told_and_left_to_its_owner(host: Host, unit: Unit) -> None:
    """synapse says what to do and writes the file that its owner needs; it starts nothing. When HAProxy is started, or
    is back after it was killed, everything is served without more."""
    host.configure()
    host.synapse.start(until="/healthz")
    eventually(lambda: "not synapse's to start" in (host.synapse.status()["error"] or ""))
    assert str(unit.synapses_file) in host.synapse.status()["error"]
    assert host.synapse.get("/readyz").status_code == 503
    assert "s1" in host.haproxy_file(), "the file is there for whoever starts it"
    assert not host.haproxy_processes()
    unit.start()
    eventually(lambda: host.synapse.get("/readyz").status_code == 200, within=3)
    unit.kill()
    eventually(lambda: "not synapse's to start" in (host.synapse.status()["error"] or ""), within=3)
    host.join("web", 4)
    host.serve("api", 3211)
    eventually(lambda: "backend api" in host.haproxy_file(), within=10, message="the file follows")
    cycles = host.synapse.metric("synapse_cycles_total")
    eventually(lambda: host.synapse.metric("synapse_cycles_total") > cycles + 1, within=10)
    assert not host.haproxy_processes()
    unit.start()
    eventually(lambda: len(host.members("web")) == 4 and host.synapse.status()["error"] is None)
    assert ask(host.address, 3211)
    assert host.synapse.metric("synapse_haproxy_starts_total", result="done") == 0
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0
    assert "Traceback" not in host.synapse.log()


def test_with_a_start_command_a_dead_haproxy_is_started_by_it(host: Host, unit: Unit) -> None:
    """The end of its worker is noticed at once; its owner's command starts it, with every instance."""
    external(host, reload=[str(unit.reload_script)], start=[str(unit.start_script)])
    host.start()
    assert len(host.members("web")) == 3
    host.join("web", 4)
    eventually(lambda: len(host.members("web")) == 4)
    unit.kill()
    eventually(lambda: host.synapse.metric("synapse_haproxy_starts_total", result="done") == 2)
    eventually(lambda: ask(host.address, 3210))
    assert len(host.members("web")) == 4
    assert host.synapse.stop() == 0
    assert ask(host.address, 3210), "it is not ended with synapse"


def test_a_reload_command_that_fails_is_told_with_its_words(host: Host, unit: Unit) -> None:
    """What runs goes on, members change at run time all the while, and the reload comes when the command works."""
    works = unit.reload_script.read_text()
    begin(host, unit)
    unit.reload_script.write_text("#!/bin/sh\necho 'Job for haproxy.service failed.'\nexit 1\n")
    host.serve("api", 3211)
    words = f"cannot reload HAProxy: {unit.reload_script} ended with 1: Job for haproxy.service failed."
    eventually(lambda: host.synapse.status()["error"] == words)
    new = host.join("web", 4).address
    eventually(lambda: new in host.members("web"))
    unit.reload_script.write_text(works)
    eventually(lambda: ask(host.address, 3211), within=15)
    eventually(lambda: host.synapse.status()["error"] is None)


@pytest.mark.parametrize("way", ["command", "master socket"])
def test_a_mistake_in_the_operators_own_file(host: Host, unit: Unit, way: str) -> None:
    """HAProxy would refuse to reload: no service is blamed for it, the words name his file, and all goes on."""
    if way == "master socket":
        by_master_socket(host)
    begin(host, unit)
    worker = host.haproxy()[1]
    unit.write_operators_file("    blance")
    host.serve("api", 3211)
    eventually(lambda: "operator.cfg" in (host.synapse.status()["error"] or ""))
    assert "blance" in host.synapse.status()["error"]
    assert host.told("api")["refused_definition"] is None
    assert host.haproxy()[1] == worker
    new = host.join("web", 4).address
    eventually(lambda: new in host.members("web"))
    unit.write_operators_file()
    eventually(lambda: ask(host.address, 3211), within=15)


def test_its_owner_reloads_it(host: Host, unit: Unit) -> None:
    """He edited his file and reloads: that is his right and no drift. Members that only the run time knew are there
    again."""
    begin(host, unit)
    worker = host.haproxy()[1]
    members = {instance.address: FEW_UNITS for instance in map(host.instance, (2, 3, 4))}
    host.join("web", 4)
    host.leave("web", 1)
    eventually(lambda: host.members("web") == members)
    client = host.client(3210, keep_alive=False)
    with client:
        unit.write_operators_file("    maxconn 600")
        unit.reload()
        eventually(lambda: host.haproxy()[1] != worker)
        eventually(lambda: host.members("web") == members)
        cycles = host.synapse.metric("synapse_cycles_total")
        eventually(lambda: host.synapse.metric("synapse_cycles_total") > cycles + 1)
        assert_none_failed([client], at_least=10)
    assert host.synapse.status()["haproxy"]["drift"]["repairs"] == {}
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


def test_its_socket_is_removed(host: Host, unit: Unit) -> None:
    """The master's socket leads to the worker too: members and structure change as ever, and it is never taken for
    gone."""
    by_master_socket(host)
    master = begin(host, unit)
    (host.directory / "run" / "haproxy.sock").unlink()
    new = host.join("web", 4).address
    host.serve("api", 3211)
    eventually(lambda: ask(host.address, 3211), within=15)
    eventually(lambda: new in host.members("web"))
    assert host.haproxy()[0] == master
    assert host.synapse.status()["error"] is None


def test_its_only_socket_is_removed(host: Host, unit: Unit) -> None:
    """Without the master's socket nobody can ask it, nor would a reload help: that is said, with what to do, and
    HAProxy serves on. Restarted, it is as it should be."""
    master = begin(host, unit)
    (host.directory / "run" / "haproxy.sock").unlink()
    (host.directory / "run" / "master.sock").unlink()
    host.join("web", 4)
    eventually(lambda: "give haproxy.master_socket" in (host.synapse.status()["error"] or ""))
    assert ask(host.address, 3210)
    assert master in host.haproxy_processes()
    unit.kill()
    unit.start()
    eventually(lambda: len(host.members("web")) == 4 and host.synapse.status()["error"] is None)
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="failed") == 0


def test_a_haproxy_that_hangs_is_waited_for(host: Host, unit: Unit) -> None:
    """Its worker is stopped: synapse says so and ends nothing; it goes on when HAProxy does."""
    begin(host, unit)
    master, worker = host.haproxy()
    os.kill(worker, signal.SIGSTOP)
    try:
        host.join("web", 4)
        eventually(lambda: "does not answer" in (host.synapse.status()["error"] or ""), within=15)
    finally:
        os.kill(worker, signal.SIGCONT)
    eventually(lambda: len(host.members("web")) == 4, within=15)
    assert host.haproxy() == (master, worker)


def test_synapses_user_may_use_the_socket(host: Host, unit: Unit) -> None:
    """HAProxy starts as root and gives the socket to the user that is named."""
    external(host, reload=[str(unit.reload_script)], socket_user="nobody")
    begin(host, unit)
    assert (Path(host.directory) / "run" / "haproxy.sock").owner() == "nobody"
