"""What HAProxy will take: each definition that it would not is left as it was, and the others go on."""

from collections.abc import Collection, Mapping, Sequence

from synapse.configuration import ConfigurationFile
from synapse.haproxy.certificates import Certificates
from synapse.haproxy.errors import ConfigurationRefused, HAProxyAway, HAProxyError
from synapse.haproxy.listeners import taken
from synapse.haproxy.owner import HAProxy
from synapse.metrics import Metrics
from synapse.offers import Offer
from synapse.provenance import Provenance
from synapse.proxy import Observed
from synapse.quarantine import Candidate, Charge, culprits
from synapse.tls import tls_files
from synapse.wanted import Wanted, Wanting


class Admission:
    """Tries what is wanted on HAProxy's own reader, and on the addresses of this host, before it is used."""

    def __init__(
        self,
        *,
        process: HAProxy,
        configuration: ConfigurationFile,
        wanting: Wanting,
        provenance: Provenance,
        certificates: Certificates,
        metrics: Metrics,
    ) -> None:
        self._process = process
        self._configuration = configuration
        self._wanting = wanting
        self._provenance = provenance
        self._certificates = certificates
        self._metrics = metrics

    def admissible(self, wanted: Wanted, offers: Mapping[str, Offer], observed: Observed | None) -> Wanted:
        """What is wanted, less the definitions that HAProxy would not take; each of those stays as it was.

        Raises `HAProxyError` when no definition is to blame, and when a service that runs would be lost.
        """
        workers = self._workers(observed)
        running: Collection[str] = observed.backends if observed else ()
        refusals = self._wanting.refusals
        while True:
            for name in sorted(refusals.keys() - wanted.services.keys()):
                _must_not_run(name, refusals[name].reason, running)
            problems = self._taken(wanted, workers, running) | self._unreadable(wanted)
            if not problems:
                charges = self._charges(wanted, observed)
                if charges is None:
                    wanted = self._wanting.update(offers, (), observed, may_shrink=True)
                    continue
                problems = {
                    name: (self._provenance.refusal(name, wanted.services[name].proxy, charge), charge.lasting)
                    for name, charge in charges.items()
                }
            if not problems:
                return wanted
            for name, (why, lasting) in problems.items():
                if self._wanting.is_last(name, offers[name]):
                    _must_not_run(name, why, running)
                self._wanting.refuse(name, offers[name], why, lasting=lasting)
            wanted = self._wanting.update(offers, problems, observed, may_shrink=True)

    def _taken(self, wanted: Wanted, workers: Sequence[int], running: Collection[str]) -> dict[str, tuple[str, bool]]:
        """Which services cannot listen where they should, with why; that may be over at any time."""
        accepted = self._wanting.standing.accepted
        listens = {name: each.proxy.addresses for name, each in wanted.services.items()}
        settled = {name for name in running if name in accepted and accepted[name].addresses == listens.get(name)}
        held = {str(listen) for name in running if name in accepted for listen in accepted[name].addresses}
        return {
            name: (self._provenance.taken(name, wanted.services[name].proxy, why), False)
            for name, why in taken(listens, workers, settled=settled, held=held).items()
        }

    def _unreadable(self, wanted: Wanted) -> dict[str, tuple[str, bool]]:
        """Which services name a certificate file that cannot be used and never could, with why."""
        return {
            name: (self._provenance.named(name, key, why), False)
            for name, each in wanted.services.items()
            for key, file in tls_files(each.proxy)
            if (why := self._certificates.admit(file)) is not None
        }

    def _charges(self, wanted: Wanted, observed: Observed | None) -> dict[str, Charge] | None:
        """Which definitions make HAProxy refuse the file, with what it says against each; none when it takes the file.

        None when it refused the template of the global part, instead of which its last good text is used from now on.
        Raises `HAProxyError` when there is none.
        """
        everything = self._wanting.file(wanted, observed)
        try:
            self._check(everything, keep=True)
        except ConfigurationRefused as refused:
            first: Sequence[Charge] | None = everything.charges(refused.words, self._configuration.candidate)
            why = refused
        else:
            return {}

        def against(names: Collection[str]) -> Sequence[Charge] | None:
            nonlocal first
            if first is not None and len(names) == len(wanted.services):
                said, first = first, None  # has been asked
                return said
            candidate = self._wanting.file(wanted, observed, names)
            try:
                self._check(candidate)
            except ConfigurationRefused as refused:
                return candidate.charges(refused.words, self._configuration.candidate)
            return None

        accepted = self._wanting.standing.accepted
        settled = [name for name, each in sorted(wanted.services.items()) if each.proxy == accepted.get(name)]
        suspects = sorted(wanted.services.keys() - set(settled))
        found = culprits(settled, suspects, against)
        if found is None and not self._wanting.refuse_global(str(why)):
            raise HAProxyError(f"{why}; the running configuration is unchanged") from why
        return found

    def _check(self, candidate: Candidate, *, keep: bool = False) -> None:
        """Have HAProxy read this file. Raises `ConfigurationRefused`; with `keep`, the file is kept then."""
        try:
            self._configuration.check(candidate.text, keep=keep)
        except ConfigurationRefused:
            self._metrics.checks.labels("refused").inc()
            raise
        self._metrics.checks.labels("taken").inc()

    def _workers(self, observed: Observed | None) -> tuple[int, ...]:
        """The processes whose listening sockets are ours."""
        if observed is None:
            return ()
        try:
            processes = self._process.runtime.processes()
        except HAProxyAway:
            return (observed.pid,)
        return (*processes.workers, *processes.old_workers)


def _must_not_run(name: str, why: str, running: Collection[str]) -> None:
    """A service that cannot even be as it was, because its template is wrong or its last definition is not known, is
    left out where it was not offered yet, but never taken from its clients."""
    if name in running:
        raise HAProxyError(f"{name} would be lost: {why}; the running configuration is unchanged")
