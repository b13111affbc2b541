"""One host of a fleet for tests of nerve: real nerves, as processes, with real services beside them."""

import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nerve.cli import cli
from smartstack.forms import DirectoryUrl, RegistryUrl, ZooKeeperUrl
from smartstack.registry import open_reader
from smartstack.registry.protocol import Listing
from tests.support.backends import Backends
from tests.support.commands import run_here
from tests.support.pair import Daemon
from tests.support.zookeeper import ControlledServer

CHECK = {"type": "http", "interval": "50ms", "timeout": "500ms", "rise": 2, "fall": 2}
NERVE = str(Path(sys.executable).parent / "nerve")


class Machine:
    """One host of a fleet: a short directory, a loopback address of its own, services, and a nerve."""

    def __init__(self, registry: RegistryUrl | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="nv-"))
        self.address = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}.1"
        self.registry = registry or DirectoryUrl(str(self.directory / "registry"))
        self.admin = f"{self.address}:3199"
        self.nerve = Daemon("nerve", self.directory / "nerve.yaml", self.admin)
        self.backends = Backends()
        self._reader = open_reader(self.registry, session_timeout_seconds=4)
        self._reader.start(lambda: None)
        self._others: list[Daemon] = []
        (self.directory / "services").mkdir()

    def announce(self, *names: str, **settings: Any) -> Path:
        """Write nerve.yaml: these services, with these settings changed."""
        return self.write(
            "nerve.yaml",
            {
                "registry": str(self.registry),
                "host": self.address,
                "instance_id": "machine",
                "admin": self.admin,
                "state_directory": "state",
                "run_directory": "run",
                "session_timeout": "1s",
                "announce": {name: {} for name in names},
                **settings,
            },
        )

    def define(self, name: str, port: int = 8080, **more: Any) -> None:
        """Write a service's definition."""
        self.write(f"services/{name}.yaml", {"port": port, "check": CHECK, **more})

    def write(self, name: str, content: object) -> Path:
        """Write a file whole: text as it is, anything else as JSON, which is YAML too."""
        target = self.directory / name
        temporary = target.with_name(f".{target.name}.new")
        temporary.write_text(content if isinstance(content, str) else json.dumps(content))
        return temporary.rename(target)

    def serve(self, name: str, port: int = 8080, **more: Any) -> None:
        """Define a service and start its instance here."""
        self.define(name, port, **more)
        self.backends.open(self.address, port)

    def other(self, name: str, **settings: Any) -> Daemon:
        """Another nerve with the same files but these settings, not started."""
        settings = {**json.loads((self.directory / "nerve.yaml").read_text()), **settings}
        daemon = Daemon("nerve", self.write(f"{name}.yaml", settings), settings["admin"])
        self._others.append(daemon)
        return daemon

    def registered(self, *names: str) -> dict[str, list[str]]:
        """What a reader sees: the addresses by service."""
        read = self._reader.read([f"services/{name}" for name in names])
        found = {}
        for name in names:
            listing = read[f"services/{name}"]
            assert isinstance(listing, Listing), listing
            found[name] = [record.instance.address for record in listing.records]
        return found

    def sees(self, *names: str) -> bool:
        """Whether a reader sees this machine's instance of each of these services."""
        return all(self.registered(*names).values())

    def service(self, name: str) -> dict[str, Any]:
        """A service in nerve's /status."""
        services: dict[str, dict[str, Any]] = self.nerve.status()["services"]
        assert name in services, f"/status does not know {name}"
        return services[name]

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Run a `nerve` command to its end: exit code, output, errors."""
        return run_here(cli, *arguments)

    def close(self) -> None:
        """End everything and leave nothing behind."""
        for daemon in (self.nerve, *self._others):
            daemon.end()
        self._reader.stop()
        self.backends.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine on a `file:` registry."""
    made = Machine()
    yield made
    made.close()


@pytest.fixture(params=["file", "zookeeper"])
def any_machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine on each kind of registry in turn."""
    made = Machine(request.getfixturevalue("zookeeper_url") if request.param == "zookeeper" else None)
    yield made
    made.close()


@pytest.fixture
def fragile_machine(own_zookeeper: ControlledServer) -> Iterator[Machine]:
    """A machine on a ZooKeeper of its own, `own_zookeeper`."""
    made = Machine(ZooKeeperUrl(hosts=own_zookeeper.hosts, root="/smartstack"))
    yield made
    made.close()
