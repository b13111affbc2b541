"""What the servers of an ensemble cost, and what they say that they did."""

import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.process import cost
from tests.support.eventually import eventually
from tests.support.zookeeper_ensemble import Ensemble, EnsembleServer

CONFIGURATION: Final = """\
tickTime=2000
clientPortListenBacklog=8192
maxSessionTimeout=300000
"""
"""Over that of the tests: ZooKeeper's usual tick, a backlog for all hosts at once, and time for a simulator that has to
wait for its turn on a busy machine."""

PROPERTIES: Final = ("zookeeper.forceSync=yes", "zookeeper.preAllocSize=65536")
"""Transactions are forced to the disk, as they are where they count."""

_MEGABYTE: Final = 1 << 20
_HISTOGRAM_TOTAL: Final = re.compile(r"^Total +\d+ +(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What the running servers have used since their start, by number of the server, and what they hold.

    `received` and `sent` are packets, pings and watch events among them. `watches` and `connections` are of all
    servers, `rss` in MB is that of the largest.
    """

    cpu_seconds: Mapping[int, float]
    received: Mapping[int, int]
    sent: Mapping[int, int]
    watches: int
    connections: int
    rss: float


def ensemble(size: int, heap_megabytes: int) -> Ensemble:
    """Servers for a benchmark, not started. Java compiles as it does by default, and tells its heap when asked."""
    options = (f"-Xmx{heap_megabytes}m", "-XX:TieredStopAtLevel=4", "-XX:+PrintClassHistogram")
    return Ensemble(size, configuration=CONFIGURATION, properties=PROPERTIES, java_options=options)


def used(servers: Ensemble) -> Used:
    """As it is now. Raises OSError when a running server does not answer."""
    running = [server for server in servers.servers if server.running]
    monitors = {server.number: _monitor(server) for server in running}
    costs = {server.number: cost(server.pid) for server in running}
    return Used(
        cpu_seconds={number: each.cpu_seconds for number, each in costs.items()},
        received={number: monitor["zk_packets_received"] for number, monitor in monitors.items()},
        sent={number: monitor["zk_packets_sent"] for number, monitor in monitors.items()},
        watches=sum(monitor["zk_watch_count"] for monitor in monitors.values()),
        connections=sum(monitor["zk_num_alive_connections"] for monitor in monitors.values()) - len(running),
        rss=max(each.rss for each in costs.values()),
    )


def live_heap(servers: Ensemble) -> float:
    """The heap that is in use after a full collection, in MB, of the server where it is largest."""
    return max(_live_heap(server) for server in servers.servers if server.running)


def _live_heap(server: EnsembleServer) -> float:
    """Java collects all garbage before it prints a histogram, which it does for SIGQUIT."""
    log = Path(server.directory) / "log"
    begin = log.stat().st_size
    os.kill(server.pid, signal.SIGQUIT)

    def total() -> float:
        with log.open(errors="replace") as file:
            file.seek(begin)
            found = _HISTOGRAM_TOTAL.findall(file.read())
        assert found, "no histogram yet"
        return int(found[-1]) / _MEGABYTE

    return eventually(total, within=30)


def _monitor(server: EnsembleServer) -> dict[str, int]:
    """The whole numbers of `mntr`."""
    words = (line.split() for line in server.command("mntr", timeout_seconds=10).splitlines())
    return {each[0]: int(each[1]) for each in words if len(each) == 2 and each[1].lstrip("-").isdigit()}
