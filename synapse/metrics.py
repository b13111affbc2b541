"""What synapse counts, in Prometheus's terms."""

from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from synapse.drift import Kind
from synapse.plan import Action, Disable, Enable, SetAddress, SetWeight
from synapse.reasons import Cause, cause_of

_KINDS: Mapping[type[Action], str] = {
    SetAddress: "address",
    SetWeight: "weight",
    Enable: "enable",
    Disable: "disable",
}


class Metrics:
    """Every metric of one synapse. Names carry the unit; labels are bounded by the number of definitions."""

    def __init__(self) -> None:
        # A counter's time of creation would double the number of series, and nobody asks for it.
        disable_created: Callable[[], None] = disable_created_metrics
        disable_created()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        self.cycles = counter("synapse_cycles_total", "Turns of the loop")
        self.cycle_seconds = Histogram(
            "synapse_cycle_seconds",
            "How long a turn of the loop took",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
            registry=self.registry,
        )
        self.propagation_seconds = Histogram(
            "synapse_propagation_seconds",
            "From a source's news of a change to a HAProxy that shows it",
            buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self.commands = counter("synapse_runtime_commands_total", "Runtime commands sent to HAProxy", "kind", "result")
        self.reloads = counter("synapse_haproxy_reloads_total", "Reloads of HAProxy", "result")
        self.reload_reasons = counter(
            "synapse_haproxy_reload_reasons_total", "Why HAProxy was started or reloaded, maybe several", "reason"
        )
        self.starts = counter("synapse_haproxy_starts_total", "Starts of HAProxy by synapse", "result")
        self.file_writes = counter("synapse_haproxy_config_writes_total", "Times haproxy.cfg was replaced", "result")
        self.checks = counter(
            "synapse_haproxy_checks_total", "Times HAProxy was asked whether it takes a file", "result"
        )
        self.drift_repairs = counter(
            "synapse_drift_repairs_total", "What somebody else changed in HAProxy, and synapse put right", "kind"
        )
        self.old_workers = gauge(
            "synapse_haproxy_old_workers", "HAProxy processes of before a reload that still have connections"
        )
        self.haproxy_up = gauge("synapse_haproxy_up", "1 while HAProxy answers on its socket")
        self.instances = gauge("synapse_instances", "Instances that a service is offered with", "service")
        self.refused = gauge("synapse_refused_nodes", "Registry nodes whose data was refused", "service")
        self.held_back = gauge("synapse_held_back", "1 while a shrunken listing is not believed yet", "service")
        self.known = gauge("synapse_listing_known", "1 while the registry's word on a service is known", "service")
        self.rings = gauge(
            "synapse_rings_used",
            "Rings of instances that take traffic, where a service has locality; 1: the nearest",
            "service",
        )
        self.breaker_openings = counter(
            "synapse_breaker_openings_total", "Times that an instance was taken out because it failed", "service"
        )
        self.breakers_open = gauge("synapse_breakers_open", "Instances that are out because they fail", "service")
        self.slowed = gauge("synapse_instances_slowed", "Instances that get less than their weight", "service")
        self.last_good_age = gauge(
            "synapse_last_good_age_seconds", "Age of the oldest instances in use beyond last_good_warning; 0 if none is"
        )
        self.problems = gauge(
            "synapse_config_problems", "Problems of a definition; without a service, of this host's own file", "service"
        )
        self.refused_definitions = gauge(
            "synapse_definitions_refused",
            "1 while a valid definition is not in use, because HAProxy refuses it",
            "service",
        )
        self.certificates_loaded = counter(
            "synapse_certificates_loaded_total", "Renewed certificate files given to HAProxy at run time", "result"
        )
        self.certificate_expiry = gauge(
            "synapse_certificate_expiry_seconds", "When what HAProxy has of a certificate file expires", "file"
        )
        self.holds = gauge("synapse_holds", "Instances that are held on this host: they get no new requests from it")
        self.connected = gauge("synapse_registry_connected", "1 while the link to the registry is up")
        self.link = gauge("synapse_registry_link", "Totals of the registry link since the start", "counter")

        for result in ("done", "failed"):
            for kind in _KINDS.values():
                self.commands.labels(kind, result)
            for each in (self.reloads, self.starts, self.file_writes, self.certificates_loaded):
                each.labels(result)
        for result in ("taken", "refused"):
            self.checks.labels(result)
        for drift in Kind:
            self.drift_repairs.labels(drift.value)
        for cause in Cause:
            self.reload_reasons.labels(cause.value)

    def executed(self, actions: Iterable[Action], failed: Collection[Action]) -> None:
        """These runtime commands were sent, and those failed."""
        for action in actions:
            self.commands.labels(_KINDS[type(action)], "failed" if action in failed else "done").inc()

    def reloaded(self, reasons: Iterable[str]) -> None:
        """HAProxy was started or reloaded for these reasons; each cause counts once."""
        for cause in {cause_of(reason) for reason in reasons}:
            self.reload_reasons.labels(cause.value).inc()

    def placed(self, service: str, rings_used: int) -> None:
        """So many rings of this service take traffic; none: it has no locality."""
        if rings_used:
            self.rings.labels(service).set(rings_used)
        elif (service,) in self.rings._metrics:
            self.rings.remove(service)

    def balanced(self, service: str, out: int, slowed: int) -> None:
        """So many of its instances are out because they fail, and so many get less than their weight."""
        self.breakers_open.labels(service).set(out)
        self.slowed.labels(service).set(slowed)

    def keep_services(self, names: set[str]) -> None:
        """Drop the series of services that are no longer there."""
        of_services = (self.instances, self.refused, self.held_back, self.known, self.rings)
        for each in (*of_services, self.breaker_openings, self.breakers_open, self.slowed):
            for labels in list(each._metrics):
                if labels[0] not in names:
                    each.remove(*labels)
