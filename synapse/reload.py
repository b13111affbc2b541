"""The way to a new structure: write whole, check, swap, start or reload, confirm; on failure all stays as it was."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from smartstack.errors import SmartStackError
from smartstack.logs import EventLog
from synapse.admission import Admission
from synapse.configuration import ConfigurationFile
from synapse.haproxy.errors import HAProxyAway, HAProxyError
from synapse.haproxy.process import HAProxyProcess
from synapse.metrics import Metrics
from synapse.offers import Offer
from synapse.plan import Structure
from synapse.provenance import Provenance
from synapse.proxy import Observed
from synapse.store import Running, Store
from synapse.wanted import Wanted, Wanting

_RETRY_SECONDS = 1.0
_RETRY_LIMIT_SECONDS = 60.0

_QUICK_SECONDS = 5.0
_QUICK_STARTS = 3
"""A HAProxy that ends so soon after its start is started again at once only so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a replacement went. `wanted` is what runs now, after definitions that HAProxy refuses were left out.

    `replaced`: another process serves now; not so when everything that was new was refused.
    """

    wanted: Wanted
    replaced: bool = False
    problem: str | None = None


class Reloader:
    """Starts and reloads one HAProxy: one at a time, confirmed, not more often than the interval, slower after
    failures. `last_reasons` says why it did so last."""

    def __init__(
        self,
        *,
        process: HAProxyProcess,
        configuration: ConfigurationFile,
        wanting: Wanting,
        provenance: Provenance,
        store: Store,
        running: Running | None,
        interval_seconds: float,
        metrics: Metrics,
        log: EventLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.last_reasons: tuple[str, ...] = ()
        self._process = process
        self._configuration = configuration
        self._wanting = wanting
        self._admission = Admission(
            process=process, configuration=configuration, wanting=wanting, provenance=provenance, metrics=metrics
        )
        self._store = store
        self._running = running
        self._interval_seconds = interval_seconds
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._reload_at = clock()
        self._start_at = clock()
        self._failures = 0
        self._started_at: float | None = None
        self._quick_starts = 0

    def running_structure(self, description: str) -> Structure | None:
        """The structure of this description, if it is the one that is remembered."""
        structure = self._running.structure if self._running else None
        return structure if structure and structure.description == description else None

    def wait_seconds(self, *, starting: bool) -> float:
        """In how many seconds HAProxy may be reloaded, or started. Reloads that fail never hold up a start."""
        return max(0.0, (self._start_at if starting else self._reload_at) - self._clock())

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
        self._done(reasons, starting=starting)
        self._wanting.accept()
        good = self._wanting.standing
        self._running = Running(structure=wanted.structure, proxies=dict(good.accepted), texts=dict(good.texts))
        try:
            self._store.save_running(self._running)
        except SmartStackError as error:
            self._log.error("a restart of synapse will not know what is running", why=str(error))
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
        reasons = ("its socket was gone",)
        self._log.info("reloaded HAProxy", why=reasons[0], pid=info.pid)
        self._done(reasons, starting=False)

    def _done(self, reasons: tuple[str, ...], *, starting: bool) -> None:
        now = self._clock()
        self.last_reasons = reasons
        self._failures = 0
        self._reload_at = now + self._interval_seconds
        if starting:
            quick = self._started_at is not None and now - self._started_at < _QUICK_SECONDS
            self._quick_starts = self._quick_starts + 1 if quick else 0
            self._started_at = now
            if self._quick_starts >= _QUICK_STARTS:
                self._start_at = now + self._delay(self._quick_starts - _QUICK_STARTS)

    def _start_as_before(self) -> None:
        """HAProxy does not start with what is new: what it ran with before is better than nothing."""
        try:
            info = self._process.start(self._configuration.description() or "")
        except SmartStackError as error:
            self._log.error("HAProxy does not start with its last good configuration either", why=str(error))
        else:
            self._log.warning("started HAProxy with its last good configuration", pid=info.pid)

    def _failed(self, why: str, *, starting: bool = False) -> str:
        delay = self._delay(self._failures)
        self._failures += 1
        if starting:
            self._start_at = self._clock() + delay
        else:
            self._reload_at = self._clock() + delay
        self._log.error("cannot bring HAProxy in step", why=why, again_in_seconds=delay)
        return why

    @staticmethod
    def _delay(failures: int) -> float:
        return min(_RETRY_SECONDS * 2.0 ** min(failures, 10), _RETRY_LIMIT_SECONDS)

    def _restore(self, text: str) -> None:
        """Put the last good file back, so that whoever starts HAProxy from it gets what was running."""
        try:
            self._configuration.swap(text)
        except SmartStackError as error:
            self._log.error("cannot put the last good configuration back", why=str(error))
