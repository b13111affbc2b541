"""A host with many services, a real nerve and a real registry, to be measured."""

import json
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smartstack.command import post_action
from smartstack.forms import RegistryUrl, TcpAddress
from tests.support.backends import Backends
from tests.support.eventually import eventually
from tests.support.pair import Daemon

FIRST_PORT = 8000
READY_SECONDS = 30.0

# Accepts what comes, and never says a word.
_SERVICE = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=16)
print("listening", flush=True)
kept = []
while True:
    kept.append(server.accept())
"""


class NerveHost:
    """A directory with definitions and nerve.yaml, and the services in child processes. `close` it at the end."""

    def __init__(self, registry: RegistryUrl | None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="bench-"))
        self.address = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}.250"
        self.admin = TcpAddress(self.address, 3199)
        self.registry = str(registry or f"file:{self.directory}/registry")
        self.backends = Backends()
        self.nerve = Daemon("nerve", self.directory / "nerve.yaml", str(self.admin))
        (self.directory / "services").mkdir()

    def define(self, names: list[str], check: Mapping[str, Any]) -> None:
        """Write a definition for each of these, with ports from FIRST_PORT on."""
        for number, name in enumerate(names):
            definition = {"port": FIRST_PORT + number, "check": check}
            (self.directory / f"services/{name}.yaml").write_text(json.dumps(definition))

    def serve(self, count: int) -> None:
        """Have as many HTTP servers listen."""
        for number in range(count):
            self.backends.open(self.address, FIRST_PORT + number)

    def start(self, names: list[str], **settings: Any) -> None:
        """Start nerve with these services announced; every other setting is the default."""
        configuration = {
            "registry": self.registry,
            "host": self.address,
            "admin": str(self.admin),
            "state_directory": "state",
            "run_directory": "run",
            "announce": {name: {} for name in names},
            **settings,
        }
        (self.directory / "nerve.yaml").write_text(json.dumps(configuration))
        self.nerve.start()
        eventually(lambda: self.sum("nerve_registered") == len(names), within=READY_SECONDS)

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the series of /metrics that have this name and these labels."""
        total = 0.0
        for line in self.nerve.get("/metrics").text.splitlines():
            match = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name:
                has = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                total += float(match[3]) if labels.items() <= has.items() else 0.0
        return total

    def check_now(self, name: str) -> None:
        """What `nerve check NAME` does, without the start of a command."""
        post_action(self.admin, "/check", {"service": name}, self.directory / "run/token")

    def close(self) -> None:
        """End everything and leave nothing behind."""
        try:
            if self.nerve.running:
                self.nerve.stop()
        finally:
            self.nerve.end()
            self.backends.stop()
            shutil.rmtree(self.directory, ignore_errors=True)


class Victim:
    """A service that is a process of its own, to be killed."""

    def __init__(self, host: str, port: int) -> None:
        self._command = [sys.executable, "-S", "-E", "-c", _SERVICE, host, str(port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        with self._process.stdout as said:
            assert said.readline() == b"listening\n", "the service cannot listen at its port"

    def kill(self) -> None:
        """End it without warning; `reap` it afterwards."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)

    def reap(self) -> None:
        """Make sure that it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
