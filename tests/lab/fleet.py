"""The lab's fleet: three hosts and the ensemble, made once, and healed after each scenario."""

import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError, NotEmptyError

from tests.lab.ensemble import Ensemble
from tests.lab.host import SERVICES, Host
from tests.lab.network import Network
from tests.lab.report import Call
from tests.support.eventually import eventually

HOSTS = ("h1", "h2", "h3")
HEAL_SECONDS = 60.0
ROOT = "/lab"


class Fleet:
    """`cuts` are the pairs of hosts between which something is lost, and `unplugged` the hosts without a cable."""

    def __init__(self, prefix: str, directory: Path) -> None:
        self.directory = directory
        self.network = Network(prefix)
        self.ensemble = Ensemble(self.network, directory)
        registry = f"zookeeper://{self.ensemble.hosts}{ROOT}"
        for name in HOSTS:
            self.network.add(name)
        self.hosts = {name: Host(self.network, name, directory / name, registry) for name in HOSTS}
        self.cuts: set[tuple[str, str]] = set()
        self.unplugged: set[str] = set()

    def start(self) -> None:
        """Start everything, and wait until every host reaches every instance."""
        self.ensemble.start()
        for host in self.hosts.values():
            host.configure()
            host.start()
        self._await()

    def heal(self) -> None:
        """Make all as it was at the start. Raises AssertionError when that does not come to be."""
        for host in self.hosts.values():
            for process in host.processes.values():
                process.limits, process.environment = [], {}
                process.send(signal.SIGCONT)
            host.signal("haproxy", signal.SIGCONT)
            host.remount("rw")
            host.free()
        for source, target in list(self.cuts):
            self.restore(source, target)
        for name in list(self.unplugged):
            self.plug(name)
        for server in self.ensemble.servers.values():
            server.process.send(signal.SIGCONT)
            server.identify()
        self.ensemble.start()
        for host in self.hosts.values():
            for service in SERVICES:
                host.mood(service, None)
            host.configure()
            host.start()
        self._await()

    def drop(self, source: str, target: str) -> None:
        """Lose what `source` sends to `target`."""
        if (source, target) not in self.cuts:
            self.network.drop(source, target)
            self.cuts.add((source, target))

    def restore(self, source: str, target: str) -> None:
        """Lose it no more."""
        if (source, target) in self.cuts:
            self.network.restore(source, target)
            self.cuts.discard((source, target))

    def unplug(self, name: str) -> None:
        """Pull a host's cable."""
        self.network.unplug(name)
        self.unplugged.add(name)

    def plug(self, name: str) -> None:
        """Put it back."""
        self.network.plug(name)
        self.unplugged.discard(name)

    def wipe_tree(self) -> None:
        """Remove everything that is registered, as a mistaken hand would."""
        client = self._client()
        try:
            while client.exists(ROOT):
                with suppress(NotEmptyError, NoNodeError):
                    client.delete(ROOT, recursive=True)
                    return
        finally:
            client.stop()
            client.close()

    def registered(self, service: str) -> int:
        """How many instances of a service stand in ZooKeeper. Raises LookupError where it does not answer."""
        client = self._client()
        try:
            path = f"{ROOT}/services/{service}"
            return len(client.get_children(path)) if client.exists(path) else 0
        finally:
            client.stop()
            client.close()

    def _client(self) -> KazooClient:
        hosts = ",".join(f"{server.host}:2181" for server in self.ensemble.servers.values())
        client = KazooClient(hosts=hosts, timeout=4)
        client.start(timeout=10)
        return client

    def calls(self, since: float, until: float) -> list[Call]:
        """What the clients asked for in that time."""
        found = []
        for name, host in self.hosts.items():
            for line in host.requests.read_text().splitlines() if host.requests.exists() else ():
                words = line.split()
                if len(words) == 4 and since <= float(words[0]) < until:
                    found.append(Call(host=name, sent=float(words[0]), took=float(words[2]), how=words[3]))
        return sorted(found, key=lambda call: call.sent)

    def reloads(self) -> dict[str, float]:
        """How often each host's HAProxy was reloaded since its synapse started."""
        return {name: host.reloads() for name, host in self.hosts.items()}

    def tracebacks(self) -> list[str]:
        """The logs in which one stands."""
        logs = [
            process.log
            for host in self.hosts.values()
            for name, process in host.processes.items()
            if name in ("nerve", "synapse")
        ]
        return [f"{log.parent.name}/{log.name} has a traceback" for log in logs if "Traceback" in _text(log)]

    def stop(self) -> None:
        """End everything."""
        for host in self.hosts.values():
            host.stop()
        self.ensemble.stop()

    def _await(self) -> None:
        for name, host in self.hosts.items():
            eventually(host.all_ready, HEAL_SECONDS, f"{name} is ready")
            eventually(partial(host.all_serving, len(HOSTS)), HEAL_SECONDS, f"{name} reaches every instance")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
