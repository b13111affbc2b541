"""What nerve says of its work: one log line for each event, and the counters."""

from collections.abc import Mapping

from nerve.health import ServiceHealth, State, why
from nerve.metrics import Metrics
from nerve.plan import Action, Put
from nerve.registrar import Report
from nerve.runner import CheckResult
from nerve.services import Service
from smartstack.logs import EventLog
from smartstack.registry.protocol import LinkStatus, NodeId


class Teller:
    """Remembers what it said, so that what stays wrong is said once."""

    def __init__(self, metrics: Metrics, log: EventLog) -> None:
        self._metrics = metrics
        self._log = log
        self._names: dict[NodeId, str] = {}
        self._problems: Mapping[str, tuple[str, ...]] = {}
        self._needs_restart: tuple[str, ...] = ()
        self._failures: Mapping[str, str] = {}
        self._link: LinkStatus | None = None

    def services(self, before: Mapping[str, Service], after: Mapping[str, Service]) -> None:
        """Other services are announced than before, or others of their settings hold."""
        # Those of before are still needed, for the nodes that are about to be removed.
        self._names = {service.registration.node: name for one in (before, after) for name, service in one.items()}
        for name in sorted(before.keys() - after.keys()):
            self._log.info(f"{name} is not announced any more", service=name)
        for name, service in after.items():
            if name not in before:
                checks = ",".join(service.probe.checks) or "none"
                self._log.info(f"{name} is announced", service=name, address=service.probe.address, checks=checks)
            elif service != before[name]:
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
        self._log.debug(
            f"{found.service}: {found.check} {'passed' if found.result.passed else 'failed'}",
            reason=found.result.reason,
            seconds=round(found.result.duration_seconds, 4),
        )

    def health(self, service: str, before: ServiceHealth | None, after: ServiceHealth) -> None:
        """A service may have come into another state."""
        if after.state is (before.state if before else State.UNKNOWN):
            return
        self._metrics.transition(service, after.state)
        tell = self._log.warning if after.state is State.DOWN else self._log.info
        tell(f"{service} is {after.state.value}: {why(after)}", service=service)

    def report(self, report: Report) -> None:
        """The registry was brought in step, as far as it went."""
        for action in report.done:
            self._metrics.action(action, True)
            self._log.info(self._sentence(action, "is"), path=action.node.path, node=action.node.node)
        failures: dict[str, str] = {}
        for action, reason in report.failed.items():
            self._metrics.action(action, False)
            failures[self._sentence(action, "cannot be")] = reason
        for node in report.contested:
            failures[f"{self._name(node)} is registered by another nerve too"] = "its node was taken back at once"
        for sentence, reason in failures.items():
            if self._failures.get(sentence) != reason:
                self._log.error(sentence, reason=reason)
        self._failures = failures

    def link(self, link: LinkStatus) -> None:
        """The link to the registry as it is now."""
        before, self._link = self._link, link
        if before is not None and (before.connected, before.session) == (link.connected, link.session):
            return
        if link.connected:
            self._log.info("the registry is connected", detail=link.detail, session=link.session)
        elif before is None:
            self._log.info("the registry is not connected yet", detail=link.detail)
        elif before.connected:
            self._log.warning("the registry is away", detail=link.detail, session=link.session)

    def _sentence(self, action: Action, verb: str) -> str:
        return f"{self._name(action.node)} {verb} {'registered' if isinstance(action, Put) else 'deregistered'}"

    def _name(self, node: NodeId) -> str:
        return self._names.get(node, node.path)
