"""HAProxy over synapse's lifetimes: killed, cut off from its files, started by others, with a site's own templates. It
is back with every service, or it is left as it is."""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from synapse.haproxy.process import HAProxyProcess, Places
from synapse.loop import KNOWS_NOTHING
from synapse.proxy import Admin
from tests.support.clients import ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, CHECK, Host

PORTS = {"web": 3210, "api": 3211, "more": 3212}
NOT_TAKEN = "the definition is not taken"


def all_serve(host: Host, members: int = 3) -> bool:
    """Whether every service of `PORTS` answers and has so many instances."""
    return all(ask(host.address, port) and len(host.members(name)) == members for name, port in PORTS.items())


def serve_all(host: Host) -> None:
    """Start a host with the services of `PORTS`."""
    for name, port in PORTS.items():
        host.serve(name, port)
    host.start()
    eventually(lambda: all_serve(host))


def counted(host: Host, what: str, result: str = "done") -> float:
    """How many "starts" or "reloads" this synapse counts."""
    return host.synapse.metric(f"synapse_haproxy_{what}_total", result=result)


def has_started(host: Host, times: int) -> bool:
    """Whether this synapse has started HAProxy so often."""
    return counted(host, "starts") == times


def is_gone(host: Host, pid: int) -> bool:
    """Whether this process of HAProxy's has ended."""
    return pid not in host.haproxy_processes()


def nothing_runs(host: Host) -> bool:
    """Whether no HAProxy of this host is left."""
    return not host.haproxy_processes()


@contextmanager
def suspended(host: Host) -> Iterator[None]:
    """synapse sees nothing of what is done in this block until it is over."""
    host.synapse.suspend()
    try:
        yield
    finally:
        os.kill(host.synapse.pid, signal.SIGCONT)


def kill_haproxy(host: Host) -> None:
    """End HAProxy, all of it, without warning."""
    for pid in host.haproxy_processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("kills", "worker"), [(3, signal.SIGCONT), (1, signal.SIGSTOP)], ids=["ending", "hanging"])
def test_a_master_is_killed_again_and_again(host: Host, kills: int, worker: signal.Signals) -> None:
    """The worker that it leaves behind still has every address, for a moment or for ever: it is gone before the next
    one starts, and that has every service with every instance."""
    serve_all(host)
    for kill in range(kills):
        master, left = host.haproxy()
        os.kill(left, worker)
        os.kill(master, signal.SIGKILL)
        eventually(partial(has_started, host, kill + 2), within=10)
        assert all_serve(host)
        assert left not in host.haproxy_processes()
    assert NOT_TAKEN not in host.synapse.log()
    assert counted(host, "starts", "failed") == 0
    assert counted(host, "reloads") == 0


@pytest.mark.parametrize("victims", ["worker", "master", "both"])
def test_a_killed_haproxy_is_missed_for_less_than_a_second(host: Host, victims: str) -> None:
    """As a client sees it, from the last answer before `kill -9` to the first after it. One kill of six must show it:
    a machine with other work makes an outage longer, never shorter. HAProxy runs with the same file again."""
    host.serve("web", 3210)
    host.start()
    file = eventually(lambda: "127.0.0.1:9 " in host.haproxy_file() and host.haproxy_file())
    outages: list[float] = []
    while not any(outage < 1 for outage in outages):
        assert len(outages) < 6, outages
        master, worker = host.haproxy()
        assert ask(host.address, 3210)
        began = time.monotonic()
        for pid in {"worker": [worker], "master": [master], "both": [master, worker]}[victims]:
            os.kill(pid, signal.SIGKILL)
        eventually(partial(is_gone, host, worker), within=10)
        eventually(lambda: ask(host.address, 3210), within=10)
        outages.append(time.monotonic() - began)
        eventually(partial(has_started, host, len(outages) + 1))
        assert host.haproxy_file() == file
    assert counted(host, "reloads") == 0


def test_old_workers_are_counted_and_bounded(host: Host) -> None:
    """A client that holds a connection holds the worker of before a reload, for as long as hard_stop_after lets it; how
    many there are is told."""
    host.settings["resync_interval"] = "1s"
    host.settings["haproxy"]["hard_stop_after"] = "3s"
    host.serve("web", 3210, mode="tcp")
    host.start()
    _, worker = host.haproxy()
    with socket.create_connection((host.address, 3210)) as connection:
        eventually(lambda: len(host.synapse.metrics("synapse_haproxy_old_workers")) == 1)
        host.serve("api", 3211)
        eventually(lambda: ask(host.address, 3211))
        eventually(lambda: host.synapse.metric("synapse_haproxy_old_workers") == 1)
        assert host.synapse.status()["haproxy"]["old_workers"] == 1
        assert worker in host.haproxy_processes()
        eventually(lambda: worker not in host.haproxy_processes(), within=10, message="it had three seconds")
        connection.settimeout(5)
        assert connection.recv(1) == b""
    eventually(lambda: host.synapse.metric("synapse_haproxy_old_workers") == 0)


def test_a_master_that_hangs_holds_up_nothing(host: Host) -> None:
    """SIGSTOP of the master: its worker serves, members change at run time without delay, and an edit waits, with the
    reason told, until the master goes on."""
    host.serve("web", 3210)
    host.start()
    master, worker = host.haproxy()
    os.kill(master, signal.SIGSTOP)
    try:
        host.serve("api", 3211)
        eventually(lambda: f"its master (pid {master}) does not answer" in (host.synapse.status()["error"] or ""))
        for number in (4, 5):
            new = host.join("web", number).address
            eventually(lambda new=new: new in host.members("web"), within=4)  # type: ignore[misc]
        assert ask(host.address, 3210)
        assert host.runtime.info().pid == worker
    finally:
        os.kill(master, signal.SIGCONT)
    eventually(lambda: ask(host.address, 3211), within=15)
    eventually(lambda: host.synapse.status()["error"] is None)
    assert host.haproxy()[0] == master
    assert counted(host, "starts") == 1


def test_an_edit_waits_for_this_hosts_turn_and_a_removal_does_not(host: Host) -> None:
    """With a splay, a new service comes when it is this host's turn; what is done at run time, and the start of a
    HAProxy that died, wait for nobody."""
    host.settings["haproxy"]["reload_splay"] = "1h"
    host.serve("web", 3210)
    host.start()
    host.serve("api", 3211)
    eventually(lambda: any("added api" in reason for reason in host.synapse.status()["plan"]["reload"]))
    gone = host.leave("web", 1).address
    eventually(lambda: gone not in host.members("web"))
    assert counted(host, "reloads") == 0
    kill_haproxy(host)
    eventually(lambda: ask(host.address, 3210) and ask(host.address, 3211), within=10)
    assert counted(host, "reloads") == 0


def test_a_master_that_reloads_is_never_taken_for_gone(host: Host) -> None:
    """It executes itself anew, twice at each reload, and shows no arguments for a millisecond each time: who took it
    for gone would start a second HAProxy beside it."""
    host.serve("web", 3210)
    host.start()
    master, _ = host.haproxy()
    places = Places(configuration=str(host.state / "haproxy.cfg"), run_directory=str(host.directory / "run"))
    process = HAProxyProcess("haproxy", places, lambda: None)
    seen: set[int | None] = set()

    def another_serves(than: int) -> bool:
        seen.update(process.master() for _ in range(500))
        return host.haproxy()[1] != than

    for _ in range(5):
        _, worker = host.haproxy()
        os.kill(master, signal.SIGUSR2)
        eventually(partial(another_serves, worker), within=10)
    assert seen == {master}
    assert counted(host, "starts") == 1


def define_at(host: Host, name: str, path: str) -> None:
    """Define a service at a unix socket."""
    host.write(f"services/{name}.yaml", json.dumps({"port": BACKEND_PORT, "check": CHECK, "proxy": {"listen": path}}))


def refusal(host: Host, name: str, why: str) -> bool:
    """Whether that is why the definition is not in use."""
    return why in (host.told(name)["refused_definition"] or "")


def test_a_unix_socket_that_cannot_be_had_costs_its_service_only(host: Host) -> None:
    """A path where no socket can be, and one that another process serves: both are refused with the reason, the
    other's socket stays its own, changes of other services go on, and a HAProxy that is killed is back with those."""
    host.settings["resync_interval"] = "1s"
    host.serve("web", 3210)
    host.start()
    path = str(host.directory / "others.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(8)
        inode = os.stat(path).st_ino
        define_at(host, "nowhere", "/proc/x.sock")
        define_at(host, "taken", path)
        eventually(lambda: refusal(host, "nowhere", "no socket can be made in /proc"))
        eventually(lambda: refusal(host, "taken", "another process has it"))
        host.serve("api", 3211)
        eventually(lambda: ask(host.address, 3211))
        kill_haproxy(host)
        eventually(lambda: counted(host, "starts") == 2, within=10)
        eventually(lambda: ask(host.address, 3210) and ask(host.address, 3211))
        assert os.stat(path).st_ino == inode
    assert counted(host, "starts", "failed") == counted(host, "reloads", "failed") == 0
    eventually(lambda: host.told("taken")["refused_definition"] is None, within=10, message="free again, it is taken")


def test_a_start_that_fails_falls_back_to_the_last_good_file(host: Host) -> None:
    """`haproxy -c` passes, the start does not: HAProxy is started as it was, and what was served is served."""
    cfg = host.state / "haproxy.cfg"
    lines = ["#!/bin/sh", f'case "$*" in *-W*) ! grep -q "^backend api" {cfg} || exit 1 ;; esac', 'exec haproxy "$@"']
    program = host.write("haproxy-that-fears-api", "\n".join([*lines, ""]))
    program.chmod(0o755)
    host.settings["haproxy"]["binary"] = str(program)
    host.serve("web", 3210)
    host.start()
    host.synapse.kill()
    kill_haproxy(host)
    eventually(lambda: nothing_runs(host))
    host.serve("api", 3211)
    host.synapse.start(until="/healthz")
    eventually(lambda: "started HAProxy with its last good configuration" in host.synapse.log(), within=10)
    eventually(lambda: ask(host.address, 3210))
    assert len(host.members("web")) == 3
    assert counted(host, "starts", "failed") == 1


def test_another_state_directory_over_a_restart(host: Host) -> None:
    """The HAProxy of the old one is not ours any more and has our addresses: it is ended, and the new one serves every
    service."""
    serve_all(host)
    old = host.haproxy_processes()
    try:
        assert host.synapse.stop() == 0
        host.settings["state_directory"] = "elsewhere"
        host.start()
        eventually(lambda: all_serve(host), within=10)
        assert not host.haproxy_processes(), "nothing of the old state directory runs"
    finally:
        kill_haproxy(host)
    host.state = host.directory / "elsewhere"
    assert not set(host.haproxy()) & set(old)
    assert NOT_TAKEN not in host.synapse.log()
    assert counted(host, "starts") == 1
    assert counted(host, "starts", "failed") == 0


def own_templates(host: Host, edit: Callable[[str], str], name: str) -> None:
    """A site's own template of this name: the package's own, edited."""
    package = Path(__file__).parents[2] / "haproxy_templates"
    host.write(f"templates/{name}", edit((package / name).read_text()))
    host.settings["haproxy"]["templates"] = "templates"


def test_a_sites_own_server_is_left_alone(host: Host) -> None:
    """A template may give a backend a server that is none of the slots: it is not put into maintenance, and it is no
    reason to reload."""
    own_templates(host, lambda text: f"{text}    server sorry 127.0.0.1:9 backup\n", "service.cfg.j2")
    host.settings["resync_interval"] = "1s"
    host.serve("web", 3210)
    host.start()
    new = host.join("web", 4).address
    eventually(lambda: new in host.members("web"))
    cycles = host.synapse.metric("synapse_cycles_total")
    eventually(lambda: host.synapse.metric("synapse_cycles_total") > cycles + 2, message="all is compared again")
    slots = {slot.name: slot for slot in host.runtime.servers(["web"])["web"]}
    assert slots["sorry"].admin is Admin.READY
    assert host.members("web").keys() == {"127.0.0.1:9", *(host.instance(number).address for number in range(1, 5))}
    assert counted(host, "reloads") == counted(host, "reloads", "failed") == 0
    assert host.synapse.status()["error"] is None


def test_a_refused_definition_that_is_deleted_holds_up_nothing(host: Host) -> None:
    """A service that runs was moved to an address that is taken, and is deleted: it goes, and what is new comes, at
    once."""
    host.serve("web", 3210)
    host.serve("api", 3211)
    host.start()
    with socket.create_server((host.address, 3230)):
        host.define("api", 3230)
        eventually(lambda: refusal(host, "api", "another process has it"))
        assert ask(host.address, 3211)
        (host.services / "api.yaml").unlink()
        host.serve("more", 3212)
        eventually(lambda: ask(host.address, 3212), within=3)
    eventually(lambda: "api" not in host.synapse.status()["services"])
    assert not host.members("api")
    assert counted(host, "reloads", "failed") == 0


def test_no_definition_known_at_all_takes_nothing_away(host: Host) -> None:
    """The services directory is empty at a start, as before it is mounted, and nothing was kept: HAProxy goes on as it
    is, and that is said; when the files are back, all is as before."""
    serve_all(host)
    kept = host.state / "definitions"
    eventually(lambda: kept.exists() and len(list(kept.iterdir())) == len(PORTS), message="definitions are kept")
    before = host.haproxy()
    client = host.client(3210, keep_alive=False)
    with client:
        assert host.synapse.stop() == 0
        for name in PORTS:
            (host.services / f"{name}.yaml").rename(host.directory / f"{name}.yaml")
        shutil.rmtree(kept)
        host.synapse.start(until="/healthz")
        eventually(lambda: host.synapse.status()["error"] == KNOWS_NOTHING)
        cycles = host.synapse.metric("synapse_cycles_total")
        eventually(lambda: host.synapse.metric("synapse_cycles_total") > cycles, message="it has looked again")
        assert host.haproxy() == before
        assert all_serve(host)
        for name in PORTS:
            (host.directory / f"{name}.yaml").rename(host.services / f"{name}.yaml")
        eventually(
            lambda: host.synapse.status()["error"] is None and set(host.synapse.status()["services"]) == {*PORTS}
        )
        new = host.join("web", 4).address
        eventually(lambda: new in host.members("web"))
        assert counted(host, "reloads") == 0
        assert_none_failed([client], at_least=10)
    assert host.haproxy() == before


def test_a_run_directory_that_went_with_haproxy_is_made_again(host: Host) -> None:
    """/run was emptied while HAProxy was dead."""
    host.serve("web", 3210)
    host.start()
    with suspended(host):
        kill_haproxy(host)
        eventually(lambda: nothing_runs(host))
        shutil.rmtree(host.directory / "run")
    eventually(lambda: ask(host.address, 3210), within=10)
    assert len(host.members("web")) == 3
    assert counted(host, "starts", "failed") == 0
    assert "Traceback" not in host.synapse.log()


@pytest.mark.parametrize("restarted", [False, True], ids=["edited", "restarted"])
def test_a_global_template_without_its_description_is_not_used(host: Host, restarted: bool) -> None:
    """synapse knows what runs by its description: a template without one is said to be wrong, and is not tried."""
    own_templates(host, str, "global.cfg.j2")
    host.serve("web", 3210)
    host.start()
    before = host.haproxy()
    if restarted:
        host.synapse.kill()
    own_templates(host, lambda text: text.replace("    description {{ description }}\n", ""), "global.cfg.j2")
    if restarted:
        host.synapse.start(until="/healthz")
    eventually(lambda: "global.cfg.j2 must give 'description'" in json.dumps(host.synapse.status()))
    assert host.haproxy() == before
    own_templates(host, str, "global.cfg.j2")
    eventually(lambda: "global.cfg.j2" not in json.dumps(host.synapse.status()))
    eventually(lambda: host.synapse.status()["error"] is None)
    new = host.join("web", 4).address
    eventually(lambda: new in host.members("web"))
    assert host.haproxy() == before
    assert counted(host, "reloads") == counted(host, "reloads", "failed") == 0
