"""Checks that hang, fork, run away or shout, beside some that are well: nobody waits for them, and nothing is left."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.machine import Machine

PACE = {"interval": "100ms", "timeout": "300ms", "fall": 2}
SILENT_PORT = 8090

DOUBLE_FORK = "( sleep 600 & ) ; echo left one behind"
STORM = "for i in $(seq 50); do sleep 600 & done; wait"
SHOUT = "import os\nfor _ in range(1600): os.write(1, b'x' * 65536)\nprint()\nprint('that was all')"
DAEMON = """
import subprocess
subprocess.Popen(["sleep", "5"], start_new_session=True)
print("let one go")
"""
# Popen returns when the child has its own session and runs the program: a shell's `setsid` may not have got so far.

MEGABYTE = 1_048_576
MAY_GROW_BYTES = 4 * MEGABYTE
ADMIN_THREADS = 10
"""The admin address starts these one by one, as they are needed."""


def script(text: str) -> dict[str, Any]:
    """A check that is this shell script."""
    return {"type": "exec", "command": ["sh", "-c", text], **PACE}


ILL: dict[str, tuple[dict[str, Any], str]] = {
    "exec-hangs": (script("exec sleep 600"), "killed after 0.3s"),
    "exec-ignores-signals": (script("trap '' TERM INT HUP; while :; do sleep 600; done"), "killed after 0.3s"),
    "exec-closes-and-hangs": (script("exec >&- 2>&-; exec sleep 600"), "killed after 0.3s"),
    "exec-leaves-a-grandchild": (script(DOUBLE_FORK), "left one behind"),
    "exec-storms": (script(STORM), "killed after 0.3s"),
    "exec-never-stops-writing": (script("exec yes"), "killed after 0.3s, last output: y"),
    "http-hangs": ({"type": "http", "port": SILENT_PORT, **PACE}, "no answer in 0.3s"),
    "tcp-hangs": ({"type": "tcp", "port": SILENT_PORT, "expect": "hello", **PACE}, "no 'hello' in 0.3s"),
    "redis-hangs": ({"type": "redis", "port": SILENT_PORT, **PACE}, "no answer in 0.3s"),
}
"""Ill checks by service, with how their reason ends."""


def of_checks(machine: Machine) -> list[int]:
    """The processes that were started by checks of this machine's services: their environment has its address."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if (
                entry.name.isdigit()
                and f"SMARTSTACK_HOST={machine.address}\0".encode() in (entry / "environ").read_bytes()
            ):
                found.append(int(entry.name))
    return found


def runs(machine: Machine, service: str) -> float:
    """How many checks of a service gave a result."""
    [check] = machine.service(service)["checks"]
    total = 0.0
    for result in ("passed", "failed"):
        with suppress(AssertionError):
            total += machine.nerve.metric("nerve_check_total", service=service, check=check, result=result)
    return total


def footprint(machine: Machine) -> tuple[int, int, int]:
    """Bytes in memory, descriptors and threads of nerve."""
    process = Path(f"/proc/{machine.nerve.pid}")
    pages = int((process / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(process / "fd")), len(os.listdir(process / "task"))


@contextmanager
def silent_port(machine: Machine) -> Iterator[None]:
    """A server that accepts, in the kernel, and never says a word."""
    with socket.create_server((machine.address, SILENT_PORT), backlog=1024):
        yield


def begin(machine: Machine, ill: dict[str, dict[str, Any]]) -> None:
    """Two services that are well, and these."""
    machine.serve("web")
    machine.serve("api", 8081)
    for number, (name, check) in enumerate(ill.items()):
        # Another port each, so that each is an instance of its own; nobody listens there, and no tether is held.
        machine.define(name, 8100 + number, check=check, tether="off")
    machine.announce("web", "api", *ill)
    machine.nerve.start(until="/healthz")
    eventually(lambda: machine.sees("web", "api"))


def test_ill_checks_hold_nobody_up_and_leave_nothing(machine: Machine) -> None:
    """While nine services' checks hang, fork and write for 200 runs: the others' checks come in their turn, and what
    becomes of the others is published. Memory, descriptors and threads stay what they were, and when nerve has
    stopped no process of a check is left."""
    with silent_port(machine):
        begin(machine, {name: check for name, (check, _) in ILL.items()})
        for name, (_, reason) in ILL.items():
            eventually(lambda name=name: runs(machine, name) >= 3, within=20)  # type: ignore[misc]
            assert machine.service(name)["reason"].endswith(reason), (name, machine.service(name)["reason"])
        memory, descriptors, threads = footprint(machine)
        ill, well = sum(runs(machine, name) for name in ILL), runs(machine, "web")
        machine.backends.close(machine.address, 8081)
        eventually(lambda: not machine.sees("api"))
        machine.backends.open(machine.address, 8081)
        eventually(lambda: machine.sees("api"))
        eventually(lambda: sum(runs(machine, name) for name in ILL) >= ill + 200, within=60)
        done = sum(runs(machine, name) for name in ILL) - ill
        # Its interval is half of theirs, and they take three of them and more: it would do six in the time of one.
        assert runs(machine, "web") - well > done / len(ILL)
        assert machine.service("web")["state"] == "up"
        now = footprint(machine)
        assert now[0] - memory < MAY_GROW_BYTES, f"{(now[0] - memory) / MEGABYTE:.1f} MB more"
        assert now[1] <= descriptors + len(ILL) + 3, "each check may be at a connection or a pipe of its own just now"
        assert now[2] <= threads + ADMIN_THREADS
        assert of_checks(machine)
        assert machine.nerve.stop(within=3) == 0
        eventually(lambda: not of_checks(machine))


def test_a_hundred_megabytes_of_output_cost_nothing(machine: Machine) -> None:
    """All of it is read and a few KB are kept: the check passes, nerve does not grow, and others are checked on."""
    shout = {"type": "exec", "command": [sys.executable, "-c", SHOUT], "interval": "10ms", "timeout": "30s"}
    begin(machine, {"loud": shout})
    eventually(lambda: runs(machine, "loud") >= 1, within=20)
    memory, descriptors, _ = footprint(machine)
    well = runs(machine, "web")
    eventually(lambda: runs(machine, "loud") >= 4, within=30)
    assert machine.service("loud")["state"] == "up"
    assert machine.service("loud")["reason"].endswith("that was all")
    assert runs(machine, "web") >= well + 3
    now = footprint(machine)
    assert now[0] - memory < MAY_GROW_BYTES, f"{(now[0] - memory) / MEGABYTE:.1f} MB more"
    assert now[1] <= descriptors + 3
    assert machine.nerve.stop(within=3) == 0
    eventually(lambda: not of_checks(machine))


def test_a_daemon_that_a_check_starts_is_out_of_reach(machine: Machine) -> None:
    """What made a session of its own is no part of the check any more: it holds up neither the check nor the stop of
    nerve, and lives on. systemd ends it together with nerve."""
    begin(
        machine,
        {
            "starts": {
                "type": "exec",
                "command": [sys.executable, "-S", "-c", DAEMON],
                "interval": "1s",
                "timeout": "5s",
            }
        },
    )
    eventually(lambda: runs(machine, "starts") >= 2)
    assert machine.service("starts")["reason"].endswith("let one go")
    left = set(of_checks(machine))
    assert left
    assert machine.nerve.stop(within=3) == 0
    assert left & set(of_checks(machine))
    eventually(lambda: not of_checks(machine), within=10)


@pytest.mark.parametrize("name", ["exec-hangs", "http-hangs"])
def test_a_check_that_is_mended_is_heard_at_once(name: str, machine: Machine) -> None:
    """An edit of the definition does not wait for the check that hangs."""
    check: Callable[[], dict[str, Any]] = lambda: {**ILL[name][0], "timeout": "60s"}  # noqa: E731
    with silent_port(machine):
        begin(machine, {"ill": check()})
        machine.define("ill", 8100, check={"type": "noop"})
        eventually(lambda: machine.sees("ill"))
        assert machine.nerve.stop(within=3) == 0
        eventually(lambda: not of_checks(machine))
