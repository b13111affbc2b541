"""Three ZooKeeper servers, each on a host of its own."""

import math
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from tests.lab.network import Network
from tests.lab.process import Process
from tests.support.eventually import eventually
from tests.support.zookeeper import JARS, ZooKeeperServer

_CONFIGURATION = """\
tickTime=250
initLimit=20
syncLimit=8
maxSessionTimeout=60000
dataDir={data}
clientPort=2181
admin.enableServer=false
4lw.commands.whitelist=*
maxClientCnxns=0
"""
ELECTION_SECONDS = 30.0


class Server(ZooKeeperServer):
    """One of the three."""

    def __init__(self, network: Network, name: str, number: int, directory: Path) -> None:
        super().__init__(network.control(name), 2181)
        self.name = name
        self.data = directory / "data"
        self.data.mkdir(parents=True)
        self._identity = number
        self._received = 0
        self._file = directory / "zoo.cfg"
        command = ["java", "-Xmx128m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        command += ["-Dzookeeper.forceSync=no", "-Dzookeeper.preAllocSize=64", "-Dzookeeper.jmx.log4j.disable=true"]
        command += ["-cp", ":".join(JARS), "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self._file)]
        self.process = Process(network.namespace(name), command, directory / "log")

    def join(self, members: list[tuple[int, str]]) -> None:
        """These are the servers, by number and address."""
        lines = "".join(f"server.{number}={address}:2888:3888\n" for number, address in members)
        self._file.write_text(_CONFIGURATION.format(data=self.data) + lines)
        self.identify()

    def identify(self) -> None:
        """Write its number where it looks for it, after its data went, too."""
        self.data.mkdir(exist_ok=True)
        (self.data / "myid").write_text(f"{self._identity}\n")

    def start(self) -> None:
        """Start it, unless it runs."""
        if not self.process.running:
            self.identify()
            self.process.start()

    @property
    def mode(self) -> str:
        """`leader`, `follower`, or "" where it does not serve."""
        with suppress(OSError):
            for line in self.command("srvr", timeout_seconds=0.5).splitlines():
                if line.startswith("Mode: "):
                    return line.removeprefix("Mode: ")
        return ""

    def command(self, word: str, timeout_seconds: float = 2.0) -> str:
        """As of any server. One that counts anew, as it does after each election, has had one of our commands."""
        answer = super().command(word, timeout_seconds)
        if "Received: " in answer:
            received = self._number("Received:", answer)
            self._own_commands = 1 if received < self._received else self._own_commands
            self._received = received
        return answer


class Ensemble:
    """The three. `hosts` is where clients connect."""

    def __init__(self, network: Network, directory: Path) -> None:
        names = [f"zk{number}" for number in (1, 2, 3)]
        for name in names:
            network.add(name)
        self.hosts = ",".join(f"{network.address(name)}:2181" for name in names)
        self.servers = {name: Server(network, name, number, directory / name) for number, name in enumerate(names, 1)}
        members = [(number, network.address(name)) for number, name in enumerate(names, 1)]
        for server in self.servers.values():
            server.join(members)

    def start(self) -> None:
        """Start those that do not run, and wait until all serve."""
        for server in self.servers.values():
            server.start()
        eventually(lambda: all(each.mode for each in self.servers.values()), within=ELECTION_SECONDS)

    def one(self, mode: str) -> Server:
        """The leader, or a follower. Raises AssertionError when there is none in time."""

        def find() -> Server:
            return next(each for each in self.servers.values() if each.mode == mode)

        def found() -> Server | None:
            with suppress(StopIteration):
                return find()
            return None

        server = eventually(found, within=ELECTION_SECONDS, message=f"ZooKeeper has a {mode}")
        assert server is not None
        return server

    def requests(self) -> dict[str, float]:
        """Packets from clients since each server's start; NaN where it does not answer."""
        received = dict.fromkeys(self.servers, math.nan)
        for name, server in self.servers.items():
            with suppress(OSError, AssertionError):
                received[name] = server.requests()
        return received

    def ephemeral(self) -> list[str]:
        """The paths that belong to a session, as the leader tells. Raises AssertionError where nobody leads."""
        with suppress(OSError):
            lines = self.one("leader").command("dump").splitlines()
            return [line.strip() for line in lines if line.startswith("\t/")]
        raise AssertionError("ZooKeeper does not answer")

    def renew(self) -> None:
        """End them and forget their data."""
        self.stop()
        for server in self.servers.values():
            shutil.rmtree(server.data, ignore_errors=True)

    def stop(self) -> None:
        """End them."""
        for server in self.servers.values():
            server.process.send(signal.SIGCONT)
            server.process.end(signal.SIGKILL)
