"""Run a scenario against the fleet, and hold what was seen against what it promises."""

import math
import subprocess
import time
from collections.abc import Callable
from typing import Any, Final

from kazoo.exceptions import KazooException

from tests.lab.crowd import Crowd
from tests.lab.fleet import Fleet
from tests.lab.grammar import HOSTS, places, seconds
from tests.lab.host import CGROUP, faketime
from tests.lab.network import has_netem
from tests.lab.report import Result, judge
from tests.lab.scenario import Scenario, Step
from tests.lab.verbs import Verbs
from tests.support.eventually import eventually

SETTLE_SECONDS: Final = 1.0
"""How long clients go on calling before the first step and after the last."""

UNTIL_SECONDS: Final = 30.0
STILL_SECONDS: Final = 1.0
"""How long a busy host may take to say that something still holds."""

_FAILURES: Final = (
    AssertionError,
    RuntimeError,
    OSError,
    LookupError,
    subprocess.SubprocessError,
    KazooException,
)
"""What a step may end with that cannot be done, or does not come true."""


def lacks(scenario: Scenario) -> str:
    """What this machine has not and the scenario needs, in words; empty where it has all."""
    have: dict[str, tuple[Callable[[], bool], str]] = {
        "faketime": (lambda: faketime() is not None, "libfaketime is not installed"),
        "memory cgroup": ((CGROUP / "memory.limit_in_bytes").exists, "there is no memory cgroup (v1)"),
        "netem": (has_netem, "this kernel has no netem"),
    }
    return "; ".join(words for need, (there, words) in have.items() if need in scenario.needs and not there())


class Run:
    """One scenario on the fleet."""

    def __init__(self, fleet: Fleet, scenario: Scenario, crowd: Crowd) -> None:
        self._fleet = fleet
        self._scenario = scenario
        self._crowd = crowd
        self._verbs = Verbs(fleet, crowd)
        self._recovery: dict[str, float] = {}
        self._last = time.monotonic()

    def result(self) -> Result:
        """Run it, and heal what it broke; a fleet that does not heal is made anew. The result's `wrong` says so, and
        what did not come true in time."""
        logs = self._fleet.logs()
        reloads, packets = self._fleet.reloads(), self._fleet.ensemble.requests()
        began, wrong = time.monotonic(), []
        time.sleep(SETTLE_SECONDS)
        for number, step in enumerate(self._scenario.steps, 1):
            try:
                self._step(number, step)
            except _FAILURES as error:
                wrong.append(f"step {number}, {step}: {error}")
                break
        time.sleep(SETTLE_SECONDS)
        ended = time.monotonic()
        counted = _difference(reloads, self._fleet.reloads())
        sent = _difference(packets, self._fleet.ensemble.requests())
        try:
            self._crowd.clear()
            self._fleet.heal()
        except _FAILURES as error:
            wrong.append(f"it did not heal: {error}")
            self._fleet.renew()
        return judge(
            self._scenario,
            self._fleet.calls(began, ended),
            reloads=counted,
            registry_requests=sent,
            took=ended - began,
            recovery=self._recovery,
            wrong=[*wrong, *self._fleet.tracebacks(logs)],
            began=began,
        )

    def _step(self, number: int, step: Step) -> None:
        if step.verb == "until":
            self._until(number, step)
        elif step.verb == "still":
            [(what, fact)] = step.about.items()
            eventually(lambda: self._holds(what, fact), within=STILL_SECONDS, message=f"{what} {fact}")
        else:
            self._verbs.table[step.verb](step.about)
            self._last = self._last if step.verb == "wait" else time.monotonic()

    def _until(self, number: int, step: Step) -> None:
        """Wait for the fact, and note how long that took since something was done last."""
        about = dict(step.about)
        within = seconds(about.pop("within", f"{UNTIL_SECONDS:g}s"))
        [(what, fact)] = about.items()
        eventually(lambda: self._holds(what, fact), within=within, message=f"{what} {fact}")
        self._recovery[f"{number}. {step}"] = time.monotonic() - self._last

    def _holds(self, what: str, fact: Any) -> bool:
        fleet = self._fleet
        if what == "zookeeper":
            modes = [server.mode for server in fleet.ensemble.servers.values()]
            return "leader" in modes if fact == "leads" else all(modes)
        if what == "registered":
            return all(fleet.registered(service) == count for service, count in fact.items())
        if what == "ready":
            return all(fleet.hosts[host].ready(daemon) for host, daemon in places(fact))
        if what == "gone":
            return not any(fleet.hosts[host].pids(program) for host, program in places(fact))
        if what == "problem":
            return all(text in str(fleet.hosts[host].ask("synapse", "/status")) for host, text in fact.items())
        names = HOSTS if what == "all" else what.split()
        return all(fleet.hosts[name].serving(service) == count for name in names for service, count in fact.items())


def _difference(before: dict[str, float], after: dict[str, float]) -> int:
    """What was counted since then. Who counts less than before was started anew: all that it counted is new, and what
    it counted before it ended is not known."""
    total = 0.0
    for name, now in after.items():
        then = before.get(name, 0.0)
        if not math.isnan(now):
            total += now - then if now >= then else max(now, 0.0)
    return round(total)
