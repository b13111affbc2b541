"""What nerve costs, and how soon it tells the truth.

    python -m tests.bench.nerve [PART ...] [--seconds 60] [--json FILE]

    sizes     memory, threads and CPU for 1, 20 and 100 services at an interval of 1 s, beside Airbnb's nerve
    growth    what 10,000 checks leave behind: memory, threads, descriptors
    kills     kill -9 of a service, and its coming back after `nerve check`: when the registry shows it
    restarts  nerve itself stopped, killed and edited 50 times each: what a second watcher sees of it
    flapping  writes to ZooKeeper for a service that goes up and down every 100 ms

nerve, ZooKeeper and the services are real and on this machine; if it has other work to do, the figures are higher.
"""

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nerve.settings import PublishLimit
from smartstack.forms import ZooKeeperUrl
from tests.bench.nerve_host import FIRST_PORT, NerveHost, Victim
from tests.bench.nerve_restarts import restart
from tests.bench.nerve_watch import DirectoryWatch, Watch, ZooKeeperWatch
from tests.bench.process import cost
from tests.support.eventually import eventually
from tests.support.zookeeper import LocalServer

RUBY = {1: (31.5, 0.22, ""), 20: (34.8, 1.09, "30")}
"""Airbnb's nerve 0.9 (Ruby), by services with an http check each second: RSS in MB, seconds of CPU a minute, threads.
Measured once on a machine like the one where this was written (../shared/facts.md), and not again here."""

ROOT = "/smartstack"
SIZES = (1, 20, 100)
WARM_UP_SECONDS = 10.0
HALF_PERIOD_SECONDS = 0.1
"""How long the flapping service stays up, and down."""

GROWTH_MARKS = (1_000, 10_000)
LIMIT_SECONDS = 120.0
"""After this a part gives up."""

Rows = list[dict[str, Any]]


def main(words: Sequence[str] | None = None) -> None:
    """Run the parts that are named, or all, and print a table for each."""
    parts: dict[str, Callable[[argparse.Namespace, LocalServer], Rows]] = {
        "sizes": _sizes,
        "growth": _growth,
        "kills": _kills,
        "restarts": _restarts,
        "flapping": _flapping,
    }
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; default: all")
    arguments.add_argument("--seconds", type=float, default=60.0, help="how long each size is measured")
    arguments.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of services")
    arguments.add_argument("--kinds", nargs="+", choices=("http", "tcp"), default=("http", "tcp"))
    arguments.add_argument("--kills", type=int, default=50, help="how often a service is killed")
    arguments.add_argument("--restarts", type=int, default=50, help="how often nerve is restarted, in each way")
    arguments.add_argument("--flap-seconds", type=float, default=60.0, help="how long a service flaps")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = arguments.parse_args(words)
    if unknown := set(options.parts) - parts.keys():
        arguments.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"# nerve on {machine}, load {os.getloadavg()[0]:.1f}")
    figures: dict[str, Any] = {"machine": machine}
    server = LocalServer()
    with _compiled():
        server.start()
        try:
            with _running(server, "http", 1, "1s"):
                pass  # what this run of nerve compiles, the next ones find
            for name in options.parts or parts:
                figures[name] = parts[name](options, server)
        finally:
            server.dispose()
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _sizes(options: argparse.Namespace, server: LocalServer) -> Rows:
    print(f"\n# Services at an interval of 1 s, over {options.seconds:g} s after {WARM_UP_SECONDS:g} s of warm-up")
    print("services  check  RSS MB first  last   PSS  threads  descriptors  CPU s/min   checks  turns  requests")
    rows = []
    for kind in options.kinds:
        for size in options.sizes:
            with _running(server, kind, size, "1s") as host:
                time.sleep(WARM_UP_SECONDS)
                row = _measure(host, server, options.seconds)
            rows.append({"services": size, "check": kind, **row})
            print(
                f"{size:>8}  {kind:<5}  {row['rss_first']:>12.1f} {row['rss']:>5.1f} {row['pss']:>5.1f} "
                f"{row['threads']:>8} {row['descriptors']:>12} {row['cpu_per_minute']:>10.2f} "
                f"{row['checks']:>8} {row['turns']:>6} {row['requests']:>9}",
                flush=True,
            )
    for size, (rss, cpu, threads) in RUBY.items():
        print(f"{size:>8}  http   {'':>12} {rss:>5.1f} {'':>5} {threads:>8} {'':>12} {cpu:>10.2f}   (Airbnb's nerve)")
    return rows


def _measure(host: NerveHost, server: LocalServer, seconds: float) -> dict[str, Any]:
    """The costs of a window. What the questions of this program cost is outside of it."""
    checks, turns, requests = _checks(host), host.sum("nerve_cycles_total"), server.requests()
    before = cost(host.nerve.pid)
    began = time.monotonic()
    time.sleep(seconds)
    after, lasted = cost(host.nerve.pid), time.monotonic() - began
    # Its session is kept alive by a ping each third of its time-out, which the server counts too.
    return {
        "rss_first": before.rss,
        "rss": after.rss,
        "pss": after.pss,
        "threads": after.threads,
        "descriptors": after.descriptors,
        "cpu_per_minute": (after.cpu_seconds - before.cpu_seconds) * 60 / lasted,
        "requests": server.requests() - requests,
        "checks": _checks(host) - checks,
        "turns": int(host.sum("nerve_cycles_total") - turns),
    }


def _growth(options: argparse.Namespace, server: LocalServer) -> Rows:
    size, interval = 20, "20ms"
    print(f"\n# Growth: {size} services at an interval of {interval}")
    print("check   checks done  RSS MB  threads  descriptors")
    rows: Rows = []
    for kind in options.kinds:
        with _running(server, kind, size, interval) as host:
            for mark in GROWTH_MARKS:
                done = _wait_for_checks(host, mark)
                now = cost(host.nerve.pid)
                rows.append({"check": kind, "checks": done, **asdict(now)})
                print(f"{kind:<6} {done:>12} {now.rss:>7.1f} {now.threads:>8} {now.descriptors:>12}", flush=True)
    return rows


def _wait_for_checks(host: NerveHost, mark: int) -> int:
    end = time.monotonic() + LIMIT_SECONDS
    while (done := _checks(host)) < mark:
        if time.monotonic() > end:
            sys.exit(f"{done} checks in {LIMIT_SECONDS:g} s, where {mark} were wanted")
        time.sleep(0.1)
    return done


def _kills(options: argparse.Namespace, server: LocalServer) -> Rows:
    print(f"\n# kill -9 of a service {options.kills} times, checked each hour: until the registry shows it")
    print("registry    gone ms: p50    p99    max   back after `nerve check` ms: p50    p99    max")
    rows: Rows = []
    for registry in (_registry(server), None):
        with closing(NerveHost(registry)) as host:
            row = _kill_often(host, server, options.kills)
        rows.append(row)
        print(
            f"{row['registry']:<10} {_percentiles(row['gone'], 13)}   {_percentiles(row['back'], 29)}",
            flush=True,
        )
    return rows


def _kill_often(host: NerveHost, server: LocalServer, kills: int) -> dict[str, Any]:
    victim = Victim(host.address, FIRST_PORT)
    host.define(["web"], {"type": "tcp", "interval": "1h"})
    watch: Watch
    if host.registry.startswith("file:"):
        watch = DirectoryWatch(Path(host.registry.removeprefix("file:")) / "services/web")
    else:
        watch = ZooKeeperWatch(server.client(), f"{ROOT}/services/web")
    gone, back = [], []
    try:
        victim.start()
        # Joins are limited, and deaths are not: of this limit the bench wants nothing.
        host.start(["web"], publish_limit={"burst": 10_000})
        for _ in range(kills):
            eventually(lambda: host.sum("nerve_tethered") == 1, within=LIMIT_SECONDS)
            gone.append(watch.seconds_until(False, victim.kill))
            victim.reap()
            victim.start()
            back.append(watch.seconds_until(True, lambda: host.check_now("web")))
    finally:
        victim.reap()
        watch.close()
    return {"registry": watch.name, "gone": gone, "back": back}


def _restarts(options: argparse.Namespace, server: LocalServer) -> Rows:
    print(f"\n# nerve restarted and edited {options.restarts} times in each way, two services, a second watcher")
    print("way                    times  events  nodes replaced  gaps  until all is registered s: p50    max")
    rows = restart(_registry(server), options.restarts)
    for row in rows:
        seconds = sorted(row["seconds"])
        print(
            f"{row['way']:<22} {row['times']:>5} {row['events']:>7} {row['replaced']:>15} {row['gaps']:>5} "
            f"{seconds[len(seconds) // 2]:>31.2f} {seconds[-1]:>6.2f}",
            flush=True,
        )
    return rows


def _flapping(options: argparse.Namespace, server: LocalServer) -> Rows:
    seconds, limit = options.flap_seconds, PublishLimit()
    allowed = limit.burst + math.ceil(seconds / limit.every)
    period = f"up for {HALF_PERIOD_SECONDS:g} s and down for as long"
    print(f"\n# A service that is {period}, for {seconds:g} s, checked each 20 ms")
    print(f"# publish_limit: {limit.burst} at once, and one in {limit.every:g} s")
    print("flap_damping  went up  writes to ZooKeeper  joins  joins allowed  throttled  suppressed")
    rows: Rows = []
    for damping, shadow in (("shadow", True), ("on", False)):
        with closing(NerveHost(_registry(server))) as host:
            host.serve(1)
            host.define(["web"], {"type": "tcp", "interval": "20ms", "rise": 1, "fall": 1})
            host.start(["web"], flap_damping={"shadow": shadow})
            before, zxid = _flap_counters(host), _zxid(server)
            flaps = _flap(host, seconds)
            row = {name: int(value - before[name]) for name, value in _flap_counters(host).items()}
            writes = _zxid(server) - zxid
        rows.append({"damping": damping, "flaps": flaps, "writes": writes, "joins_allowed": allowed, **row})
        print(
            f"{damping:<12} {row['ups']:>8} {writes:>20} {row['joins']:>6} "
            f"{allowed:>14} {row['throttled']:>10} {row['suppressed']:>11}",
            flush=True,
        )
    return rows


_FLAP_COUNTERS: dict[str, tuple[str, dict[str, str]]] = {
    "ups": ("nerve_transitions_total", {"to": "up"}),
    "joins": ("nerve_registry_actions_total", {"action": "put"}),
    "throttled": ("nerve_held_back_total", {"why": "throttled"}),
    "suppressed": ("nerve_held_back_total", {"why": "suppressed"}),
}


def _flap_counters(host: NerveHost) -> dict[str, float]:
    return {name: host.sum(metric, **labels) for name, (metric, labels) in _FLAP_COUNTERS.items()}


def _flap(host: NerveHost, seconds: float) -> int:
    """Let the service go down and up again; how often."""
    end, flaps, turn = time.monotonic() + seconds, 0, time.monotonic()
    while time.monotonic() < end:
        for change in (host.backends.close, host.backends.open):
            change(host.address, FIRST_PORT)
            turn += HALF_PERIOD_SECONDS
            time.sleep(max(0.0, turn - time.monotonic()))
        flaps += 1
    return flaps


def _zxid(server: LocalServer) -> int:
    """The number of the last write that the server took: each transaction, and each begin and end of a session."""
    for line in server.command("srvr").splitlines():
        if line.startswith("Zxid:"):
            return int(line.split()[1], 16)
    sys.exit("ZooKeeper does not say how much was written")


@contextmanager
def _compiled() -> Iterator[None]:
    """Let nerve find its modules compiled, as it does once pip installed it: to compile them costs it a megabyte."""
    with tempfile.TemporaryDirectory(prefix="bench-compiled-") as directory:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = directory
        yield


@contextmanager
def _running(server: LocalServer, kind: str, size: int, interval: str) -> Iterator[NerveHost]:
    """A nerve with so many services behind checks of this kind."""
    with closing(NerveHost(_registry(server))) as host:
        names = [f"service-{number:03}" for number in range(size)]
        host.serve(size)
        host.define(names, {"type": kind, "interval": interval})
        host.start(names)
        yield host


def _registry(server: LocalServer) -> ZooKeeperUrl:
    return ZooKeeperUrl(hosts=server.hosts, root=ROOT)


def _checks(host: NerveHost) -> int:
    return int(host.sum("nerve_check_total"))


def _percentiles(seconds: list[float], width: int) -> str:
    """p50, p99 (by the nearest rank) and the longest, in milliseconds."""
    ranked = sorted(seconds)
    shown = [ranked[math.ceil(share * len(ranked)) - 1] * 1000 for share in (0.5, 0.99, 1.0)]
    return f"{shown[0]:>{width}.1f} {shown[1]:>6.1f} {shown[2]:>6.1f}"


if __name__ == "__main__":
    main()
