"""What a step does to the fleet: a method for each verb of the language."""

import shutil
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml

from tests.lab.crowd import Crowd
from tests.lab.fleet import Fleet
from tests.lab.grammar import hosts, places, seconds, split_cut

_ENDS: Final = (signal.SIGKILL, signal.SIGTERM)


class Verbs:
    """What scenarios do, on one fleet. `table` is all of it, by verb."""

    def __init__(self, fleet: Fleet, crowd: Crowd) -> None:
        self._fleet = fleet
        self.table: Mapping[str, Callable[[Any], object]] = {
            "start": self._start,
            "stop": lambda about: self._signal(about, signal.SIGTERM),
            "kill": lambda about: self._signal(about, signal.SIGKILL),
            "restart": self._restart,
            "storm": self._storm,
            "hang": lambda about: self._signal(about, signal.SIGSTOP),
            "resume": lambda about: self._signal(about, signal.SIGCONT),
            "answer": self._answer,
            "cut": self._cut,
            "join": self._join,
            "flap": self._flap,
            "link": self._link,
            "edit": self._edit,
            "wipe": self._wipe,
            "fill": lambda host: fleet.hosts[host].fill(),
            "free": lambda host: fleet.hosts[host].free(),
            "read-only": lambda host: fleet.hosts[host].protect(),
            "writable": lambda host: fleet.hosts[host].unprotect(),
            "limit": self._limit,
            "unlimit": self._unlimit,
            "clock": self._clock,
            "crowd": lambda about: _for_each(crowd.join, about),
            "thin": lambda about: _for_each(crowd.leave, about),
            "wait": lambda about: time.sleep(seconds(about)),
        }

    def _start(self, about: Any) -> None:
        for where, program in places(about):
            if where in self._fleet.ensemble.servers:
                self._fleet.ensemble.servers[where].start()
            elif program:
                self._fleet.hosts[where].processes[program].start()
            else:  # Its client calls again when all is healed: whoever boots a host starts the daemons first.
                for process in self._fleet.hosts[where].processes.values():
                    process.start()

    def _restart(self, about: Any) -> None:
        self._signal(about, signal.SIGTERM)
        self._start(about)

    def _storm(self, about: Mapping[str, Any]) -> None:
        """What `of` names is killed and started so many `times`, with a pause of `every` after each."""
        for _ in range(about["times"]):
            self._signal(about["of"], signal.SIGKILL)
            self._start(about["of"])
            time.sleep(seconds(about["every"]))

    def _signal(self, about: Any, number: signal.Signals) -> None:
        ensemble = self._fleet.ensemble
        for where, program in places(about):
            if where not in self._fleet.hosts:
                process = (ensemble.servers.get(where) or ensemble.one(where)).process
                if number in _ENDS:
                    process.end(number)
                else:
                    process.send(number)
            elif program:
                self._fleet.hosts[where].signal(program, number)
            elif number is signal.SIGKILL:
                self._fleet.hosts[where].power_off()
            else:
                for name in self._fleet.hosts[where].processes:
                    self._fleet.hosts[where].signal(name, number)

    def _answer(self, about: Mapping[str, Any]) -> None:
        for place, mood in about.items():
            for host, service in places(place):
                self._fleet.hosts[host].mood(service, mood)

    # The network

    def _cut(self, about: str) -> None:
        host, how, others = split_cut(about)
        if not how:
            self._fleet.unplug(host)
        for other in others:
            self._fleet.drop(host, other)
            if how == "from":
                self._fleet.drop(other, host)

    def _join(self, about: str) -> None:
        host, how, others = split_cut(about)
        if not how:
            self._fleet.plug(host)
        for other in others:
            self._fleet.restore(host, other)
            if how == "from":
                self._fleet.restore(other, host)

    def _flap(self, about: Mapping[str, Any]) -> None:
        """Cut and joined again so many `times`, `every` of which is half cut and half joined."""
        for _ in range(about["times"]):
            for turn in (self._cut, self._join):
                turn(about["cut"])
                time.sleep(seconds(about["every"]) / 2)

    def _link(self, about: Mapping[str, Any]) -> None:
        for host, link in about.items():
            self._fleet.network.clear_link(host)
            if link is None:
                continue
            if "rate" in link:
                self._fleet.network.throttle(host, link["rate"])
            else:
                self._fleet.network.disturb(host, seconds(link.get("delay", "0s")), link.get("lost", 0.0))

    # Files, limits, clocks

    def _edit(self, about: Mapping[str, Any]) -> None:
        """`h1/services/web.yaml`: whole text, keys that are changed, or null; `*/...` on every host."""
        for place, change in about.items():
            where, _, name = place.partition("/")
            for host in hosts(where):
                file = self._fleet.hosts[host].directory / name
                if isinstance(change, dict):
                    before = yaml.safe_load(file.read_text()) if file.exists() else {}
                    self._fleet.hosts[host].write(name, {**before, **change})
                elif change is None:
                    file.unlink(missing_ok=True)
                else:
                    self._fleet.hosts[host].write(name, change)

    def _wipe(self, about: str) -> None:
        if about == "tree":
            self._fleet.wipe_tree()
            return
        host, _, place = about.partition("/")
        if place:
            shutil.rmtree(self._fleet.hosts[host].directory / "disk" / place)
            return
        for server in self._fleet.ensemble.servers.values():
            shutil.rmtree(server.data)

    def _limit(self, about: Mapping[str, Any]) -> None:
        for place, limits in about.items():
            for host, program in places(place):
                self._fleet.hosts[host].limit(program, **limits)

    def _unlimit(self, about: Any) -> None:
        for host, program in places(about):
            self._fleet.hosts[host].unlimit(program)

    def _clock(self, about: Mapping[str, str]) -> None:
        for place, offset in about.items():
            for host, program in places(place):
                self._fleet.hosts[host].set_clock(program, offset)


def _for_each(do: Callable[[str, int], None], about: Mapping[str, int]) -> None:
    for name, value in about.items():
        do(name, value)
