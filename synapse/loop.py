"""synapse's loop: read files and the registry, decide, bring HAProxy in step, tell."""

import time
from collections.abc import Mapping

from smartstack.errors import Problem, SmartStackError
from smartstack.inbox import Inbox
from smartstack.instance import Instance
from smartstack.live import LiveConfiguration
from smartstack.logs import EventLog
from smartstack.registry.protocol import Listing
from smartstack.wake import Wake
from synapse.balancing.balancer import Balancer
from synapse.control import FILE_QUIET_SECONDS, Controller, Look
from synapse.desk import Desk, holds_store
from synapse.haproxy.certificates import Certificates
from synapse.haproxy.errors import HAProxyError
from synapse.haproxy.maps import LiveMap
from synapse.metrics import Metrics
from synapse.offers import Offers, Surroundings
from synapse.orders import Order
from synapse.ownership import pace, take
from synapse.plan import Plan
from synapse.problems import Problems
from synapse.propagation import Propagation
from synapse.provenance import Provenance
from synapse.publisher import Publisher
from synapse.reload import Reloader
from synapse.render import Renderer, TemplateError
from synapse.selection import Origin
from synapse.settings import HAProxySettings, Settings
from synapse.shift_desk import ShiftDesk, ShiftStore
from synapse.sources import Sources
from synapse.status import Snapshot
from synapse.store import Store
from synapse.telemetry.station import Telemetry
from synapse.teller import Teller
from synapse.timeline import Timeline
from synapse.tls import directories
from synapse.using import offered
from synapse.wanted import Wanting
from synapse.watcher import Watcher

REFUSED_RETRY_SECONDS = 5.0
"""How often a definition is tried again whose address was taken."""

GRACE_SECONDS = 2.0
"""How long a HAProxy that is not running yet waits for the registry's first word, so that it starts with servers."""

FIRST_RESYNC_SECONDS = 2.0
"""When everything is read and compared for the first time: not while the first turn keeps clients waiting, and soon
enough for an edit that was made while synapse started, of which nobody heard."""

KNOWS_NOTHING = "no service definition is known, and the running HAProxy serves some: it is left as it is"

_RETRY_SECONDS = 1.0
_FIRST_WORD_POLL_SECONDS = 0.1

log = EventLog("synapse")


class Synapse:
    """Everything one synapse is made of, and one turn of its loop (`cycle`).

    Making one reads the disk and starts nothing. Raises `SmartStackError` for what keeps it from running at all.
    """

    def __init__(self, configuration: LiveConfiguration[Settings], wake: Wake, *, acts: bool = True) -> None:
        settings = configuration.settings
        self.configuration = configuration
        self.settings = settings
        self.metrics = Metrics()
        self.snapshot: Snapshot | None = None
        self._wake = wake
        self._started = time.time()
        self._begun = time.monotonic()
        self._resync_due = self._begun + FIRST_RESYNC_SECONDS
        self._retry_due = 0.0
        self._known_any = False
        self._save_due: float | None = None
        self._save_problem: str | None = None
        self._seen: set[str] = set()
        self._since: dict[str, float] = {}
        self._plan = Plan()
        self._planned_at: float | None = None
        self.timeline = Timeline()
        self._teller = Teller(self.metrics, log, self.timeline.post)
        self.telemetry = Telemetry(settings, log, wake.ring, writes=acts)
        ours = self._ours = take(settings, wake.ring)
        self.process = ours.process
        self._haproxy = settings.haproxy
        self._template_problems: tuple[Problem, ...] = ()
        self._store = Store(settings.state_directory)
        self.offers = Offers(self._store.load_good())
        running = self._store.load_running()
        kept = (running.proxies, running.texts) if running else ({}, {})
        self._wanting = Wanting(self._renderer(settings.haproxy), *kept)
        provenance = Provenance(settings.services)
        self._problems = Problems(configuration, self._wanting, provenance)
        self._certificates = Certificates(
            ours.certificates, self.process.runtime.ask, self.metrics, log, mode=ours.mode
        )
        self._reloader = Reloader(
            process=self.process,
            configuration=ours.file,
            wanting=self._wanting,
            provenance=provenance,
            certificates=self._certificates,
            store=self._store,
            running=running,
            pace=pace(settings.haproxy),
            metrics=self.metrics,
            log=log,
        )
        self.controller = Controller(
            process=self.process,
            configuration=ours.file,
            wanting=self._wanting,
            reloader=self._reloader,
            certificates=self._certificates,
            live_map=LiveMap(ours.live, self.process.runtime.ask, mode=ours.mode),
            metrics=self.metrics,
            acts=acts,
        )
        self._watcher = Watcher(self.controller, self.process.runtime)
        self.balancer = Balancer(self.process.runtime, self.telemetry, wake.ring, self.timeline.post, self.metrics)
        self.sources = Sources(settings)
        shifts = ShiftDesk(ShiftStore(settings.state_directory, writes=acts), ours.live, log)
        self.desk = Desk(Inbox[Order](wake.ring), holds_store(settings.state_directory, writes=acts), shifts, log)
        self._propagation = Propagation(wake.ring, self.metrics.propagation_seconds.observe)
        self.publisher = Publisher(settings.state_directory, self._store, log, wake.ring)
        for problem in self._store.problems:
            log.warning("a file of the state directory is left aside", why=problem)

    def start(self) -> None:
        """Begin to connect and to watch files."""
        self.configuration.watch(self._wake.ring, self._more_directories)
        self.sources.start(self._propagation.ring)
        self.telemetry.start()
        self.remember_running()

    def cycle(self) -> float:
        """One turn; answers in how many seconds the next should be if nobody rings."""
        began = time.monotonic()
        everything = began >= self._resync_due
        if everything:
            self._resync_due = began + self.configuration.settings.resync_interval
        if everything or began >= self._retry_due:
            self._retry_due = began + REFUSED_RETRY_SECONDS
            self.controller.retry_refused()
        changed = set()
        if self.configuration.refresh(everything=everything):
            self._certificates.touch()
            changed = self._take_settings()
        self.desk.work(self.offers.by_name, self.controller)
        self._propagation.reading()
        changed |= self.look_up()
        self.telemetry.look(self.offers.by_name, changed, everything=everything)
        self.controller.said = self.telemetry.said(self.desk.shifts.said)
        plan = Plan()
        more: float | None = _RETRY_SECONDS
        try:
            if self._waits_for_first_word(began):
                more = _FIRST_WORD_POLL_SECONDS
            elif self._knows_nothing():
                self.controller.error = KNOWS_NOTHING
            else:
                look_at = changed | self.offers.reweighed | self.desk.asked
                look = self.controller.look(self.offers.by_name, look_at, everything=everything)
                plan = look.plan
                more = self.controller.act(look, self.offers.by_name)
                self._propagation.turned(plan, running=look.observed is not None, error=self.controller.error)
        except (HAProxyError, TemplateError) as error:
            self.controller.error = str(error)
        if changed and self._save_due is None:
            self._save_due = time.monotonic() + FILE_QUIET_SECONDS
        self._save_good()
        if everything or changed:
            limit = self.configuration.settings.last_good_warning
            self.publisher.look_at_age(self.offers.by_name, self.missing(), limit)
        self.balancer.know(self.offers.by_name, changed)
        self.desk.answer(self._tell(plan.without(self.offers.reweighed), changed))
        if self.configuration.keep():
            more = 0.0
        self.metrics.cycles.inc()
        self.metrics.cycle_seconds.observe(time.monotonic() - began)
        return self._wait_seconds(more)

    def resync(self) -> None:
        """Make the next turn one that reads everything again; may be called by a signal's handler."""
        self._resync_due = 0.0

    def look_up(self) -> set[str]:
        """Read the registry and choose; answers which offers changed."""
        definitions = offered(self.configuration.view.definitions, self.configuration.settings.use)
        known = self.sources.read(definitions, self.offers.last_good)
        surroundings = Surroundings(
            labels=self.configuration.settings.labels,
            held=self.desk.held,
            seen=self._watcher.look(self.offers.watched, self.offers.newcomers(definitions)),
            accepted=self.desk.accepted,
            session=self.sources.status().session,
            shares=self.balancer.shares(self.controller.observed),
        )
        changed = self.offers.update(definitions, known, time.monotonic(), surroundings)
        self._seen &= definitions.keys()
        whole = ((name, offer.known) for name, offer in self.offers.by_name.items())
        self._seen.update(name for name, known in whole if isinstance(known, Listing) and not known.partial)
        return changed

    def missing(self) -> tuple[str, ...]:
        """The services on which the registry has not said anything since the start."""
        return tuple(sorted(self.offers.by_name.keys() - self._seen))

    def problems(self) -> Mapping[str, tuple[Problem, ...]]:
        """What is wrong with the configuration, by service; "" for the host's own file."""
        path = self.configuration.path
        outputs = (Problem(path=path, key="outputs", message=why) for why in self.publisher.problems)
        holds = (Problem(path=path, message=why) for why in self.desk.problems)
        told = (Problem(path=path, key="telemetry", message=why) for why in self.telemetry.problems)
        return self._problems.gather((*self._template_problems, *outputs, *holds, *told, *self._certificates.problems))

    def stop(self) -> None:
        """End what was started; HAProxy goes on, unless the settings say otherwise."""
        self.publisher.stop()
        self.timeline.close()
        self.configuration.stop()
        self.controller.flush()
        if self._save_due is not None:
            self._save_due = time.monotonic()
            self._save_good()
        self.sources.stop()
        self.telemetry.stop()
        if self.configuration.settings.haproxy.on_stop == "stop":
            self.process.stop()

    def _take_settings(self) -> set[str]:
        """Render anew where the HAProxy settings or a site's templates may have changed; answers what to look at."""
        haproxy = self.configuration.settings.haproxy
        if haproxy == self._haproxy and haproxy.templates is None:
            return set()
        try:
            self._wanting.use(self._renderer(haproxy))
        except TemplateError as error:
            self._template_problems = (Problem(path=self.configuration.path, key="haproxy", message=str(error)),)
            return set()
        self._haproxy = haproxy
        self._template_problems = ()
        return set(self.offers.by_name)

    def _more_directories(self, settings: Settings) -> tuple[str, ...]:
        templates = () if settings.haproxy.templates is None else (settings.haproxy.templates,)
        return *templates, *directories(offered(self.configuration.view.definitions, settings.use))

    def _renderer(self, haproxy: HAProxySettings) -> Renderer:
        return self._ours.renderer(haproxy, self.telemetry.feed)

    def _waits_for_first_word(self, now: float) -> bool:
        """A HAProxy that is not running yet is not started without servers while the registry is about to answer."""
        nothing = any(offer.choice.origin is Origin.NOTHING for offer in self.offers.by_name.values())
        return nothing and now < self._begun + GRACE_SECONDS and not self.process.running()

    def _knows_nothing(self) -> bool:
        """No definition was known since the start, nor kept from before, and HAProxy serves something all the same: the
        directory is more likely not there yet than meant to be empty."""
        self._known_any |= bool(self.configuration.view.definitions)
        return not self._known_any and bool(self.controller.observed and self.controller.observed.backends)

    def _wait_seconds(self, more: float | None) -> float:
        due = self.offers.due()
        now = time.monotonic()
        waits = [more, self.configuration.due_in(), self.sources.due_in(), self.desk.due_in()]
        waits.append(self._watcher.due_in(self.offers.watched))
        retry = self._retry_due if self._wanting.refusals else None
        waits.extend(None if at is None else at - now for at in (self._resync_due, self._save_due, due, retry))
        return max(0.0, min(wait for wait in waits if wait is not None))

    def render(self, look: Look) -> str:
        """haproxy.cfg for what this look wants."""
        return self._wanting.file(look.wanted, look.observed).text

    def remember_running(self) -> None:
        """What a running HAProxy serves is the last good set of services of which nothing better is known."""
        try:
            observed = self.controller.observe()
        except HAProxyError as error:
            log.warning("HAProxy runs but does not answer", why=str(error))
            return
        if observed is None:
            return
        log.info("adopted the running HAProxy", pid=observed.pid, structure=observed.description)
        for name, slots in observed.backends.items():
            serving = [slot for slot in slots if slot.serves]
            self.offers.remember(
                name, tuple(Instance(host=slot.host, port=slot.port, weight=slot.weight) for slot in serving)
            )

    def _save_good(self) -> None:
        """Keep the last good instances on disk, once things are quiet: a burst of changes is one write."""
        if self._save_due is None or time.monotonic() < self._save_due:
            return
        try:
            self._store.save_good(self.offers.good())
            self._save_due, self._save_problem = None, None
        except SmartStackError as error:
            self._save_due, self._save_problem = time.monotonic() + _RETRY_SECONDS, str(error)

    def _tell(self, plan: Plan, changed: set[str]) -> Snapshot:
        """Keep what this turn saw for whoever asks, and log what changed: one line for each thing."""
        at = time.time()
        if not plan.empty:
            self._plan, self._planned_at = plan, at
        for name in changed:
            if name in self.offers.by_name:
                self._since[name] = at
            else:
                self._since.pop(name, None)
        self.snapshot = Snapshot(
            at=at,
            clock=time.monotonic(),
            started=self._started,
            since=dict(self._since),
            registry=self.sources.status(),
            registries=self.sources.others(),
            offers=dict(self.offers.by_name),
            observed=self.controller.observed,
            version=self._ours.capabilities.release,
            old_workers=self.controller.lookout.old_workers,
            drift=self.controller.lookout.drift,
            plan=self._plan,
            planned_at=self._planned_at,
            last_reload=self._reloader.last_reasons,
            worker=self._reloader.worker,
            refusals=dict(self._wanting.refusals),
            listens=self._wanting.listens(),
            problems=self.problems(),
            needs_restart=self.configuration.needs_restart,
            error=self.controller.error or self._save_problem,
            missing=self.missing(),
            stale=self.publisher.stale,
            certificates=tuple(self._certificates.states.values()),
            holds=self.desk.holds,
            balance=self.balancer.tell(),
            shifts=self.desk.shifts.said,
            told=self.controller.said.told,
        )
        self.publisher.publish(self.snapshot, self.configuration.settings, changed)
        self._teller.tell(self.snapshot, changed)
        return self.snapshot
