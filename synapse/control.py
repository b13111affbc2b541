"""The hand on HAProxy: looks at what runs, makes the plan, carries it out."""

import math
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from smartstack.errors import SmartStackError
from synapse.configuration import ConfigurationFile
from synapse.drift import Drift, Kind
from synapse.haproxy.answers import Info
from synapse.haproxy.certificates import Certificates
from synapse.haproxy.errors import HAProxyAway
from synapse.haproxy.maps import LiveMap
from synapse.haproxy.owner import HAProxy
from synapse.live_map import NOTHING, Entries, Said, entries
from synapse.lookout import FOREIGN_FILE, Lookout
from synapse.metrics import Metrics
from synapse.offers import Offer
from synapse.plan import Plan, SetWeight, plan
from synapse.proxy import Observed, Slot
from synapse.reasons import Cause, Reason, distrust
from synapse.reload import Reloader
from synapse.tls import tls_files
from synapse.wanted import Wanted, Wanting

FILE_QUIET_SECONDS = 0.5
"""How long after a runtime change the file follows, so that a burst of changes is one write."""

SLOT = re.compile(r"[sb][1-9][0-9]{0,6}")
"""The names of slots; a site's template may have servers of its own, by other names, which are left alone."""

NOT_RUNNING = Reason("HAProxy is not running", Cause.NOT_RUNNING)

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
    answered last, None when it was not running or did not answer. `said` is for the live map, beside the definitions.
    Unless it `acts`, it only looks, also where HAProxy cannot be reached.
    """

    def __init__(
        self,
        *,
        process: HAProxy,
        configuration: ConfigurationFile,
        wanting: Wanting,
        reloader: Reloader,
        certificates: Certificates,
        live_map: LiveMap,
        metrics: Metrics,
        acts: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.error: str | None = None
        self.observed: Observed | None = None
        self.said = NOTHING
        self.lookout = Lookout(configuration, metrics)
        self._process = process
        self._configuration = configuration
        self._wanting = wanting
        self._reloader = reloader
        self._certificates = certificates
        self._live_map = live_map
        self._metrics = metrics
        self._acts = acts
        self._clock = clock
        self._wanted: Wanted | None = None
        self._entries: tuple[Said, Entries] | None = None
        self._shown: Mapping[str, Sequence[Slot]] = {}
        self._distrusted: dict[str, str] = {}
        self._pending: set[str] = set()
        self._compared: int | None = None
        self._file_due: float | None = clock()

    def look(self, offers: Mapping[str, Offer], changed: Collection[str], *, everything: bool = False) -> Look:
        """What runs, what should, and the plan between them; changes nothing.

        Asks HAProxy about the services that changed only, unless `everything` is to be compared. Raises
        `HAProxyAway`, and `TemplateError` when the global part cannot be rendered.
        """
        self._pending |= set(changed)
        observed = self.observe(None if everything else self._pending)
        # By the worker of the last look: others ask in between too, and may have met a new one before this does.
        if everything or observed is None or observed.pid != self._compared:
            self._pending |= set(offers)
        self._compared = None if observed is None else observed.pid
        wanted = self._wanting.update(offers, self._pending, observed)
        if everything:
            self._put_right(self.lookout.file())
            self._live_map.touch()
            self.lookout.surroundings(wanted.services, observed)
        if observed is None:
            return Look(observed=None, wanted=wanted, plan=Plan(reload_reasons=(NOT_RUNNING,)))
        made = self._plan(observed, wanted)
        if made.reload_reasons:
            wanted = self._wanting.update(offers, list(offers), observed, may_shrink=True)
            made = self._plan(observed, wanted)
        return Look(observed=observed, wanted=wanted, plan=made)

    def observe(self, names: Collection[str] | None = None) -> Observed | None:
        """Ask the running HAProxy about these backends, or about all. None when it is not running.

        A worker that was not seen before is asked about everything. What differs from what was seen last is somebody
        else's doing: it is recorded, and put right by the next plan. Raises `HAProxyAway`.
        """
        before, shown = self.observed, self._shown
        observed = self._ask(names)
        if before is None or observed is None:
            return observed
        if observed.pid == before.pid:
            asked = self._shown if names is None else {name: self._shown[name] for name in names if name in self._shown}
            self._put_right(self.lookout.same_worker(shown, asked))
        elif observed.pid != self._reloader.worker:
            self._put_right(self.lookout.other_worker(before, observed))
        return observed

    def _ask(self, names: Collection[str] | None) -> Observed | None:
        self._metrics.haproxy_up.set(0)
        before, self.observed = self.observed, None
        info = self._info()
        if info is None:
            return None
        if names is None or before is None or before.pid != info.pid:
            self._shown = self._process.runtime.servers()
            backends: Mapping[str, Sequence[Slot]] = _own(self._shown)
        else:
            found = self._process.runtime.servers(names) if names else {}
            self._shown = {**self._shown, **found}
            backends = {**before.backends, **_own(found)}
        self.observed = Observed(pid=info.pid, description=info.description, backends=backends)
        self._metrics.haproxy_up.set(1)
        return self.observed

    def _put_right(self, found: Sequence[Drift]) -> None:
        """See to it that what others changed is looked at, and that what a look does not show is replaced."""
        for drift in found:
            if drift.backend is not None:
                self._pending.add(drift.backend)
            if drift.kind is Kind.FILE:
                self._file_due = self._clock()
            elif drift.kind is Kind.SERVER:
                self._distrusted[drift.backend or ""] = drift.what
            elif drift.what == FOREIGN_FILE:
                self._distrusted["haproxy.cfg"] = FOREIGN_FILE

    def act(self, look: Look, offers: Mapping[str, Offer]) -> float | None:
        """Carry out the plan, and keep the live map; answer in how many seconds there is more to do, None when there is
        not.

        What is done at run time never waits for the reload, nor for its failure.
        """
        problem = self._keep_live_map(look)
        more = self._carry_out(look, offers)
        if problem is None:
            return more
        self.error = self.error or problem
        return _RETRY_SECONDS if more is None else min(more, _RETRY_SECONDS)

    def _keep_live_map(self, look: Look) -> str | None:
        """Bring the file of the live map in step, then the worker's copy; answer what kept them from it.

        First of all, because the next HAProxy reads the file.
        """
        if self._entries is None or self._pending or self._entries[0] != self.said:
            proxies = {name: service.proxy for name, service in look.wanted.services.items()}
            self._entries = self.said, entries(proxies, self.said)
        try:
            self._live_map.write(self._entries[1])
            if look.observed is not None:
                self.lookout.live_map(self._live_map.tell(look.observed.pid))
        except HAProxyAway:
            raise
        except SmartStackError as error:
            return f"the live map cannot follow: {error}"
        return None

    def _carry_out(self, look: Look, offers: Mapping[str, Offer]) -> float | None:
        if self._file_due is None and self._file_differs(look):
            self._file_due = self._clock() + FILE_QUIET_SECONDS
        self._wanted = look.wanted
        problem = self._change_members(look) if look.plan.actions else None
        self._distrusted |= self._renew_certificates(look.wanted)
        reasons = look.plan.reload_reasons or tuple(distrust(self._distrusted))
        if not reasons:
            self._reloader.in_step(look.wanted)
            if problem is None:
                self._pending.clear()
            self.error = problem or self._write_file(look.wanted) or self.lookout.sharing
            return self._more()
        starting = look.observed is None
        wait = self._reloader.wait_seconds(starting=starting, structure=self._not_urgent(look))
        if wait > 0:
            self.error = problem or self.error
            return min(wait, _RETRY_SECONDS) if starting else wait
        running = self.observed if look.observed is not None else None
        outcome = self._reloader.replace(look.wanted, offers, running, reasons, distrusted=bool(self._distrusted))
        self.error = outcome.problem
        if outcome.problem is None:
            self._wanted = outcome.wanted
            self._distrusted.clear()
            if outcome.replaced:
                self.lookout.replaced()
            self._pending |= set(offers)
            return 0.0 if outcome.replaced else self._more()
        return min(self._reloader.wait_seconds(starting=starting), _RETRY_SECONDS if starting else math.inf)

    def _not_urgent(self, look: Look) -> str | None:
        """The structure that is wanted, if it is only another one than HAProxy was given: that can wait for this host's
        turn. None when HAProxy is not as synapse left it."""
        observed = look.observed
        trusted = observed is not None and not self._distrusted
        known = observed is not None and self._reloader.running_structure(observed.description) is not None
        return look.wanted.structure.description if trusted and known else None

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

    def _renew_certificates(self, wanted: Wanted) -> Mapping[str, str]:
        """Give HAProxy what was renewed; answer which files it must be reloaded for, with why."""
        worker = None if self.observed is None else self.observed.pid
        if not self._certificates.due(worker):
            return {}
        proxies = [service.proxy for service in wanted.services.values()]
        files = {
            file for proxy in (*proxies, *self._wanting.standing.accepted.values()) for _, file in tls_files(proxy)
        }
        return self._certificates.renew(files, worker, self._configuration.content() or "")

    def _change_members(self, look: Look) -> str | None:
        """The runtime part: do it, then look whether it shows. What does not show is a reason to reload."""
        actions = look.plan.actions
        touched = {action.backend for action in actions}
        self._shown = {name: slots for name, slots in self._shown.items() if name not in touched}
        failures = self._process.runtime.execute(actions)
        self._metrics.executed(actions, [failure.action for failure in failures])
        for failure in failures:
            self._distrusted[failure.action.backend] = f"HAProxy answered {failure.words!r} to a runtime command"
        observed = self._ask(touched)
        if observed is None:
            return NOT_RUNNING
        for action in self._plan(observed, look.wanted).actions:
            self._distrusted.setdefault(action.backend, "HAProxy does not show what it was told at run time")
        return "; ".join(f"{name}: {why}" for name, why in sorted(self._distrusted.items())) or None

    def _file_differs(self, look: Look) -> bool:
        """Whether the plan does more than to give instances another share of the weight that stands in the file."""
        before, now = self._wanted.services if self._wanted else {}, look.wanted.services
        return any(
            not isinstance(action, SetWeight) or before.get(action.backend) != now.get(action.backend)
            for action in look.plan.actions
        )

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
            if text != self._configuration.content() or self._configuration.foreign:
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
