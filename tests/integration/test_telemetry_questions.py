"""What synapse answers of requests, against what clients and instances of a real HAProxy counted themselves."""

import dataclasses
import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest

from synapse.telemetry.frames import read, write
from synapse.telemetry.histogram import bucket_of
from tests.support.eventually import eventually
from tests.support.pair import Host
from tests.support.scripted import Reply, Request
from tests.support.stage import PORT, QUIET, Client, Stage

_never = threading.Event()


def answer(request: Request) -> Reply:
    """`/status/404` is answered with that, `/after/20` with 200 after 20 ms."""
    word, _, number = request.target.partition("?")[0][1:].partition("/")
    if word == "after":
        _never.wait(int(number) / 1000)
    return Reply(status=int(number) if word == "status" else 200, text="x" * 10)


def asked(host: Host, question: str, **query: str) -> dict[str, Any]:
    """An answer of the admin address."""
    text = urlencode({name.rstrip("_"): value for name, value in query.items()})
    response = host.synapse.get(f"/telemetry/{question}?{text}", timeout_seconds=10)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


def row(host: Host, requests: int) -> dict[str, Any]:
    """The row of `web`, once it has so many requests."""

    def look() -> dict[str, Any]:
        [found] = asked(host, "stat", service="web", window="600")["rows"]
        assert found["requests"] == requests
        return dict(found)

    return eventually(look, within=10)


@pytest.fixture
def web(stage: Stage) -> Stage:
    """`web` with two instances, and a client that is called `api`."""
    for number in (1, 2):
        stage.play(number, answer)
    stage.start(**QUIET, balance="roundrobin")
    return stage


def test_what_is_told_is_what_was_counted(web: Stage) -> None:
    """Status classes, instances, callers, sizes and latencies are those that client and instances saw; routes follow
    the definition without a reload."""
    host, client = web.host, Client(web.host)
    wanted = Counter({200: 30, 404: 6, 500: 4, 302: 3})
    callers: Counter[str] = Counter()
    for place, status in enumerate(wanted.elements()):
        callers[caller := ("api", "cron")[place % 3 == 0]] += 1
        assert client.ask(target=f"/status/{status}", x_smartstack_source=caller).status == status
    told = row(host, wanted.total())
    assert told["classes"] == {"2xx": 30, "3xx": 3, "4xx": 6, "5xx": 4, "other": 0}
    assert (told["success"], told["failures"], told["aborted"]) == (39, 4, 0)
    assert told["success_rate"] == pytest.approx(39 / 43, abs=1e-6)
    assert told["sent_bytes"] > 43 * 10
    assert (told["mode"], told["sampled"], told["connections"]) == ("http", 1.0, 1)
    by_instance = asked(host, "stat", by="instance", service="web", window="600")["rows"]
    assert {each["instance"]: each["requests"] for each in by_instance} == {
        actor.address: len(actor.requests) for actor in web.actors
    }
    edges = asked(host, "edges", window="600")["edges"]
    assert {(each["source"], each["source_kind"]): each["requests"] for each in edges} == {
        (caller, "header"): number for caller, number in callers.items()
    }
    losses = asked(host, "stat")["dropped"]
    assert losses == {"unparsed": 0, "forged": 0, "receiver": 0, "haproxy": 0}

    master = host.haproxy()
    host.define("web", PORT, **QUIET, balance="roundrobin", paths=["/status/{code}", "/status/404"])

    def routes() -> dict[str, int]:
        client.ask(target="/status/404")
        client.ask(target="/status/201")
        client.ask(target="/other")
        rows = asked(host, "routes", service="web", window="600")["rows"]
        return {each["route"]: each["requests"] for each in rows}

    every = {"(all)", "/status/{code}", "/status/404", "(other)"}
    eventually(lambda: routes().keys() == every, within=15)
    assert host.haproxy() == master
    suggested = asked(host, "routes", service="web", learn="1")["suggestions"]
    assert {each["template"] for each in suggested} == {"/status/{id}", "/other"}
    client.close()


def test_latencies_are_those_of_the_client(web: Stage) -> None:
    """p50, p95 and p99 out of the buckets lie within one bucket of what a client measured itself."""
    client, seen = Client(web.host), []
    for milliseconds in [8] * 60 + [25] * 25 + [150] * 15:
        began = time.monotonic()
        assert client.ask(target=f"/after/{milliseconds}").status == 200
        seen.append((time.monotonic() - began) * 1000)
    client.close()
    told = row(web.host, len(seen))
    for name, place in (("p50_ms", 49), ("p95_ms", 94), ("p99_ms", 98)):
        assert abs(bucket_of(told[name]) - bucket_of(sorted(seen)[place])) <= 1, (name, told[name], sorted(seen)[place])


def test_a_tap_hears_of_a_request_at_once(web: Stage) -> None:
    """Who waits is answered when the request has ended, with that request and no other; requests that are not meant
    wake nobody up."""
    host, client = web.host, Client(web.host)
    tap = asked(host, "tap", service="web", status="5xx", path="/status")["id"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(asked, host, "tap", id=tap, wait="1")
        client.ask(target="/status/404")
        client.ask(target="/status/500?secret=1")
        ended = time.time()
        told = waiting.result(10)["requests"] or asked(host, "tap", id=tap, wait="1")["requests"]
    client.close()
    [heard] = told
    assert (heard["path"], heard["status"], heard["method"], heard["service"]) == ("/status/500", 500, "GET", "web")
    assert heard["instance"] in {actor.address for actor in web.actors}
    assert heard["at"] - ended < 1.0
    assert host.synapse.get("/telemetry/tap?service=nothing").status_code == 404
    refused = host.synapse.get("/telemetry/stat?windw=60")
    assert (refused.status_code, "'windw' is no parameter" in refused.text) == (400, True)


def test_the_hour_survives_a_restart_with_its_gap(web: Stage) -> None:
    """What was counted before is there after it; the time in between has no rate, and is not covered."""
    host, client = web.host, Client(web.host)
    for _ in range(20):
        client.ask(target="/status/200")
    row(host, 20)
    eventually(lambda: known_rates(host), within=15)
    assert host.synapse.stop() == 0
    files = list((host.state / "telemetry").glob("*.frames"))
    assert files
    for file in files:  # as if synapse had been away for a minute
        aged = [dataclasses.replace(frame, number=frame.number - 6) for frame in read(file.read_bytes())]
        file.write_bytes(write(aged))
    host.synapse.start()
    for _ in range(5):
        client.ask(target="/status/200")
    client.close()
    row(host, 25)
    known = eventually(lambda: known_rates(host)[1:] and known_rates(host), within=15)
    assert known[0] > 0
    assert max(later - before for before, later in itertools.pairwise(known)) >= 3
    assert asked(host, "stat", window="600")["covered_seconds"] < 60


def known_rates(host: Host) -> list[int]:
    """Where on the curve of the last ten minutes there is a rate."""
    points = asked(host, "points", service="web", window="600")["points"]
    return [place for place, point in enumerate(points) if point["rate"] is not None]
