"""What nerve counts and what it shows to Prometheus. The only home of prometheus_client in nerve."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, Summary, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nerve.admission import Admission
from nerve.health import Result, State
from nerve.plan import Action, Put
from nerve.registrations import weight_of
from nerve.status import Status, registered

_HELD_BACK = ("throttled", "suppressed")


class Metrics:
    """The counters, which the loop advances, and the gauges, which are read off the last snapshot at each scrape.

    `snapshot` may be called from any thread.
    """

    def __init__(self, snapshot: Callable[[], Status | None]) -> None:
        # A counter's time of creation would double the number of series, and nobody asks for it.
        disable_created: Callable[[], None] = disable_created_metrics
        disable_created()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._checks = Counter(
            "nerve_check", "Checks that ran, by result", ["service", "check", "result"], registry=self.registry
        )
        self._seconds = Summary(
            "nerve_check_seconds", "How long checks took", ["service", "check"], registry=self.registry
        )
        self._transitions = Counter(
            "nerve_transitions", "Changes of a service's state", ["service", "to"], registry=self.registry
        )
        self._cycles = Counter("nerve_cycles", "Turns of the loop", registry=self.registry)
        self._actions = Counter(
            "nerve_registry_actions", "Changes asked of the registry", ["action", "result"], registry=self.registry
        )
        self._held_back = Counter(
            "nerve_held_back", "Joins held back, or that would have been", ["service", "why"], registry=self.registry
        )
        for kind in ("put", "remove"):
            for result in ("done", "failed"):
                self._actions.labels(kind, result)
        self.registry.register(_Gauges(snapshot))

    def check(self, service: str, check: str, result: Result) -> None:
        """A check gave a result."""
        self._checks.labels(service, check, "passed" if result.passed else "failed").inc()
        self._seconds.labels(service, check).observe(result.duration_seconds)

    def transition(self, service: str, to: State) -> None:
        """A service came into another state. What did not happen yet is there with 0, so that its first time is an
        increase."""
        for state in State:
            self._transitions.labels(service, state.value)
        for why in _HELD_BACK:
            self._held_back.labels(service, why)
        self._transitions.labels(service, to.value).inc()

    def action(self, action: Action, succeeded: bool) -> None:
        """The registry was asked for a change."""
        kind = "put" if isinstance(action, Put) else "remove"
        self._actions.labels(kind, "done" if succeeded else "failed").inc()

    def held_back(self, service: str, before: Admission | None, now: Admission) -> None:
        """A service that is well may be kept out of the registry, or would be."""
        for why in _HELD_BACK:
            more = getattr(now, why) - (getattr(before, why) if before else 0)
            if more > 0:
                self._held_back.labels(service, why).inc(more)

    def cycle(self) -> None:
        """The loop turned."""
        self._cycles.inc()


class _Gauges(Collector):
    def __init__(self, snapshot: Callable[[], Status | None]) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Nothing to compare with: prometheus_client would otherwise collect once to find the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        status = self._snapshot()
        if status is None:
            return
        yield from _services(status)
        problems = GaugeMetricFamily(
            "nerve_config_problems", "Problems of the configuration files as they are now", labels=["service"]
        )
        for name, texts in status.problems.items():
            problems.add_metric([name], float(len(texts)))
        yield problems
        yield from _registries(status)


def _services(status: Status) -> Iterator[Metric]:
    up = GaugeMetricFamily("nerve_service_up", "1 up, 0 down; absent while not known", labels=["service"])
    in_registry = GaugeMetricFamily(
        "nerve_registered", "1 while every registry has the service's node", labels=["service"]
    )
    maintenance = GaugeMetricFamily(
        "nerve_maintenance", "1 while the service is in maintenance, so not to be called", labels=["service"]
    )
    weight = GaugeMetricFamily("nerve_weight", "The weight in the registration", labels=["service"])
    tethered = GaugeMetricFamily("nerve_tethered", "1 while an idle connection is held", labels=["service"])
    for name, places in status.places().items():
        if status.healths[name].state is not State.UNKNOWN:
            up.add_metric([name], float(status.healths[name].state is State.UP))
        there = [registered(place, status.reports[place.registry]) for place in places]
        if None not in there:
            in_registry.add_metric([name], float(all(there)))
        maintenance.add_metric([name], float(status.maintenance(name) is not None))
        weight.add_metric([name], float(weight_of(places[0].instance)))
        tethered.add_metric([name], float(status.tethers.get(name) == "held"))
    yield from (up, in_registry, maintenance, weight, tethered)


def _registries(status: Status) -> Iterator[Metric]:
    connected = GaugeMetricFamily(
        "nerve_registry_connected", "1 while the link to the registry is up", labels=["registry"]
    )
    counters: dict[str, CounterMetricFamily] = {}
    for registry, link in status.links.items():
        connected.add_metric([registry or "main"], float(link.connected))
        for counter, value in sorted(link.counters.items()):
            family = counters.setdefault(
                counter,
                CounterMetricFamily(f"nerve_registry_{counter}", f"The registry link's {counter}", labels=["registry"]),
            )
            family.add_metric([registry or "main"], float(value))
    yield connected
    yield from counters.values()
