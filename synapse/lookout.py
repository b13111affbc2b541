"""The lookout: who else has a hand in HAProxy. It finds and tells; putting things right is the controller's work."""

import time
from collections.abc import Mapping, Sequence

from synapse.configuration import ConfigurationFile
from synapse.drift import Drift, DriftRecord, Kind, differences
from synapse.haproxy.proc import family
from synapse.haproxy.sharing import shared
from synapse.metrics import Metrics
from synapse.proxy import Observed, Service, Slot

FOREIGN_FILE = "HAProxy was reloaded by somebody else, from a file that is not synapse's"


class Lookout:
    """For one thread only. `drift` is what was found of others' doing since the start.

    `old_workers` is how many processes of before a reload still have connections, None when the kernel does not tell.
    `sharing` says who else listens where HAProxy does, None when nobody does.
    """

    def __init__(self, configuration: ConfigurationFile, metrics: Metrics) -> None:
        self.drift = DriftRecord()
        self.old_workers: int | None = None
        self.sharing: str | None = None
        self._configuration = configuration
        self._metrics = metrics
        self._file_was_foreign = False

    def same_worker(self, shown: Mapping[str, Sequence[Slot]], now: Mapping[str, Sequence[Slot]]) -> list[Drift]:
        """What the same worker shows otherwise than it did."""
        return self._record(list(differences(shown, now)))

    def other_worker(self, before: Observed, now: Observed) -> list[Drift]:
        """Another worker serves, and synapse neither started nor reloaded HAProxy."""
        found = self.file()
        if now.description != before.description:
            runs = now.description or "a file that is not synapse's"
            what = f"HAProxy runs with {runs} (pid {now.pid}) by somebody else's doing"
            return found + self._record([Drift(kind=Kind.PROCESS, what=what)])
        if self._file_was_foreign:
            return found + self._record([Drift(kind=Kind.PROCESS, what=FOREIGN_FILE)])
        return found

    def file(self) -> list[Drift]:
        """That somebody else changed the file; then it is to be written again. Until the next reload by synapse, what
        is loaded from it past synapse is not trusted."""
        edited = self._configuration.edited()
        if edited is None:
            return []
        self._file_was_foreign = True
        return self._record([Drift(kind=Kind.FILE, what=edited)])

    def live_map(self, count: int) -> None:
        """So many entries of the live map had been changed past synapse, and were put right."""
        if count:
            self._record([Drift(kind=Kind.MAP, what=f"{count} of the live map's entries were not synapse's")])

    def surroundings(self, services: Mapping[str, Service], observed: Observed | None) -> None:
        """Count old workers, and see who else listens at the addresses of these services."""
        relatives = None if observed is None else family(observed.pid, self._configuration.path)
        self.old_workers, self.sharing = None, None
        if relatives is not None:
            master, workers = relatives
            self.old_workers = len(workers) - 1
            addresses = {name: service.proxy.addresses for name, service in services.items()}
            self.sharing = shared(addresses, (master, *workers))
        self._metrics.old_workers.set(self.old_workers or 0)

    def replaced(self) -> None:
        """synapse itself has HAProxy run with its own file now."""
        self._file_was_foreign = False

    def _record(self, found: list[Drift]) -> list[Drift]:
        if found:
            self.drift = self.drift.plus(found, time.time())
            for drift in found:
                self._metrics.drift_repairs.labels(drift.kind.value).inc()
        return found
