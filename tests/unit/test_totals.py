"""The totals of the feed, and what /metrics says of them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from synapse.settings import TelemetrySettings
from synapse.telemetry import totals
from synapse.telemetry.exposition import Exposition, Shares
from synapse.telemetry.gauges import Gauge
from synapse.telemetry.histogram import BOUNDS
from synapse.telemetry.receiver import Counts
from synapse.telemetry.request import Request
from synapse.telemetry.templates import OTHER, Templates
from synapse.telemetry.totals import Copy, Totals
from tests.support.told import told

PLAIN: dict[str, Any] = {"port": 80, "total_ms": 7, "sent_bytes": 300, "received_bytes": 100, "path": "/users/7"}


def request(**fields: Any) -> Request:
    """A request that went well, with these fields different."""
    return told(**{**PLAIN, **fields})


class Fed:
    """A feed that told of these requests, and what /metrics says of it then."""

    def __init__(
        self,
        requests: Iterable[Request],
        *,
        templates: Mapping[str, Templates] | None = None,
        shares: Shares | None = None,
        instances: bool = False,
        counts: Counts | None = None,
        gauge: Gauge | None = None,
    ) -> None:
        self.counts = counts or Counts()
        self.totals = Totals(instances=instances)
        self.totals.templates = templates or {}
        self.totals.take(list(requests), 0.0)
        self.shares: Mapping[str, float] = {}
        self._gauge = gauge or Gauge()
        self._shares = shares or {}
        self._settings = TelemetrySettings(instance_metrics=instances)

    def counted(self) -> Copy:
        return self.totals.copy()

    def text(self) -> str:
        """As it is answered."""
        registry = CollectorRegistry()
        registry.register(Exposition(self, self._settings, gauge=lambda: self._gauge, shares=lambda: self._shares))
        return generate_latest(registry).decode()

    def values(self, name: str, **labels: str) -> list[float]:
        """The values of the series of this name that have these labels, whatever others they have."""
        return [
            sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]


OUTCOMES = [
    pytest.param({"status": 200}, {"success": 1, "failure": 0}, "200", id="an answer"),
    pytest.param({"status": 404}, {"success": 1, "failure": 0}, "404", id="not found is no failure"),
    pytest.param({"status": 500}, {"success": 0, "failure": 1}, "500", id="an error of the instance"),
    pytest.param({"status": 503, "host": "", "port": 0}, {"success": 0, "failure": 1}, "503", id="nobody reached"),
    pytest.param({"status": 0, "termination": "SH"}, {"success": 0, "failure": 1}, "none", id="no answer at all"),
]


@pytest.mark.parametrize(("fields", "expected", "status"), OUTCOMES)
def test_an_answer_is_a_success_or_a_failure(fields: dict[str, Any], expected: dict[str, int], status: str) -> None:
    """By its status, which is a label; both classifications are there, so that a rate can be worked out of them."""
    fed = Fed([request(**fields)])
    calls = {"direction": "outbound", "service": "web", "source": "api"}
    assert all(fed.values("response_total", classification=classification) for classification in expected)
    assert {
        classification: sum(fed.values("response_total", classification=classification, **calls))
        for classification in ("success", "failure")
    } == expected
    assert fed.values("response_total", status_code=status) == [1]
    assert fed.values("request_total", **calls) == [1]


def test_a_client_that_hung_up_got_no_answer() -> None:
    """It is counted as a request, and as neither a success nor a failure."""
    fed = Fed([request(termination="CD"), request()])
    assert fed.values("request_total") == [2]
    assert sum(fed.values("response_total")) == 1


def test_latencies_are_in_linkerds_buckets() -> None:
    """Each bound as Linkerd writes it, the counts of a bucket with those of all smaller ones, their sum in ms."""
    fed = Fed([request(total_ms=ms) for ms in (1, 7, 7, 60_000)])
    samples = {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(fed.text())
        for sample in family.samples
        if sample.name == "response_latency_ms_bucket"
    }
    assert list(samples) == [*map(str, BOUNDS), "+Inf"]
    assert [samples[bound] for bound in ("1", "5", "10", "50000", "+Inf")] == [1, 1, 3, 3, 4]
    assert fed.values("response_latency_ms_sum") == [60_015]
    assert fed.values("response_latency_ms_count") == [4]


def test_a_sample_stands_for_all() -> None:
    """Where one of four requests is told of, each counts four times, in every counter."""
    fed = Fed([request(share=0.25, retries=1)])
    for name, value in (
        ("request_total", 4),
        ("response_latency_ms_count", 4),
        ("response_latency_ms_sum", 28),
        ("synapse_retries_total", 4),
        ("tcp_read_bytes_total", 400),
        ("tcp_write_bytes_total", 1200),
    ):
        assert fed.values(name) == [value], name
    assert fed.values("response_total", classification="success") == [4]


def test_connections_are_counted_by_how_they_ended() -> None:
    """A service in mode tcp has no requests and no answers, but connections and bytes."""
    endings = ("--", "CD", "SD", "sD")
    fed = Fed(request(mode="tcp", service="db", status=0, termination=each, method="", path="") for each in endings)
    found = {
        classification: fed.values("tcp_close_total", service="db", source="api", classification=classification)
        for classification in ("success", "failure", "aborted")
    }
    assert found == {"success": [1], "failure": [2], "aborted": [1]}
    assert fed.values("tcp_read_bytes_total", service="db", peer="src") == [400]
    assert fed.values("request_total") == []


def test_what_only_haproxy_knows_is_told_too() -> None:
    """Open connections by service, and the lines that it could not send; where it does not answer, neither."""
    fed = Fed([], gauge=Gauge(connections={"web": 3, "db": 0}, dropped=7))
    assert fed.values("tcp_open_connections", direction="outbound", service="web", peer="src") == [3]
    assert fed.values("tcp_open_connections", service="db") == [0]
    assert fed.values("synapse_feed_dropped_total", why="haproxy") == [7]
    assert Fed([]).values("tcp_open_connections") == []
    assert Fed([]).values("synapse_feed_dropped_total", why="haproxy") == []


def test_routes_are_those_of_the_definition() -> None:
    """A service with routes has them counted by method and template, what fits none as (other); others have none. A
    method that nobody knows is no label of its own."""
    paths = [("GET", "/users/7"), ("GET", "/users/8"), ("POST", "/users/7"), ("GET", "/x"), ("BREW", "/users/7")]
    fed = Fed(
        [*(request(method=method, path=path) for method, path in paths), request(service="plain")],
        templates={"web": Templates(["/users/{id}"])},
    )
    routes = {
        sample.labels["rt_route"]: sample.value
        for family in text_string_to_metric_families(fed.text())
        for sample in family.samples
        if sample.name == "route_request_total"
    }
    assert routes == {"GET /users/{id}": 2, "POST /users/{id}": 1, "GET (other)": 1, "(other) /users/{id}": 1}
    assert fed.values("route_response_total", rt_route="GET /users/{id}", classification="success") == [2]
    assert fed.values("route_response_latency_ms_count", rt_route="GET /users/{id}") == [2]


def test_instances_are_told_apart_only_where_it_is_wanted() -> None:
    """Each has its answers, latencies and weight; one that nothing is said of has all of its weight."""
    requests = [request(), request(host="10.0.0.2", status=500), request(host="", port=0, status=503)]
    shares = {"web": {"10.0.0.2:80": 0.0}}
    assert "synapse_instance" not in Fed(requests, shares=shares).text()
    fed = Fed(requests, shares=shares, instances=True)
    name = "synapse_instance_responses_total"
    assert fed.values(name, address="10.0.0.1:80", classification="success") == [1]
    assert fed.values(name, address="10.0.0.2:80", classification="failure") == [1]
    assert sum(fed.values(name)) == 2
    assert fed.values("synapse_instance_response_latency_ms_count", address="10.0.0.2:80") == [1]
    assert fed.values("synapse_instance_share", address="10.0.0.1:80") == [1]
    assert fed.values("synapse_instance_share", address="10.0.0.2:80") == [0]


def test_what_the_feed_lost_is_there_from_the_start() -> None:
    """Every reason has its series with 0 before the first loss: without it, the first one would be no increase."""
    assert Fed([]).values("synapse_feed_dropped_total") == [0, 0, 0]
    assert Fed([]).values("synapse_feed_folded_total") == [0]
    counts = Counts(received=9, unparsed=1, forged=2, dropped=3)
    fed = Fed([], counts=counts)
    assert fed.values("synapse_feed_lines_total") == [9]
    assert [fed.values("synapse_feed_dropped_total", why=why)[0] for why in ("unparsed", "forged", "dropped")] == [
        1,
        2,
        3,
    ]


KINDS = [
    pytest.param("CALLERS_LIMIT", "request_total", {"source": "{}"}, id="callers"),
    pytest.param("ROUTES_LIMIT", "route_request_total", {"path": "/{}"}, id="routes"),
    pytest.param("INSTANCES_LIMIT", "synapse_instance_responses_total", {"host": "10.0.0.{}"}, id="instances"),
]


@pytest.mark.parametrize(("limit", "metric", "fields"), KINDS)
def test_labels_have_a_bound(limit: str, metric: str, fields: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes beyond it is counted as (other) of its service, no request is lost, and it is said how many did."""
    monkeypatch.setattr(totals, limit, 3)
    many = [request(**{name: text.format(number) for name, text in fields.items()}) for number in range(10)]
    templates = {"web": Templates([f"/{number}" for number in range(10)])}
    fed = Fed([*many, *many], templates=templates, instances=True)
    assert sum(fed.values(metric)) == 20
    series = [each for each in fed.values(metric) if each]
    assert series == [2, 2, 2, 14]
    assert OTHER in fed.text()
    assert fed.values("synapse_feed_folded_total") == [14]
    assert sum(fed.values("response_total")) == 20


def test_statuses_have_a_bound() -> None:
    """An instance that answers every number there is has so many of them told apart, and the rest together."""
    fed = Fed(request(status=status) for status in range(200, 600))
    assert sum(fed.values("response_total")) == 400
    assert len(fed.values("response_total", classification="success")) == totals.STATUSES_LIMIT + 1
    assert fed.values("response_total", classification="failure", status_code=OTHER) == [100 - totals.STATUSES_LIMIT]


def test_a_copy_does_not_change() -> None:
    """Whoever renders a copy does so without the lock, while more is counted."""
    fed = Fed([request()], templates={"web": Templates(["/users/{id}"])}, instances=True)
    before = fed.counted()
    fed.totals.take([request(), request(status=418)], 1.0)
    assert before == Fed([request()], templates={"web": Templates(["/users/{id}"])}, instances=True).counted()


def test_names_from_outside_stay_labels() -> None:
    """Quotes, backslashes and newlines in a path or a name are one label's value, and end no line."""
    wild = 'a"b\\c\nrequest_total 5'
    fed = Fed([request(source=wild)])
    assert fed.values("request_total") == [1]
    assert fed.values("request_total", source=wild) == [1]
