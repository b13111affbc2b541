"""The machine fails synapse: HAProxy is killed or cut off, the disk is full, the load is large."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.clients import ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import Host

SERVICES = 50
INSTANCES = 5
RUN_FILES = ["haproxy.sock", "master.sock", "haproxy.pid"]


def answers(host: Host, listen: int = 3210) -> bool:
    """Whether the service answers."""
    return bool(ask(host.address, listen))


@pytest.mark.parametrize("victims", ["master", "master and worker"])
def test_a_killed_haproxy_is_back_with_the_same_members(host: Host, victims: str) -> None:
    """`kill -9` of HAProxy costs less than a second: the new one starts with every instance, with what was changed at
    run time, and without a reload."""
    host.serve("web", 3210, balance="leastconn")
    host.start()
    host.join("web", 4, weight=7)
    host.leave("web", 1)
    eventually(lambda: 7 in host.members("web").values() and len(host.members("web")) == 3)
    members, structure, before = host.members("web"), host.structure(), host.haproxy()
    began = time.monotonic()
    for pid in before if victims == "master and worker" else before[:1]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: host.synapse.metric("synapse_haproxy_starts_total", result="done") == 2)
    eventually(lambda: answers(host))
    took = time.monotonic() - began
    assert host.members("web") == members
    assert host.structure() == structure
    assert not set(host.haproxy()) & set(before)
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0
    eventually(lambda: set(host.haproxy_processes()) == set(host.haproxy()), message="nothing of the old one is left")
    assert took < 5, f"it took {took:.2f} s"


def test_a_haproxy_killed_while_synapse_is_dead_is_started_by_the_next(host: Host) -> None:
    """A machine on which both died starts with the last good set and the registry's word."""
    host.serve("web", 3210)
    host.start()
    members = host.members("web")
    host.synapse.kill()
    for pid in host.haproxy_processes():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not host.haproxy_processes())
    host.synapse.start()
    assert host.members("web") == members
    assert answers(host)


@pytest.mark.parametrize("names", [["haproxy.sock"], ["master.sock"], ["haproxy.pid"], RUN_FILES], ids="+".join)
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_files_of_the_run_directory_may_be_removed(host: Host, names: list[str], restarted: bool) -> None:
    """Somebody cleans up /run. No request fails, no second HAProxy is started beside the first, and changes of
    members and of structure go on, with this synapse and with the next."""
    host.serve("web", 3210)
    host.start()
    master, _ = host.haproxy()
    client = host.client(3210, keep_alive=False)
    with client:
        for name in names:
            (host.directory / "run" / name).unlink()
        if restarted:
            host.synapse.kill()
            host.synapse.start()
        new = host.join("web", 4).address
        eventually(lambda: new in host.members("web"), within=15)
        eventually(lambda: client.answers[new])
        host.serve("api", 3211)
        eventually(lambda: answers(host, 3211), within=15)
        eventually(lambda: host.synapse.status()["error"] is None, within=15)
        assert_none_failed([client], at_least=10)
    processes = host.haproxy_processes()
    assert [pid for pid in processes if parent(pid) not in processes] == [master]
    assert host.synapse.metric("synapse_haproxy_starts_total", result="done") == (0 if restarted else 1)


def parent(pid: int) -> int:
    """The process id of its parent; 0 when it is gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def test_a_worker_that_is_stopped_does_not_stop_synapse(host: Host) -> None:
    """HAProxy hangs: synapse says so, answers all the while, and goes on when HAProxy does."""
    host.serve("web", 3210)
    host.start()
    _, worker = host.haproxy()
    os.kill(worker, signal.SIGSTOP)
    try:
        new = host.join("web", 4).address
        eventually(lambda: "does not answer" in (host.synapse.status()["error"] or ""), within=15)
        assert host.synapse.get("/healthz", 1.0).status_code == 200
        assert host.synapse.metric("synapse_haproxy_up") == 0
    finally:
        os.kill(worker, signal.SIGCONT)
    eventually(lambda: new in host.members("web"), within=15)
    eventually(lambda: host.synapse.status()["error"] is None, within=15)
    assert host.haproxy()[1] == worker


@pytest.fixture
def small_disk(host: Host) -> Iterator[Host]:
    """A host whose state directory is a file system of a megabyte, where this user may mount one."""
    host.state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(host.state)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield host
    host.synapse.end()
    if mounted:
        subprocess.run(["umount", "-l", str(host.state)], check=True)


@contextmanager
def disk_full(host: Host) -> Iterator[None]:
    """No byte can be written: the file system is full, or, where none could be mounted, synapse may write no file."""
    if host.state.is_mount():
        filler = host.state / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        yield
        filler.unlink()
        return
    limits = resource.prlimit(host.synapse.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(host.synapse.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    yield
    resource.prlimit(host.synapse.pid, resource.RLIMIT_FSIZE, limits)


@contextmanager
def directory_gone(host: Host) -> Iterator[None]:
    """The state directory was moved away, and a file has its name."""
    aside = host.directory / "aside"
    host.state.rename(aside)
    host.state.touch()
    yield
    host.state.unlink()
    aside.rename(host.state)


@contextmanager
def read_only(host: Host) -> Iterator[None]:
    """The state directory, which haproxy.cfg is in, is mounted read-only; where this user may not mount, it may not
    write there, or no byte can be written at all."""
    state = str(host.state)
    if os.geteuid() != 0:
        host.state.chmod(0o500)
        yield
        host.state.chmod(0o750)
    elif subprocess.run(["mount", "--bind", state, state], capture_output=True, check=False).returncode == 0:
        subprocess.run(["mount", "-o", "remount,bind,ro", state], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", state], check=True)
    else:
        with disk_full(host):
            yield


def test_a_read_only_configuration_directory_stops_nothing(host: Host) -> None:
    """haproxy.cfg can be neither replaced nor checked under another name."""
    a_disk_that_takes_nothing_stops_nothing(host, read_only)


def test_a_full_disk_stops_nothing(small_disk: Host) -> None:
    """No space is left for what synapse keeps."""
    a_disk_that_takes_nothing_stops_nothing(small_disk, disk_full)


def test_a_state_directory_that_is_gone_stops_nothing(host: Host) -> None:
    """What synapse keeps has no place any more."""
    a_disk_that_takes_nothing_stops_nothing(host, directory_gone)


def a_disk_that_takes_nothing_stops_nothing(host: Host, fault: Callable[[Host], AbstractContextManager[None]]) -> None:
    """Members change at run time all the same, the error is in /status, nothing that runs is disturbed; with room
    again, the files follow and structure changes too."""
    host.serve("web", 3210)
    host.start()
    before = host.haproxy()
    client = host.client(3210, keep_alive=False)
    with client:
        with fault(host):
            new = host.join("web", 4).address
            eventually(lambda: new in host.members("web"))
            eventually(lambda: client.answers[new])
            eventually(lambda: "cannot write" in (host.synapse.status()["error"] or ""))
            host.serve("api", 3211)
            eventually(lambda: host.synapse.metric("synapse_haproxy_reloads_total", result="failed") >= 1)
            assert host.synapse.get("/healthz").status_code == 200
            assert host.haproxy() == before
        eventually(lambda: answers(host, 3211), within=15)
        eventually(lambda: host.synapse.status()["error"] is None, within=15)
        eventually(lambda: new in host.haproxy_file())
        assert_none_failed([client], at_least=20)


def test_fifty_services_of_five_instances_start(host: Host) -> None:
    """All of them are offered with all their instances after one start of HAProxy, and none needs a reload."""
    for number in range(INSTANCES):
        host.instance(number + 1)
    for number in range(SERVICES):
        host.serve(f"service-{number}", 3300 + number, instances=INSTANCES)
    host.start()
    for number in range(SERVICES):
        assert len(host.members(f"service-{number}")) == INSTANCES
        assert answers(host, 3300 + number)
    assert host.synapse.metric("synapse_haproxy_starts_total", result="done") == 1
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0
    assert len(host.synapse.status()["services"]) == SERVICES
