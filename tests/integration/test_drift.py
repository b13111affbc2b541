"""Somebody works on HAProxy past synapse: it is found, put right within one resync, counted and told."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synapse.haproxy.runtime import Runtime
from tests.support.clients import ask
from tests.support.eventually import eventually
from tests.support.pair import Host

RESYNC_SECONDS = 1.0


@pytest.fixture
def served(host: Host) -> Host:
    """A host that serves web with three instances, and looks at everything each second."""
    host.settings["resync_interval"] = f"{RESYNC_SECONDS:g}s"
    host.serve("web", 3210, balance="leastconn")
    host.start()
    resynced(host)
    return host


def turned(host: Host) -> None:
    """Ask that everything be compared, and wait until a turn has ended."""
    before = host.synapse.metric("synapse_cycles_total")
    host.synapse.send(signal.SIGHUP)
    eventually(lambda: host.synapse.metric("synapse_cycles_total") > before)


def resynced(host: Host) -> None:
    """Let everything be compared, without waiting for its time. The first turn may have begun before it was asked to;
    the second has not."""
    turned(host)
    turned(host)


def repairs(host: Host, kind: str) -> float:
    """How often this kind of drift was put right."""
    return host.synapse.metric("synapse_drift_repairs_total", kind=kind)


def by_hand(host: Host, *lines: str) -> None:
    """Type these commands into HAProxy's socket, as an operator would; no resync comes between them."""
    Runtime(host.runtime.path, None).ask("; ".join(lines))


def seats(host: Host) -> dict[str, tuple[str, int, str]]:
    """What HAProxy shows of every slot of web: its address, weight, and admin state."""
    slots = host.runtime.servers(["web"])["web"]
    return {slot.name: (slot.address, slot.weight, slot.admin.value) for slot in slots}


HANDS: dict[str, tuple[list[str], dict[str, int]]] = {
    "a weight": (["set server web/s1 weight 3"], {"weight": 1}),
    "into maintenance": (["set server web/s1 state maint"], {"state": 1}),
    "into drain": (["set server web/s2 state drain"], {"state": 1}),
    "another address": (["set server web/s1 addr 127.0.0.1 port 9"], {"address": 1}),
    "a spare one enabled": (
        ["set server web/s4 addr 127.0.0.1 port 9", "set server web/s4 state ready"],
        {"state": 1},
    ),
    "all at once": (
        ["set server web/s1 weight 0", "set server web/s2 state maint", "set server web/s3 weight 7"],
        {"weight": 2, "state": 1},
    ),
}


@pytest.mark.parametrize(("commands", "counts"), HANDS.values(), ids=HANDS)
def test_what_was_changed_over_the_socket_is_back(served: Host, commands: list[str], counts: dict[str, int]) -> None:
    """Without a reload, within one resync, each thing counted once, and the log says what it was."""
    before = seats(served)
    by_hand(served, *commands)
    eventually(lambda: sum(served.synapse.status()["haproxy"]["drift"]["repairs"].values()), within=RESYNC_SECONDS + 5)
    wanted = {address for address, _, admin in before.values() if admin == "ready"}
    eventually(
        lambda: (
            {address: weight for address, weight, admin in seats(served).values() if admin == "ready"}
            == dict.fromkeys(wanted, 100)
        )
    )
    resynced(served)
    drift = served.synapse.status()["haproxy"]["drift"]
    assert drift["repairs"] == counts
    assert {kind: repairs(served, kind) for kind in counts} == counts
    assert "somebody else changed HAProxy: it is put right" in served.synapse.log()
    assert any("web/s" in line for line in drift["last"])
    assert served.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


def test_what_synapse_does_itself_is_no_drift(served: Host) -> None:
    """Instances come and go, weights change, a service is added: nothing of that is counted."""
    served.join("web", 4, weight=7)
    served.leave("web", 1)
    served.serve("api", 3211)
    eventually(lambda: ask(served.address, 3211))
    served.join("web", 4, weight=9)
    eventually(lambda: 9 in served.members("web").values())
    resynced(served)
    assert served.synapse.status()["haproxy"]["drift"]["repairs"] == {}


def test_a_server_that_was_deleted_is_back(served: Host) -> None:
    """Only a reload brings it back; it comes at once."""
    by_hand(served, "set server web/s1 state maint; del server web/s1")
    eventually(lambda: repairs(served, "server") == 1, within=RESYNC_SECONDS + 5)
    eventually(lambda: len(served.members("web")) == 3 and "s1" in seats(served))
    eventually(lambda: served.synapse.metric("synapse_haproxy_reloads_total", result="done") == 1)


def edited(host: Host) -> Path:
    """haproxy.cfg, edited by hand: another time-out."""
    path = host.state / "haproxy.cfg"
    text = path.read_text()
    assert "stats timeout 30s" in text
    path.write_text(text.replace("stats timeout 30s", "stats timeout 31s"))
    return path


def removed(host: Host) -> Path:
    """haproxy.cfg, removed."""
    path = host.state / "haproxy.cfg"
    path.unlink()
    return path


@pytest.mark.parametrize("damage", [edited, removed])
def test_a_file_that_was_changed_is_written_again(served: Host, damage: Callable[[Host], Path]) -> None:
    """It would be what the next start of HAProxy reads. Nothing is reloaded for it."""
    before = served.haproxy_file()
    path = damage(served)
    eventually(lambda: path.exists() and path.read_text() == before, within=RESYNC_SECONDS + 5)
    resynced(served)
    assert repairs(served, "file") == 1
    assert str(path) in " ".join(served.synapse.status()["haproxy"]["drift"]["last"])
    assert served.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


def reload_past_synapse(host: Host) -> None:
    """Somebody else signals the master, and a new worker serves."""
    master, worker = host.haproxy()
    os.kill(master, signal.SIGUSR2)
    eventually(lambda: host.haproxy()[1] != worker)


def test_another_file_that_somebody_else_loaded_is_replaced(served: Host) -> None:
    """Edited by hand and reloaded: HAProxy's own words do not show it, so what is loaded is not trusted. synapse's file
    is loaded again, though its structure has the same name."""
    before = served.haproxy_file()
    with suspended(served):
        edited(served)
        reload_past_synapse(served)
    eventually(lambda: repairs(served, "process") == 1, within=RESYNC_SECONDS + 5)
    eventually(lambda: served.synapse.metric("synapse_haproxy_reloads_total", result="done") == 1)
    assert served.haproxy_file() == before
    resynced(served)
    assert served.synapse.status()["error"] is None
    assert (repairs(served, "file"), repairs(served, "process")) == (1, 1)


def test_another_structure_that_somebody_else_loaded_is_replaced(served: Host) -> None:
    """A file without a service of ours: its name shows, and the service is back within one resync."""
    structure = served.structure()
    with suspended(served):
        path = served.state / "haproxy.cfg"
        head = path.read_text().split("frontend ")[0]
        path.write_text(head.replace(structure, "smartstack-mine"))
        reload_past_synapse(served)
    eventually(lambda: repairs(served, "process") == 1, within=RESYNC_SECONDS + 5)
    eventually(lambda: served.structure() == structure)
    assert ask(served.address, 3210)
    assert len(served.members("web")) == 3


def test_a_reload_by_somebody_else_from_our_own_file_is_no_drift(served: Host) -> None:
    """The same structure, the same file: nothing is put right, nothing is reloaded again."""
    members = served.members("web")
    reload_past_synapse(served)
    resynced(served)
    resynced(served)
    assert served.members("web") == members
    assert served.synapse.status()["haproxy"]["drift"]["repairs"] == {}
    assert served.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


def test_a_second_haproxy_on_our_port_is_told(served: Host) -> None:
    """The kernel lets two HAProxy of one user share a port, and half of the connections go astray: it is said who it
    is, and that is over when it ends."""
    text = (
        f"defaults\n    mode http\n    timeout client 1s\nfrontend other\n    bind {served.address}:3210\n"
        "    http-request return status 503\n"
    )
    other = served.write("other.cfg", text)
    with subprocess.Popen(["haproxy", "-db", "-f", str(other)]) as process:
        try:
            words = f"(pid {process.pid}) listens on {served.address}:3210 too"
            eventually(lambda: words in (served.synapse.status()["error"] or ""), within=RESYNC_SECONDS + 5)
            assert "web: haproxy" in served.synapse.status()["error"]
            new = served.join("web", 4).address
            eventually(lambda: new in served.members("web"), message="all goes on")
        finally:
            process.kill()
    eventually(lambda: served.synapse.status()["error"] is None, within=RESYNC_SECONDS + 5)


@contextmanager
def suspended(host: Host) -> Iterator[None]:
    """synapse sees nothing of what is done in this block until it is over."""
    host.synapse.suspend()
    try:
        yield
    finally:
        os.kill(host.synapse.pid, signal.SIGCONT)
