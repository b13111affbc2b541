"""nerve's loop: read results, orders and files, decide, bring the registries in step, tell."""

import os
import time
from collections.abc import Callable, Iterable

from nerve.desk import Desk
from nerve.health import State
from nerve.lifelines import Lifelines
from nerve.registrar import Report
from nerve.registrars import Registrars
from nerve.registrations import MAIN, Host
from nerve.roster import Roster, Turned
from nerve.runner import Prompt, Runner
from nerve.services import announced
from nerve.settings import Settings
from nerve.status import Status
from nerve.teller import Teller
from smartstack import __version__
from smartstack.errors import ConfigError
from smartstack.live import LiveConfiguration

LIVE = (
    "announce",
    "labels",
    "host",
    "instance_id",
    "node_names",
    "resync_interval",
    "on_stop",
    "drain",
    "publish_limit",
    "flap_damping",
)
"""The keys of nerve.yaml that take effect without a restart."""

RETRY_SECONDS = 1.0
"""When a registry that could not be brought in step is tried again, if nothing rings before."""


class Nerve:
    """The loop's state, and one turn of it. `status` may be read by any thread, all else is the loop's.

    `advertised` finds the address of this host for some settings; it raises ConfigError. `host_name` is the instance
    id where the settings give none. `actions_problem` says why nobody can ask for actions, None where they can, and
    `heartbeat_problem` why the heartbeat file is not touched.
    """

    def __init__(
        self,
        *,
        live: LiveConfiguration[Settings],
        registrars: Registrars,
        runner: Runner,
        lifelines: Lifelines,
        desk: Desk,
        teller: Teller,
        host_name: str,
        advertised: Callable[[Settings], str],
        actions_problem: Callable[[], str | None] = lambda: None,
        heartbeat_problem: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.status: Status | None = None
        self._live = live
        self._registrars = registrars
        self._runner = runner
        self._lifelines = lifelines
        self._desk = desk
        self._teller = teller
        self._host_name = host_name
        self._advertised = advertised
        self._actions_problem = actions_problem
        self._heartbeat_problem = heartbeat_problem
        self._clock = clock
        self._started = time.time()
        self._first_settings = live.settings
        self._roster = Roster(live.settings.publish_limit, live.settings.flap_damping)
        self._host = self._host_at(advertised(live.settings))
        self._resync_at = clock()
        self._resync_asked = False
        self._problems: dict[str, tuple[str, ...]] = {}
        self._reports: dict[str, Report] = {}
        self._seen_registry = False

    @property
    def settings(self) -> Settings:
        """nerve.yaml as it holds now."""
        return self._live.settings

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
        self._desk.work(self._roster, self._runner)
        self._observe(now)
        self._register(now)
        self._lifelines.hold(self._roster)
        self._runner.down([name for name, one in self._roster.healths.items() if one.state is State.DOWN])
        status = self.status = self._snapshot()
        self._teller.turn(status, self._clock() - now)
        self._desk.answer(status)
        waits = [
            self._resync_at - now,
            self._runner.next_look(now),
            self._roster.next_turn(now),
            self._desk.due_in(),
        ]
        if not all(report.complete for report in self._reports.values()):
            waits.append(RETRY_SECONDS)
        if self._live.keep():
            waits.append(0.0)
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
        found = announced(
            settings, view.definitions, self._host, registries=self._registrars.names, broken=view.problems
        )
        for name, problem in found.problems.items():
            problems[name] = (*problems.get(name, ()), problem)
        if own:
            problems[""] = (*problems.get("", ()), *own)
        self._teller.services(self._roster.services, found.services)
        self._tell(self._roster.configure(found.services, settings.publish_limit, settings.flap_damping, now))
        self._runner.watch({name: service.probe for name, service in found.services.items()})
        self._problems = problems
        self._teller.configuration(problems, self._live.needs_restart)

    def _host_at(self, address: str) -> Host:
        settings = self._live.settings
        return Host(
            address=address,
            instance_id=settings.instance_id or self._host_name,
            labels=settings.labels,
            node_names=settings.node_names,
        )

    def _observe(self, now: float) -> None:
        """Let the results since the last turn, and the ends of idle connections, change the healths."""
        for found in (*self._runner.drain(), *self._runner.hanging(now)):
            self._teller.result(found)
            self._tell(self._roster.result(found.service, found.check, found.result))
            if self._lifelines.result(found, self._roster):
                self._runner.prompt(found.service, Prompt.LOOK)
        for broken in self._lifelines.take(self._roster):
            if broken.conclusive:
                self._tell(self._roster.refused(broken.service, broken.reason, broken.at))
            else:
                self._runner.prompt(broken.service, Prompt.LOOK)

    def _register(self, now: float) -> None:
        """Bring the registries in step with what is wanted."""
        self._roster.turn(now)
        seen = self._registrars.look(self._roster.wanted)
        if not isinstance(there := seen[MAIN], str):
            self._seen_registry = True
            self._roster.seen(there, now)
            self._roster.turn(now)
        self._reports = dict(self._registrars.act(self._roster.wanted, seen))
        if self._reports[MAIN].unavailable is None:
            self._roster.seen(self._reports[MAIN].held, now)

    def _notes(self) -> Iterable[tuple[str, str | None]]:
        """What is wrong with what nerve keeps on disk."""
        yield "maintenance", self._desk.problem
        yield "heartbeat_file", self._heartbeat_problem()

    def _tell(self, turned: list[Turned]) -> None:
        for one in turned:
            self._teller.health(one)

    def _snapshot(self) -> Status:
        wall, roster = time.time(), self._roster
        return Status(
            version=__version__,
            pid=os.getpid(),
            started=round(self._started, 3),
            at=round(wall, 3),
            clock_offset=wall - self._clock(),
            host=self._host.address,
            instance_id=self._host.instance_id,
            registry_url=str(self._first_settings.registry),
            links=self._registrars.links(),
            seen_registry=self._seen_registry,
            services=roster.services,
            healths=dict(roster.healths),
            intents=dict(roster.intents),
            admissions=dict(roster.admissions),
            wanted=roster.wanted,
            reports=self._reports,
            maintenances=roster.maintenances,
            tethers=self._lifelines.describe(),
            problems=self._problems,
            notes={name: text for name, text in self._notes() if text is not None},
            needs_restart=self._live.needs_restart,
            actions_problem=self._actions_problem(),
        )
