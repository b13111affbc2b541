"""How long from a node in ZooKeeper to HAProxy routing to it, and back; at how many requests, in how much memory.

    python -m tests.bench.propagation [--changes 200] [--instances 10]

One host with a real ZooKeeper, nerve, synapse and HAProxy. The clock starts before the node is written or removed,
and stops when HAProxy's own answer shows the slot; it is asked every half millisecond, so that is the resolution.
"""

import argparse
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from smartstack.forms import ZooKeeperUrl
from smartstack.instance import Instance, encode, encoded_node_name, node_name
from smartstack.registry.protocol import NodeId
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Daemon, Host
from tests.support.zookeeper import LocalServer

LISTEN = 3210
_LIMIT_SECONDS = 10.0
_POLL_SECONDS = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of changes: seconds each, and the watcher's ZooKeeper requests for one change."""

    added: list[float]
    removed: list[float]
    requests_per_change: float


def main() -> None:
    """Measure with the payload in the node's data and in its name, and print a table."""
    arguments = argparse.ArgumentParser(description="propagation from ZooKeeper to HAProxy")
    arguments.add_argument("--changes", type=int, default=200, help="additions, and as many removals")
    arguments.add_argument("--instances", type=int, default=10, help="instances that stay while others come and go")
    options = arguments.parse_args()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"# {options.changes} additions and removals beside {options.instances} instances; {machine}")
    with _host(options.instances) as (host, nerve):
        for title, name_of in (("payload in the data", node_name), ("payload in the name", encoded_node_name)):
            measured = _measure(host, options.changes, name_of)
            print(f"{title:<22} added    {_row(measured.added)}")
            print(f"{title:<22} removed  {_row(measured.removed)}")
            print(f"{title:<22} requests of the watcher for one change: {measured.requests_per_change:.2f}")
        print(f"reloads of HAProxy: {host.synapse.metric('synapse_haproxy_reloads_total', result='done'):.0f}")
        master, worker = host.haproxy()
        for what, pid in (
            ("nerve", nerve.pid),
            ("synapse", host.synapse.pid),
            ("haproxy master", master),
            ("haproxy worker", worker),
        ):
            print(f"memory of {what:<15} RSS {_memory(pid, 'Rss'):5.1f} MB   PSS {_memory(pid, 'Pss'):5.1f} MB")


@contextmanager
def _host(instances: int) -> Iterator[tuple[Host, Daemon]]:
    server = LocalServer()
    server.start()
    host = Host(ZooKeeperUrl(hosts=server.hosts, root="/smartstack"))
    try:
        host.serve("web", LISTEN, instances)
        nerve = host.nerve(249, {"web": {}})
        host.start()
        nerve.start()
        eventually(lambda: len(host.members("web")) == instances + 1, within=_LIMIT_SECONDS)
        yield host, nerve
    finally:
        host.close()
        server.dispose()


def _measure(host: Host, changes: int, name_of: Callable[[Instance], str | None]) -> Measured:
    added, removed = [], []
    before = _watcher_requests(host)
    for number in range(changes):
        instance = Instance(host=f"127.0.0.{number % 200 + 1}", port=BACKEND_PORT + 1 + number, name="bench")
        node = NodeId(path="services/web", node=str(name_of(instance)))
        added.append(_seconds_until(host, instance, True, partial(host.writer.put, node, encode(instance))))
        removed.append(_seconds_until(host, instance, False, partial(host.writer.remove, node)))
    return Measured(
        added=added, removed=removed, requests_per_change=(_watcher_requests(host) - before) / (2 * changes)
    )


def _seconds_until(host: Host, instance: Instance, present: bool, change: Callable[[], None]) -> float:
    began = time.perf_counter()
    change()
    while (instance.address in host.members("web")) is not present:
        if time.perf_counter() - began > _LIMIT_SECONDS:
            sys.exit(f"{instance.address} did not {'come' if present else 'go'} within {_LIMIT_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)
    return time.perf_counter() - began


def _watcher_requests(host: Host) -> int:
    return int(host.synapse.status()["registry"]["counters"]["requests"])


def _row(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    return f"p50 {cuts[49] * 1000:6.1f} ms   p99 {cuts[98] * 1000:6.1f} ms   max {max(seconds) * 1000:6.1f} ms"


def _memory(pid: int, kind: str) -> float:
    match = re.search(rf"^{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(match[1]) / 1024 if match else float("nan")


if __name__ == "__main__":
    main()
