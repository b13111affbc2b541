"""What nerve costs, and how soon it tells the truth.

    python -m tests.bench.nerve [sizes] [growth] [kills] [restarts] [flapping] [--seconds 15]

nerve, ZooKeeper and the services are real and on this machine; if it has other work to do, the figures are higher.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nerve.settings import PublishLimit
from smartstack.forms import ZooKeeperUrl
from tests.bench.figures import Figure, Part
from tests.bench.fleet import ROOT, until
from tests.bench.nerve_host import FIRST_PORT, NerveHost, Victim
from tests.bench.nerve_restarts import restart
from tests.bench.nerve_watch import DirectoryWatch, Watch, ZooKeeperWatch
from tests.bench.process import cost
from tests.bench.run import main
from tests.support.eventually import eventually
from tests.support.zookeeper import LocalServer

HALF_PERIOD_SECONDS = 0.1
"""How long the flapping service stays up, and down."""

GROWTH_SERVICES = 20
LIMIT_SECONDS = 120.0
"""After this a part gives up."""


def sizes(
    *,
    services: Sequence[int] = (1, 20, 100),
    kinds: Sequence[str] = ("http",),
    seconds: float = 15.0,
    warmup: float = 5.0,
) -> Iterator[Figure]:
    """nerve with so many services on ZooKeeper, each checked every second; its session's pings count as requests.
    Airbnb's nerve 0.9 (Ruby), measured once on such a machine and not again here: 31.5 MB of RSS and 0.22 s of CPU a
    minute with 1 service, 34.8 MB, 30 threads and 1.09 s with 20."""
    with _zookeeper() as server:
        for kind in kinds:
            for count in services:
                with _running(server, kind, count, "1s") as host:
                    time.sleep(warmup)
                    yield from _measure(host, server, f"{count} x {kind}, {seconds:g} s", seconds)


def _measure(host: NerveHost, server: LocalServer, size: str, seconds: float) -> Iterator[Figure]:
    """The costs of a window. What the questions of this program cost is outside of it."""
    checks, turns, requests = _checks(host), host.sum("nerve_cycles_total"), server.requests()
    before = cost(host.nerve.pid)
    began = time.monotonic()
    time.sleep(seconds)
    after, minutes = cost(host.nerve.pid), (time.monotonic() - began) / 60
    asked = server.requests() - requests
    used = (after.cpu_seconds - before.cpu_seconds) / minutes
    yield from after.figures("nerve", size)
    yield Figure(name="growth of its RSS", size=size, unit="MB", samples=[after.rss - before.rss])
    yield Figure(name="CPU", size=size, unit="s/min", samples=[used])
    yield Figure(name="checks", size=size, unit="/min", samples=[(_checks(host) - checks) / minutes])
    yield Figure(
        name="turns of the loop", size=size, unit="/min", samples=[(host.sum("nerve_cycles_total") - turns) / minutes]
    )
    yield Figure(name="requests to ZooKeeper", size=size, unit="/min", samples=[asked / minutes])


def growth(*, checks: Sequence[int] = (1_000, 10_000), kinds: Sequence[str] = ("http",)) -> Iterator[Figure]:
    """What checks leave behind: 20 services, each checked every 20 ms, after so many checks in all."""
    with _zookeeper() as server:
        for kind in kinds:
            with _running(server, kind, GROWTH_SERVICES, "20ms") as host:
                for mark in checks:
                    until(partial(_has_checked, host, mark), f"{mark} checks", LIMIT_SECONDS, 0.1)
                    yield from cost(host.nerve.pid).figures("nerve", f"{kind}, after {mark}")


def kills(*, times: int = 50) -> Iterator[Figure]:
    """A service that is checked each hour is killed with kill -9, and comes back by `nerve check`: until the registry
    shows it, as a second client of it sees."""
    with _zookeeper() as server:
        for name, registry in (("ZooKeeper", _registry(server)), ("a directory", None)):
            with closing(NerveHost(registry)) as host:
                gone, back = _kill_often(host, server, times)
            headline = name == "ZooKeeper"
            yield Figure(name=f"gone from {name}", size=f"{times} kills", unit="ms", samples=gone, headline=headline)
            yield Figure(name=f"back in {name}", size=f"{times} kills", unit="ms", samples=back)


def _kill_often(host: NerveHost, server: LocalServer, times: int) -> tuple[list[float], list[float]]:
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
        for _ in range(times):
            eventually(lambda: host.sum("nerve_tethered") == 1, within=LIMIT_SECONDS)
            gone.append(1000 * watch.seconds_until(False, victim.kill))
            victim.reap()
            victim.start()
            back.append(1000 * watch.seconds_until(True, lambda: host.check_now("web")))
    finally:
        victim.reap()
        watch.close()
    return gone, back


def restarts(*, times: int = 10) -> Iterator[Figure]:
    """nerve with two services is stopped and started, killed with kill -9 and started, and edited: until all is
    registered, and what a second watcher of ZooKeeper saw. A gap is a moment without a node of the service."""
    with _zookeeper() as server:
        for row in restart(_registry(server), times):
            size = f"{times} times"
            yield Figure(name=f"{row.way}: until all is registered", size=size, unit="s", samples=row.seconds)
            yield Figure(name=f"{row.way}: events", size=size, unit="", samples=[row.events])
            yield Figure(name=f"{row.way}: nodes replaced", size=size, unit="", samples=[row.replaced])
            yield Figure(name=f"{row.way}: gaps", size=size, unit="", samples=[row.gaps])


def flapping(*, seconds: float = 10.0) -> Iterator[Figure]:
    """A service is up for 100 ms and down for as long, checked every 20 ms: how often it joins, which `publish_limit`
    bounds, and what is written to ZooKeeper; with flap damping only shown ("shadow"), and on."""
    limit = PublishLimit()
    allowed = limit.burst + math.ceil(seconds / limit.every)
    with _zookeeper() as server:
        for damping, shadow in (("shadow", True), ("on", False)):
            with closing(NerveHost(_registry(server))) as host:
                host.serve(1)
                host.define(["web"], {"type": "tcp", "interval": "20ms", "rise": 1, "fall": 1})
                host.start(["web"], flap_damping={"shadow": shadow})
                before, zxid = _flap_counters(host), _zxid(server)
                _flap(host, seconds)
                counted = {name: value - before[name] for name, value in _flap_counters(host).items()}
                counted["writes to ZooKeeper"] = _zxid(server) - zxid
            for name, count in counted.items():
                yield Figure(name=f"damping {damping}: {name}", size=f"{seconds:g} s", unit="", samples=[count])
        yield Figure(name="joins allowed", size=f"{seconds:g} s", unit="", samples=[allowed])


_FLAP_COUNTERS: dict[str, tuple[str, dict[str, str]]] = {
    "went up": ("nerve_transitions_total", {"to": "up"}),
    "joins": ("nerve_registry_actions_total", {"action": "put"}),
    "throttled": ("nerve_held_back_total", {"why": "throttled"}),
    "suppressed": ("nerve_held_back_total", {"why": "suppressed"}),
}


def _flap_counters(host: NerveHost) -> dict[str, float]:
    return {name: host.sum(metric, **labels) for name, (metric, labels) in _FLAP_COUNTERS.items()}


def _flap(host: NerveHost, seconds: float) -> None:
    """Let the service go down and up again."""
    end, turn = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < end:
        for change in (host.backends.close, host.backends.open):
            change(host.address, FIRST_PORT)
            turn += HALF_PERIOD_SECONDS
            time.sleep(max(0.0, turn - time.monotonic()))


def _zxid(server: LocalServer) -> int:
    """The number of the last write that the server took: each transaction, and each begin and end of a session."""
    for line in server.command("srvr").splitlines():
        if line.startswith("Zxid:"):
            return int(line.split()[1], 16)
    raise RuntimeError("ZooKeeper does not say how much was written")


@contextmanager
def _zookeeper() -> Iterator[LocalServer]:
    server = LocalServer()
    server.start()
    try:
        yield server
    finally:
        server.dispose()


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


def _has_checked(host: NerveHost, mark: int) -> bool:
    return _checks(host) >= mark


def _checks(host: NerveHost) -> int:
    return int(host.sum("nerve_check_total"))


def _part(title: str, measure: Callable[..., Iterator[Figure]], **quick: Any) -> Part:
    return Part(program="nerve", title=title, measure=measure, quick=quick)


PARTS = (
    _part("What nerve costs", sizes, services=(1,), seconds=1.0, warmup=0.0),
    _part("What checks leave behind", growth, checks=(100, 200)),
    _part("A service is killed", kills, times=2),
    _part("nerve is restarted, and edited", restarts, times=2),
    _part("A service that flaps", flapping, seconds=2.0),
)

if __name__ == "__main__":
    main(PARTS)
