"""A real ZooKeeper for tests, with the faults that a real one has: killed, hung, restarted, come back empty.

Where it comes from, in this order: `SMARTSTACK_TEST_ZOOKEEPER=host:port` names one that already runs (it serves the
tests that only talk to it); otherwise Debian's jars run as a child process; otherwise, or when
`SMARTSTACK_TEST_ZOOKEEPER=docker`, a container of the image named by `SMARTSTACK_TEST_ZOOKEEPER_IMAGE` does. Such an
image must start ZooKeeper with the file /conf/zoo.cfg and have a directory /data, as the official one does.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from smartstack.forms import ZooKeeperUrl

JARS = ("/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar")

START_SECONDS = 20.0

CONFIGURATION = """\
tickTime=250
maxSessionTimeout=60000
dataDir={data}
clientPort={port}
clientPortAddress=127.0.0.1
clientPortListenBacklog=1024
admin.enableServer=false
4lw.commands.whitelist=*
maxClientCnxns=0
"""
"""Short ticks: sessions of half a second are possible, and expire close to their time."""


class ZooKeeperServer:
    """A server that runs somewhere; what a test can ask of any of them."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._own_commands = 0

    @property
    def hosts(self) -> str:
        """What a client connects to."""
        return f"{self.host}:{self.port}"

    def command(self, word: str, timeout_seconds: float = 2.0) -> str:
        """The answer to a four-letter word. Raises OSError when there is no answer."""
        with socket.create_connection((self.host, self.port), timeout_seconds) as connection:
            connection.settimeout(timeout_seconds)
            connection.sendall(word.encode("ascii"))
            answer = b""
            while chunk := connection.recv(65_536):
                answer += chunk
        self._own_commands += 1
        return answer.decode("utf-8", "replace")

    def wait_until_ready(self) -> None:
        """Poll with short time-outs: a connection that is accepted too early is never answered."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError):
                if "Mode:" in self.command("srvr", timeout_seconds=0.1):
                    return
            self.check_alive()
            time.sleep(0.01)
        raise AssertionError(f"ZooKeeper at {self.hosts} did not answer within {START_SECONDS:g} s")

    def check_alive(self) -> None:
        """Raise when it can be known that the server has ended."""

    def requests(self) -> int:
        """Packets received from clients since the start, less our own commands: take differences.

        A client that is idle for a third of its session time-out sends a ping, which counts.
        """
        received = self._number("Received:", self.command("srvr"))
        return received - self._own_commands

    def watches(self) -> int:
        """Watches that the server keeps; a persistent recursive one counts as two."""
        return self._number("zk_watch_count", self.command("mntr"))

    @staticmethod
    def _number(key: str, answer: str) -> int:
        for line in answer.splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == key:
                return int(words[1])
        raise AssertionError(f"no {key} in the server's answer: {answer!r}")

    def client(self, **options: Any) -> KazooClient:
        """A connected client; the caller stops and closes it."""
        client = KazooClient(hosts=self.hosts, **options)
        client.start(timeout=10)
        return client

    def expire_session(self, session_id: int, password: bytes) -> None:
        """End somebody's session: a second client takes it over and closes it. Its owner learns that it expired."""
        client = self.client(client_id=(session_id, password))
        client.stop()
        client.close()


class ControlledServer(ZooKeeperServer):
    """A server that the test may break: always on loopback, on the same port for all its life.

    `extra_configuration` is added to zoo.cfg at the next start.
    """

    def __init__(self) -> None:
        super().__init__("127.0.0.1", _free_port())
        self.directory = Path(tempfile.mkdtemp(prefix="zk-"))
        self.extra_configuration = ""

    def configuration(self, data: Path) -> Path:
        """Write zoo.cfg and return its path."""
        path = self.directory / "zoo.cfg"
        path.write_text(CONFIGURATION.format(data=data, port=self.port) + self.extra_configuration)
        return path

    def start(self) -> None:
        """Start, or start again on the same port with the same data, and wait until it answers."""
        self._own_commands = 0
        self.launch()
        self.wait_until_ready()

    def restart(self) -> None:
        """Stop and start with the same data."""
        self.stop()
        self.start()

    def launch(self) -> None:
        """Start without waiting."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it as an init system would."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it without warning."""
        raise NotImplementedError

    def suspend(self) -> None:
        """Let it hang: connections stay open, nothing is answered."""
        raise NotImplementedError

    def resume(self) -> None:
        """Let it go on."""
        raise NotImplementedError

    def wipe(self) -> None:
        """Forget all data; only while it is stopped."""
        raise NotImplementedError

    def dispose(self) -> None:
        """End it for good and leave nothing behind."""
        self.kill()
        self.wipe()
        shutil.rmtree(self.directory, ignore_errors=True)


class LocalServer(ControlledServer):
    """Debian's jars as a child process, which dies with the test run even when that is killed."""

    jars: tuple[str, ...] = JARS
    properties: tuple[str, ...] = ()
    """Java's system properties, as `name=value`."""

    java_options: tuple[str, ...] = ()
    """Others of Java's options; of two that disagree the last one counts, which is the one that stands here."""

    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def possible(cls) -> bool:
        """Whether Java and the jars are installed."""
        return shutil.which("java") is not None and all(Path(jar).exists() for jar in cls.jars)

    def launch(self) -> None:
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        command = ["java", "-Xmx128m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        command += ["-Dzookeeper.forceSync=no", "-Dzookeeper.preAllocSize=64", "-Dzookeeper.jmx.log4j.disable=true"]
        command += [*(f"-D{each}" for each in self.properties), *self.java_options]
        command += ["-cp", ":".join(self.jars), "org.apache.zookeeper.server.quorum.QuorumPeerMain"]
        command.append(str(self.configuration(data)))
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def check_alive(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            log = (self.directory / "log").read_text(errors="replace")
            raise AssertionError(f"ZooKeeper ended with {self._process.returncode}: {log[-2000:]}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._process = None

    def suspend(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def wipe(self) -> None:
        assert self._process is None, "stop the server before its data goes"
        shutil.rmtree(self.directory / "data", ignore_errors=True)


class ContainerServer(ControlledServer):
    """The same in a container, on the host's network so that only loopback hears it."""

    def __init__(self, image: str) -> None:
        super().__init__()
        self._image = image
        self._container: Any = None

    def launch(self) -> None:
        if self._container is not None:
            self.configuration(Path("/data"))
            self._container.get_wrapped_container().start()
            return
        from testcontainers.core.container import DockerContainer

        configuration = self.configuration(Path("/data"))
        self.directory.chmod(0o755)
        self._container = DockerContainer(self._image).with_kwargs(network_mode="host")
        self._container.with_volume_mapping(str(configuration), "/conf/zoo.cfg", "ro")
        self._container.start()

    def stop(self) -> None:
        if self._container is not None:
            self._container.get_wrapped_container().stop(timeout=5)

    def kill(self) -> None:
        from docker.errors import APIError

        if self._container is not None:
            with suppress(APIError):
                self._container.get_wrapped_container().unpause()
            with suppress(APIError):
                self._container.get_wrapped_container().kill()

    def suspend(self) -> None:
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        self._container.get_wrapped_container().unpause()

    def wipe(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _controlled_server() -> ControlledServer:
    """A started server of the best kind that this machine can run. Fails the test when it can run none."""
    server: ControlledServer
    wanted_container = os.environ.get("SMARTSTACK_TEST_ZOOKEEPER") == "docker"
    if LocalServer.possible() and not wanted_container:
        server = LocalServer()
    elif shutil.which("docker") or Path("/var/run/docker.sock").exists() or "DOCKER_HOST" in os.environ:
        server = ContainerServer(os.environ.get("SMARTSTACK_TEST_ZOOKEEPER_IMAGE", "zookeeper:3.8"))
    else:
        pytest.fail(
            "no ZooKeeper to test with: install Debian's libzookeeper-java and a JRE, or a Docker engine, "
            "or name a running server in SMARTSTACK_TEST_ZOOKEEPER=host:port",
            pytrace=False,
        )
    try:
        server.start()
    except BaseException:
        server.dispose()
        raise
    return server


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[ZooKeeperServer]:
    """A server for the whole run; tests leave it as it is and stay below their own root (`zookeeper_url`)."""
    named = os.environ.get("SMARTSTACK_TEST_ZOOKEEPER", "")
    if named and named != "docker":
        host, _, port = named.rpartition(":")
        running = ZooKeeperServer(host, int(port))
        running.wait_until_ready()
        yield running
        return
    server = _controlled_server()
    yield server
    server.dispose()


@pytest.fixture
def own_zookeeper() -> Iterator[ControlledServer]:
    """A server of this test alone, to be stopped, killed, suspended and wiped."""
    server = _controlled_server()
    yield server
    server.dispose()


@pytest.fixture
def zookeeper_client(zookeeper: ZooKeeperServer) -> Iterator[KazooClient]:
    """A connected client of the common server, for looking at and meddling with what is there."""
    client = zookeeper.client()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def zookeeper_url(zookeeper: ZooKeeperServer, zookeeper_client: KazooClient) -> Iterator[ZooKeeperUrl]:
    """A root of this test's own on the common server, empty and not yet made; gone afterwards."""
    root = f"/test-{uuid.uuid4().hex[:12]}"
    yield ZooKeeperUrl(hosts=zookeeper.hosts, root=root)
    zookeeper_client.delete(root, recursive=True)
