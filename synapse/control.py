"""The hand on HAProxy: looks at what runs, makes the plan, carries it out."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from smartstack.errors import SmartStackError
from smartstack.logs import EventLog
from synapse.configuration import ConfigurationFile
from synapse.haproxy.errors import ConfigurationRefused, HAProxyAway, HAProxyError
from synapse.haproxy.listeners import taken
from synapse.haproxy.process import HAProxyProcess
from synapse.metrics import Metrics
from synapse.offers import Offer
from synapse.plan import Plan, plan
from synapse.proxy import Observed, Slot
from synapse.store import Running, Store
from synapse.wanted import Wanted, Wanting

FILE_QUIET_SECONDS = 0.5
"""How long after a runtime change the file follows, so that a burst of changes is one write."""

NOT_RUNNING = "HAProxy is not running"

_RETRY_SECONDS = 1.0
_RETRY_LIMIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look: what runs, what should run, and what to do about it. `observed` None: HAProxy is not running."""

    observed: Observed | None
    wanted: Wanted
    plan: Plan


class Controller:
    """Keeps one HAProxy in step. For one thread only.

    `error` says what keeps HAProxy from being as it should be, None when nothing does.
    """

    def __init__(
        self,
        *,
        process: HAProxyProcess,
        configuration: ConfigurationFile,
        wanting: Wanting,
        store: Store,
        running: Running | None,
        reload_interval: float,
        metrics: Metrics,
        log: EventLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.error: str | None = None
        self.last_reload: tuple[str, ...] = ()
        self._process = process
        self._configuration = configuration
        self._wanting = wanting
        self._store = store
        self._running = running
        self._reload_interval = reload_interval
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._observed: Observed | None = None
        self._wanted: Wanted | None = None
        self._distrusted: dict[str, str] = {}
        self._pending: set[str] = set()
        self._file_due: float | None = 0.0
        self._not_before = 0.0
        self._failures = 0
        self._told: dict[str, str] = {}

    def look(self, offers: Mapping[str, Offer], changed: Collection[str], *, everything: bool = False) -> Look:
        """What runs, what should, and the plan between them; changes nothing.

        Asks HAProxy about the services that changed only, unless `everything` is to be compared. Raises
        `HAProxyAway`, and `TemplateError` when the global part cannot be rendered.
        """
        self._pending |= set(changed)
        before = self._observed
        observed = self.observe(None if everything else self._pending)
        if everything or before is None or observed is None or observed.pid != before.pid:
            self._pending |= set(offers)
        wanted = self._wanting.update(offers, self._pending, observed)
        if observed is None:
            return Look(observed=None, wanted=wanted, plan=Plan(reload_reasons=(NOT_RUNNING,)))
        made = self._plan(observed, wanted)
        if made.reload_reasons:
            wanted = self._wanting.update(offers, list(offers), observed, may_shrink=True)
            made = self._plan(observed, wanted)
        return Look(observed=observed, wanted=wanted, plan=made)

    def observe(self, names: Collection[str] | None = None) -> Observed | None:
        """Ask the running HAProxy about these backends, or about all. None when it is not running.

        A worker that was not seen before is asked about everything. Raises `HAProxyAway`.
        """
        self._metrics.haproxy_up.set(0)
        before, self._observed = self._observed, None
        info = self._process.observe()
        if info is None:
            return None
        if names is None or before is None or before.pid != info.pid:
            backends: Mapping[str, Sequence[Slot]] = self._process.runtime.servers()
        else:
            backends = {**before.backends, **self._process.runtime.servers(names)} if names else before.backends
        self._observed = Observed(pid=info.pid, description=info.description, backends=backends)
        self._metrics.haproxy_up.set(1)
        return self._observed

    def act(self, look: Look, offers: Mapping[str, Offer]) -> float | None:
        """Carry out the plan; answer in how many seconds there is more to do, None when there is not.

        What is done at run time never waits for the reload, nor for its failure.
        """
        problem: str | None = None
        if look.plan.actions:
            problem = self._change_members(look)
        reasons = look.plan.reload_reasons
        if reasons or self._distrusted:
            now = self._clock()
            if now < self._not_before:
                self.error = problem or self.error
                return self._not_before - now
            problem = self._replace(look, offers, reasons or tuple(self._distrusted.values()))
        elif problem is None:
            self._pending.clear()
            self._failures = 0
        self._wanted = look.wanted
        file_problem = self._write_file(look.wanted)
        self.error = problem or file_problem
        return self._more()

    def retry_refused(self) -> None:
        """Give definitions that HAProxy refused, and addresses that were taken, another chance."""
        self._pending |= self._wanting.retry()

    @property
    def observed(self) -> Observed | None:
        """HAProxy as it answered last; None when it was not running or did not answer."""
        return self._observed

    def flush(self) -> None:
        """Let the file follow now: the process is about to end."""
        if self._file_due is not None and self._wanted is not None:
            self._file_due = 0.0
            self._write_file(self._wanted)

    def _plan(self, observed: Observed, wanted: Wanted) -> Plan:
        services = {name: wanted.services[name] for name in self._pending if name in wanted.services}
        running = self._running.structure if self._running else None
        if running is not None and running.description != observed.description:
            running = None
        return plan(observed, services, wanted.structure, running, self._distrusted)

    def _change_members(self, look: Look) -> str | None:
        """The runtime part: do it, then look whether it shows. What does not show is a reason to reload."""
        actions = look.plan.actions
        failures = self._process.runtime.execute(actions)
        self._metrics.commands.labels("done").inc(len(actions) - len(failures))
        self._metrics.commands.labels("failed").inc(len(failures))
        if self._file_due is None:
            self._file_due = self._clock() + FILE_QUIET_SECONDS
        for failure in failures:
            self._distrusted[failure.action.backend] = f"HAProxy answered {failure.words!r} to a runtime command"
        touched = {action.backend for action in actions}
        observed = self.observe(touched)
        if observed is None:
            return NOT_RUNNING
        for action in self._plan(observed, look.wanted).actions:
            self._distrusted.setdefault(action.backend, "HAProxy does not show what it was told at run time")
        return "; ".join(f"{name}: {why}" for name, why in sorted(self._distrusted.items())) or None

    def _replace(self, look: Look, offers: Mapping[str, Offer], reasons: tuple[str, ...]) -> str | None:
        """Write whole, check, swap, start or reload, confirm; on failure everything stays as it was."""
        starting = look.observed is None
        counter = self._metrics.starts if starting else self._metrics.reloads
        before = self._configuration.content()
        swapped = False
        try:
            wanted = self._admissible(look, offers)
            if look.observed and look.observed.description == wanted.structure.description and not self._distrusted:
                self._settled()
                return None
            text = self._wanting.file(wanted, self._observed)
            swapped = self._configuration.swap(text)
            began = self._clock()
            start_or_reload = self._process.start if starting else self._process.reload
            info = start_or_reload(wanted.structure.description)
        except SmartStackError as error:
            counter.labels("failed").inc()
            if swapped and before is not None and not starting:
                self._restore(before)
            return self._failed(str(error))
        counter.labels("done").inc()
        self.last_reload = reasons
        self._log.info(
            "started HAProxy" if starting else "reloaded HAProxy",
            why="; ".join(reasons),
            pid=info.pid,
            seconds=round(self._clock() - began, 3),
        )
        self._wanting.accept()
        self._running = Running(structure=wanted.structure, proxies=dict(self._wanting.accepted))
        self._settled()
        self._pending |= set(offers)
        self.observe()
        try:
            self._store.save_running(self._running)
        except SmartStackError as error:
            return str(error)
        return None

    def _admissible(self, look: Look, offers: Mapping[str, Offer]) -> Wanted:
        """What is wanted, less the definitions that HAProxy would not take; each of those stays as it was.

        Raises `ConfigurationRefused` when no single definition is to blame.
        """
        wanted = look.wanted
        while True:
            problems = taken({name: each.proxy.listen for name, each in wanted.services.items()}, self._workers())
            problems = problems or self._culprits(wanted)
            if not problems:
                return wanted
            for name, why in problems.items():
                self._wanting.refuse(name, offers[name], why)
                if self._told.get(name) != why:
                    self._log.error("the definition is not taken, the service stays as it was", service=name, why=why)
                self._told[name] = why
            wanted = self._wanting.update(offers, problems, look.observed, may_shrink=True)

    def _culprits(self, wanted: Wanted) -> dict[str, str]:
        """Which definitions make HAProxy refuse the file, with its words; empty when it takes the file."""
        try:
            self._configuration.check(self._wanting.file(wanted, self._observed))
        except ConfigurationRefused as refused:
            culprits: dict[str, str] = {}
            for name, service in wanted.services.items():
                alone = Wanted(services={name: service}, structure=wanted.structure)
                try:
                    self._configuration.check(self._wanting.file(alone, self._observed))
                except ConfigurationRefused as words:
                    culprits[name] = f"HAProxy refuses it: {words.words.splitlines()[0]}"
            if not culprits or len(culprits) == len(wanted.services) > 1:
                raise HAProxyError(f"{refused}; the running configuration is unchanged") from refused
            return culprits
        return {}

    def _workers(self) -> tuple[int, ...]:
        """The processes whose listening sockets are ours."""
        if self._observed is None:
            return ()
        try:
            processes = self._process.runtime.processes()
        except HAProxyAway:
            return (self._observed.pid,)
        return (*processes.workers, *processes.old_workers)

    def _settled(self) -> None:
        self._distrusted.clear()
        self._failures = 0
        self._not_before = self._clock() + self._reload_interval

    def _failed(self, why: str) -> str:
        delay = min(_RETRY_SECONDS * 2**self._failures, _RETRY_LIMIT_SECONDS)
        self._failures += 1
        self._not_before = self._clock() + delay
        self._log.error("cannot bring HAProxy in step", why=why, again_in_seconds=delay)
        return why

    def _restore(self, text: str) -> None:
        """Put the last good file back, so that whoever starts HAProxy from it gets what is running."""
        try:
            self._configuration.swap(text)
        except SmartStackError as error:
            self._log.error("cannot put the last good configuration back", why=str(error))

    def _write_file(self, wanted: Wanted) -> str | None:
        """Let the file follow what was changed at run time, once things are quiet. No reload comes of it."""
        observed = self._observed
        if self._file_due is None or self._clock() < self._file_due or observed is None:
            return None
        if observed.description != wanted.structure.description:
            return None
        text = self._wanting.file(wanted, observed)
        try:
            if text != self._configuration.content():
                self._configuration.check(text)
                self._configuration.swap(text)
                self._metrics.file_writes.labels("done").inc()
        except SmartStackError as error:
            self._metrics.file_writes.labels("failed").inc()
            self._file_due = self._clock() + _RETRY_SECONDS
            return f"the file of the running configuration cannot follow: {error}"
        self._file_due = None
        return None

    def _more(self) -> float | None:
        dues = [due for due in (self._file_due, self._not_before if self.error else None) if due is not None]
        return max(0.0, min(dues) - self._clock()) if dues else None
