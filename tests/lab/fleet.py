"""The lab's fleet: three hosts and the ensemble, made once, and healed after each scenario."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from tests.lab.client import PATIENCE_SECONDS
from tests.lab.ensemble import Ensemble
from tests.lab.grammar import DAEMONS, HOSTS
from tests.lab.host import Host
from tests.lab.network import Network
from tests.lab.report import Call, read_calls
from tests.support.eventually import eventually

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
        """Start everything that does not run, and wait until every host reaches every instance."""
        self.ensemble.start()
        for host in self.hosts.values():
            host.configure()
            host.start()
        self._await()

    def heal(self) -> None:
        """Make all as it was at the start. Raises AssertionError when that does not come to be."""
        for host in self.hosts.values():
            host.heal()
        self._mend_network()
        for server in self.ensemble.servers.values():
            server.process.send(signal.SIGCONT)
        self.start()

    def renew(self) -> None:
        """End everything, forget all state, and start again."""
        for host in self.hosts.values():
            host.renew()
        self._mend_network()
        self.ensemble.renew()
        self.start()

    def _mend_network(self) -> None:
        for source, target in list(self.cuts):
            self.restore(source, target)
        for name in list(self.unplugged):
            self.plug(name)
        for name in HOSTS:
            self.network.clear_link(name)

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
        """Remove everything that is registered, in one transaction. Raises AssertionError when nodes come and go too
        fast for that."""
        hosts = ",".join(server.hosts for server in self.ensemble.servers.values())
        client = KazooClient(hosts=hosts, timeout=4)
        client.start(timeout=10)
        try:
            eventually(lambda: _wiped(client), message="the tree is wiped")
        finally:
            client.stop()
            client.close()

    def registered(self, service: str) -> int:
        """How many instances of a service stand in ZooKeeper. Raises AssertionError where it does not answer."""
        return len([path for path in self.ensemble.ephemeral() if path.startswith(f"{ROOT}/services/{service}/")])

    def calls(self, since: float, until: float) -> list[Call]:
        """What the clients sent in that time, once all of it has ended."""
        found = []
        for name, host in self.hosts.items():
            calls, _ = eventually(partial(self._ended, name, host, since, until), PATIENCE_SECONDS + 5.0)
            found += calls
        return sorted(found, key=lambda call: call.sent)

    @staticmethod
    def _ended(name: str, host: Host, since: float, until: float) -> tuple[list[Call], int]:
        calls, waiting = read_calls(name, host.requests.read_text().splitlines(), since, until)
        assert not waiting, f"{waiting} requests of {name} have not ended"
        return calls, waiting

    def reloads(self) -> dict[str, float]:
        """How often each host's HAProxy was reloaded since its synapse started."""
        return {name: host.reloads() for name, host in self.hosts.items()}

    def logs(self) -> dict[Path, int]:
        """The logs of all daemons, and how long each is, in bytes."""
        logs = [host.processes[daemon].log for host in self.hosts.values() for daemon in DAEMONS]
        return {log: log.stat().st_size if log.exists() else 0 for log in logs}

    def tracebacks(self, since: dict[Path, int]) -> list[str]:
        """The logs in which one was written since then."""
        return [
            f"{log.parent.name}/{log.name} has a traceback"
            for log in self.logs()
            if log.exists() and b"Traceback" in log.read_bytes()[since[log] :]
        ]

    def stop(self) -> None:
        """End everything."""
        for host in self.hosts.values():
            host.stop()
        self.ensemble.stop()

    def _await(self) -> None:
        for name, host in self.hosts.items():
            eventually(host.all_ready, HEAL_SECONDS, f"{name} is ready")
            eventually(partial(host.all_serving, len(HOSTS)), HEAL_SECONDS, f"{name} reaches every instance")


def _wiped(client: KazooClient) -> bool:
    transaction = client.transaction()
    for path in reversed(list(_below(client, ROOT))):
        transaction.delete(path)
    return not any(isinstance(answer, Exception) for answer in transaction.commit())


def _below(client: KazooClient, path: str) -> Iterator[str]:
    """The path and all below it, parents first."""
    with suppress(NoNodeError):
        children = client.get_children(path)
        yield path
        for child in children:
            yield from _below(client, f"{path}/{child}")
