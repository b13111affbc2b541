"""The soak's fleet: three hosts on loopback, each with nerve, synapse, HAProxy, one instance of each service and
clients, on one ZooKeeper."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from smartstack.forms import ZooKeeperUrl
from synapse.haproxy.errors import HAProxyAway
from synapse.proxy import Admin, Slot
from tests.soak import bounds
from tests.soak.faults import EXTRA, HOSTS, SERVICES
from tests.support.clients import LoadClient
from tests.support.eventually import eventually
from tests.support.pair import Daemon, Host
from tests.support.zookeeper import ControlledServer

ROOT = "/smartstack"
PORTS = {"web": 9001, "api": 9002, "db": 9003, EXTRA: 9004}
LISTENS = {"web": 3210, "api": 3211, "db": 3212, EXTRA: 3213}
RATE_PER_CLIENT = 5.0
"""Requests a second of each client: a host has two for each service, 30 a second in all."""

_NERVE = 1
_ASK_SECONDS = 2.0
_DISK = "48m"


class Instance:
    """An instance of a service as a process of its own; its mood is in a file, as tests/lab/service.py reads it."""

    def __init__(self, service: str, address: str, directory: Path) -> None:
        self.address = f"{address}:{PORTS[service]}"
        self.mood = directory / f"{service}.mood"
        self._log = directory / f"{service}.log"
        self._command = [sys.executable, "-m", "tests.lab.service", address, str(PORTS[service]), service]
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it serves a moment later."""
        with open(self._log, "ab") as log:
            self._child = subprocess.Popen(
                [*self._command, str(self.mood)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._child is not None
        self._child.send_signal(number)

    def kill(self) -> None:
        """End it without warning; safe to repeat."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def answers(self) -> bool:
        """Whether it takes connections."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), 0.5).close()
        except OSError:
            return False
        return True


class SoakHost:
    """One host. `announced` is what its nerve announces, to be written by `announce`."""

    def __init__(self, name: str, zookeeper: ControlledServer, *, has_disk: bool) -> None:
        self.name = name
        self.host = Host(ZooKeeperUrl(hosts=zookeeper.hosts, root=ROOT))
        self.address = self.host.instance(_NERVE).host
        self.announced: dict[str, dict[str, Any]] = {service: {} for service in SERVICES}
        self.instances = {service: Instance(service, self.address, self.host.directory) for service in PORTS}
        self.disks = [self.host.state, self.host.directory / f"state-{_NERVE}"] if has_disk else []
        for disk in self.disks:
            disk.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=755", "soak", str(disk)], check=True)
        self.host.settings["session_timeout"] = f"{bounds.SESSION_SECONDS:g}s"
        self.host.settings["haproxy"]["hard_stop_after"] = f"{bounds.HARD_STOP_SECONDS:g}s"
        for service in SERVICES:
            self.define(service)
        self.announce()
        self.host.configure()
        self.clients = {
            (service, keep): LoadClient(
                self.host.address, LISTENS[service], keep_alive=keep, rate=RATE_PER_CLIENT, threads=1
            )
            for service in SERVICES
            for keep in (True, False)
        }

    @property
    def synapse(self) -> Daemon:
        """Its synapse."""
        return self.host.synapse

    @property
    def nerve(self) -> Daemon:
        """Its nerve."""
        return self.host.nerves[_NERVE]

    @property
    def daemons(self) -> dict[str, Daemon]:
        """Both, by name."""
        return {"nerve": self.nerve, "synapse": self.synapse}

    def define(self, service: str, **proxy: Any) -> None:
        """Write the definition of a service, with this much added to its `proxy`."""
        own = {
            "listen": f"{self.host.address}:{LISTENS[service]}",
            "breaker": {"max_pause": f"{bounds.BREAKER_PAUSE_SECONDS:g}s"},
            "shrink_confirm": f"{bounds.SHRINK_CONFIRM_SECONDS:g}s",
        }
        document = {"port": PORTS[service], "check": bounds.CHECK, "proxy": {**own, **proxy}}
        self.host.write(f"services/{service}.yaml", json.dumps(document))

    def undefine(self, service: str) -> None:
        """Remove it."""
        (self.host.services / f"{service}.yaml").unlink(missing_ok=True)

    def announce(self) -> None:
        """Write nerve.yaml as `announced` is."""
        self.host.nerve(_NERVE, self.announced, instance_id=self.name)

    def fill(self) -> None:
        """Leave no room on the disks of the daemons' state."""
        for disk in self.disks:
            with suppress(OSError), open(disk / "filler", "wb") as filler:
                while True:
                    filler.write(bytes(1 << 16))
                    filler.flush()

    def free(self) -> None:
        """Make room again."""
        for disk in self.disks:
            (disk / "filler").unlink(missing_ok=True)

    def start_clients(self) -> None:
        """Call all services from here, from now on."""
        for client in self.clients.values():
            client.__enter__()

    # What is asked. Each answers None or False where nothing answers.

    def get(self, daemon: str, path: str) -> requests.Response | None:
        """What a daemon's admin address answers."""
        admin = self.host.admin if daemon == "synapse" else f"{self.address}:3199"
        with suppress(requests.RequestException), requests.Session() as session:
            session.trust_env = False
            return session.get(f"http://{admin}{path}", timeout=_ASK_SECONDS)
        return None

    def status(self, daemon: str) -> dict[str, Any] | None:
        """/status."""
        response = self.get(daemon, "/status")
        with suppress(ValueError):
            answer: dict[str, Any] | None = response.json() if response is not None else None
            return answer
        return None

    def connected(self, daemon: str) -> bool:
        """Whether it says that the registry is there."""
        status = self.status(daemon)
        return status is not None and bool((status.get("registry") or {}).get("connected"))

    def ready(self, daemon: str) -> bool:
        """Whether /readyz says so."""
        response = self.get(daemon, "/readyz")
        return response is not None and response.status_code == 200

    def order(self, daemon: str, path: str, arguments: Mapping[str, Any]) -> None:
        """A POST with the daemon's token. Raises AssertionError when it does not obey."""
        admin = self.host.admin if daemon == "synapse" else f"{self.address}:3199"
        run = "run" if daemon == "synapse" else f"run-{_NERVE}"
        token = (self.host.directory / run / "token").read_text().strip()
        with requests.Session() as session:
            session.trust_env = False
            try:
                answer = session.post(
                    f"http://{admin}{path}", json=arguments, headers={"Authorization": f"Bearer {token}"}, timeout=10
                )
            except requests.RequestException as error:
                raise AssertionError(f"{daemon} on {self.name} does not answer {path}: {error}") from error
        assert answer.status_code == 200, f"{path} {arguments} on {self.name}: {answer.status_code} {answer.text}"

    def slots(self) -> Mapping[str, tuple[Slot, ...]] | None:
        """What the running HAProxy has of each service, those in maintenance left out."""
        try:
            found = self.host.runtime.servers()
        except HAProxyAway:
            return None
        return {
            service: tuple(slot for slot in slots if slot.admin is not Admin.MAINT)
            for service, slots in found.items()
            if service in PORTS
        }

    def haproxy(self, part: str) -> list[int]:
        """The processes of its HAProxy: `master`, or `worker` for those that serve and are not to end. Empty where it
        does not say."""
        try:
            processes = self.host.runtime.processes()
        except HAProxyAway:
            return []
        return [processes.master] if part == "master" else list(processes.workers)

    def close(self) -> None:
        """End everything and leave nothing behind."""
        for client in self.clients.values():
            if not client.stopped:
                client.stop()
        for daemon in self.daemons.values():
            if daemon.running:
                daemon.send(signal.SIGCONT)
        for instance in self.instances.values():
            instance.kill()
        for pid in self.host.haproxy_processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for daemon in self.daemons.values():
            daemon.end()
        for pid in self.host.haproxy_processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for disk in self.disks:
            subprocess.run(["umount", "-l", str(disk)], check=False)
        self.host.close()


class SoakFleet:
    """The hosts by name, and their ZooKeeper."""

    def __init__(self, zookeeper: ControlledServer) -> None:
        self.zookeeper = zookeeper
        self.has_disk = os.geteuid() == 0
        self.hosts = {name: SoakHost(name, zookeeper, has_disk=self.has_disk) for name in HOSTS}

    def __iter__(self) -> Iterator[SoakHost]:
        return iter(self.hosts.values())

    def start(self) -> None:
        """Start everything, and wait until every host routes to every instance."""
        client = self.zookeeper.client()
        # nerve leaves the directory of a service behind, which would be one node more than at the start.
        client.ensure_path(f"{ROOT}/services/{EXTRA}")
        client.stop()
        client.close()
        for host in self:
            for instance in host.instances.values():
                instance.start()
            host.nerve.launch()
            host.synapse.launch()
        eventually(lambda: all(self.whole(host) for host in self), within=60, message="every host routes to everybody")
        eventually(lambda: all(host.ready(name) for host in self for name in host.daemons), within=60)

    def whole(self, host: SoakHost) -> bool:
        """Whether this host routes to every instance of every service."""
        slots = host.slots() or {}
        everybody = {service: {each.instances[service].address for each in self} for service in SERVICES}
        return all(
            {slot.address for slot in slots.get(service, ()) if slot.serves} == addresses
            for service, addresses in everybody.items()
        )

    def close(self) -> None:
        """End everything and leave nothing behind."""
        for host in self:
            host.close()
        self.zookeeper.dispose()
