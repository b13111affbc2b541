"""What nerve says of its work: one log line for each event, and the counters."""

from collections.abc import Mapping

from nerve.admission import Admission
from nerve.health import State, why
from nerve.metrics import Metrics
from nerve.plan import Action, Put
from nerve.registrar import Report
from nerve.registrations import MAIN, weight_of
from nerve.roster import Turned
from nerve.runner import CheckResult
from nerve.services import Service
from nerve.statsd import Statsd
from nerve.status import Status
from smartstack.logs import EventLog
from smartstack.registry.protocol import LinkStatus, NodeId

DETAILS_LIMIT = 10
"""How many reasons why a registry is away are told in one outage."""


class Teller:
    """Remembers what it said, so that what stays wrong is said once."""

    def __init__(self, metrics: Metrics, statsd: Statsd, log: EventLog) -> None:
        self._metrics = metrics
        self._statsd = statsd
        self._log = log
        self._names: dict[NodeId, str] = {}
        self._weights: dict[NodeId, int] = {}
        self._problems: Mapping[str, tuple[str, ...]] = {}
        self._needs_restart: tuple[str, ...] = ()
        self._failures: Mapping[str, str] = {}
        self._links: Mapping[str, LinkStatus] = {}
        self._details: dict[str, set[str]] = {}
        self._admissions: Mapping[str, Admission] = {}
        self._tethers: Mapping[str, str] = {}

    def turn(self, status: Status, seconds: float) -> None:
        """A turn is done, and took so long."""
        self._metrics.cycle()
        self._statsd.turned(seconds)
        for place in (place for places in status.wanted.values() for place in places):
            self._names[place.node] = place.service
            self._weights[place.node] = weight_of(place.instance)
        self._report(status)
        for registry, link in status.links.items():
            self._link(registry, link)
        self._links = status.links
        self._admission(status)

    def services(self, before: Mapping[str, Service], after: Mapping[str, Service]) -> None:
        """Other services are announced than before, or others of their settings hold."""
        # Those of before are still needed, for the nodes that are about to be removed.
        known = {*before, *after}
        self._names = {node: name for node, name in self._names.items() if name in known}
        if before != after:
            self._statsd.configured()
        for name in sorted(before.keys() - after.keys()):
            self._statsd.reaped(name, update=False)
            self._log.info(f"{name} is not announced any more", service=name)
        for name, service in after.items():
            if name not in before:
                self._statsd.launched(name, update=False)
                checks = ",".join(service.probe.checks) or "none"
                self._log.info(f"{name} is announced", service=name, address=service.probe.address, checks=checks)
            elif service != before[name]:
                self._statsd.launched(name, update=True)
                self._statsd.reaped(name, update=True)
                self._log.info(f"{name} was edited", service=name)

    def configuration(self, problems: Mapping[str, tuple[str, ...]], needs_restart: tuple[str, ...]) -> None:
        """The files were read; `problems` by service, under the empty name those of the host's own file."""
        before, self._problems = self._problems, problems
        for name, texts in problems.items():
            for text in texts:
                if text not in before.get(name, ()):
                    self._log.error(
                        "a configuration file is wrong; what held before goes on", service=name, problem=text
                    )
        for name in sorted(before.keys() - problems.keys()):
            self._log.info("the configuration file is right again", service=name)
        if needs_restart and needs_restart != self._needs_restart:
            self._log.warning("edited settings that only a restart applies", settings=",".join(needs_restart))
        self._needs_restart = needs_restart

    def result(self, found: CheckResult) -> None:
        """A check gave a result."""
        self._metrics.check(found.service, found.check, found.result)
        self._statsd.check(found.service, found.check, found.result)
        self._log.debug(
            f"{found.service}: {found.check} {'passed' if found.result.passed else 'failed'}",
            reason=found.result.reason,
            seconds=round(found.result.duration_seconds, 4),
        )

    def health(self, turned: Turned) -> None:
        """A service may have come into another state."""
        service, before, after = turned.service, turned.before, turned.after
        if after.state is (before.state if before else State.UNKNOWN):
            return
        self._metrics.transition(service, after.state)
        self._statsd.transition(service, after.state)
        tell = self._log.warning if after.state is State.DOWN else self._log.info
        tell(f"{service} is {after.state.value}: {why(after)}", service=service)

    def _report(self, status: Status) -> None:
        """The registries were brought in step, as far as it went."""
        failures: dict[str, str] = {}
        for registry, report in status.reports.items():
            self._done(registry, report)
            where = f" in registry {registry}" if registry != MAIN else ""
            for action, reason in report.failed.items():
                self._metrics.action(action, False)
                self._statsd.action(self._name(action.node), False)
                failures[f"{self._sentence(action, 'cannot be')}{where}"] = reason
            for node in report.contested:
                sentence = f"{self._name(node)} is registered by another nerve too{where}"
                failures[sentence] = "its node was taken back at once"
        for sentence, reason in failures.items():
            if self._failures.get(sentence) != reason:
                self._log.error(sentence, reason=reason)
        self._failures = failures

    def _done(self, registry: str, report: Report) -> None:
        where = {"registry": registry} if registry != MAIN else {}
        for action in report.done:
            self._metrics.action(action, True)
            self._statsd.action(self._name(action.node), True)
            weight = {"weight": self._weights.get(action.node)} if isinstance(action, Put) else {}
            node = {"path": action.node.path, "node": action.node.node}
            self._log.info(self._sentence(action, "is"), **node, **weight, **where)

    def _link(self, registry: str, link: LinkStatus) -> None:
        before = self._links.get(registry)
        if link.connected:
            self._details[registry] = set()
        if before is not None and (before.connected, before.session) == (link.connected, link.session):
            self._still_away(registry, link)
        elif link.connected:
            self._log.info(f"{_registry(registry)} is connected", detail=link.detail, session=link.session)
        elif before is None or before.connected:
            self._details.setdefault(registry, set()).add(link.detail)
            if before is None:
                self._log.info(f"{_registry(registry)} is not connected yet", detail=link.detail)
            else:
                self._log.warning(f"{_registry(registry)} is away", detail=link.detail, session=link.session)

    def _still_away(self, registry: str, link: LinkStatus) -> None:
        """Each reason for it once: a wrong password is found out only after a while."""
        told = self._details.setdefault(registry, set())
        if not link.connected and link.detail not in told and len(told) < DETAILS_LIMIT:
            told.add(link.detail)
            self._log.warning(f"{_registry(registry)} cannot be reached", detail=link.detail)

    def _admission(self, status: Status) -> None:
        """A service that is well may be kept out for now, or would be if that were not only being tried."""
        for name, now in status.admissions.items():
            before = self._admissions.get(name)
            self._metrics.held_back(name, before, now)
            self._statsd.held_back(name, before, now)
            if now.held_back is not None and (before is None or now.held_back is not before.held_back):
                self._log.warning(f"{name} is well, and kept out for now: {now.held_back.value}", service=name)
            if now.shadowed is not None and (before is None or now.shadowed is not before.shadowed):
                self._log.warning(f"{name} would be kept out now: {now.shadowed.value} (shadow)", service=name)
        for name, text in status.tethers.items():
            if text != self._tethers.get(name) and text.startswith("given up"):
                self._log.warning(f"{name}: the tether is {text}", service=name)
        self._admissions, self._tethers = status.admissions, status.tethers

    def _sentence(self, action: Action, verb: str) -> str:
        return f"{self._name(action.node)} {verb} {'registered' if isinstance(action, Put) else 'deregistered'}"

    def _name(self, node: NodeId) -> str:
        return self._names.get(node, node.path)


def _registry(name: str) -> str:
    return "the registry" if name == MAIN else f"registry {name}"
