"""Looks at the fleet all the time, and holds what it sees against the truth and the promises."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from synapse.proxy import Slot
from tests.bench.process import cost
from tests.soak.faults import EXTRA, SERVICES, Fault
from tests.soak.fleet import ROOT, SoakFleet, SoakHost
from tests.soak.growth import Series
from tests.soak.promises import Promises
from tests.soak.truth import Expected, expected, is_blind, may_tell

_SLOT = re.compile(r"    server \S+ (\S+) .*")
_MB: Final = 1 << 20
_TELEMETRY: Final = "telemetry"
_TRACES: Final = frozenset(
    {"last_good.json", "maintenance.json", "holds.json", "haproxy.cfg.rejected", "haproxy.cfg.rejected.txt"}
)
"""What the first instance, drain, hold or refused definition leaves behind, as docs/operate.md says."""

_FORBIDDEN: Final = ("Traceback", "Segmentation fault", "exited with code 139")


class Watcher:
    """`promises` and `series` are what it has seen; `tracebacks` the lines that no log may have."""

    def __init__(self, fleet: SoakFleet, promises: Promises) -> None:
        self.series = Series()
        self.tracebacks: list[str] = []
        self._fleet = fleet
        self._promises = promises
        self._read: dict[Path, int] = {}

    def look_at_routes(self, now: float, under_way: Collection[Fault]) -> None:
        """Whether everybody is routed who must be, and nobody else, on each host that is itself."""
        for host in self._fleet:
            blind = is_blind(under_way, host.name)
            slots = None if blind else host.slots()
            silent = slots is None and not blind
            self._promises.look("HAProxy answers", host.name, now, wrong="no answer" if silent else "")
            for service in (*SERVICES, EXTRA):
                by_address = {slot.address: slot for slot in (slots or {}).get(service, ())}
                for other in self._fleet:
                    wanted = expected(under_way, service, other.name, host.name)
                    address = other.instances[service].address
                    about = f"{service} of {other.name} on {host.name}"
                    slot = by_address.get(address)
                    self._look_at_route(now, Expected.OPEN if slots is None else wanted, about, address, slot)

    def _look_at_route(self, now: float, wanted: Expected, about: str, address: str, slot: Slot | None) -> None:
        is_routed = slot is not None and slot.serves and slot.up
        how = "is not in HAProxy" if slot is None else f"has weight {slot.weight} and is {'up' if slot.up else 'down'}"
        is_lost, is_left = wanted is Expected.ROUTED and not is_routed, wanted is Expected.UNROUTED and is_routed
        self._promises.look("routed", about, now, wrong=f"{address} {how}" if is_lost else "")
        self._promises.look("unrouted", about, now, wrong=f"{address} {how}" if is_left else "")

    def look_at_daemons(self, now: float, under_way: Collection[Fault], suspended: frozenset[str]) -> None:
        """Whether they answer, tell of nothing that is over, and agree with HAProxy and its file."""
        for host in self._fleet:
            for name in host.daemons:
                if f"{name} on {host.name}" not in suspended:
                    self._look_at_daemon(now, under_way, host, name)
                else:
                    self._promises.look("healthz", f"{name} on {host.name}", now)
                    self._promises.look("no problem", f"{name} on {host.name}", now)
            if f"synapse on {host.name}" in suspended:
                self._promises.look("in step", host.name, now)

    def _look_at_daemon(self, now: float, under_way: Collection[Fault], host: SoakHost, name: str) -> None:
        about = f"{name} on {host.name}"
        answer = host.get(name, "/healthz")
        unwell = "no answer" if answer is None else answer.text[:300] if answer.status_code != 200 else ""
        self._promises.look("healthz", about, now, wrong=unwell)
        status = host.status(name)
        if status is None:
            return
        told = [] if may_tell(under_way, host.name) else problems(name, status)
        self._promises.look("no problem", about, now, wrong="; ".join(told)[:500])
        if name == "synapse":
            is_itself = not may_tell(under_way, host.name) and not is_blind(under_way, host.name)
            self._promises.look("in step", host.name, now, wrong=out_of_step(host, status) if is_itself else "")

    def sample(self, now: float, suspended: frozenset[str]) -> None:
        """Take what must stay flat."""
        for host in self._fleet:
            for name, daemon in host.daemons.items():
                with suppress(OSError, AssertionError):
                    found = cost(daemon.pid)
                    values = {"MB of RSS": found.rss, "threads": found.threads, "descriptors": found.descriptors}
                    for what, value in values.items():
                        self.series.add(what, f"{name} on {host.name}", daemon.pid, now, value)
            with suppress(OSError):
                workers = max(0, len(host.host.haproxy_processes()) - 2)
                self.series.add("old workers", f"HAProxy on {host.name}", 0, now, workers)
            files = list(_files(host))
            self.series.add("files", f"the state of {host.name}", 0, now, len(files))
            self.series.add("MB on disk", f"the state of {host.name}", 0, now, sum(_size(each) for each in files) / _MB)
        if "zookeeper" not in suspended:
            with suppress(OSError, ValueError):
                answer = self._fleet.zookeeper.command("mntr", timeout_seconds=0.5)
                for what, key in (("nodes", "zk_znode_count"), ("watches", "zk_watch_count")):
                    if found_number := re.search(rf"^{key}\s+(\d+)", answer, re.MULTILINE):
                        self.series.add(what, "ZooKeeper", 0, now, float(found_number[1]))

    def read_logs(self, now: float) -> None:
        """Whether a log has what none may have."""
        for host in self._fleet:
            logs = [daemon.log_file for daemon in host.daemons.values()]
            logs.append(host.host.directory / "run" / "haproxy.log")
            for log in logs:
                self._read_log(now, log)

    def _read_log(self, now: float, log: Path) -> None:
        with suppress(OSError), open(log, "rb") as file:
            file.seek(self._read.get(log, 0))
            text = file.read()
            whole = text.rpartition(b"\n")[0]
            self._read[log] = self._read.get(log, 0) + len(whole)
            for line in whole.decode("utf-8", "replace").splitlines():
                if any(word in line for word in _FORBIDDEN):
                    self.tracebacks.append(f"{now:.1f} s, {log.parent.name}/{log.name}: {line[:300]}")


def problems(name: str, status: Mapping[str, Any]) -> list[str]:
    """What a daemon's /status tells that is wrong, in words."""
    told = [f"{service or 'the host'}: {words}" for service, words in status["problems"].items() if words]
    told += [f"needs a restart for {setting}" for setting in status["needs_restart"]]
    if name == "nerve":
        told += [f"{service}: {each['error']}" for service, each in status["services"].items() if each["error"]]
        told += [f"the registry: {status['registry_error']}"] if status["registry_error"] else []
        told += [f"actions: {status['actions_problem']}"] if status["actions_problem"] else []
        return told
    told += [f"{service}: {each['refused_definition']}" for service, each in status["services"].items()
             if each["refused_definition"]]  # fmt: skip
    return [*told, status["error"]] if status["error"] else told


def out_of_step(host: SoakHost, status: Mapping[str, Any]) -> str:
    """How synapse's intent, haproxy.cfg and the running HAProxy differ, in words; empty where they do not."""
    slots = host.slots()
    if slots is None:
        return ""
    running = {service: {slot.address for slot in each} for service, each in slots.items()}
    intent = {
        service: {instance["address"] for instance in each["instances"]} for service, each in status["services"].items()
    }
    written = _written(host.host.state / "haproxy.cfg")
    return "" if running == intent == written else f"wanted {intent}, running {running}, written {written}"


def _written(file: Path) -> dict[str, set[str]]:
    """The addresses that haproxy.cfg gives each service."""
    written: dict[str, set[str]] = {}
    backend: str | None = None
    with suppress(OSError):
        for line in file.read_text().splitlines():
            if line and not line.startswith((" ", "#")):
                section, _, name = line.partition(" ")
                backend = name if section == "backend" and name in (*SERVICES, EXTRA) else None
                if backend is not None:
                    written[backend] = set()
            elif backend is not None and (match := _SLOT.fullmatch(line)) and not line.endswith(" disabled"):
                written[backend].add(match[1])
    return written


def _files(host: SoakHost) -> Iterator[Path]:
    """The files in its state directories. The hour of figures is left out, which has a file for each minute."""
    for state in (host.host.state, host.host.directory / "state-1"):
        for path in state.rglob("*"):
            if _TELEMETRY not in path.parts and path.name != "filler" and path.is_file():
                yield path


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def picture(fleet: SoakFleet) -> dict[str, Any]:
    """What must be at the end as it was at the start: who is routed, whose breaker is open, the weights in haproxy.cfg,
    problems, files, processes, and what is in ZooKeeper. Live weights go by what answers take, so they are left out."""
    seen: dict[str, Any] = {}
    for host in fleet:
        slots = host.slots() or {}
        seen[f"routes of {host.name}"] = {
            service: {slot.address: slot.serves and slot.up for slot in sorted(each, key=lambda slot: slot.address)}
            for service, each in slots.items()
        }
        seen[f"file of {host.name}"] = sorted(_server_lines(host.host.state / "haproxy.cfg"))
        for name in host.daemons:
            status = host.status(name)
            seen[f"problems of {name} on {host.name}"] = "no answer" if status is None else problems(name, status)
            if name == "synapse" and status is not None:
                seen[f"step of {host.name}"] = out_of_step(host, status)
                seen[f"not closed on {host.name}"] = _not_closed(status)
        seen[f"HAProxy's processes on {host.name}"] = len(host.host.haproxy_processes())
        files = {str(each.relative_to(host.host.directory)) for each in _files(host)}
        seen[f"files of {host.name}"] = sorted(file for file in files if Path(file).name not in _TRACES)
    with suppress(OSError):
        seen["watches"] = fleet.zookeeper.watches()
    seen["nodes"] = _nodes(fleet)
    return seen


def _not_closed(status: Mapping[str, Any]) -> list[str]:
    """The instances whose breaker is not closed."""
    return [
        f"{service} {instance['address']}"
        for service, each in status["services"].items()
        for instance in each["instances"]
        if instance["balance"] and instance["balance"]["breaker"] not in (None, "closed")
    ]


def _server_lines(file: Path) -> list[str]:
    """The instances in haproxy.cfg with all that their lines say, but for the slot's name."""
    lines = []
    with suppress(OSError):
        lines = [line.strip() for line in file.read_text().splitlines() if _SLOT.fullmatch(line)]
    return [line.split(" ", 2)[2] for line in lines if not line.endswith(" disabled")]


def _nodes(fleet: SoakFleet) -> list[str]:
    client = fleet.zookeeper.client()
    try:
        found, waiting = [], [ROOT]
        while waiting:
            node = waiting.pop()
            found.append(node)
            waiting += [f"{node}/{child}" for child in client.get_children(node)]
        return sorted(found)
    finally:
        client.stop()
        client.close()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """In words, what is not as it was."""
    return [
        f"{what}: was {before.get(what)}, is {after.get(what)}"
        for what in sorted(before.keys() | after.keys())
        if before.get(what) != after.get(what)
    ]
