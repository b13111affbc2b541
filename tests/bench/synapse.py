"""What synapse costs and how soon it follows, on a real ZooKeeper and a real HAProxy.

    python -m tests.bench.synapse cold [--services 100] [--instances 10]
    python -m tests.bench.synapse change [--services 1000] [--instances 10] [--changes 50]
    python -m tests.bench.synapse churn [--services 100] [--instances 10] [--rate 5] [--seconds 60]
    python -m tests.bench.synapse deploy [--instances 10] [--requests 100000]

Without a command all of them run, each with its defaults, and `cold` a second time at 1000 services.
"""

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kazoo.client import KazooClient

from smartstack.forms import ZooKeeperUrl
from smartstack.instance import Instance, encode, node_name
from synapse.haproxy.errors import HAProxyAway
from tests.bench.process import cost
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host
from tests.support.zookeeper import LocalServer

LISTEN = 20_000
_POLL_SECONDS = 0.002
_LIMIT_SECONDS = 60.0
_WINDOW = 500


def main() -> None:
    """Run one of the measurements, or all."""
    parser = argparse.ArgumentParser(description="what synapse costs and how soon it follows")
    commands = parser.add_subparsers(dest="command")
    for name, (_, defaults) in _COMMANDS.items():
        command = commands.add_parser(name)
        for option, value in defaults.items():
            command.add_argument(f"--{option}", type=int, default=value)
    options = parser.parse_args()
    print(f"# {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    if options.command:
        run, defaults = _COMMANDS[options.command]
        run(**{option: getattr(options, option) for option in defaults})
        return
    for run, defaults in _COMMANDS.values():
        run(**defaults)
    cold(services=1000, instances=10)


def cold(services: int, instances: int) -> None:
    """From the start of the process until HAProxy serves every instance."""
    with _fleet(services, instances) as (host, _):
        host.configure()
        began = time.monotonic()
        host.synapse.start(until="/healthz")
        _until(lambda: _serving(host) == services * instances, "HAProxy serves every instance")
        seconds = time.monotonic() - began
        eventually(lambda: host.synapse.get("/readyz").status_code == 200, within=_LIMIT_SECONDS)
        used = cost(host.synapse.pid)
        print(
            f"cold start, {services} x {instances}: {seconds:.2f} s until HAProxy serves all, "
            f"CPU {used.cpu_seconds:.2f} s, RSS {used.rss:.1f} MB, {used.threads} threads, "
            f"{_requests(host)} ZooKeeper requests"
        )


def change(services: int, instances: int, changes: int) -> None:
    """What one changed instance costs among many."""
    with _fleet(services, instances) as (host, client):
        host.start()
        _until(lambda: _serving(host) == services * instances, "HAProxy serves every instance")
        _quiet(host)
        counts = _counts(host)
        before = cost(host.synapse.pid)
        for number in range(changes):
            name = f"web{random.Random(number).randrange(services)}"
            instance = Instance(host=host.instance(1).host, port=BACKEND_PORT, name="host-1", weight=number % 50 + 1)
            client.set(f"{_path(host, name)}/{node_name(instance)}", encode(instance))
            wanted = instance.weight
            _until(lambda name=name, wanted=wanted: wanted in host.members(name).values(), "the weight shows")  # type: ignore[misc]
        _quiet(host)
        after, now = cost(host.synapse.pid), _counts(host)
        print(f"one change among {services} x {instances}, mean of {changes}:")
        print(f"  CPU of synapse     {(after.cpu_seconds - before.cpu_seconds) / changes * 1000:6.2f} ms")
        for what, count in now.items():
            print(f"  {what:<18} {(count - counts[what]) / changes:6.2f}")
        requests = _counts(host)
        idle_from = cost(host.synapse.pid)
        time.sleep(30)
        idle_until, later = cost(host.synapse.pid), _counts(host)
        print(
            f"  30 s without a change: CPU {(idle_until.cpu_seconds - idle_from.cpu_seconds) * 1000:.0f} ms, "
            + ", ".join(f"{count - requests[what]:.0f} {what}" for what, count in later.items())
        )


def churn(services: int, instances: int, rate: int, seconds: int) -> None:
    """Changes at a steady rate under load: instances leave and come back; how soon it shows, and what fails."""
    with _fleet(services, instances) as (host, client):
        host.start()
        _until(lambda: _serving(host) == services * instances, "HAProxy serves every instance")
        clients = [host.client(LISTEN + number, keep_alive=number % 2 == 0, rate=100) for number in range(6)]
        for each in clients:
            each.__enter__()
        reloads = _reloads(host)
        added: list[float] = []
        removed: list[float] = []
        due = time.monotonic()
        changes = rate * seconds // 2 * 2
        for number in range(changes):
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / rate
            name = f"web{random.Random(number // 2).randrange(services)}"
            host_number = random.Random(number // 2 + 1_000_000).randrange(instances) + 1
            instance = host.instance(host_number)
            path = f"{_path(host, name)}/{node_name(instance)}"
            present = number % 2 == 1
            began = time.perf_counter()
            if present:
                client.create(path, encode(instance), ephemeral=True)
            else:
                client.delete(path)
            while (instance.address in host.members(name)) is not present:
                if time.perf_counter() - began > 10:
                    sys.exit(f"{instance.address} of {name} did not {'come' if present else 'go'} within 10 s")
                time.sleep(_POLL_SECONDS / 4)
            (added if present else removed).append(time.perf_counter() - began)
        for each in clients:
            each.stop()
        failures = [failure.reason for each in clients for failure in each.failures]
        asked = sum(each.requests for each in clients)
        print(f"churn, {rate} changes a second for {seconds} s, {services} x {instances}, under load:")
        print(f"  added    {_row(added)}")
        print(f"  removed  {_row(removed)}")
        print(f"  {asked} requests, {len(failures)} failed {failures[:3]}; {_reloads(host) - reloads:.0f} reloads")


def deploy(instances: int, requests: int) -> None:
    """A rolling deploy: each instance is drained by its nerve, stopped, started and comes back, under load."""
    server = LocalServer()
    server.start()
    host = Host(ZooKeeperUrl(hosts=server.hosts, root="/smartstack"))
    try:
        host.define("web", LISTEN)
        for number in range(1, instances + 1):
            drain = {"settle": "1s", "timeout": "10s"}
            host.nerve(number, {"web": {}}, drain=drain).start()
        host.start()
        _until(lambda: len(host.members("web")) == instances, "every instance is served")
        reloads = _reloads(host)
        # In processes of their own, so that they do not slow each other down.
        clients = [host.client(LISTEN, keep_alive=keep_alive, rate=4000) for keep_alive in (True, False)]
        began = time.monotonic()
        for each in clients:
            each.__enter__()
        rounds = 0
        while rounds == 0 or sum(each.requests for each in clients) < requests:
            rounds += 1
            for number in range(1, instances + 1):
                _replace(host, number)
        for each in clients:
            each.stop()
        failures = [failure.reason for each in clients for failure in each.failures]
        print(
            f"rolling deploy of {instances} instances, {rounds} times in {time.monotonic() - began:.0f} s: "
            f"{clients[0].requests} requests with keep-alive, {clients[1].requests} with new connections, "
            f"{len(failures)} failed {failures[:3]}; {_reloads(host) - reloads:.0f} reloads"
        )
    finally:
        host.close()
        server.dispose()


def _replace(host: Host, number: int) -> None:
    """Drain, stop, start one instance, as a deploy does."""
    nerve, instance = host.nerves[number], host.instance(number)
    path = str(nerve.configuration)
    _nerve("drain", "web", "-c", path, "--wait", "--reason", "deploy")
    host.backends.close(instance.host, instance.port)
    host.backends.open(instance.host, instance.port)
    _nerve("undrain", "web", "-c", path)
    _until(lambda: host.members("web").get(instance.address, 0) > 0, f"instance {number} is back")


def _nerve(*arguments: str) -> None:
    program = str(Path(sys.executable).parent / "nerve")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"nerve {' '.join(arguments)}: {done.stdout}{done.stderr}")


@contextmanager
def _fleet(services: int, instances: int) -> Iterator[tuple[Host, KazooClient]]:
    """A host with so many services of so many instances in a real ZooKeeper; synapse is not started yet."""
    server = LocalServer()
    server.start()
    host = Host(ZooKeeperUrl(hosts=server.hosts, root="/smartstack"))
    host.settings["haproxy"] = {"reload_interval": "100ms", "maxconn": 2000}
    client = KazooClient(hosts=server.hosts, timeout=30)
    client.start()
    try:
        found = [host.instance(number) for number in range(1, instances + 1)]
        creates = []
        for service in range(services):
            host.define(f"web{service}", LISTEN + service)
            client.ensure_path(_path(host, f"web{service}"))
            for instance in found:
                place = f"{_path(host, f'web{service}')}/{node_name(instance)}"
                creates.append(client.create_async(place, encode(instance), ephemeral=True))
                if len(creates) >= _WINDOW:
                    creates.pop(0).get(timeout=30)
        for create in creates:
            create.get(timeout=30)
        yield host, client
    finally:
        client.stop()
        client.close()
        host.close()
        server.dispose()


def _path(host: Host, service: str) -> str:
    assert isinstance(host.registry, ZooKeeperUrl)
    return f"{host.registry.root}/services/{service}"


def _serving(host: Host) -> int:
    try:
        backends = host.runtime.servers()
    except HAProxyAway:
        return 0
    return sum(slot.serves for slots in backends.values() for slot in slots)


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not within {_LIMIT_SECONDS:g} s: {what}")
        time.sleep(_POLL_SECONDS)


def _quiet(host: Host) -> None:
    """Wait until the file has followed."""
    time.sleep(2)


def _counts(host: Host) -> Mapping[str, float]:
    return {
        "ZooKeeper requests": float(_requests(host)),
        "runtime commands": sum(host.synapse.metrics("synapse_runtime_commands_total", result="done")),
        "file writes": host.synapse.metric("synapse_haproxy_config_writes_total", result="done"),
        "reloads": _reloads(host),
        "turns of the loop": host.synapse.metric("synapse_cycles_total"),
    }


def _requests(host: Host) -> int:
    return int(host.synapse.status()["registry"]["counters"]["requests"])


def _reloads(host: Host) -> float:
    return sum(host.synapse.metrics("synapse_haproxy_reloads_total", result="done"))


def _row(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    return f"p50 {cuts[49] * 1000:6.1f} ms   p99 {cuts[98] * 1000:6.1f} ms   max {max(seconds) * 1000:6.1f} ms"


_COMMANDS: Mapping[str, tuple[Callable[..., None], Mapping[str, int]]] = {
    "cold": (cold, {"services": 100, "instances": 10}),
    "change": (change, {"services": 1000, "instances": 10, "changes": 50}),
    "churn": (churn, {"services": 100, "instances": 10, "rate": 5, "seconds": 60}),
    "deploy": (deploy, {"instances": 10, "requests": 100_000}),
}

if __name__ == "__main__":
    main()
