"""Every metric that the two daemons export, read off their registries: names, kinds, labels and words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from nerve.metrics import Metrics as NerveMetrics
from nerve.registrar import Report
from nerve.status import Status
from smartstack.registry.protocol import LinkStatus
from synapse.metrics import Metrics as SynapseMetrics
from synapse.settings import TelemetrySettings
from synapse.telemetry.exposition import Exposition
from synapse.telemetry.gauges import Gauge
from synapse.telemetry.receiver import Counts
from synapse.telemetry.totals import Copy

LINK_COUNTERS = ("events", "reconnects", "requests", "sessions")
"""What each kind of registry counts."""

_SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One metric. `name` is as people write it: with `_total` where it is a counter."""

    daemon: str
    name: str
    kind: str
    labels: tuple[str, ...]
    words: str

    @property
    def series(self) -> dict[str, tuple[str, ...]]:
        """The names of its series with their labels."""
        base = self.name.removesuffix("_total")
        names = [f"{base}{suffix}" for suffix in _SUFFIXES.get(self.kind, ("",))]
        return {name: (*self.labels, "le") if name.endswith("_bucket") else self.labels for name in names}


class _Nothing:
    """A feed that told nothing."""

    counts = Counts()
    shares: Mapping[str, float] = {}

    def counted(self) -> Copy:
        return Copy()


def exported() -> list[Exported]:
    """Both daemons', by name; those of the process and of Python once, of either."""
    synapse = SynapseMetrics().registry
    settings = TelemetrySettings(instance_metrics=True)
    synapse.register(Exposition(_Nothing(), settings, gauge=Gauge, shares=dict))
    found = {
        each.name: each
        for daemon, registry in (("nerve", NerveMetrics(_status).registry), ("synapse", synapse))
        for each in _of(daemon, registry)
    }
    return sorted(found.values(), key=lambda each: (each.daemon, each.name))


def _of(daemon: str, registry: CollectorRegistry) -> Iterator[Exported]:
    labels = {
        collector._name: collector._labelnames
        for collector in registry._collector_to_names
        if isinstance(collector, MetricWrapperBase)
    }
    for metric in registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        whose = "both" if name.startswith("process_") else daemon
        known = labels.get(metric.name, ())
        yield Exported(
            daemon=whose,
            name=name,
            kind=metric.type,
            labels=tuple(known or _labels(metric)),
            words=metric.documentation,
        )


def _labels(metric: Metric) -> tuple[str, ...]:
    named: tuple[str, ...] = getattr(metric, "_labelnames", ())
    return named or tuple({label: None for sample in metric.samples for label in sample.labels if label != "le"})


def _status() -> Status:
    """A nerve that announces nothing: its gauges are there, without series."""
    link = LinkStatus(connected=True, detail="", since=0.0, session=None, counters=dict.fromkeys(LINK_COUNTERS, 0))
    return Status(
        version="1",
        pid=1,
        started=0.0,
        at=0.0,
        clock_offset=0.0,
        host="h",
        instance_id="h",
        registry_url="file:/r",
        links={"": link},
        seen_registry=True,
        services={},
        healths={},
        intents={},
        admissions={},
        wanted={},
        reports={"": Report()},
        maintenances={},
        tethers={},
        problems={},
        needs_restart=(),
    )
