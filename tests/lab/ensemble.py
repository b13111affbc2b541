"""Three ZooKeeper servers, each on a host of its own."""

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

    @property
    def mode(self) -> str:
        """`leader`, `follower`, or "" where it does not serve."""
        with suppress(OSError):
            for line in self.command("srvr", timeout_seconds=0.5).splitlines():
                if line.startswith("Mode: "):
                    return line.removeprefix("Mode: ")
        return ""


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
            server.process.start()
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

    def requests(self) -> int:
        """Packets from clients since each server's start, of those that answer."""
        total = 0
        for server in self.servers.values():
            with suppress(OSError, AssertionError):
                total += server.requests()
        return total

    def stop(self) -> None:
        """End them."""
        for server in self.servers.values():
            server.process.send(signal.SIGCONT)
            server.process.end(signal.SIGKILL)
