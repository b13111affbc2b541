"""A host whose synapse follows many services in a real ZooKeeper, to be measured."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kazoo.client import KazooClient

from smartstack.forms import ZooKeeperUrl
from smartstack.instance import encode, node_name
from synapse.haproxy.errors import HAProxyAway
from tests.support.pair import BACKEND_PORT, Host
from tests.support.zookeeper import LocalServer

LISTEN = 20_000
ROOT = "/smartstack"
CHECK = {"type": "http", "path": "/", "interval": "2s", "timeout": "1s"}
_LIMIT_SECONDS = 120.0
_POLL_SECONDS = 0.002
_WINDOW = 500


@contextmanager
def fleet(services: int, instances: int) -> Iterator[tuple[Host, KazooClient]]:
    """A host with the services web0, web1, …, offered at the ports from LISTEN on, and somebody else's client of
    ZooKeeper, which registered so many instances of each. Neither synapse nor a nerve is started yet."""
    server = LocalServer()
    server.start()
    host = Host(ZooKeeperUrl(hosts=server.hosts, root=ROOT))
    client = KazooClient(hosts=server.hosts, timeout=30)
    client.start()
    try:
        found = [host.instance(number) for number in range(1, instances + 1)]
        creates = []
        for service in range(services):
            define(host, f"web{service}", LISTEN + service)
            client.ensure_path(path(f"web{service}"))
            for instance in found:
                place = f"{path(f'web{service}')}/{node_name(instance)}"
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


def start(host: Host, instances: int) -> float:
    """Start synapse, and wait until it is ready, for longer than a test would; the seconds until HAProxy served so many
    instances."""
    host.configure()
    began = time.monotonic()
    host.synapse.start(until="/healthz")
    until(lambda: serving(host) == instances, "HAProxy serves every instance")
    seconds = time.monotonic() - began
    until(lambda: host.synapse.get("/readyz").status_code == 200, "synapse is ready")
    return seconds


def define(host: Host, name: str, listen: int, **proxy: object) -> None:
    """Write a definition whose check is as it comes, which the one of tests is not: that one asks all the time."""
    text = {"port": BACKEND_PORT, "check": CHECK, "proxy": {"listen": f"{host.address}:{listen}", **proxy}}
    host.write(f"services/{name}.yaml", json.dumps(text))


def path(service: str) -> str:
    """Where the service's nodes are."""
    return f"{ROOT}/services/{service}"


def serving(host: Host) -> int:
    """How many slots of HAProxy serve."""
    try:
        backends = host.runtime.servers()
    except HAProxyAway:
        return 0
    return sum(slot.serves for slots in backends.values() for slot in slots)


def until(
    condition: Callable[[], bool], what: str, limit_seconds: float = _LIMIT_SECONDS, poll_seconds: float = _POLL_SECONDS
) -> None:
    """Ask all the time, which is the resolution. Raises TimeoutError when it is not so within the limit."""
    end = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit_seconds:g} s: {what}")
        time.sleep(poll_seconds)


def watcher_requests(host: Host) -> int:
    """What synapse has asked ZooKeeper so far."""
    return int(host.synapse.status()["registry"]["counters"]["requests"])


def reloads(host: Host) -> float:
    """How often HAProxy was reloaded so far."""
    return sum(host.synapse.metrics("synapse_haproxy_reloads_total", result="done"))
