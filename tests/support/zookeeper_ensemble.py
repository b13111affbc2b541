"""Several real ZooKeeper servers that are one: an ensemble on loopback, or a single server by the same name."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.zookeeper import LocalServer, _free_port

START_SECONDS = 30.0


class EnsembleServer(LocalServer):
    """One of several: it knows the others once `join` has named them all."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self._quorum_port = _free_port()
        self._election_port = _free_port()
        self._members = ""

    @property
    def pid(self) -> int:
        """The process id of Java."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and not ended by us."""
        return self._process is not None

    def join(self, members: Sequence["EnsembleServer"]) -> None:
        """Be one of these from the next start on; alone with itself it is a single server."""
        if len(members) > 1:
            lines = [f"server.{each.number}=127.0.0.1:{each._quorum_port}:{each._election_port}\n" for each in members]
            self._members = "initLimit=10\nsyncLimit=5\n" + "".join(lines)

    def configuration(self, data: Path) -> Path:
        """Write zoo.cfg and the server's number, and return the path of the former."""
        (data / "myid").write_text(f"{self.number}\n")
        path = super().configuration(data)
        path.write_text(path.read_text() + self._members)
        return path

    def is_leader(self) -> bool:
        """Whether it leads the others, or is alone. Raises OSError when it does not answer."""
        return any(mode in self.command("srvr") for mode in ("Mode: leader", "Mode: standalone"))


class Ensemble:
    """So many servers, started together. `log` of each is a file in its directory."""

    def __init__(
        self, size: int, *, configuration: str = "", properties: Sequence[str] = (), java_options: Sequence[str] = ()
    ) -> None:
        self.servers = [EnsembleServer(number) for number in range(1, size + 1)]
        for server in self.servers:
            server.extra_configuration = configuration
            server.properties = tuple(properties)
            server.java_options = tuple(java_options)
            server.join(self.servers)

    def start(self) -> None:
        """Start all, and wait until each of them serves."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_until_ready()

    @property
    def hosts(self) -> str:
        """What a client connects to."""
        return ",".join(server.hosts for server in self.servers)

    def leader(self) -> EnsembleServer:
        """The one that leads, once there is one. Raises AssertionError when there is none in time."""

        def find() -> EnsembleServer:
            for server in self.servers:
                try:
                    if server.is_leader():
                        return server
                except OSError:
                    continue
            raise LookupError("no server leads")

        return eventually(find, within=START_SECONDS)

    def dispose(self) -> None:
        """End all for good and leave nothing behind."""
        for server in self.servers:
            server.dispose()
