"""What synapse counts, in Prometheus's terms."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector


class Metrics:
    """Every metric of one synapse. Names carry the unit; labels are bounded by the number of definitions."""

    def __init__(self) -> None:
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
        self.commands = counter("synapse_runtime_commands_total", "Runtime commands sent to HAProxy", "result")
        self.reloads = counter("synapse_haproxy_reloads_total", "Reloads of HAProxy", "result")
        self.starts = counter("synapse_haproxy_starts_total", "Starts of HAProxy by synapse", "result")
        self.file_writes = counter("synapse_haproxy_config_writes_total", "Times haproxy.cfg was replaced", "result")
        self.checks = counter(
            "synapse_haproxy_checks_total", "Times HAProxy was asked whether it takes a file", "result"
        )
        self.haproxy_up = gauge("synapse_haproxy_up", "1 while HAProxy answers on its socket")
        self.instances = gauge("synapse_instances", "Instances that a service is offered with", "service")
        self.refused = gauge("synapse_refused_nodes", "Registry nodes whose data was refused", "service")
        self.held_back = gauge("synapse_held_back", "1 while a shrunken listing is not believed yet", "service")
        self.known = gauge("synapse_listing_known", "1 while the registry's word on a service is known", "service")
        self.last_good_age = gauge(
            "synapse_last_good_age_seconds", "Age of the oldest instances in use beyond last_good_warning; 0 if none is"
        )
        self.problems = gauge("synapse_config_problems", "Problems of a definition that keep it from use", "service")
        self.refused_definitions = gauge(
            "synapse_definitions_refused",
            "1 while a valid definition is not in use, because HAProxy refuses it",
            "service",
        )
        self.connected = gauge("synapse_registry_connected", "1 while the link to the registry is up")
        self.link = gauge("synapse_registry_link", "Totals of the registry link since the start", "counter")

        for result in ("done", "failed"):
            for each in (self.commands, self.reloads, self.starts, self.file_writes):
                each.labels(result)
        for result in ("taken", "refused"):
            self.checks.labels(result)

    def keep_services(self, names: set[str]) -> None:
        """Drop the series of services that are no longer there."""
        for each in (self.instances, self.refused, self.held_back, self.known):
            for labels in list(each._metrics):
                if labels[0] not in names:
                    each.remove(*labels)
