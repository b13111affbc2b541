"""nerve's loop: read results and files, decide, bring the registry in step, tell."""

import os
import time
from collections.abc import Callable
from dataclasses import replace

from nerve.health import ServiceHealth, observe, reshape
from nerve.metrics import Metrics
from nerve.registrar import Registrar, Report
from nerve.registrations import Host, Registration
from nerve.runner import Runner
from nerve.services import Announced, announced
from nerve.settings import Settings
from nerve.status import Status
from nerve.teller import Teller
from smartstack import __version__
from smartstack.errors import ConfigError
from smartstack.live import LiveConfiguration
from smartstack.logs import EventLog
from smartstack.registry.protocol import RegistryWriter

LIVE = ("announce", "labels", "host", "instance_id", "node_names", "resync_interval")
"""The keys of nerve.yaml that take effect without a restart."""

RETRY_SECONDS = 1.0
"""When a registry that could not be brought in step is tried again, if nothing rings before."""


class Nerve:
    """The loop's state, and one turn of it. `status` and `metrics` may be read by any thread, all else is the loop's.

    `advertised` finds the address of this host for some settings; it raises ConfigError. `host_name` is the instance
    id where the settings give none.
    """

    def __init__(
        self,
        live: LiveConfiguration[Settings],
        writer: RegistryWriter,
        runner: Runner,
        *,
        host_name: str,
        advertised: Callable[[Settings], str],
        log: EventLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.status: Status | None = None
        self.metrics = Metrics(lambda: self.status)
        self._live = live
        self._writer = writer
        self._runner = runner
        self._host_name = host_name
        self._advertised = advertised
        self._clock = clock
        self._started = time.time()
        self._first_settings = live.settings
        self._registrar = Registrar(writer, live.settings.session_timeout, clock)
        self._teller = Teller(self.metrics, log)
        self._host = self._host_at(advertised(live.settings))
        self._resync_at = clock()
        self._resync_asked = False
        self._announced = Announced()
        self._healths: dict[str, ServiceHealth] = {}
        self._wanted: tuple[Registration, ...] = ()
        self._problems: dict[str, tuple[str, ...]] = {}
        self._report = Report(unavailable="not asked yet")
        self._seen_registry = False

    def cycle(self) -> float:
        """One turn. Answers in how many seconds the next one is due if nobody rings before."""
        now = self._clock()
        resync = self._resync_asked or now >= self._resync_at
        if self._resync_asked:
            # Before anything is read: who asks from now on gets another one.
            self._resync_asked = False
        if self._live.refresh(everything=resync):
            self._configure(now)
        if resync:
            self._resync_at = now + self._live.settings.resync_interval
        self._observe(now)
        self._report = self._registrar.reconcile(self._wanted)
        self._seen_registry |= self._report.unavailable is None
        link = self._writer.status()
        self._teller.report(self._report)
        self._teller.link(link)
        self.metrics.cycle()
        self.status = self._snapshot()
        waits = [self._resync_at - now, self._runner.next_look(now)]
        if not self._report.complete:
            waits.append(RETRY_SECONDS)
        if (due_in := self._live.due_in()) is not None:
            waits.append(due_in)
        return max(0.0, min(waits))

    def resync(self) -> None:
        """Make the next turn one that reads everything again; may be called by a signal's handler."""
        self._resync_asked = True

    def _configure(self, now: float) -> None:
        """Take over what the files say now, service by service."""
        settings, view = self._live.settings, self._live.view
        problems = {name: tuple(map(str, found)) for name, found in view.problems.items()}
        own = [str(problem) for problem in self._live.problems]
        address = self._host.address
        try:
            address = self._advertised(settings)
        except ConfigError as error:
            own.append(str(error))
        self._host = self._host_at(address)
        before = self._announced
        self._announced = announced(settings, view.definitions, self._host, broken=view.problems)
        for name, problem in self._announced.problems.items():
            problems[name] = (*problems.get(name, ()), problem)
        if own:
            problems[""] = (*problems.get("", ()), *own)
        services = self._announced.services
        self._teller.services(before.services, services)
        healths = {}
        for name, service in services.items():
            old = before.services.get(name)
            # Another address is another instance: what was seen of the old one says nothing of it.
            known = self._healths.get(name) if old and old.probe.address == service.probe.address else None
            healths[name] = reshape(known, service.probe.checks, now)
            self._teller.health(name, known, healths[name])
        self._healths = healths
        self._want()
        self._runner.watch({name: service.probe for name, service in services.items()})
        self._problems = problems
        self._teller.configuration(self._problems, self._live.needs_restart)

    def _host_at(self, address: str) -> Host:
        settings = self._live.settings
        return Host(
            address=address,
            instance_id=settings.instance_id or self._host_name,
            labels=settings.labels,
            node_names=settings.node_names,
        )

    def _observe(self, now: float) -> None:
        """Let the results since the last turn change the healths."""
        turned = False
        for found in (*self._runner.drain(), *self._runner.hanging(now)):
            check = self._announced.services[found.service].probe.checks[found.check]
            before = self._healths[found.service]
            health = observe(before, found.check, found.result, rise=check.rise, fall=check.fall)
            self._healths[found.service] = health
            self._teller.result(found)
            self._teller.health(found.service, before, health)
            turned |= health.state is not before.state
        if turned:
            self._want()

    def _want(self) -> None:
        """Put the states to the places; the same tuple stands as long as no state turns."""
        self._wanted = tuple(
            replace(service.registration, state=self._healths[name].state)
            for name, service in self._announced.services.items()
        )

    def _snapshot(self) -> Status:
        wall = time.time()
        return Status(
            version=__version__,
            pid=os.getpid(),
            started=round(self._started, 3),
            at=round(wall, 3),
            clock_offset=wall - self._clock(),
            host=self._host.address,
            instance_id=self._host.instance_id,
            registry_url=str(self._first_settings.registry),
            registry=self._writer.status(),
            seen_registry=self._seen_registry,
            registrations=self._wanted,
            healths=dict(self._healths),
            report=self._report,
            problems=self._problems,
            needs_restart=self._live.needs_restart,
        )
