"""The way to a new structure: write whole, check, swap, start or reload, confirm; on failure all stays as it was."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from smartstack.errors import SmartStackError
from smartstack.logs import EventLog
from synapse.admission import Admission
from synapse.configuration import ConfigurationFile
from synapse.haproxy.certificates import Certificates
from synapse.haproxy.errors import HAProxyAway, HAProxyError, NotOursToStart
from synapse.haproxy.owner import HAProxy
from synapse.metrics import Metrics
from synapse.offers import Offer
from synapse.pacing import Pace
from synapse.plan import Structure
from synapse.provenance import Provenance
from synapse.proxy import Observed
from synapse.reasons import Cause, Reason
from synapse.store import Running, Store
from synapse.wanted import Wanted, Wanting


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a replacement went. `wanted` is what runs now, after definitions that HAProxy refuses were left out.

    `replaced`: another process serves now; not so when everything that was new was refused.
    """

    wanted: Wanted
    replaced: bool = False
    problem: str | None = None


class Reloader:
    """Starts and reloads one HAProxy: one at a time, confirmed, at its pace. `last_reasons` says why it did so last,
    and `worker` which process came of it."""

    def __init__(
        self,
        *,
        process: HAProxy,
        configuration: ConfigurationFile,
        wanting: Wanting,
        provenance: Provenance,
        certificates: Certificates,
        store: Store,
        running: Running | None,
        pace: Pace,
        metrics: Metrics,
        log: EventLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.last_reasons: tuple[str, ...] = ()
        self.worker: int | None = None
        self._process = process
        self._configuration = configuration
        self._wanting = wanting
        self._admission = Admission(
            process=process,
            configuration=configuration,
            wanting=wanting,
            provenance=provenance,
            certificates=certificates,
            metrics=metrics,
        )
        self._store = store
        self._running = running
        self._pace = pace
        self._metrics = metrics
        self._log = log
        self._clock = clock

    def running_structure(self, description: str) -> Structure | None:
        """The structure of this description, if it is the one that is remembered."""
        structure = self._running.structure if self._running else None
        return structure if structure and structure.description == description else None

    def wait_seconds(self, *, starting: bool, structure: str | None = None) -> float:
        """In how many seconds HAProxy may be started, or reloaded: at once, or for this structure, which can wait."""
        now = self._clock()
        return self._pace.start_wait(now) if starting else self._pace.reload_wait(now, structure)

    def in_step(self, wanted: Wanted) -> None:
        """HAProxy runs with what is wanted. Its owner may have started it: then that is remembered now."""
        self._pace.in_step()
        if self._running is None or self._running.structure.description != wanted.structure.description:
            self._remember(wanted)

    def replace(
        self,
        wanted: Wanted,
        offers: Mapping[str, Offer],
        observed: Observed | None,
        reasons: tuple[str, ...],
        *,
        distrusted: bool,
    ) -> Outcome:
        """Have HAProxy run with what is wanted: start it if it is not there (`observed` None), else reload it.

        With `distrusted` it is reloaded even if its structure is the wanted one already.
        """
        starting = observed is None
        counter = self._metrics.starts if starting else self._metrics.reloads
        before = self._configuration.content()
        swapped = False
        began = self._clock()
        try:
            if starting:
                self._process.end_leftovers()
            wanted = self._admission.admissible(wanted, offers, observed)
            if observed and observed.description == wanted.structure.description and not distrusted:
                return Outcome(wanted=wanted)
            swapped = self._configuration.swap(self._wanting.file(wanted, observed).text)
            start_or_reload = self._process.start if starting else self._process.reload
            info = start_or_reload(wanted.structure.description)
        except NotOursToStart as error:
            self._pace.failed(self._clock(), starting=True)
            return Outcome(wanted=wanted, problem=str(error))
        except SmartStackError as error:
            counter.labels("failed").inc()
            if swapped and before:
                self._restore(before)
                if starting:
                    self._start_as_before()
            return Outcome(wanted=wanted, problem=self._failed(str(error), starting=starting))
        counter.labels("done").inc()
        self._log.info(
            "started HAProxy" if starting else "reloaded HAProxy",
            why="; ".join(reasons),
            pid=info.pid,
            seconds=round(self._clock() - began, 3),
        )
        self._done(reasons, info.pid, starting=starting)
        self._remember(wanted)
        return Outcome(wanted=wanted, replaced=True)

    def revive(self) -> None:
        """HAProxy runs, and nobody can reach it, because its socket is gone: a reload makes a new one.

        Raises `HAProxyAway` when it is not time yet, `HAProxyError` when that did not help.
        """
        wait = self.wait_seconds(starting=False)
        if wait > 0:
            raise HAProxyAway(f"HAProxy cannot be reached, its socket is gone: it is reloaded in {wait:.1f} s")
        try:
            info = self._process.reload(self._configuration.description() or "")
        except HAProxyError as error:
            self._metrics.reloads.labels("failed").inc()
            self._failed(str(error))
            raise
        self._metrics.reloads.labels("done").inc()
        reasons = (Reason("its socket was gone", Cause.SOCKET),)
        self._log.info("reloaded HAProxy", why=reasons[0], pid=info.pid)
        self._done(reasons, info.pid, starting=False)

    def _done(self, reasons: tuple[str, ...], worker: int, *, starting: bool) -> None:
        self.last_reasons = reasons
        self.worker = worker
        self._metrics.reloaded(reasons)
        if starting:
            self._pace.started(self._clock())
        else:
            self._pace.reloaded(self._clock())

    def _remember(self, wanted: Wanted) -> None:
        """HAProxy runs with what is wanted: keep what that is, for a restart of synapse and for the next refusal."""
        self._wanting.accept()
        good = self._wanting.standing
        self._running = Running(structure=wanted.structure, proxies=dict(good.accepted), texts=dict(good.texts))
        try:
            self._store.save_running(self._running)
        except SmartStackError as error:
            self._log.error("a restart of synapse will not know what is running", why=str(error))

    def _start_as_before(self) -> None:
        """HAProxy does not start with what is new: what it ran with before is better than nothing."""
        try:
            info = self._process.start(self._configuration.description() or "")
        except SmartStackError as error:
            self._log.error("HAProxy does not start with its last good configuration either", why=str(error))
        else:
            self.worker = info.pid
            self._log.warning("started HAProxy with its last good configuration", pid=info.pid)

    def _failed(self, why: str, *, starting: bool = False) -> str:
        delay = self._pace.failed(self._clock(), starting=starting)
        self._log.error("cannot bring HAProxy in step", why=why, again_in_seconds=delay)
        return why

    def _restore(self, text: str) -> None:
        """Put the last good file back, so that whoever starts HAProxy from it gets what was running."""
        try:
            self._configuration.swap(text)
        except SmartStackError as error:
            self._log.error("cannot put the last good configuration back", why=str(error))
