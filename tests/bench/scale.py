"""A real ZooKeeper under a simulated fleet: what it is asked, what it costs, and how soon every host knows the truth.

    python -m tests.bench.scale [--hosts 500] [--services 100] [--instances 10] [--uses 20] [--changes 5] [--seconds 20]
    python -m tests.bench.scale --hosts 5000 --instances 50 --heap 2048 --ensemble 3 --json scale.json
    python -m tests.bench.scale --table

`--instances` are of each service, `--uses` is how many of the services each host follows, `--changes` a second. With
`--table` nothing runs: it prints the sizing table of docs/scale.md.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tests.bench import scale_model as model
from tests.bench.scale_fleet import Fleet, Size
from tests.bench.scale_servers import Used, ensemble, live_heap, used
from tests.bench.scale_session import Registry
from tests.support.zookeeper_ensemble import Ensemble

LIMIT_SECONDS: Final = 240.0
WAVES: Final = 10
_OPERATIONS: Final = {
    1: "create",
    2: "delete",
    3: "exists",
    4: "getData",
    8: "getChildren",
    14: "multi",
    22: "multiRead",
    106: "addWatch",
    -11: "closeSession",
}
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What one phase took. `seconds` until every host knew the truth, None where some did not in time, and in `spread`
    the same for the single changes of a steady phase. Bytes are without TCP's; CPU is the servers' together. The
    simulator is one process for all hosts: where it was late for long, `seconds` are its own, not ZooKeeper's.
    """

    phase: str
    hosts: int
    seconds: float | None
    requests: dict[str, int]
    pings: int
    connects: int
    events: int
    bytes_to_server: int
    bytes_from_server: int
    errors: dict[str, int]
    watches: int
    connections: int
    cpu_seconds: float
    rss_megabytes: float
    heap_megabytes: float
    packets_received: int
    packets_sent: int
    simulator_cpu_seconds: float
    simulator_late_seconds: float
    spread: dict[str, float] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """All requests but pings."""
        return sum(self.requests.values())


class Ignorant(Exception):
    """Some hosts did not get to know the truth, so that the next phase would measure nothing."""


@dataclass(slots=True)
class Run:
    """The phases of one run."""

    servers: Ensemble
    registry: Registry
    fleet: Fleet
    phases: list[Phase]

    async def phase(self, name: str, do: Callable[[], Awaitable[float | None]]) -> None:
        """Do this, and note what it took."""
        traffic = self.registry.traffic
        before, asked, told = used(self.servers), Counter(traffic.requests), Counter(traffic.errors)
        numbers = (traffic.pings, traffic.connects, traffic.events)
        sizes = (traffic.bytes_to_server, traffic.bytes_from_server)
        cpu, late = time.process_time(), self.registry.clock.late_seconds
        seconds = await do()
        spread = _spread(self.fleet.take_settle_seconds())
        cpu, late = time.process_time() - cpu, self.registry.clock.late_seconds - late
        after = await asyncio.to_thread(used, self.servers)
        made = Phase(
            phase=name,
            hosts=self.fleet.running,
            seconds=seconds,
            requests={_OPERATIONS[kind]: count for kind, count in sorted((traffic.requests - asked).items())},
            pings=traffic.pings - numbers[0],
            connects=traffic.connects - numbers[1],
            events=traffic.events - numbers[2],
            bytes_to_server=traffic.bytes_to_server - sizes[0],
            bytes_from_server=traffic.bytes_from_server - sizes[1],
            errors=dict(traffic.errors - told),
            watches=after.watches,
            connections=after.connections,
            cpu_seconds=sum(after.cpu_seconds[one] - before.cpu_seconds[one] for one in after.cpu_seconds),
            rss_megabytes=after.rss,
            packets_received=_grown(after, before, "received"),
            packets_sent=_grown(after, before, "sent"),
            simulator_cpu_seconds=cpu,
            simulator_late_seconds=late,
            heap_megabytes=await asyncio.to_thread(live_heap, self.servers),
            spread=spread,
        )
        self.phases.append(made)
        _print(made)
        if seconds is None:
            raise Ignorant(f"{name}: after {LIMIT_SECONDS:g} s {self.fleet.ignorant()} hosts did not know the truth")


def main() -> None:
    """Run all phases, or print the table."""
    options = _options()
    if options.table:
        print(model.table())
        return
    size = Size(hosts=options.hosts, services=options.services, instances=options.instances, uses=options.uses)
    _raise_descriptor_limit(2 * size.hosts + 100)
    print(
        f"# {size.hosts} hosts, {size.services} services x {size.instances}, each host follows {size.uses}; "
        f"{options.changes:g} changes/s; ensemble of {options.ensemble}, -Xmx{options.heap}m; session time-out "
        f"{options.timeout:g} s; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    )
    # Millions of small objects that all stay: collections would only take time.
    gc.disable()
    phases: list[Phase] = []
    failure = ""
    try:
        asyncio.run(run(size, options, phases))
    except Ignorant as error:
        failure = str(error)
    if options.json is not None:
        document = {"size": asdict(size), "options": vars(options) | {"json": None}, "cores": os.cpu_count()}
        options.json.write_text(json.dumps(document | {"phases": [asdict(each) for each in phases]}, indent=1))
    if failure:
        sys.exit(failure)


async def run(size: Size, options: argparse.Namespace, phases: list[Phase]) -> None:
    """All phases, one after the other, on servers of their own; `phases` gets each. Raises `Ignorant`."""
    servers = ensemble(options.ensemble, options.heap)
    try:
        servers.start()
        addresses = tuple((server.host, server.port) for server in servers.servers)
        registry = Registry(servers=addresses, timeout_seconds=options.timeout)
        fleet = Fleet(size, registry)
        made = Run(servers, registry, fleet, phases)
        await fleet.begin()
        try:
            await _phases(made, options)
        finally:
            await fleet.end()
    finally:
        servers.dispose()


async def _phases(made: Run, options: argparse.Namespace) -> None:
    fleet, everybody = made.fleet, range(made.fleet.size.hosts)
    half = everybody[::2]
    _print_head()

    async def start_in_waves() -> float | None:
        began = time.monotonic()
        for wave in range(WAVES):
            fleet.start(everybody[wave::WAVES])
            if await fleet.settled(LIMIT_SECONDS) is None:
                return None
        return time.monotonic() - began

    async def start_at_once() -> float | None:
        fleet.start(everybody)
        return await fleet.settled(LIMIT_SECONDS)

    async def idle() -> float | None:
        await asyncio.sleep(options.seconds)
        return await fleet.settled(LIMIT_SECONDS)

    async def steady() -> float | None:
        await fleet.change(options.changes, options.seconds)
        return await fleet.settled(LIMIT_SECONDS)

    async def half_leaves() -> float | None:
        began = time.monotonic()
        await fleet.stop(half)
        return None if await fleet.settled(LIMIT_SECONDS) is None else time.monotonic() - began

    async def half_returns() -> float | None:
        fleet.start(half)
        return await fleet.settled(LIMIT_SECONDS)

    async def reconnect() -> float | None:
        began = time.monotonic()
        fleet.cut()
        return await fleet.settled_again(began, LIMIT_SECONDS)

    async def leader_lost() -> float | None:
        leader = made.servers.leader()
        began = time.monotonic()
        await asyncio.to_thread(leader.kill)
        return await fleet.settled_again(began, LIMIT_SECONDS)

    await made.phase(f"start in {WAVES} waves", start_in_waves)
    await made.phase(f"{options.seconds:g} s without changes", idle)
    await made.phase(f"{options.seconds:g} s of changes", steady)
    await made.phase("half leaves at once", half_leaves)
    await made.phase("half returns at once", half_returns)
    await made.phase("all connections cut", reconnect)
    if options.ensemble > 1:
        await made.phase("leader killed", leader_lost)
    await fleet.stop(everybody)
    await made.phase("start at once", start_at_once)


def _print_head() -> None:
    print(
        f"{'phase':<22} {'hosts':>5} {'s':>7} {'requests':>9} {'pings':>7} {'events':>8} {'MB in':>7} {'MB out':>8} "
        f"{'watches':>8} {'conns':>6} {'CPU s':>6} {'RSS MB':>6} {'heap':>5} {'sim CPU':>7} {'late':>5}  errors"
    )


def _print(made: Phase) -> None:
    seconds = "never" if made.seconds is None else f"{made.seconds:.2f}"
    print(
        f"{made.phase:<22} {made.hosts:>5} {seconds:>7} {made.asked:>9} {made.pings:>7} {made.events:>8} "
        f"{made.bytes_to_server / _MEGABYTE:>7.2f} {made.bytes_from_server / _MEGABYTE:>8.2f} {made.watches:>8} "
        f"{made.connections:>6} {made.cpu_seconds:>6.2f} {made.rss_megabytes:>6.0f} {made.heap_megabytes:>5.0f} "
        f"{made.simulator_cpu_seconds:>7.2f} {made.simulator_late_seconds:>5.1f}  {made.errors or 'none'}"
    )
    print("    " + ", ".join(f"{count} {name}" for name, count in made.requests.items()))
    if made.spread:
        print(
            "    until the last host knew of one change: " + ", ".join(f"{k} {v:g} ms" for k, v in made.spread.items())
        )
    sys.stdout.flush()


def _spread(seconds: list[float]) -> dict[str, float]:
    """The median, the 99th percentile and the largest, in ms."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    at = {"p50": len(ordered) // 2, "p99": min(len(ordered) - 1, len(ordered) * 99 // 100), "max": len(ordered) - 1}
    return {name: round(ordered[index] * 1000, 1) for name, index in at.items()}


def _grown(after: Used, before: Used, what: str) -> int:
    now, then = getattr(after, what), getattr(before, what)
    return sum(count - then[number] for number, count in now.items())


def _raise_descriptor_limit(wanted: int) -> None:
    """As far as it goes, for the servers too, which inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"{wanted} file descriptors are needed, and no more than {hard} are allowed: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a real ZooKeeper under a simulated fleet")
    for name, default, what in (
        ("hosts", 500, "simulated hosts, with two sessions each"),
        ("services", 100, "services"),
        ("instances", 10, "instances of each service"),
        ("uses", 20, "how many services each host follows"),
        ("ensemble", 1, "servers of ZooKeeper"),
        ("heap", 1024, "largest heap of each server, in MB"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} (default {default})")
    parser.add_argument("--changes", type=float, default=5.0, help="instances that leave or join a second (default 5)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the steady phases last (default 20)")
    parser.add_argument("--timeout", type=float, default=10.0, help="session time-out in seconds (default 10)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--table", action="store_true", help="print the sizing table, and run nothing")
    options = parser.parse_args()
    if options.instances > options.hosts or options.uses > options.services:
        parser.error("--instances is at most --hosts, --uses at most --services")
    return options


if __name__ == "__main__":
    main()
