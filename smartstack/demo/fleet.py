"""The fleet: every process of the demo, started, watched, and ended with nothing left behind."""

import os
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from smartstack.demo import observe, zookeeper
from smartstack.demo.children import STOP_SECONDS, Child, Patience
from smartstack.demo.layout import Layout, Member
from smartstack.demo.ports import require_free
from smartstack.errors import SmartStackError
from smartstack.process import write_atomically

START_SECONDS: Final = 30.0
"""How long the fleet may take to be complete on a busy machine; it takes about two."""

REVIVE_SECONDS: Final = 5.0
"""After how long a process that ended is started again, as an init system would."""

_SOCKET_DIRECTORY_LIMIT: Final = 75
"""Longest directory, in bytes, of HAProxy's sockets: a socket's path holds 107, temporary names included."""


class Fleet:
    """All processes of one demo. `stop` ends whatever was started, also after a start that failed."""

    def __init__(self, layout: Layout, patience: Patience) -> None:
        self.layout = layout
        self._patience = patience
        self.services = {member: self._service(member) for member in (*layout.members, layout.added)}
        self.nerves = {host: self._daemon("nerve", layout.nerve_yaml(host), host) for host in layout.addresses}
        self.synapse = self._daemon("synapse", layout.synapse_yaml)
        self._zookeeper: Child | None = None
        self._wanted: list[Child] = []
        """Those that should run, in the order of their start."""

    def start(self) -> None:
        """Start everything, and return when every instance is served. Raises SmartStackError and Interrupted."""
        layout = self.layout
        if len(os.fsencode(layout.run_directory)) > _SOCKET_DIRECTORY_LIMIT:
            raise SmartStackError(f"the path {layout.directory} is too long for HAProxy's sockets: give a shorter one")
        command = zookeeper.command(f"{layout.directory}/zookeeper/zoo.cfg") if layout.registry == "zookeeper" else None
        require_free(layout.listened, layout.port_base)
        self._write_files()
        if command is not None:
            self._start_zookeeper(command)
        for member in layout.members:
            self.run(self.services[member])
        for nerve in self.nerves.values():
            self.run(nerve)
        self.run(self.synapse)
        self.until(self._is_complete, START_SECONDS, "not all instances are served")

    def run(self, child: Child) -> None:
        """Start a process and see to it that it runs from now on."""
        child.start()
        if child not in self._wanted:
            self._wanted.append(child)

    def until(self, condition: Callable[[], bool], within: float, what: str) -> float:
        """As Patience.until. Raises SmartStackError too when a process ends of its own accord meanwhile."""

        def asked() -> bool:
            for child in self._wanted:
                if not child.alive() and not child.ended_by_us:
                    raise SmartStackError(child.how_it_ended())
            return condition()

        return self._patience.until(asked, within, what)

    def ended(self) -> Iterable[Child]:
        """Those that should run and do not."""
        return [child for child in self._wanted if not child.alive()]

    def revive(self) -> list[Child]:
        """Start again what ended a while ago, and return it."""
        now = time.monotonic()
        due = [child for child in self.ended() if now - (child.ended_at or now) >= REVIVE_SECONDS]
        for child in due:
            child.start()
        return due

    def write(self, path: str, text: str) -> None:
        """Write a file as a careful operator does: whole."""
        write_atomically(path, text.encode())

    def stop(self) -> None:
        """End everything that was started, HAProxy too. Never raises for what is already gone."""
        _end([child for child in self._wanted if child in (self.synapse, *self.nerves.values())])
        self._stop_haproxy()
        _end([child for child in self._wanted if child not in (self.synapse, *self.nerves.values())])

    def _is_complete(self) -> bool:
        told = observe.status(self.layout.synapse_admin)
        for service in ("web", "api"):
            wanted = {str(member.address) for member in self.layout.members if member.service == service}
            if observe.serving(told, service) != wanted:
                return False
        return observe.is_ready(self.layout.synapse_admin) and all(
            observe.is_ready(self.layout.nerve_admin(host)) for host in self.layout.addresses
        )

    def _write_files(self) -> None:
        layout = self.layout
        for path, text in layout.files().items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self.write(path, text)
        for directory in ("logs", "run", "registry"):
            Path(layout.directory, directory).mkdir(exist_ok=True)

    def _start_zookeeper(self, command: list[str]) -> None:
        directory = Path(self.layout.directory, "zookeeper")
        (directory / "data").mkdir(parents=True)
        self.write(str(directory / "zoo.cfg"), zookeeper.configuration(self.layout.zookeeper, str(directory / "data")))
        self._zookeeper = Child("zookeeper", command, self.layout.log("zookeeper"))
        self.run(self._zookeeper)
        self.until(lambda: zookeeper.answers(self.layout.zookeeper), START_SECONDS, "ZooKeeper does not answer")

    def _service(self, member: Member) -> Child:
        arguments = [member.service, member.host, member.address.host, str(member.address.port)]
        command = [sys.executable, "-m", "smartstack.demo.service", *arguments]
        return Child(member.name, command, self.layout.log(member.name))

    def _daemon(self, program: str, configuration: str, host: str | None = None) -> Child:
        name = f"{program} on {host}" if host else program
        return Child(name, [console_script(program), "run", "-c", configuration], self.layout.log(name))

    def _stop_haproxy(self) -> None:
        """synapse lets HAProxy go on, so it is ended here: the processes that run with our own configuration file."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + STOP_SECONDS
            for pid in _running_with(self.layout.haproxy_configuration):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, number)
            while _running_with(self.layout.haproxy_configuration) and time.monotonic() < end:
                time.sleep(0.01)


def console_script(name: str) -> str:
    """The path of a command that is installed with this Python, or found in PATH. Raises SmartStackError."""
    beside = Path(sysconfig.get_path("scripts"), name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SmartStackError(
            f"cannot find the command {name} beside {sys.executable}: pip install smartstack-py again"
        )
    return found


def _end(children: list[Child]) -> None:
    for child in children:
        child.signal(signal.SIGTERM)
    for child in children:
        child.end()


def _running_with(configuration: str) -> list[int]:
    """The HAProxy processes of this machine that were started with this file and live."""
    found = []
    wanted = os.path.realpath(configuration)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            name, _, rest = (process / "stat").read_text(errors="replace").rpartition(")")
            if not name.endswith("(haproxy") or rest.split()[0] in "ZX":
                continue
            arguments = map(os.fsdecode, (process / "cmdline").read_bytes().split(b"\0"))
            if any(os.path.realpath(argument) == wanted for argument in arguments if argument.startswith("/")):
                found.append(int(process.name))
    return found
