"""What the feed costs: synapse's CPU and memory, HAProxy's CPU, and what clients notice, with the feed and without it,
side by side in one run.

    python -m tests.bench.feed [--rate 2000] [--seconds 5] [--rounds 3]
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack

from tests.bench.figures import Figure, Part
from tests.bench.hop import LISTEN, light_host
from tests.bench.open_loop import load
from tests.bench.process import cost
from tests.bench.run import main
from tests.support.pair import Host

IDLE_SECONDS = 3.0
_LATER_SECONDS = 0.3
"""After the last answer its line is still on its way."""


def feed(*, rate: int = 2000, seconds: float = 5.0, rounds: int = 3) -> Iterator[Figure]:
    """Three hosts are the same but for `telemetry`, and are loaded in turn: one has no feed, one is told of every
    request, one is as it comes, which is told of a part from 2000 requests a second on. CPU is for 10,000 requests; a
    sample is one round."""
    size = f"{rate}/s, {rounds} rounds of {seconds:g} s"
    with ExitStack() as stack:
        hosts = {
            "without": stack.enter_context(light_host(telemetry={"listen": None})),
            "told of all": stack.enter_context(light_host(telemetry={"sample_above": 1_000_000})),
            "as it comes": stack.enter_context(light_host()),
        }
        for name in ("without", "told of all"):
            share = 100 * _idle(hosts[name])
            size_idle = f"no requests for {IDLE_SECONDS:g} s"
            yield Figure(name=f"{name}: CPU of synapse", size=size_idle, unit="% of a core", samples=[share])
        loaded: dict[str, list[dict[str, float]]] = {name: [] for name in hosts}
        for _ in range(rounds):
            for name, host in hosts.items():
                loaded[name].append(_load(host, rate, seconds))
        for name, each in loaded.items():
            for what, unit in (("CPU of synapse", "s"), ("CPU of HAProxy", "s"), ("p50", "ms"), ("p99", "ms")):
                yield Figure(name=f"{name}: {what}", size=size, unit=unit, samples=[one[what] for one in each])
            rss = [cost(hosts[name].synapse.pid).rss]
            yield Figure(name=f"{name}: RSS of synapse", size=size, unit="MB", samples=rss)
        told = hosts["told of all"]
        sent = rounds * int(rate * seconds)
        yield Figure(name="told of all: lines lost", size=f"{sent} requests", unit="", samples=[_lost(told)])


def _idle(host: Host) -> float:
    """The share of a core that synapse uses without requests."""
    before = cost(host.synapse.pid).cpu_seconds
    time.sleep(IDLE_SECONDS)
    return (cost(host.synapse.pid).cpu_seconds - before) / IDLE_SECONDS


def _load(host: Host, rate: int, seconds: float) -> dict[str, float]:
    """One load: the CPU for 10,000 requests in seconds, and percentiles of the latency in ms."""
    pids = {"CPU of synapse": host.synapse.pid, "CPU of HAProxy": host.haproxy()[1]}
    before = {name: cost(pid).cpu_seconds for name, pid in pids.items()}
    took = sorted(1000 * each.took for each in load(host.address, LISTEN, rate, seconds))
    time.sleep(_LATER_SECONDS)
    used = {name: (cost(pid).cpu_seconds - before[name]) * 10_000 / len(took) for name, pid in pids.items()}
    return {**used, "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def _lost(host: Host) -> float:
    """Lines that HAProxy could not send, or that synapse could not take."""
    whys = ("dropped", "unparsed", "forged")
    told = sum(host.synapse.metric("synapse_feed_dropped_total", why=why) for why in whys)
    return told + host.runtime.info().dropped_logs


PARTS = (
    Part(
        program="feed",
        title="What the feed of requests costs",
        measure=feed,
        quick={"rate": 200, "seconds": 0.5, "rounds": 1},
    ),
)

if __name__ == "__main__":
    main(PARTS)
