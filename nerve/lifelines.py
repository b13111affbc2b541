"""The idle connections that nerve holds to its services, and what their ends mean to the loop."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nerve.health import State
from nerve.roster import Roster
from nerve.runner import CheckResult
from nerve.services import Service
from nerve.tether import Broken, Tethers
from nerve.tethering import Stage, Suspicion, suspect
from smartstack.forms import TcpAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapped:
    """A connection ended. `conclusive`: nobody listens there any more, and that is enough to call the service down;
    otherwise it is a reason to check it."""

    service: str
    reason: str
    at: float
    conclusive: bool


@dataclass(frozen=True, slots=True)
class _Thought:
    """What is thought of a service's tether, as long as it is configured like this."""

    service: Service
    suspicion: Suspicion


class Lifelines:
    """Used by the loop thread only. `ring` asks for a turn of the loop: a connection ended, or was made and is to be
    shown. `tethers` makes what holds the connections."""

    def __init__(
        self,
        ring: Callable[[], None],
        tethers: Callable[[Callable[[Broken], None], Callable[[], None]], Tethers] = Tethers,
    ) -> None:
        self._ring = ring
        self._broken: deque[Broken] = deque()
        self._tethers = tethers(self._heard, ring)
        self._thoughts: dict[str, _Thought] = {}
        self._wanted: dict[str, TcpAddress] = {}

    def hold(self, roster: Roster) -> None:
        """Hold one to each service that is up and wants it. One that is drained has none: its connections are counted
        then, and this would be one of them."""
        self._thoughts = {name: one for name, one in self._thoughts.items() if roster.services.get(name) is one.service}
        wanted = {
            name: service.probe.address
            for name, service in roster.services.items()
            if service.probe.checks
            and service.tether != "off"
            and roster.healths[name].state is State.UP
            and roster.maintenance(name) is None
            and self._suspicion(name).may_hold
        }
        if wanted != self._wanted:
            self._wanted = wanted
            self._tethers.hold(wanted)

    def result(self, found: CheckResult, roster: Roster) -> bool:
        """A check gave a result; whether the service is to be checked again at once, without a connection to it."""
        service, before = roster.services[found.service], self._suspicion(found.service)
        after = suspect(
            before,
            found.check,
            found.result,
            timeout_seconds=service.probe.checks[found.check].timeout,
            tethered=found.service in self._wanted,
        )
        if after is before:
            return False
        self._thoughts[found.service] = _Thought(service, after)
        released = before.may_hold and after.stage is Stage.RELEASED
        if released:
            self._wanted.pop(found.service, None)
            self._tethers.hold(dict(self._wanted))
        return released

    def take(self, roster: Roster) -> list[Snapped]:
        """The connections that ended since the last call, but for those of services that are not watched any more."""
        snapped = []
        while self._broken:
            broken = self._broken.popleft()
            service = roster.services.get(broken.service)
            if service is None or service.probe.address != broken.address:
                continue
            conclusive = broken.refused and service.tether == "conclusive"
            snapped.append(Snapped(service=broken.service, reason=broken.reason, at=broken.at, conclusive=conclusive))
        return snapped

    def describe(self) -> Mapping[str, str]:
        """How the tethers are that are not just off, by service, to stand behind "the tether is"."""
        held = self._tethers.held()
        said = {name: "held" if name in held else "not there for now" for name in self._wanted}
        for name, thought in self._thoughts.items():
            if (text := thought.suspicion.text) is not None:
                said[name] = text
        return said

    def stop(self) -> None:
        """Close every connection and end the thread."""
        self._tethers.stop()

    def _suspicion(self, name: str) -> Suspicion:
        thought = self._thoughts.get(name)
        return Suspicion() if thought is None else thought.suspicion

    def _heard(self, broken: Broken) -> None:
        """On the tether thread: keep it for the loop."""
        self._broken.append(broken)
        self._ring()
