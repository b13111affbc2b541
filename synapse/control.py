"""The hand on HAProxy: looks at what runs, makes the plan, carries it out."""

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from smartstack.errors import SmartStackError
from synapse.configuration import ConfigurationFile
from synapse.haproxy.answers import Info
from synapse.haproxy.errors import HAProxyAway
from synapse.haproxy.process import HAProxyProcess
from synapse.metrics import Metrics
from synapse.offers import Offer
from synapse.plan import Plan, plan
from synapse.proxy import Observed, Slot
from synapse.reload import Reloader
from synapse.wanted import Wanted, Wanting

FILE_QUIET_SECONDS = 0.5
"""How long after a runtime change the file follows, so that a burst of changes is one write."""

SLOT = re.compile(r"[sb][1-9][0-9]{0,6}")
"""The names of slots; a site's template may have servers of its own, by other names, which are left alone."""

NOT_RUNNING = "HAProxy is not running"

_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look: what runs, what should run, and what to do about it. `observed` None: HAProxy is not running."""

    observed: Observed | None
    wanted: Wanted
    plan: Plan


class Controller:
    """Keeps one HAProxy in step. For one thread only.

    `error` says what keeps HAProxy from being as it should be, None when nothing does. `observed` is HAProxy as it
    answered last, None when it was not running or did not answer. Unless it `acts`, it only looks, also where HAProxy
    cannot be reached.
    """

    def __init__(
        self,
        *,
        process: HAProxyProcess,
        configuration: ConfigurationFile,
        wanting: Wanting,
        reloader: Reloader,
        metrics: Metrics,
        acts: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.error: str | None = None
        self.observed: Observed | None = None
        self._process = process
        self._configuration = configuration
        self._wanting = wanting
        self._reloader = reloader
        self._metrics = metrics
        self._acts = acts
        self._clock = clock
        self._wanted: Wanted | None = None
        self._distrusted: dict[str, str] = {}
        self._pending: set[str] = set()
        self._file_due: float | None = clock()

    def look(self, offers: Mapping[str, Offer], changed: Collection[str], *, everything: bool = False) -> Look:
        """What runs, what should, and the plan between them; changes nothing.

        Asks HAProxy about the services that changed only, unless `everything` is to be compared. Raises
        `HAProxyAway`, and `TemplateError` when the global part cannot be rendered.
        """
        self._pending |= set(changed)
        before = self.observed
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
        before, self.observed = self.observed, None
        info = self._info()
        if info is None:
            return None
        if names is None or before is None or before.pid != info.pid:
            backends: Mapping[str, Sequence[Slot]] = _own(self._process.runtime.servers())
        else:
            backends = {**before.backends, **_own(self._process.runtime.servers(names))} if names else before.backends
        self.observed = Observed(pid=info.pid, description=info.description, backends=backends)
        self._metrics.haproxy_up.set(1)
        return self.observed

    def act(self, look: Look, offers: Mapping[str, Offer]) -> float | None:
        """Carry out the plan; answer in how many seconds there is more to do, None when there is not.

        What is done at run time never waits for the reload, nor for its failure.
        """
        self._wanted = look.wanted
        problem = self._change_members(look) if look.plan.actions else None
        reasons = look.plan.reload_reasons or tuple(f"{name}: {why}" for name, why in sorted(self._distrusted.items()))
        if not reasons:
            if problem is None:
                self._pending.clear()
            self.error = problem or self._write_file(look.wanted)
            return self._more()
        wait = self._reloader.wait_seconds(starting=look.observed is None)
        if wait > 0:
            self.error = problem or self.error
            return wait
        running = self.observed if look.observed is not None else None
        outcome = self._reloader.replace(look.wanted, offers, running, reasons, distrusted=bool(self._distrusted))
        self.error = outcome.problem
        if outcome.problem is None:
            self._wanted = outcome.wanted
            self._distrusted.clear()
            self._pending |= set(offers)
            return 0.0 if outcome.replaced else self._more()
        return self._reloader.wait_seconds(starting=look.observed is None)

    def retry_refused(self) -> None:
        """Give definitions that HAProxy refused, and addresses that were taken, another chance."""
        self._pending |= self._wanting.standing.retry()

    def flush(self) -> None:
        """Let the file follow now: the process is about to end."""
        if self._file_due is not None and self._wanted is not None:
            self._file_due = self._clock()
            self._write_file(self._wanted)

    def _info(self) -> Info | None:
        try:
            return self._process.observe()
        except HAProxyAway as away:
            if not (away.nobody_listens and self._acts):
                raise
            self._reloader.revive()
            return self._process.observe()

    def _plan(self, observed: Observed, wanted: Wanted) -> Plan:
        services = {name: wanted.services[name] for name in self._pending if name in wanted.services}
        running = self._reloader.running_structure(observed.description)
        return plan(observed, services, wanted.structure, running, self._distrusted)

    def _change_members(self, look: Look) -> str | None:
        """The runtime part: do it, then look whether it shows. What does not show is a reason to reload."""
        actions = look.plan.actions
        if self._file_due is None:
            self._file_due = self._clock() + FILE_QUIET_SECONDS
        failures = self._process.runtime.execute(actions)
        self._metrics.commands.labels("done").inc(len(actions) - len(failures))
        self._metrics.commands.labels("failed").inc(len(failures))
        for failure in failures:
            self._distrusted[failure.action.backend] = f"HAProxy answered {failure.words!r} to a runtime command"
        observed = self.observe({action.backend for action in actions})
        if observed is None:
            return NOT_RUNNING
        for action in self._plan(observed, look.wanted).actions:
            self._distrusted.setdefault(action.backend, "HAProxy does not show what it was told at run time")
        return "; ".join(f"{name}: {why}" for name, why in sorted(self._distrusted.items())) or None

    def _write_file(self, wanted: Wanted) -> str | None:
        """Let the file follow what was changed at run time, once things are quiet. No reload comes of it."""
        observed = self.observed
        if self._file_due is None or self._clock() < self._file_due:
            return None
        if observed is None or observed.description != wanted.structure.description:
            self._file_due = None  # the start or the reload that is due writes it
            return None
        try:
            text = self._wanting.file(wanted, observed).text
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
        return None if self._file_due is None else max(0.0, self._file_due - self._clock())


def _own(backends: Mapping[str, Sequence[Slot]]) -> dict[str, Sequence[Slot]]:
    return {name: tuple(slot for slot in slots if SLOT.fullmatch(slot.name)) for name, slots in backends.items()}
