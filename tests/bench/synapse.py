"""What synapse costs and how soon it follows, on a real ZooKeeper and a real HAProxy.

    python -m tests.bench.synapse cold [--services 100,1000] [--instances 10]
    python -m tests.bench.synapse change [--services 1000] [--instances 10] [--changes 50]
    python -m tests.bench.synapse churn [--services 100] [--instances 10] [--rate 5] [--seconds 20]
    python -m tests.bench.synapse deploy [--instances 10] [--requests 50000]

Without a command all of them run.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from kazoo.client import KazooClient

from smartstack.instance import encode, node_name
from tests.bench.figures import Figure, Part
from tests.bench.fleet import LISTEN, define, fleet, path, reloads, start, until, watcher_requests
from tests.bench.process import cost
from tests.bench.run import main
from tests.support.clients import LoadClient
from tests.support.pair import Host

IDLE_SECONDS = 10.0
_LIMIT_SECONDS = 60.0
_CHANGE_SECONDS = 10.0
_POLL_SECONDS = 0.0005


def cold(*, services: Sequence[int] = (100, 1000), instances: int = 10) -> Iterator[Figure]:
    """From the start of synapse's process, with nothing known and no HAProxy, until HAProxy serves every instance of
    every service; and what synapse took for it."""
    for count in services:
        size = f"{count} x {instances}"
        with fleet(count, instances) as (host, _):
            seconds = start(host, count * instances)
            used, asked = cost(host.synapse.pid), watcher_requests(host)
        yield Figure(name="until HAProxy serves all", size=size, unit="s", samples=[seconds], headline=True)
        yield Figure(name="CPU of synapse", size=size, unit="s", samples=[used.cpu_seconds])
        yield Figure(name="RSS of synapse", size=size, unit="MB", samples=[used.rss])
        yield Figure(name="requests to ZooKeeper", size=size, unit="", samples=[asked])


def change(*, services: int = 1000, instances: int = 10, changes: int = 50) -> Iterator[Figure]:
    """What it costs when one instance among many leaves or comes back, as a mean of changes one after the other; and
    what synapse uses while nothing changes."""
    size = f"{services} x {instances}, mean of {changes}"
    with fleet(services, instances) as (host, client):
        start(host, services * instances)
        _quiet()
        before = _counts(host)
        for number in range(changes):
            _toggle(host, client, services, instances, number)
        _quiet()
        for (what, unit), each in _since(host, before).items():
            headline = what == "CPU of synapse"
            yield Figure(name=what, size=size, unit=unit, samples=[each / changes], headline=headline)
        before = _counts(host)
        time.sleep(IDLE_SECONDS)
        size = f"{services} x {instances}, {IDLE_SECONDS:g} s"
        for (what, unit), each in _since(host, before).items():
            yield Figure(name=f"{what} without a change", size=size, unit=unit, samples=[each])


def churn(*, services: int = 100, instances: int = 10, rate: int = 5, seconds: int = 20) -> Iterator[Figure]:
    """Instances leave and come back at a steady rate under load: how soon HAProxy shows it, and what fails."""
    size = f"{services} x {instances}, {rate} changes/s for {seconds} s"
    with fleet(services, instances) as (host, client):
        start(host, services * instances)
        clients = [host.client(LISTEN + each, keep_alive=each % 2 == 0, rate=100) for each in range(min(6, services))]
        for each in clients:
            each.__enter__()
        before = reloads(host)
        ms: dict[bool, list[float]] = {True: [], False: []}
        due = time.monotonic()
        for number in range(rate * seconds // 2 * 2):
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / rate
            present, took = _toggle(host, client, services, instances, number)
            ms[present].append(took)
        yield Figure(name="added, under load", size=size, unit="ms", samples=ms[True])
        yield Figure(name="removed, under load", size=size, unit="ms", samples=ms[False])
        yield from _seen(clients, size)
        yield Figure(name="reloads of HAProxy", size=size, unit="", samples=[reloads(host) - before])


def deploy(*, instances: int = 10, requests: int = 50_000) -> Iterator[Figure]:
    """A rolling deploy under load, again and again until so many requests were sent: each instance is drained by its
    nerve, stopped, started, and comes back."""
    with fleet(0, 0) as (host, _):
        define(host, "web", LISTEN)
        for number in range(1, instances + 1):
            drain = {"settle": "1s", "timeout": "10s"}
            host.nerve(number, {"web": {}}, drain=drain).start()
        host.start()
        until(lambda: len(host.members("web")) == instances, "every instance is served")
        before = reloads(host)
        clients = [host.client(LISTEN, keep_alive=keep_alive, rate=4000) for keep_alive in (True, False)]
        for each in clients:
            each.__enter__()
        seconds: list[float] = []
        while not seconds or sum(each.requests for each in clients) < requests:
            for number in range(1, instances + 1):
                began = time.monotonic()
                _replace(host, number)
                seconds.append(time.monotonic() - began)
        size = f"{instances} instances, {len(seconds)} replaced"
        yield Figure(name="one instance replaced", size=size, unit="s", samples=seconds)
        yield from _seen(clients, size)
        yield Figure(name="reloads of HAProxy", size=size, unit="", samples=[reloads(host) - before])


def _toggle(host: Host, client: KazooClient, services: int, instances: int, number: int) -> tuple[bool, float]:
    """Take an instance out of the registry, or at an odd `number` put back the one that was taken out before, and wait
    until HAProxy follows; whether it is there now, and how many ms it took."""
    name = f"web{random.Random(number // 2).randrange(services)}"
    instance = host.instance(random.Random(number // 2 + 1_000_000).randrange(instances) + 1)
    node, present = f"{path(name)}/{node_name(instance)}", number % 2 == 1
    began = time.perf_counter()
    if present:
        client.create(node, encode(instance), ephemeral=True)
    else:
        client.delete(node)
    what = f"{instance.address} of {name} {'comes' if present else 'goes'}"
    until(lambda: (instance.address in host.members(name)) is present, what, _CHANGE_SECONDS, _POLL_SECONDS)
    return present, 1000 * (time.perf_counter() - began)


def _seen(clients: Sequence[LoadClient], size: str) -> Iterator[Figure]:
    """Stop the clients; what they sent, and what failed of it."""
    for each in clients:
        each.stop()
    failures = [failure.reason for each in clients for failure in each.failures]
    if failures:
        print(f"failed: {failures[:3]}", file=sys.stderr)
    yield Figure(name="requests", size=size, unit="", samples=[sum(each.requests for each in clients)])
    yield Figure(name="failed requests", size=size, unit="", samples=[len(failures)], headline=True)


def _replace(host: Host, number: int) -> None:
    """Drain, stop, start one instance, as a deploy does."""
    nerve, instance = host.nerves[number], host.instance(number)
    file = str(nerve.configuration)
    _nerve("drain", "web", "-c", file, "--wait", "--reason", "deploy")
    host.backends.close(instance.host, instance.port)
    host.backends.open(instance.host, instance.port)
    _nerve("undrain", "web", "-c", file)
    until(lambda: host.members("web").get(instance.address, 0) > 0, f"instance {number} is back")


def _nerve(*arguments: str) -> None:
    program = str(Path(sys.executable).parent / "nerve")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nerve {' '.join(arguments)}: {done.stdout}{done.stderr}")


def _quiet() -> None:
    """The file follows what was changed at run time a little later; that belongs to the change."""
    time.sleep(2)


def _counts(host: Host) -> Mapping[tuple[str, str], float]:
    """What synapse has done so far, with the units."""
    return {
        ("CPU of synapse", "ms"): 1000 * cost(host.synapse.pid).cpu_seconds,
        ("requests to ZooKeeper", ""): float(watcher_requests(host)),
        ("runtime commands", ""): sum(host.synapse.metrics("synapse_runtime_commands_total", result="done")),
        ("file writes", ""): host.synapse.metric("synapse_haproxy_config_writes_total", result="done"),
        ("reloads of HAProxy", ""): reloads(host),
        ("turns of the loop", ""): host.synapse.metric("synapse_cycles_total"),
    }


def _since(host: Host, before: Mapping[tuple[str, str], float]) -> Mapping[tuple[str, str], float]:
    return {what: count - before[what] for what, count in _counts(host).items()}


def _part(title: str, measure: Callable[..., Iterator[Figure]], **quick: object) -> Part:
    return Part(program="synapse", title=title, measure=measure, quick=quick)


PARTS = (
    _part("A cold start of synapse", cold, services=(5,), instances=3),
    _part("One change among many", change, services=5, instances=3, changes=5),
    _part("Churn under load", churn, services=5, instances=3, seconds=3),
    _part("A rolling deploy", deploy, instances=2, requests=1000),
)

if __name__ == "__main__":
    main(PARTS)
