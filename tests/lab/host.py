"""One host of the lab: nerve, synapse with its HAProxy, services, and a client, in a namespace and a directory."""

import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import requests

from synapse.haproxy.proc import processes_with
from tests.lab.grammar import SERVICES
from tests.lab.network import Network
from tests.lab.process import Process
from tests.support.eventually import eventually

RATE = 60.0
"""Requests a second of the client of a host."""

SESSION_SECONDS = 4.0
CHECK = {"type": "http", "path": "/", "interval": "500ms", "timeout": "1s", "rise": 1, "fall": 2}

START_SECONDS = 60.0
CGROUP = Path("/sys/fs/cgroup/memory")

_PROGRAMS = Path(sys.executable).parent
_ASK_SECONDS = 2.0
_DISK = "32m"


def faketime() -> Path | None:
    """The library that gives a process another clock; None where it is not installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


class Host:
    """One host. `processes` are its daemons and services by name; HAProxy is synapse's child and goes on without it."""

    def __init__(self, network: Network, name: str, directory: Path, registry: str) -> None:
        self.name = name
        self.address = network.address(name)
        self.directory = directory
        self._control = network.control(name)
        self._registry = registry
        namespace = network.namespace(name)
        for place in ("services", "moods", "disk"):
            (directory / place).mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=755", "lab", str(directory / "disk")]
        subprocess.run(command, check=True)
        self.requests = directory / "requests"
        self._limited: set[str] = set()
        self._protected = False
        self.processes: dict[str, Process] = {}
        for daemon in ("nerve", "synapse"):
            command = [str(_PROGRAMS / daemon), "run", "-c", str(directory / f"{daemon}.yaml")]
            self.processes[daemon] = Process(namespace, command, directory / f"{daemon}.log")
        for service, (port, _) in SERVICES.items():
            command = [sys.executable, "-m", "tests.lab.service", self.address, str(port), service]
            command.append(str(directory / "moods" / service))
            self.processes[service] = Process(namespace, command, directory / f"{service}.log")
        ports = [str(listen) for _, listen in SERVICES.values()]
        command = [sys.executable, "-m", "tests.lab.client", str(RATE), str(self.requests), *ports]
        self.client = Process(namespace, command, directory / "client.log")

    def configure(self) -> None:
        """Write the files of an op, as they are at the beginning."""
        common = {
            "registry": self._registry,
            "state_directory": "disk/state",
            "run_directory": "run",
            "session_timeout": f"{SESSION_SECONDS:g}s",
        }
        announced: dict[str, Any] = {service: {} for service in SERVICES}
        nerve = {**common, "host": self.address, "admin": f"{self._control}:3199", "announce": announced}
        self.write("nerve.yaml", {**nerve, "on_stop": "deregister"})
        self.write("synapse.yaml", {**common, "admin": f"{self._control}:3200"})
        for service in SERVICES:
            self.write(f"services/{service}.yaml", self.definition(service))

    def definition(self, service: str) -> dict[str, Any]:
        """A service's definition, as it is at the beginning."""
        port, listen = SERVICES[service]
        return {"port": port, "check": CHECK, "proxy": {"listen": listen}}

    def write(self, name: str, content: object) -> None:
        """Write a file whole: text as it is, anything else as JSON, which is YAML too."""
        target = self.directory / name
        temporary = target.with_name(f".{target.name}.new")
        temporary.write_text(content if isinstance(content, str) else json.dumps(content))
        temporary.rename(target)

    def mood(self, service: str, mood: dict[str, Any] | None) -> None:
        """How a service answers from now on; None: well."""
        if mood is None:
            (self.directory / "moods" / service).unlink(missing_ok=True)
        else:
            self.write(f"moods/{service}", mood)

    def heal(self) -> None:
        """Undo what was done to what runs, and to the disk; a daemon with a clock of its own is ended."""
        for program in list(self._limited):
            self.unlimit(program)
        for process in self.processes.values():
            process.send(signal.SIGCONT)
            if process.environment:
                process.environment = {}
                process.end(signal.SIGTERM)
        self.signal("haproxy", signal.SIGCONT)
        self.unprotect()
        self.free()
        for service in SERVICES:
            self.mood(service, None)

    def renew(self) -> None:
        """End everything and forget all state."""
        self.power_off()
        self.heal()
        for place in (self.directory / "disk").iterdir():
            shutil.rmtree(place, ignore_errors=True)

    def start(self) -> None:
        """Start everything that does not run."""
        for process in (*self.processes.values(), self.client):
            process.start()

    def ask(self, daemon: str, path: str) -> dict[str, Any] | None:
        """What a daemon's admin address answers, None where it does not."""
        response = self._get(daemon, path)
        with suppress(ValueError):
            answer: dict[str, Any] | None = response.json() if response is not None else None
            return answer
        return None

    def ready(self, daemon: str) -> bool:
        """Whether a daemon says that it is."""
        response = self._get(daemon, "/readyz")
        return response is not None and response.status_code == 200

    def all_ready(self) -> bool:
        """Whether both daemons say that they are."""
        return self.ready("nerve") and self.ready("synapse")

    def all_serving(self, count: int) -> bool:
        """Whether so many instances of each service get traffic here, and no others."""
        return all(self.serving(service) == count for service in SERVICES)

    def serving(self, service: str) -> int | None:
        """How many instances of a service get traffic here; None where synapse does not say."""
        status = self.ask("synapse", "/status")
        if status is None or service not in status.get("services", {}):
            return None
        return len([each for each in status["services"][service]["instances"] if each["state"] == "serving"])

    def reloads(self) -> float:
        """How often HAProxy was reloaded since this synapse's start; NaN where it does not say."""
        response = self._get("synapse", "/metrics")
        if response is None:
            return math.nan
        lines = [line for line in response.text.splitlines() if line.startswith("synapse_haproxy_reloads_total")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def _get(self, daemon: str, path: str) -> requests.Response | None:
        port = {"nerve": 3199, "synapse": 3200}[daemon]
        with suppress(requests.RequestException), requests.Session() as session:
            session.trust_env = False
            return session.get(f"http://{self._control}:{port}{path}", timeout=_ASK_SECONDS)
        return None

    def haproxy(self) -> list[int]:
        """The processes of its HAProxy, the master first."""
        return sorted(processes_with(str(self.directory / "disk/state/haproxy.cfg")))

    def pids(self, what: str) -> list[int]:
        """The processes of a daemon, a service or `haproxy`."""
        if what == "haproxy":
            return self.haproxy()
        return [self.processes[what].pid] if self.processes[what].running else []

    def signal(self, what: str, number: signal.Signals) -> None:
        """Send a signal to a daemon, a service or `haproxy`, and wait for its end where the signal ends it."""
        if what == "haproxy":
            for pid in self.haproxy():
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        elif number in (signal.SIGKILL, signal.SIGTERM):
            self.processes[what].end(number)
        else:
            self.processes[what].send(number)

    def power_off(self) -> None:
        """Everything here ends at once: what it ran, and its client."""
        pids = [process.pid for process in (*self.processes.values(), self.client) if process.running]
        for pid in (*pids, *self.haproxy()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in (*self.processes.values(), self.client):
            process.end(signal.SIGKILL)

    def limit(self, program: str, *, descriptors: int = 0, memory: int = 0) -> None:
        """Let the processes of a program that run now have so many descriptors, and so many bytes of memory."""
        self._limited.add(program)
        for pid in self.pids(program):
            if descriptors:
                _limit_descriptors(pid, descriptors)
            if memory:
                self._group(program).mkdir(exist_ok=True)
                (self._group(program) / "cgroup.procs").write_text(str(pid))
                (self._group(program) / "memory.limit_in_bytes").write_text(str(memory))

    def unlimit(self, program: str) -> None:
        """Let them have what the lab has."""
        self._limited.discard(program)
        for pid in self.pids(program):
            _limit_descriptors(pid, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        if self._group(program).exists():
            for held in (self._group(program) / "cgroup.procs").read_text().split():
                (CGROUP / "cgroup.procs").write_text(held)
            self._group(program).rmdir()

    def set_clock(self, daemon: str, offset: str) -> None:
        """`start` starts it anew with a clock that can be set, `+3600` sets it an hour ahead.

        The monotonic clock stays what it is.
        """
        file = self.directory / f"{daemon}.clock"
        if offset != "start":
            file.write_text(f"{offset}\n")
            return
        file.write_text("+0\n")
        process = self.processes[daemon]
        process.end(signal.SIGTERM)
        process.environment = {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        eventually(
            partial(self._started, daemon), START_SECONDS, f"{daemon} of {self.name} is ready with its own clock"
        )

    def _started(self, daemon: str) -> bool:
        """Whether it is ready; one that ended is started again: libfaketime makes system calls of a program that starts
        fail now and then (EINVAL)."""
        self.processes[daemon].start()
        return self.ready(daemon)

    def _group(self, program: str) -> Path:
        return CGROUP / f"{self.directory.parent.name}-{self.name}-{program}"

    def fill(self) -> None:
        """Leave no room on the disk of the daemons' state."""
        with suppress(OSError), open(self.directory / "disk" / "filler", "wb") as filler:
            while True:
                filler.write(bytes(1 << 16))
                filler.flush()

    def free(self) -> None:
        """Make room again."""
        (self.directory / "disk" / "filler").unlink(missing_ok=True)

    def protect(self) -> None:
        """Make that disk read-only by every path: a second mount over it. What is open for writing would keep the
        kernel from making the first one so."""
        if not self._protected:
            disk = str(self.directory / "disk")
            subprocess.run(["mount", "--bind", disk, disk], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
            self._protected = True

    def unprotect(self) -> None:
        """Make it writable again."""
        if self._protected:
            subprocess.run(["umount", "-l", str(self.directory / "disk")], check=True)
            self._protected = False

    def stop(self) -> None:
        """End everything and take the disk away."""
        for process in self.processes.values():
            process.send(signal.SIGCONT)
        self.power_off()
        self.unprotect()
        subprocess.run(["umount", "-l", str(self.directory / "disk")], check=False)


def _limit_descriptors(pid: int, count: int) -> None:
    """The soft limit alone: not every root may raise a hard one again."""
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
