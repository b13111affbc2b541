"""The lab's network: a namespace for each host, and a bridge for all of them in the lab's own namespace.

Every host has an address in `10.77.0.0/24`, by which hosts reach each other and ZooKeeper, and one in `10.78.0.0/24`,
by which the lab asks the daemons and which no fault ever cuts. Nothing of the machine's own network is touched.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_NAMESPACES: Final = Path("/run/netns")
_NOWHERE: Final = "02:00:00:00:00:01"
"""A hardware address that nobody has: what is sent there is lost without a word, as on a cable that is cut."""

PREFIX: Final = "sslab"
_OURS: Final = re.compile(rf"{PREFIX}-(\d+)-")


def ip(*words: str) -> None:
    """Run iproute2. Raises RuntimeError with its words when it refuses."""
    _run("ip", *words)


def has_netem() -> bool:
    """Whether the kernel can delay and lose packets. Asked on the loopback of the namespace of this process."""
    try:
        _run("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "0ms")
    except RuntimeError:
        return False
    _run("tc", "qdisc", "del", "dev", "lo", "root")
    return True


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def inside(namespace: str, command: Sequence[str]) -> list[str]:
    """The command that runs another one in a namespace, and ends with the lab."""
    return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={_NAMESPACES / namespace}", *command]


def make_namespace(name: str) -> str:
    """A namespace of this lab with its loopback up; the whole name."""
    whole = f"{PREFIX}-{os.getpid()}-{name}"
    ip("netns", "add", whole)
    ip("-n", whole, "link", "set", "lo", "up")
    return whole


def left_over(directory: Path) -> list[Path]:
    """What stands there by the name of this lab, or of one that runs no more."""
    found = [(path, _OURS.match(path.name)) for path in sorted(directory.glob(f"{PREFIX}-*"))]
    return [
        path
        for path, match in found
        if match is not None and (int(match[1]) == os.getpid() or not Path(f"/proc/{match[1]}").exists())
    ]


def remove_namespaces() -> None:
    """Remove those of this lab, and those of labs that were killed; what runs in them is killed first."""
    for path in left_over(_NAMESPACES):
        found = subprocess.run(["ip", "netns", "pids", path.name], capture_output=True, text=True, check=False)
        if pids := found.stdout.split():
            subprocess.run(["kill", "-9", *pids], capture_output=True, check=False)
        ip("netns", "del", path.name)


class Network:
    """The bridges of the lab, in the namespace in which this process runs, and the hosts that are on them."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._numbers: dict[str, int] = {}
        self._shaped: set[str] = set()
        ip("link", "set", "lo", "up")
        for bridge in ("data", "control"):
            ip("link", "add", bridge, "type", "bridge")
            ip("link", "set", bridge, "up")
        ip("address", "add", "10.78.0.254/24", "dev", "control")

    def add(self, name: str) -> None:
        """A host of this name, with a namespace and both addresses."""
        number = self._numbers[name] = len(self._numbers) + 1
        whole = self.namespace(name)
        ip("netns", "add", whole)
        ip("-n", whole, "link", "set", "lo", "up")
        for bridge, address in (("data", self.address(name)), ("control", self.control(name))):
            port = f"{bridge[0]}{number}"
            ip("link", "add", port, "type", "veth", "peer", "name", bridge, "netns", whole)
            ip("link", "set", port, "master", bridge, "up")
            ip("-n", whole, "address", "add", f"{address}/24", "dev", bridge)
            ip("-n", whole, "link", "set", bridge, "up")

    def namespace(self, name: str) -> str:
        """The whole name of a host's namespace."""
        return f"{self._prefix}-{name}"

    def address(self, name: str) -> str:
        """Where other hosts reach it."""
        return f"10.77.0.{self._numbers[name]}"

    def control(self, name: str) -> str:
        """Where the lab reaches it."""
        return f"10.78.0.{self._numbers[name]}"

    def unplug(self, name: str) -> None:
        """Pull its cable: nothing comes and goes."""
        ip("link", "set", f"d{self._numbers[name]}", "down")

    def plug(self, name: str) -> None:
        """Put its cable back."""
        ip("link", "set", f"d{self._numbers[name]}", "up")

    def drop(self, source: str, target: str) -> None:
        """Lose what one host sends to the other; what comes back is not touched."""
        where = (self.address(target), "lladdr", _NOWHERE, "dev", "data", "nud", "permanent")
        ip("-n", self.namespace(source), "neigh", "replace", *where)

    def restore(self, source: str, target: str) -> None:
        """Lose it no more."""
        ip("-n", self.namespace(source), "neigh", "del", self.address(target), "dev", "data")

    def disturb(self, name: str, delay_seconds: float, lost_percent: float) -> None:
        """Hold up what a host sends, and lose a part of it. Raises RuntimeError on a kernel without netem."""
        self._shape(name, "netem", "delay", f"{delay_seconds * 1000:g}ms", "loss", f"{lost_percent:g}%")

    def throttle(self, name: str, kilobits: int) -> None:
        """Let a host send no more than so many kilobits a second; what waits for longer than 400 ms is lost."""
        self._shape(name, "tbf", "rate", f"{kilobits}kbit", "burst", "4kb", "latency", "400ms")

    def clear_link(self, name: str) -> None:
        """Neither any more."""
        if name in self._shaped:
            _run("tc", "-n", self.namespace(name), "qdisc", "del", "dev", "data", "root")
            self._shaped.discard(name)

    def _shape(self, name: str, *how: str) -> None:
        _run("tc", "-n", self.namespace(name), "qdisc", "add", "dev", "data", "root", *how)
        self._shaped.add(name)
