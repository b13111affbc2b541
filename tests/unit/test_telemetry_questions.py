"""/telemetry/…: what may be asked, what is answered, and what is told to who asks for something else."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smartstack.actions import BadRequest
from smartstack.logs import EventLog
from smartstack.responses import Response
from synapse.status import Snapshot
from synapse.telemetry.gauges import Gauge
from synapse.telemetry.history import History
from synapse.telemetry.questions import Telling, telemetry
from synapse.telemetry.receiver import Counts
from synapse.telemetry.request import Request
from synapse.telemetry.taps import Taps
from tests.support.told import told

FIGURES = {
    *("requests", "rate", "success", "failures", "aborted", "success_rate", "p50_ms", "p95_ms", "p99_ms", "mean_ms"),
    *("retries", "classes", "sent_bytes", "received_bytes", "connections", "mode", "sampled"),
}


def offered(*services: str) -> Snapshot:
    """A snapshot in which these are offered, each with one instance."""
    placed = SimpleNamespace(instance=SimpleNamespace(address="10.0.0.1:8080"))
    offers = {
        name: SimpleNamespace(
            definition=SimpleNamespace(proxy=SimpleNamespace(mode="http")), placement=SimpleNamespace(used=(placed,))
        )
        for name in services
    }
    return cast(Snapshot, SimpleNamespace(offers=offers))


@dataclass(slots=True)
class Desk:
    """The questions, with a history that a test fills."""

    telling: Telling
    history: History

    def count(self, *requests: Request) -> None:
        self.history.take(requests, 0.0)
        self.telling.taps.take(requests, 0.0)

    def response(self, question: str, **query: str) -> Response:
        return telemetry(self.telling)[f"/telemetry/{question}"]("", {name.rstrip("_"): query[name] for name in query})

    def ask(self, question: str, **query: str) -> dict[str, Any]:
        response = self.response(question, **query)
        assert response.status == 200, response.body
        answer: dict[str, Any] = json.loads(response.body)
        return answer


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """`web` and `quiet` are offered."""
    now = [1_000_000.0]
    history = History(tmp_path, threading.Lock(), EventLog("test"), clock=lambda: now[0], wall=lambda: now[0])
    now[0] += 5
    history.tick(0.0)
    telling = Telling(
        host="here",
        history=history,
        taps=Taps(lambda: 0.0, lambda: 1_000_005.25),
        counts=lambda: Counts(unparsed=1, forged=2, dropped=3),
        snapshot=lambda: offered("web", "quiet"),
        gauge=lambda: Gauge(connections={"web": 7}, dropped=4),
        problems=lambda: ("the disk is full",),
        wall=lambda: now[0],
    )
    return Desk(telling, history)


def test_stat_says_everything_of_each_service(desk: Desk) -> None:
    """As contracted: figures, what is offered though nobody asked, connections, losses and limits."""
    desk.count(told(), told(status=503, retries=1), told(status=404), told(termination="CD"))
    answer = desk.ask("stat")
    quiet, web = answer.pop("rows")
    limits = answer.pop("limits")
    assert answer == {
        "at": 1_000_005.0,
        "host": "here",
        "window_seconds": 60,
        "covered_seconds": 5.0,
        "problems": ["the disk is full"],
        "by": "service",
        "dropped": {"unparsed": 1, "forged": 2, "receiver": 3, "haproxy": 4},
    }
    assert limits.keys() == {"cells", "cells_limit", "bytes", "bytes_limit", "folded"}
    assert web.keys() == quiet.keys() == {"service", *FIGURES}
    assert (web["requests"], web["success"], web["failures"], web["aborted"]) == (4, 2, 1, 1)
    assert (web["success_rate"], web["rate"], web["connections"], web["mode"]) == (0.666667, 0.8, 7, "http")
    assert (quiet["requests"], quiet["success_rate"], quiet["p99_ms"], quiet["connections"]) == (0, None, None, None)


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ({"by": "instance"}, [{"instance": "10.0.0.1:8080", "service": "quiet"}, {"instance": "10.0.0.1:8080"}]),
        ({"by": "route"}, [{"method": "GET", "route": "(all)"}]),
        ({"by": "source"}, [{"source": "api", "source_kind": "header"}]),
        ({"by": "source", "from_": "api"}, [{"source": "api"}]),
        ({"from_": "api"}, [{"service": "web", "connections": None}]),
        ({"from_": "nobody"}, []),
        ({"service": "web"}, [{"service": "web", "connections": 7}]),
    ],
)
def test_stat_by_other_things(desk: Desk, query: dict[str, str], labels: list[dict[str, Any]]) -> None:
    """Each kind of rows has its own names, and only what was asked for is there."""
    desk.count(told())
    rows = desk.ask("stat", **query)["rows"]
    assert [{name: row[name] for name in wanted} for row, wanted in zip(rows, labels, strict=True)] == labels


@pytest.mark.parametrize("question", ["stat", "edges", "routes"])
def test_buckets_are_told_to_who_adds_hosts_up(desk: Desk, question: str) -> None:
    """Only when they are asked for."""
    desk.count(told(total_ms=3), told(total_ms=70))
    query = {"service": "web"} if question != "edges" else {}
    kind = "edges" if question == "edges" else "rows"
    assert "buckets" not in desk.ask(question, **query)[kind][0]
    buckets = desk.ask(question, **query, buckets="1")[kind][0]["buckets"]
    assert (len(buckets), buckets[2], buckets[10], sum(buckets)) == (26, 1, 1, 2)


def test_edges_say_who_calls_whom(desk: Desk) -> None:
    """And from where, and how that is known."""
    desk.count(told())
    [edge] = desk.ask("edges")["edges"]
    assert edge.keys() == {"service", "source", "source_kind", "host", *FIGURES}
    assert (edge["source"], edge["source_kind"], edge["host"], edge["service"]) == ("api", "header", "here", "web")


def test_routes_and_what_could_be_routes(desk: Desk) -> None:
    """Suggestions come only to who wants to learn."""
    desk.history.know({"web": ("/a",)})
    desk.count(told(path="/users/1"), told(path="/users/2"), told(path="/a"))
    answer = desk.ask("routes", service="web")
    assert {(row["method"], row["route"]): row["requests"] for row in answer["rows"]} == {
        ("GET", "(other)"): 2,
        ("GET", "/a"): 1,
    }
    assert "suggestions" not in answer
    assert desk.ask("routes", service="web", learn="1")["suggestions"] == [
        {"template": "/users/{id}", "requests": 2, "examples": ["/users/1", "/users/2"]},
        {"template": "/a", "requests": 1, "examples": ["/a"]},
    ]


def test_points_are_an_hour_of_ten_seconds_each(desk: Desk) -> None:
    """Null where nothing is known."""
    desk.count(told(), told())
    answer = desk.ask("points", service="web")
    assert (answer["window_seconds"], answer["step_seconds"], answer["service"]) == (3600, 10, "web")
    assert answer["points"][-1] == {
        "at": 1_000_000.0,
        "rate": 0.4,
        "success_rate": 1.0,
        "p50_ms": 2.5,
        "p99_ms": 2.99,
    }
    assert {point["rate"] for point in answer["points"][:-1]} == {None}
    assert len(answer["points"]) == 361


def test_a_tap_shows_requests(desk: Desk) -> None:
    """The first question opens it, the next ones get what came, whole."""
    opened = desk.ask("tap", service="web", path="/us", status="5xx", max_rate="5")
    assert opened["requests"] == []
    desk.count(told(path="/users/1", status=500), told(path="/users/2"), told(path="/x", status=500))
    answer = desk.ask("tap", id=opened["id"], wait="1")
    assert answer == {
        "id": opened["id"],
        "missed": 0,
        "problems": ["the disk is full"],
        "requests": [
            {
                "at": 1_000_005.25,
                "service": "web",
                "frontend": "web",
                "instance": "10.0.0.1:8080",
                "source": "api",
                "method": "GET",
                "path": "/users/1",
                "status": 500,
                "total_ms": 3,
                "response_ms": 2,
                "queue_ms": 0,
                "connect_ms": 0,
                "retries": 0,
                "termination": "--",
                "sent_bytes": 100,
                "received_bytes": 10,
                "client": "127.0.0.1:50000",
                "mode": "http",
            }
        ],
    }


@pytest.mark.parametrize(
    ("question", "query", "words"),
    [
        ("stat", {"windw": "5"}, "'windw' is no parameter; there are: window, service, by, from, buckets"),
        ("stat", {"window": "9"}, "window is to be a whole number from 10 to 3600"),
        ("stat", {"window": "3601"}, "window is to be a whole number from 10 to 3600"),
        ("stat", {"window": "-60"}, "window is to be a whole number"),
        ("stat", {"window": "1m"}, "window is to be a whole number"),
        ("stat", {"window": "٣٠"}, "window is to be a whole number"),
        ("stat", {"window": ""}, "window is to be a whole number"),
        ("stat", {"by": "path"}, "by is to be one of service, instance, route, source"),
        ("stat", {"by": "instance", "from": "api"}, "from goes with by=service and by=source"),
        ("stat", {"buckets": "yes"}, "buckets is to be 0 or 1"),
        ("edges", {"service": "web"}, "'service' is no parameter; there are: window, buckets"),
        ("routes", {}, "service is missing"),
        ("routes", {"service": "web", "learn": "yes"}, "learn is to be 0 or 1"),
        ("points", {"service": ""}, "service is missing"),
        ("tap", {}, "service is missing"),
        ("tap", {"service": "web", "status": "6xx"}, "status is to be a status"),
        ("tap", {"service": "web", "status": "50x"}, "status is to be a status"),
        ("tap", {"service": "web", "max_rate": "0"}, "max_rate is to be a whole number from 1 to 1000"),
        ("tap", {"service": "web", "max_rate": "1001"}, "max_rate is to be a whole number from 1 to 1000"),
        ("tap", {"service": "web", "wait": "30s"}, "wait is to be 0 or 1"),
    ],
)
def test_what_is_asked_wrongly_is_told(desk: Desk, question: str, query: Mapping[str, str], words: str) -> None:
    """Which parameter, and what it may be."""
    with pytest.raises(BadRequest) as raised:
        desk.response(question, **query)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("question", "query"),
    [
        ("stat", {"service": "nothing"}),
        ("routes", {"service": "nothing"}),
        ("points", {"service": "nothing"}),
        ("tap", {"service": "nothing"}),
        ("tap", {"id": "nothing"}),
    ],
)
def test_what_is_not_there_is_not_found(desk: Desk, question: str, query: Mapping[str, str]) -> None:
    """404, with what to do."""
    response = desk.response(question, **query)
    assert response.status == 404
    assert b"/services" in response.body or b"ask without id" in response.body


def test_a_service_that_is_offered_no_more_is_known_for_its_hour(desk: Desk) -> None:
    """Its figures are still asked for."""
    desk.count(told(service="gone"))
    assert desk.ask("stat", service="gone")["rows"][0]["requests"] == 1
    assert desk.ask("points", service="gone")["points"]


def test_below_a_question_is_nothing(desk: Desk) -> None:
    """A path that is longer is another one."""
    assert telemetry(desk.telling)["/telemetry/stat"]("web", {}).status == 404


def test_without_a_feed_nothing_is_known(desk: Desk) -> None:
    """And that is said, with the key that turns it on."""
    for question in telemetry(replace(desk.telling, history=None)).values():
        response = question("", {})
        assert response.status == 404
        assert b"telemetry.listen is null" in response.body


def test_before_the_first_turn_there_are_no_services(desk: Desk) -> None:
    """What was counted is told all the same."""
    early = Desk(replace(desk.telling, snapshot=lambda: None), desk.history)
    assert early.ask("stat")["rows"] == []
    early.count(told())
    assert [row["service"] for row in early.ask("stat")["rows"]] == ["web"]
