"""What the feed told, as Prometheus asks for it: by Linkerd's names where these mean the same, so that its dashboards
and alerts fit.

A request is counted once, by the synapse of the host that it came from (`direction="outbound"`): sums over hosts are
right. One thing differs: Linkerd's latency ends with the first byte of the answer, ours, like `synapse stat`, with the
last.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from synapse.settings import TelemetrySettings
from synapse.telemetry.cells import counters, requests
from synapse.telemetry.gauges import Gauge
from synapse.telemetry.histogram import BOUNDS, BUCKETS
from synapse.telemetry.receiver import Counts
from synapse.telemetry.totals import Copy, Key

_OUTBOUND = "outbound"
_PEER = "src"
_LE = (*map(str, BOUNDS), "+Inf")
_CALLS = ("direction", "service", "source")
_ROUTES = ("direction", "service", "rt_route")
_INSTANCES = ("service", "address")

Cells = Mapping[Key, Sequence[float]]
Labelled = tuple[Sequence[str], Sequence[float]]
Shares = Mapping[str, Mapping[str, float]]
"""By service, which part of its weight an instance has that has not all of it, by its address; 0: its breaker is
open."""


class Told(Protocol):
    """Who knows what the feed told: telemetry."""

    @property
    def counts(self) -> Counts: ...

    @property
    def shares(self) -> Mapping[str, float]: ...

    def counted(self) -> Copy: ...


class Exposition(Collector):
    """Asked at each scrape, by any thread. `gauge` says what HAProxy alone knows, `shares` how instances are weighed
    now. Each instance has series of its own where the settings want it."""

    def __init__(
        self,
        telemetry: Told,
        settings: TelemetrySettings,
        *,
        gauge: Callable[[], Gauge],
        shares: Callable[[], Shares],
    ) -> None:
        self._telemetry = telemetry
        self._instances = settings.instance_metrics
        self._gauge = gauge
        self._shares = shares

    def describe(self) -> list[Metric]:
        """Nothing to compare with: prometheus_client would otherwise collect once to find the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        copy, gauge = self._telemetry.counted(), self._gauge()
        yield from _calls(copy)
        yield from _routes(copy.routes)
        yield from _connections(copy, gauge)
        yield from _feed(self._telemetry.counts, gauge, copy.folded)
        yield _sampled(copy.http, self._telemetry.shares)
        if self._instances:
            yield from _of_instances(copy.instances, self._shares())


def _calls(copy: Copy) -> Iterator[Metric]:
    total = CounterMetricFamily("request", "Requests, those included that their client gave up", labels=_CALLS)
    response = CounterMetricFamily(
        "response",
        "Answers; classification is failure for 5xx and for none at all, success for all others",
        labels=(*_CALLS, "classification", "status_code"),
    )
    retries = CounterMetricFamily(
        "synapse_retries", "How often HAProxy tried a request once more", labels=("service", "source")
    )
    for (service, source), cell in copy.http.items():
        total.add_metric((_OUTBOUND, service, source), requests(cell))
        retries.add_metric((service, source), counters(cell)["retries"])
        for (outcome, status), number in copy.responses[service, source].items():
            response.add_metric((_OUTBOUND, service, source, outcome, status), number)
    yield from (total, response, retries)
    yield _latencies(
        "response_latency_ms",
        "From a request to the last byte of its answer, in milliseconds",
        _CALLS,
        _outbound(copy.http),
    )


def _routes(routes: Cells) -> Iterator[Metric]:
    total = CounterMetricFamily("route_request", "Requests by route, of services that have routes", labels=_ROUTES)
    for key, cell in routes.items():
        total.add_metric((_OUTBOUND, *key), requests(cell))
    yield total
    yield _judged("route_response", "Answers by route", _ROUTES, _outbound(routes))
    yield _latencies("route_response_latency_ms", "As response_latency_ms, by route", _ROUTES, _outbound(routes))


def _connections(copy: Copy, gauge: Gauge) -> Iterator[Metric]:
    opened = GaugeMetricFamily(
        "tcp_open_connections", "Connections of clients that are open now", labels=("direction", "service", "peer")
    )
    for service, number in sorted(gauge.connections.items()):
        opened.add_metric((_OUTBOUND, service, _PEER), number)
    yield opened
    closed = CounterMetricFamily(
        "tcp_close",
        "Connections of services in mode tcp that ended; classification is aborted where the client broke off",
        labels=(*_CALLS, "classification"),
    )
    for key, cell in copy.tcp.items():
        counted = counters(cell)
        for classification in ("success", "failure", "aborted"):
            closed.add_metric((_OUTBOUND, *key, classification), counted[classification])
    yield closed
    labels = (*_CALLS, "peer")
    read = CounterMetricFamily("tcp_read_bytes", "Bytes from clients, in either mode", labels=labels)
    written = CounterMetricFamily("tcp_write_bytes", "Bytes to clients, in either mode", labels=labels)
    for key, cell in {**copy.http, **copy.tcp}.items():
        counted = counters(cell)
        read.add_metric((_OUTBOUND, *key, _PEER), counted["received_bytes"])
        written.add_metric((_OUTBOUND, *key, _PEER), counted["sent_bytes"])
    yield from (read, written)


def _feed(counts: Counts, gauge: Gauge, folded: int) -> Iterator[Metric]:
    lines = CounterMetricFamily("synapse_feed_lines", "Lines of HAProxy's that were counted, one for each request")
    lines.add_metric((), counts.received)
    yield lines
    dropped = CounterMetricFamily(
        "synapse_feed_dropped",
        "Lines that were not: haproxy could not send it, dropped came too fast, unparsed made no sense, forged had not "
        "the key",
        labels=("why",),
    )
    for why in ("dropped", "unparsed", "forged"):
        dropped.add_metric((why,), getattr(counts, why))
    if gauge.dropped is not None:
        dropped.add_metric(("haproxy",), gauge.dropped)
    yield dropped
    shared = CounterMetricFamily(
        "synapse_feed_folded", "Requests that are counted as (other), for want of room for one more label"
    )
    shared.add_metric((), folded)
    yield shared


def _sampled(http: Cells, shares: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(
        "synapse_feed_share",
        "Which part of a service's requests is told of: less than 1 above a limit",
        labels=("service",),
    )
    for service in sorted({service for service, _ in http} | shares.keys()):
        family.add_metric((service,), shares.get(service, 1.0))
    return family


def _of_instances(instances: Cells, shares: Shares) -> Iterator[Metric]:
    yield _judged("synapse_instance_responses", "Answers by instance, and none at all", _INSTANCES, instances.items())
    yield _latencies("synapse_instance_response_latency_ms", "By instance", _INSTANCES, instances.items())
    weight = GaugeMetricFamily(
        "synapse_instance_share",
        "Which part of its weight an instance has: less than 1 is slow, 0 has its breaker open",
        labels=_INSTANCES,
    )
    for service, address in instances:
        weight.add_metric((service, address), shares.get(service, {}).get(address, 1.0))
    yield weight


def _outbound(cells: Cells) -> Iterator[Labelled]:
    return (((_OUTBOUND, *key), cell) for key, cell in cells.items())


def _judged(name: str, words: str, labels: Sequence[str], cells: Iterable[Labelled]) -> Metric:
    family = CounterMetricFamily(name, words, labels=(*labels, "classification"))
    for key, cell in cells:
        counted = counters(cell)
        for classification in ("success", "failure"):
            family.add_metric((*key, classification), counted[classification])
    return family


def _latencies(name: str, words: str, labels: Sequence[str], cells: Iterable[Labelled]) -> Metric:
    family = HistogramMetricFamily(name, words, labels=labels)
    for key, cell in cells:
        upto = accumulate(cell[:BUCKETS])
        family.add_metric(key, list(zip(_LE, upto, strict=True)), counters(cell)["milliseconds"])
    return family
