"""Run a scenario against the fleet: each verb is a method, each fact of `until` a question."""

import math
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from kazoo.exceptions import KazooException

from tests.lab.crowd import Crowd
from tests.lab.fleet import HOSTS, Fleet
from tests.lab.report import Result, judge
from tests.lab.scenario import Scenario, Step, seconds
from tests.support.eventually import eventually

SETTLE_SECONDS = 2.0
"""How long clients go on calling before the first step and after the last."""

UNTIL_SECONDS = 30.0

_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_GROUPS = Path("/sys/fs/cgroup/memory")
_SIGNALS = {
    "stop": signal.SIGTERM,
    "kill": signal.SIGKILL,
    "hang": signal.SIGSTOP,
    "resume": signal.SIGCONT,
}


def lacks(scenario: Scenario) -> str:
    """What this machine has not and the scenario needs, in words; empty where it has all."""
    have: dict[str, tuple[Callable[[], bool], str]] = {
        "faketime": (_FAKETIME.exists, "libfaketime is not installed"),
        "memory cgroup": ((_GROUPS / "memory.limit_in_bytes").exists, "there is no memory cgroup (v1)"),
        "netem": (_has_netem, "this kernel has no netem"),
    }
    return "; ".join(words for need, (there, words) in have.items() if need in scenario.needs and not there())


class Run:
    """One scenario on the fleet. `verbs` are what it can do, by name."""

    def __init__(self, fleet: Fleet, scenario: Scenario, crowd: Crowd) -> None:
        self._fleet = fleet
        self._scenario = scenario
        self._crowd = crowd
        self._recovery: dict[str, float] = {}
        self._last = time.monotonic()
        hosts = fleet.hosts
        self.verbs: dict[str, Callable[[Any], object]] = {
            "wait": lambda about: time.sleep(seconds(about)),
            "start": self._start,
            "restart": self._restart,
            **{verb: partial(self._signal, number=number) for verb, number in _SIGNALS.items()},
            "storm": self._storm,
            "cut": lambda about: self._cut(about, fleet.drop, fleet.unplug),
            "join": lambda about: self._cut(about, fleet.restore, fleet.plug),
            "delay": _for_each(fleet.network.delay),
            "edit": _for_each(self._edit),
            "answer": _for_each(self._answer),
            "fill": lambda about: hosts[about].fill(),
            "free": lambda about: hosts[about].free(),
            "read-only": lambda about: hosts[about].remount("ro"),
            "writable": lambda about: hosts[about].remount("rw"),
            "limit": _for_each(self._limit),
            "clock": _for_each(self._clock),
            "wipe": self._wipe,
            "crowd": _for_each(crowd.join),
            "thin": _for_each(crowd.leave),
        }

    def result(self) -> Result:
        """Run it, and heal what it broke. What does not come true in time is in the result's `wrong`."""
        reloads, packets = self._fleet.reloads(), self._fleet.ensemble.requests()
        began, wrong = time.monotonic(), []
        time.sleep(SETTLE_SECONDS)
        for number, step in enumerate(self._scenario.steps, 1):
            try:
                self._step(step)
            except (
                AssertionError,
                RuntimeError,
                OSError,
                LookupError,
                subprocess.SubprocessError,
                KazooException,
            ) as error:
                wrong.append(f"step {number}, {step}: {error}")
                break
        time.sleep(SETTLE_SECONDS)
        ended = time.monotonic()
        counted = _difference(reloads, self._fleet.reloads())
        sent = max(0, self._fleet.ensemble.requests() - packets)
        try:
            self._crowd.clear()
            self._fleet.heal()
        except AssertionError as error:
            wrong.append(f"it did not heal: {error}")
        return judge(
            self._scenario,
            self._fleet.calls(began, ended),
            reloads=counted,
            registry_requests=sent,
            took=ended - began,
            recovery=self._recovery,
            wrong=[*wrong, *self._fleet.tracebacks()],
            began=began,
        )

    def _step(self, step: Step) -> None:
        if step.verb == "until":
            self._until(step)
            return
        self.verbs[step.verb](step.about)
        self._last = time.monotonic()

    # Facts

    def _until(self, step: Step) -> None:
        """Wait for the fact, and note how long that took since the last thing that was done."""
        about = dict(step.about)
        within = seconds(about.pop("within", f"{UNTIL_SECONDS:g}s"))
        [(what, fact)] = about.items()
        eventually(lambda: self._holds(what, fact), within=within, message=f"{what} {fact}")
        self._recovery[str(step)] = time.monotonic() - self._last

    def _holds(self, what: str, fact: Any) -> bool:
        if what == "zookeeper":
            servers = self._fleet.ensemble.servers.values()
            return any(each.mode == "leader" for each in servers) if fact == "leads" else all(e.mode for e in servers)
        if what == "registered":
            return all(self._fleet.registered(service) == count for service, count in fact.items())
        if what == "ready":
            return all(self._fleet.hosts[host].ready(daemon) for host, daemon in _each(fact))
        if what == "problem":
            return all(
                fact_text in str(self._fleet.hosts[host].ask("synapse", "/status")) for host, fact_text in fact.items()
            )
        names = HOSTS if what == "all" else what.split()
        return all(
            self._fleet.hosts[name].serving(service) == count for name in names for service, count in fact.items()
        )

    # Verbs

    def _start(self, about: Any) -> None:
        if about == "zookeeper":
            for server in self._fleet.ensemble.servers.values():
                server.identify()
                server.process.start()
            return
        for host, what in _each(about):
            if host in self._fleet.ensemble.servers:
                self._fleet.ensemble.servers[host].process.start()
            elif what:
                self._fleet.hosts[host].processes[what].start()
            else:  # its client calls again when all is healed: whoever boots a host starts the daemons first
                for process in self._fleet.hosts[host].processes.values():
                    process.start()

    def _restart(self, about: Any) -> None:
        self._signal(about, signal.SIGTERM)
        self._start(about)

    def _signal(self, about: Any, number: signal.Signals) -> None:
        ensemble = self._fleet.ensemble
        if about in ("leader", "follower"):
            self._send(ensemble.one(about).name, "", number)
            return
        if about == "zookeeper":
            for name in ensemble.servers:
                self._send(name, "", number)
            return
        for host, what in _each(about):
            self._send(host, what, number)

    def _send(self, host: str, what: str, number: signal.Signals) -> None:
        if host in self._fleet.ensemble.servers:
            process = self._fleet.ensemble.servers[host].process
            if number in (signal.SIGKILL, signal.SIGTERM):
                process.end(number)
            else:
                process.send(number)
        elif what:
            self._fleet.hosts[host].signal(what, number)
        elif number is signal.SIGKILL:
            self._fleet.hosts[host].power_off()
        else:
            for each in self._fleet.hosts[host].processes:
                self._fleet.hosts[host].signal(each, number)

    def _storm(self, about: dict[str, Any]) -> None:
        """`of` is killed and started so many `times`, with a pause of `every` after each."""
        for _ in range(about["times"]):
            self._signal(about["of"], signal.SIGKILL)
            self._start(about["of"])
            time.sleep(seconds(about["every"]))

    def _answer(self, place: str, mood: dict[str, Any] | None) -> None:
        host, _, service = place.partition("/")
        self._fleet.hosts[host].mood(service, mood)

    def _cut(self, about: str, between: Callable[[str, str], None], cable: Callable[[str], None]) -> None:
        """`h1`; `h1 from zookeeper`, `h1 from others`, `h1 from h2`; one way: `h1 to zookeeper`."""
        words = about.split()
        if len(words) == 1:
            cable(words[0])
            return
        source, how, target = words
        for other in self._others(source, target):
            between(source, other)
            if how == "from":
                between(other, source)

    def _others(self, source: str, target: str) -> list[str]:
        if target == "zookeeper":
            return list(self._fleet.ensemble.servers)
        return [name for name in HOSTS if name != source] if target == "others" else [target]

    def _edit(self, place: str, change: Any) -> None:
        """`h1/services/web.yaml`: text, or keys that are changed; `*/...` on every host."""
        host, _, name = place.partition("/")
        for each in HOSTS if host == "*" else (host,):
            file = self._fleet.hosts[each].directory / name
            if isinstance(change, dict):
                before = yaml.safe_load(file.read_text()) if file.exists() else {}
                self._fleet.hosts[each].write(name, {**before, **change})
            elif change is None:
                file.unlink(missing_ok=True)
            else:
                self._fleet.hosts[each].write(name, change)

    def _limit(self, place: str, limits: dict[str, Any]) -> None:
        host, _, what = place.partition("/")
        for pid in self._fleet.hosts[host].pids(what):
            if "descriptors" in limits:
                subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={limits['descriptors']}"], check=True)
            if "memory" in limits:
                group = _GROUPS / f"{self._fleet.directory.name}-{host}-{what}"
                group.mkdir(exist_ok=True)
                (group / "cgroup.procs").write_text(str(pid))
                (group / "memory.limit_in_bytes").write_text(str(limits["memory"]))

    def _clock(self, place: str, offset: str) -> None:
        """`start` starts it anew with a clock that can be set; `+1h` sets it."""
        host, _, what = place.partition("/")
        file = self._fleet.hosts[host].directory / f"{what}.clock"
        if offset != "start":
            file.write_text(f"{offset}\n")
            return
        file.write_text("+0\n")
        process = self._fleet.hosts[host].processes[what]
        process.end(signal.SIGTERM)
        process.environment = {
            "LD_PRELOAD": str(_FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        process.start()

    def _wipe(self, about: str) -> None:
        if about == "tree":
            self._fleet.wipe_tree()
            return
        host, _, place = about.partition("/")
        if place:
            subprocess.run(["rm", "-rf", str(self._fleet.hosts[host].directory / "disk" / place)], check=True)
            return
        for server in self._fleet.ensemble.servers.values():
            subprocess.run(["rm", "-rf", str(server.data)], check=True)
            server.identify()


def _for_each(do: Callable[[str, Any], None]) -> Callable[[dict[str, Any]], None]:
    """Do it with each of the things, by name."""

    def all_of_them(about: dict[str, Any]) -> None:
        for name, value in about.items():
            do(name, value)

    return all_of_them


def _each(about: Any) -> Iterator[tuple[str, str]]:
    """`h1/nerve`, `h1`, `*/synapse`, several with commas or as a list: hosts, and what of each ("" is all)."""
    for one in about if isinstance(about, list) else [word.strip() for word in str(about).split(",")]:
        host, _, what = one.partition("/")
        for name in HOSTS if host == "*" else (host,):
            yield name, what


def _difference(before: dict[str, float], after: dict[str, float]) -> int:
    """Reloads since then; of a synapse that was started anew, all of its own."""
    total = 0.0
    for name, now in after.items():
        then = before.get(name, 0.0)
        if not math.isnan(now):
            total += now - then if now >= then else now
    return round(total)


def _has_netem() -> bool:
    done = subprocess.run(
        ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "0ms"], capture_output=True, check=False
    )
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], capture_output=True, check=False)
    return done.returncode == 0
