"""Real daemons for tests: a `Host` is a temporary directory and loopback addresses that nobody else uses, with
synapse, nerve, their HAProxy and the services' definitions in it. Whatever it started ends with it."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from smartstack.forms import DirectoryUrl, RegistryUrl, ZooKeeperUrl
from smartstack.instance import Instance, encode, node_name
from smartstack.registry import open_writer
from smartstack.registry.protocol import NodeId, RegistryWriter
from smartstack.wake import Wake
from synapse.haproxy.errors import HAProxyAway
from synapse.haproxy.proc import processes_with
from synapse.haproxy.runtime import Runtime
from synapse.proxy import Admin, Slot
from tests.support.backends import Backends
from tests.support.clients import LoadClient
from tests.support.eventually import eventually
from tests.support.zookeeper import ControlledServer

START_SECONDS = 20.0
"""How long a daemon may take to be ready on a busy machine; it takes about half a second."""

BACKEND_PORT = 8080
CHECK = {"type": "http", "path": "/", "interval": "100ms", "timeout": "1s", "rise": 1, "fall": 2}

_PROGRAMS = Path(sys.executable).parent


class Daemon:
    """One daemon as a child process, with its log in a file, asked by its admin address."""

    def __init__(self, name: str, configuration: Path, admin: str, *, program: str | None = None) -> None:
        self.configuration = configuration
        self.log_file = configuration.with_suffix(".log")
        self._name = name
        self._admin = admin
        self._program = program or str(_PROGRAMS / name)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, until: str = "/readyz") -> None:
        """Start it, and wait until it answers 200 there."""
        self.launch()
        eventually(lambda: self._answers(until), within=START_SECONDS, message=f"{self._name} answers {until} with 200")

    def launch(self) -> None:
        """Start it without waiting."""
        assert not self.running
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen(
                [self._program, "run", "-c", str(self.configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def suspend(self) -> None:
        """Stop it in its tracks, and wait until none of its threads runs any more. SIGCONT lets it go on."""
        self.send(signal.SIGSTOP)
        threads = Path(f"/proc/{self.pid}/task")
        eventually(
            lambda: all((each / "stat").read_text().rpartition(")")[2].split()[0] == "T" for each in threads.iterdir())
        )

    def wait(self, within: float = 10.0) -> int:
        """Wait for its end; its exit code."""
        assert self._process is not None
        return self._process.wait(within)

    def stop(self, number: int = signal.SIGTERM, within: float = 10.0) -> int:
        """End it as an init system would, or by another signal; its exit code."""
        self.send(number)
        return self.wait(within)

    def kill(self) -> None:
        """End it without warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Make sure that it does not run."""
        if self.running:
            self.kill()

    def get(self, path: str, timeout_seconds: float = 5.0) -> requests.Response:
        """The answer of its admin address. Raises AssertionError when there is none in time."""
        try:
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f"http://{self._admin}{path}", timeout=timeout_seconds)
        except requests.RequestException as error:
            raise AssertionError(
                f"{self._name} does not answer {path}: {error}; its log: {self.log()[-2000:]}"
            ) from None

    def status(self) -> dict[str, Any]:
        """/status."""
        answer: dict[str, Any] = self.get("/status").json()
        return answer

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series of this name that have these labels, whatever others they have."""
        values = self.metrics(name, **labels)
        assert values, f"{self._name} has no metric {name} with {labels}"
        return sum(values)

    def metrics(self, name: str, **labels: str) -> list[float]:
        """The values of every series of this name that has these labels, whatever others it has."""
        values = []
        for line in self.get("/metrics").text.splitlines():
            match = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line)
            found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or "")) if match else {}
            if match and match[1] == name and labels.items() <= found.items():
                values.append(float(match[3]))
        return values

    def log(self) -> str:
        """Everything it has said."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _answers(self, path: str) -> bool:
        if not self.running:
            raise RuntimeError(f"{self._name} ended: {self.log()[-2000:]}")
        answer = self.get(path, 1.0)
        assert answer.status_code == 200, answer.text
        return True


class Host:
    """One machine of a fleet, in a directory.

    `registry` is where its daemons read and write; the test itself writes there with `join` and `leave`, as a nerve
    elsewhere would. `settings` are added to synapse.yaml; change them before `synapse` is started.
    """

    def __init__(self, registry: RegistryUrl | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ss-"))
        self.directory.chmod(0o755)
        self.services = self.directory / "services"
        self.services.mkdir()
        self.state = self.directory / "state"
        self.registry = registry or DirectoryUrl(str(self.directory / "registry"))
        self.backends = Backends()
        self._network = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self.address = f"{self._network}.250"
        self.admin = f"{self.address}:3200"
        self.settings: dict[str, Any] = {
            "registry": str(self.registry),
            "services": "services",
            "admin": self.admin,
            "state_directory": "state",
            "run_directory": "run",
            "session_timeout": "4s",
            "haproxy": {"reload_interval": "100ms"},
        }
        self.synapse = Daemon("synapse", self.directory / "synapse.yaml", self.admin)
        self.nerves: dict[int, Daemon] = {}
        self._writer: RegistryWriter | None = None
        self._open: set[str] = set()

    # The services and their instances

    def define(self, name: str, listen: int, **proxy: Any) -> None:
        """Write a service's definition: it is offered at this port of this host's address."""
        proxy = {"listen": f"{self.address}:{listen}", **proxy}
        definition = {"port": BACKEND_PORT, "check": CHECK, "proxy": proxy}
        self.write(f"services/{name}.yaml", json.dumps(definition))

    def write(self, path: str, text: str) -> Path:
        """Put a file below the host's directory, whole: under another name first."""
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.new")
        temporary.write_text(text)
        return temporary.rename(target)

    def configure(self, name: str = "synapse.yaml", **settings: Any) -> Path:
        """Write synapse.yaml, or another file like it, with these settings changed."""
        return self.write(name, json.dumps({**self.settings, **settings}))

    def instance(self, number: int, weight: int | None = None) -> Instance:
        """The instance with this last number in its address; a real server stands there from now on."""
        host = f"{self._network}.{number}"
        if host not in self._open:
            self.backends.open(host, BACKEND_PORT)
            self._open.add(host)
        return Instance(host=host, port=BACKEND_PORT, name=f"host-{number}", weight=weight)

    @property
    def writer(self) -> RegistryWriter:
        """The test's own hand on the registry, connected."""
        if self._writer is None:
            writer = self._writer = open_writer(self.registry, session_timeout_seconds=4)
            writer.start(Wake().ring)
            eventually(lambda: writer.status().connected, within=10)
        return self._writer

    def join(self, service: str, number: int, weight: int | None = None) -> Instance:
        """Register an instance, or change its weight."""
        instance = self.instance(number, weight)
        self.writer.put(NodeId(path=f"services/{service}", node=node_name(instance)), encode(instance))
        return instance

    def leave(self, service: str, number: int) -> Instance:
        """Take an instance out of the registry; its server stays."""
        instance = self.instance(number)
        self.writer.remove(NodeId(path=f"services/{service}", node=node_name(instance)))
        return instance

    def serve(self, service: str, listen: int, instances: int = 3, **proxy: Any) -> None:
        """Define a service and register its instances 1 to `instances`."""
        self.define(service, listen, **proxy)
        for number in range(1, instances + 1):
            self.join(service, number)

    def start(self) -> None:
        """Start synapse with the settings as they are, and wait until every instance is in HAProxy."""
        self.configure()
        self.synapse.start()

    def client(self, listen: int, *, keep_alive: bool, rate: float = 150.0) -> LoadClient:
        """A client of the service at this port, not begun yet."""
        return LoadClient(self.address, listen, keep_alive=keep_alive, rate=rate)

    def told(self, service: str) -> dict[str, Any]:
        """What synapse's /status says of a service."""
        services: dict[str, dict[str, Any]] = self.synapse.status()["services"]
        assert service in services, f"/status does not know {service}"
        return services[service]

    # HAProxy, asked without synapse

    @property
    def runtime(self) -> Runtime:
        """HAProxy's sockets."""
        return Runtime(f"{self.directory}/run/haproxy.sock", f"{self.directory}/run/master.sock")

    def haproxy(self) -> tuple[int, int]:
        """The process ids of HAProxy's master and of the worker that serves. Waits for the master, whose socket is
        the last thing to be there again after a reload."""

        def ask() -> tuple[int, int]:
            try:
                processes = self.runtime.processes()
            except HAProxyAway as away:
                raise AssertionError(str(away)) from away
            assert len(processes.workers) == 1
            return processes.master, processes.workers[0]

        return eventually(ask)

    def structure(self) -> str:
        """The structure that the serving worker was started with."""
        try:
            return self.runtime.info().description
        except HAProxyAway as away:
            raise AssertionError(str(away)) from away

    def members(self, backend: str) -> dict[str, int]:
        """The addresses that HAProxy has in this backend, in maintenance or not at all excepted, with their weights."""
        try:
            slots: tuple[Slot, ...] = self.runtime.servers([backend]).get(backend, ())
        except HAProxyAway as away:
            raise AssertionError(str(away)) from away
        return {f"{slot.host}:{slot.port}": slot.weight for slot in slots if slot.admin is not Admin.MAINT}

    def haproxy_file(self) -> str:
        """haproxy.cfg as it is now."""
        return (self.state / "haproxy.cfg").read_text()

    def haproxy_processes(self) -> list[int]:
        """Every master and worker, old or new, that was started with this host's haproxy.cfg."""
        return processes_with(str(self.state / "haproxy.cfg"))

    # nerve, and the end

    def nerve(self, number: int, announce: Mapping[str, Any], **settings: Any) -> Daemon:
        """The nerve of the machine with this last number in its address, not started: it announces these services.
        Called again, it writes that nerve's file again."""
        name = f"nerve-{number}"
        host = self.instance(number).host
        configuration = {
            "registry": str(self.registry),
            "services": "services",
            "host": host,
            "admin": f"{host}:3199",
            "state_directory": f"state-{number}",
            "run_directory": f"run-{number}",
            "instance_id": name,
            "session_timeout": self.settings["session_timeout"],
            "announce": announce,
            **settings,
        }
        path = self.write(f"{name}.yaml", json.dumps(configuration))
        if number not in self.nerves:
            self.nerves[number] = Daemon("nerve", path, f"{host}:3199")
        return self.nerves[number]

    def close(self) -> None:
        """End everything and leave nothing behind."""
        for daemon in (self.synapse, *self.nerves.values()):
            daemon.end()
        for pid in self.haproxy_processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._writer is not None:
            self._writer.stop()
        self.backends.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def host() -> Iterator[Host]:
    """A host on a `file:` registry."""
    made = Host()
    yield made
    made.close()


@pytest.fixture(params=["file", "zookeeper"])
def any_host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host on each kind of registry in turn."""
    made = Host(request.getfixturevalue("zookeeper_url") if request.param == "zookeeper" else None)
    yield made
    made.close()


@pytest.fixture
def fragile_host(own_zookeeper: ControlledServer) -> Iterator[Host]:
    """A host on a ZooKeeper of its own, `own_zookeeper`, to be stopped, killed and suspended."""
    made = Host(ZooKeeperUrl(hosts=own_zookeeper.hosts, root="/smartstack"))
    yield made
    made.close()
